//! Which locks a function has taken where it stands, by its code: those that it takes on every way there, and does not
//! give back on any.
//!
//! A lock is known by its address where the code names it: one in a global. Of others it is only known that there is one.
//! Whatever is not understood (a jump through a table, an unlock of no one knows what) leaves nothing that is held.

use std::{collections::BTreeSet, rc::Rc};

use iced_x86::{
    Code as Op, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};
use rustc_hash::FxHashMap;

use super::{bytes::read_vec, code::Code, pclntab::Function};
use crate::{model::ResourceKind, target::Memory};

/// Bytes of a function that is looked at.
const LONGEST: u64 = 1 << 16;
/// Steps of the search for what holds on every way, for one function.
const STEPS: usize = 1 << 18;
/// Where the count of readers is in a `RWMutex` (package sync, 1.22 to 1.27).
const READERS: u64 = 16;
/// Registers that are followed.
const REGISTERS: usize = 16;

/// A lock that is held: its kind, and its address where that is known.
pub(super) type Held = BTreeSet<(ResourceKind, Option<u64>)>;

/// What an instruction does to a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Take(ResourceKind, Option<u64>),
    Give(ResourceKind, Option<u64>),
}

/// One instruction, as far as it matters.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) at: u64,
    pub(super) next: u64,
    pub(super) acts: Vec<Act>,
    /// Where it may go on besides what follows it.
    pub(super) jump: Option<u64>,
    /// What follows it may be next.
    pub(super) falls_through: bool,
}

/// What is known of functions that were looked at.
#[derive(Debug, Default)]
pub(super) struct Critical {
    /// By the address of the function: its steps; `None` where it is not understood.
    functions: FxHashMap<u64, Option<Rc<Vec<Step>>>>,
    /// By program counter.
    held: FxHashMap<u64, Rc<Held>>,
}

impl Critical {
    /// What `function` holds during the call that returns to `pc`.
    pub(super) fn held(&mut self, code: &Code, memory: &dyn Memory, function: Function, pc: u64) -> Rc<Held> {
        if let Some(known) = self.held.get(&pc) {
            return Rc::clone(known);
        }
        let steps = self.steps(code, memory, function, true);
        let held = Rc::new(steps.and_then(|steps| held_before(&steps, pc)).unwrap_or_default());
        self.held.insert(pc, Rc::clone(&held));
        held
    }

    /// The locks in globals that `function` gives back by itself.
    pub(super) fn gives(&mut self, code: &Code, memory: &dyn Memory, function: Function) -> Held {
        let steps = self.steps(code, memory, function, false);
        let acts = steps.iter().flat_map(|steps| steps.iter()).flat_map(|step| &step.acts);
        let taken = |lock: &(ResourceKind, Option<u64>)| {
            let mut acts = steps.iter().flat_map(|steps| steps.iter()).flat_map(|step| &step.acts);
            acts.any(|act| matches!(act, Act::Take(kind, address) if (kind, address) == (&lock.0, &lock.1)))
        };
        let given = acts.filter_map(|act| match act {
            Act::Give(kind, address) => Some((kind.clone(), *address)),
            Act::Take(..) => None,
        });
        given.filter(|lock| lock.1.is_some() && !taken(lock)).collect()
    }

    /// The steps of a function; with `calls` also what the functions that it calls give back.
    pub(super) fn steps(
        &mut self,
        code: &Code,
        memory: &dyn Memory,
        function: Function,
        calls: bool,
    ) -> Option<Rc<Vec<Step>>> {
        if !calls {
            return read_steps(code, memory, function, |_| Held::new()).map(Rc::new);
        }
        if let Some(known) = self.functions.get(&function.entry) {
            return known.clone();
        }
        let mut callees: FxHashMap<u64, Held> = FxHashMap::default();
        let steps = read_steps(code, memory, function, |callee| {
            callees.entry(callee.entry).or_insert_with(|| self.gives(code, memory, callee)).clone()
        });
        let steps = steps.map(Rc::new);
        self.functions.insert(function.entry, steps.clone());
        steps
    }
}

/// What is held on every way from the beginning to the instruction before `pc`; `None` where no way leads there.
fn held_before(steps: &[Step], pc: u64) -> Option<Held> {
    let places: FxHashMap<u64, usize> = steps.iter().enumerate().map(|(place, step)| (step.at, place)).collect();
    let target = steps.iter().position(|step| step.next == pc)?;
    let mut before: Vec<Option<Held>> = vec![None; steps.len()];
    *before.first_mut()? = Some(Held::new());
    let mut pending = vec![0];
    let mut left = STEPS;
    while let Some(place) = pending.pop() {
        left = left.checked_sub(1)?;
        let step = &steps[place];
        let mut held = before[place].clone()?;
        for act in &step.acts {
            apply(&mut held, act);
        }
        let next = step.falls_through.then_some(place + 1).filter(|next| *next < steps.len());
        // A jump into the middle of an instruction or out of the function is not understood.
        let jump = match step.jump {
            Some(to) => Some(*places.get(&to)?),
            None => None,
        };
        for to in next.into_iter().chain(jump) {
            let merged = match &before[to] {
                Some(known) => known.intersection(&held).cloned().collect(),
                None => held.clone(),
            };
            if before[to].as_ref() != Some(&merged) {
                before[to] = Some(merged);
                pending.push(to);
            }
        }
    }
    before.swap_remove(target)
}

fn apply(held: &mut Held, act: &Act) {
    match act {
        Act::Take(kind, address) => {
            held.insert((kind.clone(), *address));
        }
        // What is given back without a name may be any of them.
        Act::Give(kind, None) => held.retain(|(other, _)| other != kind),
        Act::Give(kind, Some(address)) => {
            held.retain(|(other, at)| other != kind || at.is_some_and(|at| at != *address));
        }
    }
}

/// `None` where not all of the function's ways are known.
fn read_steps(
    code: &Code,
    memory: &dyn Memory,
    function: Function,
    mut gives: impl FnMut(Function) -> Held,
) -> Option<Vec<Step>> {
    let end = code.end_of(function)?;
    let length = end.checked_sub(function.entry)?;
    let bytes = read_vec(memory, function.entry, length, LONGEST).ok()?;
    let instructions: Vec<Instruction> =
        Decoder::with_ip(64, &bytes, function.entry, DecoderOptions::NONE).into_iter().collect();
    let joins: BTreeSet<u64> = instructions.iter().filter_map(jump).collect();
    let (mut constants, mut info) = ([None; REGISTERS], InstructionInfoFactory::new());
    let mut steps = Vec::with_capacity(instructions.len());
    for (place, instruction) in instructions.iter().enumerate() {
        // What a register has where ways meet is not followed.
        if joins.contains(&instruction.ip()) {
            constants = [None; REGISTERS];
        }
        let flow = instruction.flow_control();
        if flow == FlowControl::IndirectBranch {
            return None;
        }
        let callee = matches!(instruction.code(), Op::Call_rel32_64).then(|| instruction.near_branch_target());
        let callee = callee.and_then(|target| code.find(target)).filter(|(_, found)| {
            // Only what is called at its beginning is a call.
            Some(found.entry) == callee
        });
        let callee = callee.map(|(module, found)| (code.modules[module].code.name(found), found));
        let mut acts = Vec::new();
        let mut returns = true;
        if let Some((name, found)) = &callee {
            returns = !name.starts_with("runtime.gopanic") && !name.starts_with("runtime.panic");
            match act_of(name) {
                Some((kind, takes)) => acts.push(act(kind, takes, constants[0])),
                None => acts.extend(gives(*found).into_iter().map(|(kind, address)| Act::Give(kind, address))),
            }
        } else if matches!(instruction.mnemonic(), Mnemonic::Cmpxchg | Mnemonic::Xadd) && instruction.has_lock_prefix()
        {
            let names = code.inlined_at(memory, function, instruction.ip());
            // The outermost that is understood is what the program calls.
            let known = names.iter().rev().find_map(|name| act_of(name));
            let known = known.or_else(|| slow_way(code, &instructions[place..], &instructions));
            // A try may fail.
            let known = known.filter(|_| !names.iter().any(|name| name.contains(").Try")));
            acts.extend(known.map(|(kind, takes)| {
                let field = if kind == ResourceKind::GoRwMutex { READERS } else { 0 };
                let address = operand(instruction, &constants).map(|address| address.wrapping_sub(field));
                act(kind, takes, address)
            }));
        }
        steps.push(Step {
            at: instruction.ip(),
            next: instruction.next_ip(),
            acts,
            jump: jump(instruction),
            falls_through: returns
                && !matches!(
                    flow,
                    FlowControl::UnconditionalBranch
                        | FlowControl::Return
                        | FlowControl::Exception
                        | FlowControl::Interrupt
                ),
        });
        follow(&mut constants, &mut info, instruction);
    }
    Some(steps)
}

/// Where a jump inside of a function leads.
fn jump(instruction: &Instruction) -> Option<u64> {
    let jumps = matches!(instruction.flow_control(), FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch);
    jumps.then(|| instruction.near_branch_target())
}

/// Keeps track of registers that have the address of a global.
fn follow(constants: &mut [Option<u64>; REGISTERS], info: &mut InstructionInfoFactory, instruction: &Instruction) {
    if matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
        *constants = [None; REGISTERS];
        return;
    }
    let value = match instruction.mnemonic() {
        Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => Some(instruction.ip_rel_memory_address()),
        Mnemonic::Mov if instruction.op1_kind() == OpKind::Register => constant(constants, instruction.op1_register()),
        _ => None,
    };
    for used in info.info(instruction).used_registers() {
        let writes = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None);
        let register = used.register();
        if writes && register.is_gpr() {
            constants[register.full_register().number()] = None;
        }
    }
    let target = instruction.op0_register();
    if instruction.op0_kind() == OpKind::Register && target.is_gpr64() {
        constants[target.number()] = value;
    }
}

fn constant(constants: &[Option<u64>; REGISTERS], register: Register) -> Option<u64> {
    register.is_gpr64().then(|| constants[register.number()]).flatten()
}

/// What a call of a function of package sync does, with what it does it to; and whether it takes or gives.
fn act_of(name: &str) -> Option<(ResourceKind, bool)> {
    let (mutex, rwlock) = (ResourceKind::GoMutex, ResourceKind::GoRwMutex);
    Some(match name.strip_prefix("internal/").unwrap_or(name) {
        "sync.(*Mutex).Lock" | "sync.(*Mutex).lockSlow" => (mutex, true),
        "sync.(*Mutex).Unlock" | "sync.(*Mutex).unlockSlow" => (mutex, false),
        "sync.(*RWMutex).Lock" | "sync.(*RWMutex).RLock" => (rwlock, true),
        "sync.(*RWMutex).Unlock" | "sync.(*RWMutex).RUnlock" | "sync.(*RWMutex).rUnlockSlow" => (rwlock, false),
        _ => return None,
    })
}

fn act(kind: ResourceKind, takes: bool, address: Option<u64>) -> Act {
    if takes { Act::Take(kind, address) } else { Act::Give(kind, address) }
}

/// What an instruction that changes a lock's word does, by what is called where that did not succeed: for an inlined call
/// that the compiler counts as the function's own. `rest` begins with the instruction.
fn slow_way(code: &Code, rest: &[Instruction], all: &[Instruction]) -> Option<(ResourceKind, bool)> {
    /// Instructions from the change to the branch, and from the branch to the call.
    const NEAR: usize = 5;
    let called = |way: &[Instruction]| {
        let way = way.iter().take(NEAR).take_while(|next| !next.has_lock_prefix());
        let call = way.into_iter().find(|next| next.code() == Op::Call_rel32_64)?;
        let (module, function) = code.find(call.near_branch_target())?;
        let name = code.modules[module].code.name(function);
        act_of(&name).filter(|_| name.ends_with("Slow"))
    };
    let branch =
        rest.iter().skip(1).take(NEAR).position(|next| next.flow_control() == FlowControl::ConditionalBranch)?;
    let target = rest[branch + 1].near_branch_target();
    let there = all.iter().position(|next| next.ip() == target);
    called(&rest[branch + 2..]).or_else(|| called(&all[there?..]))
}

/// The address that a memory operand has, where it is known.
fn operand(instruction: &Instruction, constants: &[Option<u64>; REGISTERS]) -> Option<u64> {
    if instruction.is_ip_rel_memory_operand() {
        return Some(instruction.ip_rel_memory_address());
    }
    let base = constant(constants, instruction.memory_base()).filter(|_| instruction.memory_index() == Register::None);
    base.map(|base| base.wrapping_add(instruction.memory_displacement64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: u64, acts: Vec<Act>, jump: Option<u64>) -> Step {
        Step { at, next: at + 1, acts, jump, falls_through: true }
    }

    fn take(address: u64) -> Vec<Act> {
        vec![Act::Take(ResourceKind::GoMutex, Some(address))]
    }

    fn held_at(steps: &[Step], pc: u64) -> Vec<u64> {
        held_before(steps, pc).unwrap_or_default().into_iter().filter_map(|(_, address)| address).collect()
    }

    #[test]
    fn what_is_taken_and_not_given_back_is_held() {
        let given = vec![Act::Give(ResourceKind::GoMutex, Some(0x10))];
        let steps = [
            step(0, take(0x10), None),
            step(1, take(0x20), None),
            step(2, vec![], None),
            step(3, given, None),
            step(4, vec![], None),
        ];
        assert_eq!(held_at(&steps, 3), [0x10, 0x20]);
        assert_eq!(held_at(&steps, 5), [0x20]);
    }

    #[test]
    fn what_is_taken_on_one_way_only_is_not() {
        // 0 jumps over 1, which takes a lock.
        let steps = [step(0, take(0x10), Some(2)), step(1, take(0x20), None), step(2, vec![], None)];
        assert_eq!(held_at(&steps, 3), [0x10]);
        assert_eq!(held_at(&steps, 2), [0x10]);
    }

    #[test]
    fn a_loop_that_gives_back_leaves_nothing_for_its_next_round() {
        let given = vec![Act::Give(ResourceKind::GoMutex, Some(0x10))];
        let mut steps = [step(0, take(0x10), None), step(1, vec![], None), step(2, given, Some(1))];
        steps[2].falls_through = false;
        assert!(held_at(&steps, 2).is_empty());
    }

    #[test]
    fn an_unlock_of_no_one_knows_what_leaves_nothing() {
        let steps = [
            step(0, take(0x10), None),
            step(1, vec![Act::Give(ResourceKind::GoMutex, None)], None),
            step(2, vec![], None),
        ];
        assert!(held_at(&steps, 3).is_empty());
        // A jump to where no instruction begins is not understood.
        let steps = [step(0, take(0x10), Some(77)), step(1, vec![], None)];
        assert_eq!(held_before(&steps, 2), None);
    }
}

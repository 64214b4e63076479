//! The dry run of a task's destructor: what it would give back is what the task holds.

use super::{
    classify::{Role, Sink},
    code::Code,
    heap::Header,
    policy::Policy,
    poll::{machine_at, stand_at},
    vtables::TaskVtable,
};
use crate::{
    debuginfo::FrameRegisters,
    dryrun::{Action, CallFrame, Hooks, Limits, Machine, Outcome, Reg, Transfer},
    target::Memory,
};

/// Something that the destructor gave back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// Call sites that led there, outermost first.
    pub(super) path: Vec<u64>,
    /// What was called.
    pub(super) sink: Sink,
    /// Its first argument; for channel ends and join handles, the word it points at.
    pub(super) address: u64,
    /// Its second argument: permits.
    pub(super) amount: u64,
    /// The queued acquire whose drop gave it back.
    pub(super) within: Option<u64>,
}

/// What a dry destructor has shown.
#[derive(Debug)]
pub(super) struct Dropped {
    pub(super) given: Vec<Given>,
    /// Queued acquires that were dropped.
    pub(super) acquires: Vec<u64>,
    /// Entries of the functions it called, in order: their names tell types. At most [`NAMED`].
    pub(super) functions: Vec<u64>,
    /// Why it is not the whole truth.
    pub(super) incomplete: Option<String>,
}

/// Calls whose names may tell the type of the future: the outermost ones.
const NAMED: usize = 8;

/// Drops the task at `header` over a copy-on-write view.
pub(super) fn run(
    code: &Code,
    memory: &dyn Memory,
    vtable: &TaskVtable,
    header: &Header,
    fs_base: u64,
    is_dealloc: &dyn Fn(u64) -> bool,
) -> Dropped {
    let mut machine = Machine::with_code_cache(memory, Limits::default(), &code.cache);
    machine.set_fs_base(fs_base);
    let mut hooks = DropHooks::new(code, is_dealloc);
    let outcome = machine.call(vtable.dealloc, &[header.address], &mut hooks);
    hooks.finish(&outcome)
}

/// Runs the landing pads at which `pads` stand (frames of one thread, innermost first), as unwinding would: each drops what
/// its frame owns and hands on to the next.
pub(super) fn unwind(
    code: &Code,
    memory: &dyn Memory,
    pads: &[FrameRegisters],
    fs_base: u64,
    is_dealloc: &dyn Fn(u64) -> bool,
) -> Dropped {
    let mut machine = machine_at(code, memory, &[], fs_base);
    // Each pad is given the exception, which it only hands on, and no catch to go to.
    let exception = machine.scratch(64);
    let mut hooks = DropHooks::new(code, is_dealloc);
    let mut outcome = Outcome::Stopped;
    for pad in pads {
        stand_at(&mut machine, std::slice::from_ref(pad));
        machine.set_reg(Reg::Rax, Some(exception));
        machine.set_reg(Reg::Rdx, Some(0));
        hooks.unwound = false;
        outcome = machine.resume(&mut hooks);
        if !hooks.unwound {
            break;
        }
    }
    hooks.finish(&outcome)
}

struct DropHooks<'c> {
    policy: Policy<'c>,
    is_dealloc: &'c dyn Fn(u64) -> bool,
    /// Queued acquires whose drop is being run: depth of its frame, address.
    acquire: Vec<(usize, u64)>,
    dropped: Dropped,
    /// The pad has done its work.
    unwound: bool,
}

impl<'c> DropHooks<'c> {
    fn new(code: &'c Code, is_dealloc: &'c dyn Fn(u64) -> bool) -> Self {
        Self {
            policy: Policy::new(code),
            is_dealloc,
            acquire: Vec::new(),
            dropped: Dropped { given: Vec::new(), acquires: Vec::new(), functions: Vec::new(), incomplete: None },
            unwound: false,
        }
    }

    fn finish(self, outcome: &Outcome) -> Dropped {
        let mut dropped = self.dropped;
        dropped.incomplete = match outcome {
            Outcome::Returned { .. } => None,
            Outcome::Stopped if self.unwound => None,
            Outcome::Stopped => Some("the destructor was not run to its end".into()),
            Outcome::Unknown(unknown) => Some(unknown.to_string()),
        };
        dropped
    }
}

impl Hooks for DropHooks<'_> {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, how: Transfer) -> Action {
        // Another task's cell: what that one holds is not ours.
        if (self.is_dealloc)(target) && !m.frames().is_empty() {
            return Action::Return(Some(0));
        }
        if self.dropped.functions.len() < NAMED {
            self.dropped.functions.push(target);
        }
        let role = self.policy.code.role(target);
        if role == Some(Role::ResumeUnwinding) || self.policy.code.external(target) == Some("_Unwind_Resume") {
            self.unwound = true;
            return Action::Stop;
        }
        let Some(Role::Sink(sink)) = role else { return self.policy.on_call(m, target, role) };
        let Some(this) = m.reg(Reg::Rdi) else {
            return Action::Unknown("what is given back here is not known".into());
        };
        let depth = m.frames().len() - usize::from(how == Transfer::TailJump);
        let within = self.acquire.last().map(|(_, address)| *address);
        // An `add_permits_locked` inside a `release` would say the same twice, but a release is not stepped into.
        let address = match sink {
            Sink::AcquireDrop => {
                self.dropped.acquires.push(this);
                self.acquire.push((depth, this));
                return Action::Continue;
            }
            Sink::Deregister => return Action::Return(Some(0)),
            Sink::Release | Sink::AddPermits => this,
            Sink::Sender(_) | Sink::Receiver(_) | Sink::JoinHandle => match m.read_u64(this) {
                Ok(inner) => inner,
                Err(unknown) => return Action::Unknown(unknown.to_string()),
            },
        };
        let Some(amount) = m.reg(Reg::Rsi).or((!matches!(sink, Sink::Release | Sink::AddPermits)).then_some(1)) else {
            return Action::Unknown("how many permits are given back here is not known".into());
        };
        let amount = if matches!(sink, Sink::Release | Sink::AddPermits) { amount } else { 1 };
        // An end of a channel that was given away before: nothing is left in it.
        if address != 0 && amount != 0 {
            let path = m.frames().iter().filter_map(|frame| frame.call_site).chain([m.ip()]).collect();
            self.dropped.given.push(Given { path, sink, address, amount, within });
        }
        if sink == Sink::AddPermits { Action::Continue } else { Action::Return(Some(0)) }
    }

    fn is_function(&self, address: u64) -> bool {
        self.policy.code.is_function(address)
    }

    fn on_return(&mut self, m: &mut Machine<'_>, _frame: &CallFrame) -> Action {
        let depth = m.frames().len() - 1;
        while self.acquire.pop_if(|(open, _)| *open >= depth).is_some() {}
        Action::Continue
    }
}

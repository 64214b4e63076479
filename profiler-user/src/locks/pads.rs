//! Landing pads of a blocked thread's frames: what unwinding would drop, innermost frame first.

use std::ops::ControlFlow;

use super::stand_at;
use crate::{
    debuginfo::{FrameRegisters, Landing, Module, RegisterUnwinder},
    dryrun::{Action, Atomic, CallFrame, Hooks, Machine, Outcome, Reg, Transfer},
};

/// Hooks of a run through landing pads.
pub trait Unwinding: Hooks {
    /// A frame is about to go on from its call, as if that had returned: what the thread waits for it would have then.
    fn begin_onward(&mut self, m: &Machine<'_>);

    /// The frame is done with; the thread waits as before.
    fn end_onward(&mut self, m: &mut Machine<'_>);

    /// A frame's pad is about to be run.
    fn begin(&mut self);

    /// Whether the pad that was run last has come to its end: has handed the exception on, or caught it.
    fn is_through(&self) -> bool;
}

/// What came of one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landed {
    /// Its pad was run to its end.
    Through,
    /// It was not; why.
    Stuck(Outcome),
    /// Its function never drops anything when it unwinds.
    NoArea,
    /// The call is one that does not unwind, as far as is known: what the frame owns is not written down.
    Unwritten,
}

/// Whether a program that begins with `executable` was built to unwind: one that aborts instead has no landing pads, and has no
/// use for the function that raises.
pub fn unwinds(executable: &Module) -> bool {
    const RAISE: &str = "_Unwind_RaiseException";
    executable.relocated_slots().iter().any(|(_, name)| name.split('@').next() == Some(RAISE))
        || executable.symbols().any(|symbol| symbol.name == RAISE)
}

/// Runs the landing pad at `pad` of the frame in which the machine stands.
fn land(machine: &mut Machine<'_>, pad: u64, exception: u64, hooks: &mut dyn Unwinding) -> Landed {
    machine.set_ip(pad);
    machine.set_reg(Reg::Rax, Some(exception));
    machine.set_reg(Reg::Rdx, Some(0));
    hooks.begin();
    let outcome = machine.resume(&mut *hooks);
    if hooks.is_through() { Landed::Through } else { Landed::Stuck(outcome) }
}

/// What a frame comes to when it goes on from its call.
enum Onward {
    /// A call that has this landing pad.
    Pad(u64),
    /// A call that unwinding would pass over, or its own return.
    Nothing,
    /// Something else, or it could not be followed.
    Lost,
}

/// Lets a frame go on from its call to the next one. Between the two it owns the same, but for what it gives back on the way,
/// which the hooks see.
fn onward(
    machine: &mut Machine<'_>,
    unwinder: &RegisterUnwinder,
    modules: &[Module],
    frame_and_caller: &[FrameRegisters],
    hooks: &mut dyn Unwinding,
) -> Onward {
    stand_at(machine, frame_and_caller);
    let landing = |call: u64| unwinder.landing_pad(modules, call + 1);
    let mut hooks = Following { hooks, landing: &landing, came_to: Onward::Lost };
    let _ends_at_a_call_or_not = machine.resume(&mut hooks);
    hooks.came_to
}

struct Following<'h> {
    hooks: &'h mut dyn Unwinding,
    /// The pad of the call at an address.
    landing: &'h dyn Fn(u64) -> Landing,
    came_to: Onward,
}

impl Hooks for Following<'_> {
    fn on_call(&mut self, m: &mut Machine<'_>, _target: u64, how: Transfer) -> Action {
        self.came_to = match (how, (self.landing)(m.ip())) {
            (Transfer::TailJump, _) | (_, Landing::Nothing) => Onward::Nothing,
            (_, Landing::Pad(pad)) => Onward::Pad(pad),
            (_, Landing::NoArea | Landing::Unwritten) => Onward::Lost,
        };
        Action::Stop
    }

    fn is_function(&self, address: u64) -> bool {
        self.hooks.is_function(address)
    }

    fn on_return(&mut self, _m: &mut Machine<'_>, _frame: &CallFrame) -> Action {
        self.came_to = Onward::Nothing;
        Action::Stop
    }

    fn on_atomic(&mut self, m: &mut Machine<'_>, access: &Atomic) {
        self.hooks.on_atomic(m, access);
    }
}

/// Runs the landing pads of `frames` (of one thread, innermost first), each dropping what its frame owns. All share the
/// machine's view, as they would share memory. A frame that has nothing to drop at its call is passed over; after each other one `next`
/// is asked, with its index, whether to go on.
pub fn frames(
    machine: &mut Machine<'_>,
    unwinder: &RegisterUnwinder,
    modules: &[Module],
    frames: &[FrameRegisters],
    hooks: &mut dyn Unwinding,
    next: &mut dyn FnMut(usize, Landed) -> ControlFlow<()>,
) {
    // Each pad is given the exception, which it only hands on, and no catch to go to.
    let exception = machine.scratch(64);
    for (index, frame) in frames.iter().enumerate() {
        let landing = unwinder.landing_pad(modules, frame.ip);
        let landed = match landing {
            Landing::NoArea => Landed::NoArea,
            Landing::Pad(pad) => {
                stand_at(machine, std::slice::from_ref(frame));
                land(machine, pad, exception, hooks)
            }
            Landing::Nothing | Landing::Unwritten => {
                let frame_and_caller = &frames[index..frames.len().min(index + 2)];
                hooks.begin_onward(machine);
                let came_to = onward(machine, unwinder, modules, frame_and_caller, hooks);
                let landed = match came_to {
                    Onward::Pad(pad) => land(machine, pad, exception, hooks),
                    Onward::Nothing if landing == Landing::Nothing => Landed::Through,
                    Onward::Nothing | Onward::Lost => Landed::Unwritten,
                };
                hooks.end_onward(machine);
                landed
            }
        };
        if next(index, landed).is_break() {
            return;
        }
    }
}

//! Which lock a thread gave back to wait for a condition: the one that it takes first when the wait is over.

use super::{Contended, Role, stand_at};
use crate::{
    debuginfo::FrameRegisters,
    dryrun::{Action, Atomic, CallFrame, Hooks, Machine, Reg, Transfer},
};

/// Lets the thread whose `frames` (innermost first) wait at the futex `word` go on, as if woken, until it takes a lock.
/// Returns the lock; `None` where it did not come to that.
///
/// `meaning` gives the lock role of a function, `hooks` answers all other calls.
pub fn relocked(
    machine: &mut Machine<'_>,
    frames: &[FrameRegisters],
    word: u64,
    contended: &Contended,
    hooks: &mut dyn Hooks,
    meaning: &dyn Fn(u64) -> Option<Role>,
) -> Option<u64> {
    stand_at(machine, frames);
    // The system call returns: woken. Where a flag says so too, it is the futex.
    machine.set_reg(Reg::Rax, Some(0));
    let was = machine.read_u32(word).ok()?;
    machine.write(word, &u32::from(was == 0).to_le_bytes());
    let mut hooks = Going { hooks, meaning, contended, taken: None };
    let _ends_where_it_ends = machine.resume(&mut hooks);
    hooks.taken
}

struct Going<'h> {
    hooks: &'h mut dyn Hooks,
    meaning: &'h dyn Fn(u64) -> Option<Role>,
    contended: &'h Contended,
    taken: Option<u64>,
}

impl Hooks for Going<'_> {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, how: Transfer) -> Action {
        if self.taken.is_some() {
            return Action::Stop;
        }
        if let Some(Role::Acquire { .. }) = (self.meaning)(target) {
            self.taken = m.reg(Reg::Rdi);
            return Action::Stop;
        }
        self.hooks.on_call(m, target, how)
    }

    fn is_function(&self, address: u64) -> bool {
        self.hooks.is_function(address)
    }

    fn on_return(&mut self, _m: &mut Machine<'_>, _frame: &CallFrame) -> Action {
        if self.taken.is_some() { Action::Stop } else { Action::Continue }
    }

    fn on_atomic(&mut self, _m: &mut Machine<'_>, access: &Atomic) {
        // A lock that is free by now, or one that is not yet.
        if self.contended.kind(access.address).is_some() {
            self.taken.get_or_insert(access.address);
        }
    }
}

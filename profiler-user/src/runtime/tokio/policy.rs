//! What every dry run does with the calls that mean the same to all: allocation, wakes, panics, imported functions.

use super::{classify::Role, code::Code};
use crate::dryrun::{Action, Hooks, Machine, Reg, Transfer, library};

/// Answers for calls that need no answer of their own.
pub(super) struct Policy<'c> {
    pub(super) code: &'c Code,
}

impl<'c> Policy<'c> {
    pub(super) fn new(code: &'c Code) -> Self {
        Self { code }
    }

    /// What to do at a call of `target` with this role, when its caller has no answer of its own.
    pub(super) fn on_call(&self, m: &mut Machine<'_>, target: u64, role: Option<Role>) -> Action {
        match role {
            Some(Role::Wake | Role::Abort | Role::Deallocate) => return Action::Return(Some(0)),
            Some(Role::Allocate) => return allocate(m, false),
            Some(Role::AllocateZeroed) => return allocate(m, true),
            Some(Role::Reallocate) => return reallocate(m),
            Some(Role::Panic) => return Action::Unknown("the code panics here".into()),
            _ => {}
        }
        match self.code.external(target) {
            Some(function) => library::call(m, function),
            None => Action::Continue,
        }
    }
}

/// Answers what means the same to every dry run, and nothing else.
pub(super) struct Plain<'c>(Policy<'c>);

impl<'c> Plain<'c> {
    pub(super) fn new(code: &'c Code) -> Self {
        Self(Policy::new(code))
    }
}

impl Hooks for Plain<'_> {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, _how: Transfer) -> Action {
        self.0.on_call(m, target, self.0.code.role(target))
    }

    fn is_function(&self, address: u64) -> bool {
        self.0.code.is_function(address)
    }
}

/// `__rust_alloc(size, align)`.
fn allocate(m: &mut Machine<'_>, zeroed: bool) -> Action {
    let (Some(size), Some(align)) = (m.reg(Reg::Rdi), m.reg(Reg::Rsi)) else {
        return Action::Unknown("an allocation of unknown size".into());
    };
    library::allocate(m, size, align, zeroed)
}

/// `__rust_realloc(address, old_size, align, new_size)`.
fn reallocate(m: &mut Machine<'_>) -> Action {
    let (Some(from), Some(old), Some(align), Some(new)) =
        (m.reg(Reg::Rdi), m.reg(Reg::Rsi), m.reg(Reg::Rdx), m.reg(Reg::Rcx))
    else {
        return Action::Unknown("a reallocation of unknown size".into());
    };
    library::reallocate(m, from, old, align, new)
}

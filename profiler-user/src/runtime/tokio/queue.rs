//! Who stands in a semaphore's queue: dry-run a release of more permits than all of them want, and see who is served, in
//! which order.
//!
//! Source: `Semaphore::add_permits_locked` in tokio/src/sync/batch_semaphore.rs, 1.28 to 1.54: it serves waiters oldest
//! first, each by a compare-exchange on its own count of missing permits, and then wakes them in the same order.

use super::{classify::Role, code::Code, policy::Policy};
use crate::{
    dryrun::{Action, Atomic, Hooks, Limits, Machine, Outcome, Reg, Transfer},
    target::Memory,
};

/// Enough for every waiter there can be, and below tokio's own maximum (2^61).
const PLENTY: u64 = 1 << 50;

/// The queue of one semaphore.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Address and value of each waiter's count of missing permits, oldest first.
    pub(super) waiters: Vec<(u64, u64)>,
    /// What the wakers of served waiters point at, oldest first: task headers, or the data of other wakers.
    pub(super) wakers: Vec<u64>,
    /// Permits that were free.
    pub(super) complete: bool,
}

/// Reads the queue of the semaphore at `semaphore`.
pub(super) fn run(code: &Code, memory: &dyn Memory, semaphore: u64, fs_base: u64) -> Queue {
    let Some(release) = code.release else { return Queue::default() };
    let limits = Limits { steps: 2_000_000, ..Limits::default() };
    let mut machine = Machine::with_code_cache(memory, limits, &code.cache);
    machine.set_fs_base(fs_base);
    let mut hooks = QueueHooks { policy: Policy::new(code), semaphore, queue: Queue::default() };
    let outcome = machine.call(release, &[semaphore, PLENTY], &mut hooks);
    let mut queue = hooks.queue;
    queue.complete = matches!(outcome, Outcome::Returned { .. });
    queue
}

struct QueueHooks<'c> {
    policy: Policy<'c>,
    semaphore: u64,
    queue: Queue,
}

/// Bytes of a semaphore, at most: its own atomics lie within.
pub(super) const SEMAPHORE_SPAN: u64 = 64;

impl Hooks for QueueHooks<'_> {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, _how: Transfer) -> Action {
        let role = self.policy.code.role(target);
        if role == Some(Role::Wake)
            && let Some(data) = m.reg(Reg::Rdi)
        {
            self.queue.wakers.push(data);
        }
        self.policy.on_call(m, target, role)
    }

    fn is_function(&self, address: u64) -> bool {
        self.policy.code.is_function(address)
    }

    fn on_atomic(&mut self, _m: &mut Machine<'_>, access: &Atomic) {
        let own = (self.semaphore..self.semaphore + SEMAPHORE_SPAN).contains(&access.address);
        if access.size == 8
            && !own
            && let (Some(old), Some(0)) = (access.old, access.new)
            && !self.queue.waiters.iter().any(|(address, _)| *address == access.address)
        {
            self.queue.waiters.push((access.address, old));
        }
    }
}

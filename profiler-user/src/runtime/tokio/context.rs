//! The runtime's thread-local context: where the kernel programs find the task that a thread polls.
//!
//! Source: `Context { scheduler, current_task_id, budget, .. }` in tokio/src/runtime/context.rs, 1.28 to 1.54. Its layout is
//! the compiler's, so it is observed: a dry poll sets the task's id and a budget in it, and what has changed tells where
//! they are. No debuginfo is needed.

use crate::{
    debuginfo::{Module, SymbolKind, name},
    dryrun::Machine,
    runtime::ThreadContext,
    target::Memory,
};

/// Bytes of the context that are looked at, at most; the struct has about 80.
const SPAN: usize = 192;

/// Budgets that a poll may begin with or have left at its first leaf: `Budget::initial()` is 128 (tokio/src/task/coop).
const BUDGETS: std::ops::RangeInclusive<u8> = 100..=128;

/// Offset of the context from a thread's `fs` base: the executable's thread-local block ends at it (variant II of the
/// x86-64 ABI). `None` where the symbol is missing or tokio lies in a library.
pub(super) fn tls_offset(executable: &Module) -> Option<i64> {
    let segment = executable.tls()?;
    let symbol = executable.symbols().find(|symbol| {
        symbol.kind == SymbolKind::Tls
            && symbol.name.contains("CONTEXT")
            && name::demangled(symbol.name).starts_with("tokio::runtime::context::CONTEXT")
    })?;
    let block = segment.memsz.next_multiple_of(segment.align.max(1));
    Some(symbol.address as i64 - block as i64)
}

/// The context of a thread, as it is and as a dry poll on that thread has left it.
pub(super) struct Observed {
    tls_offset: i64,
    before: Vec<u8>,
    after: Vec<u8>,
    /// Where the id of the task is that was polled.
    task_id: usize,
}

impl Observed {
    /// Where a poll of task `id` on the thread with this `fs_base` has left its marks.
    pub(super) fn of(
        machine: &Machine<'_>,
        memory: &dyn Memory,
        fs_base: u64,
        tls_offset: i64,
        id: u64,
    ) -> Option<Self> {
        let address = fs_base.checked_add_signed(tls_offset)?;
        // The block ends at the thread pointer; what follows is libc's.
        let length = SPAN.min(usize::try_from(fs_base.checked_sub(address)?).ok()?);
        let (mut before, mut after) = (vec![0; length], vec![0; length]);
        memory.read(address, &mut before).ok()?;
        machine.read(address, &mut after).ok()?;
        let word = |bytes: &[u8], at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        let task_id =
            (0..length.saturating_sub(7)).step_by(8).find(|at| word(&after, *at) == id && word(&before, *at) != id)?;
        Some(Self { tls_offset, before, after, task_id })
    }

    /// Offset from a thread pointer to the id of the task that its thread polls.
    pub(super) fn current_task(&self) -> i64 {
        self.tls_offset + self.task_id as i64
    }

    /// All that the kernel programs need; `None` where the thread was in a poll of its own meanwhile.
    pub(super) fn context(&self) -> Option<ThreadContext> {
        let Self { tls_offset, before, after, task_id } = self;
        let budget = (0..before.len().saturating_sub(1))
            .find(|at| before[*at] == 0 && after[*at] == 1 && BUDGETS.contains(&after[*at + 1]))?;
        Some(ThreadContext { tls_offset: *tls_offset, task_id: *task_id as u32, budget: budget as u32 })
    }
}

//! The runtime's per-thread context, read from the target's thread-local storage.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_log_ebpf::debug;
use core::mem::MaybeUninit;
use profiler_common::{Config, Counter, Placement, UNKNOWN_POLLS};

use crate::{config::config, maps::count};

/// System calls in which a thread waits for work or for a lock: futex, futex_wait, futex_waitv, epoll_wait,
/// epoll_pwait, epoll_pwait2.
const WAITS: [u64; 6] = [202, 455, 449, 232, 281, 441];

/// What the context says.
#[derive(Clone, Copy)]
pub struct Context {
    /// Current task id; 0 for none or unknown.
    pub task_id: u64,
    /// Address of the scheduler's context; 0 for none or unknown.
    pub scheduler: u64,
    /// Where in its runtime the thread is.
    pub placement: Placement,
}

const UNKNOWN: Context = Context { task_id: 0, scheduler: 0, placement: Placement::Unknown };

/// Whether a system call is one of the waits that a runtime does between polls too.
#[inline(always)]
pub fn is_wait(syscall: u64) -> bool {
    WAITS.contains(&syscall)
}

/// Reads the context of the thread with this base of thread-local storage, which is in this system call.
///
/// One bounded read of user memory; page faults are off in these programs, so that a page that is not resident is an
/// error, and never touched.
#[inline(always)]
pub fn read(fs_base: u64, syscall: u64) -> Context {
    let size = config!(context.size);
    if size == 0 || size > Config::MAX_CONTEXT || fs_base == 0 {
        return UNKNOWN;
    }
    let mut bytes = MaybeUninit::<[u64; Config::MAX_CONTEXT as usize / 8]>::uninit();
    let address = fs_base.wrapping_add(config!(context.tls_offset) as u64);
    // SAFETY: `size` is at most that of `bytes`; the helper checks the source.
    if unsafe { bpf_probe_read_user(bytes.as_mut_ptr().cast(), size, address as *const _) } != 0 {
        count(Counter::ContextUnreadable);
        debug!((), "runtime context at {:x} is not readable", address);
        return UNKNOWN;
    }
    let base: *const u8 = bytes.as_ptr().cast();
    let (task_at, scheduler_at, budget_at) =
        (config!(context.task_id), config!(context.scheduler), config!(context.budget));
    // SAFETY: the loader has checked that the three fields lie within `size`; the verifier, within `bytes`.
    let (task_id, scheduler, budget) = unsafe {
        (
            base.add(task_at as usize).cast::<u64>().read_volatile(),
            base.add(scheduler_at as usize).cast::<u64>().read_volatile(),
            base.add(budget_at as usize).read_volatile(),
        )
    };
    let placement = if budget == 1 {
        Placement::Polling
    } else if task_id == 0 {
        Placement::Outside
    } else if scheduler == 0 {
        Placement::Closure
    } else if is_wait(syscall) {
        Placement::Idle
    } else {
        Placement::Unbudgeted
    };
    Context { task_id, scheduler, placement }
}

/// The worker's count of polls, or [`UNKNOWN_POLLS`] where it has no core or the layout is not known.
#[inline(always)]
pub fn polls(scheduler: u64) -> u64 {
    if config!(polls.known) == 0 || scheduler == 0 {
        return UNKNOWN_POLLS;
    }
    let Some(tag) = read_user::<u32>(scheduler + u64::from(config!(polls.tag_offset))) else {
        return UNKNOWN_POLLS;
    };
    let (core_at, counter_at) = if tag == config!(polls.tags[0]) {
        (config!(polls.cores[0]), config!(polls.counters[0]))
    } else if tag == config!(polls.tags[1]) {
        (config!(polls.cores[1]), config!(polls.counters[1]))
    } else {
        return UNKNOWN_POLLS;
    };
    match read_user::<u64>(scheduler + u64::from(core_at)) {
        Some(core) if core != 0 => read_user::<u32>(core + u64::from(counter_at)).map_or(UNKNOWN_POLLS, u64::from),
        _ => UNKNOWN_POLLS,
    }
}

/// An integer of the target's memory.
#[inline(always)]
fn read_user<T: Copy + Default>(address: u64) -> Option<T> {
    let mut value = T::default();
    // SAFETY: `value` is writable for its size; the helper checks the source.
    let failed = unsafe { bpf_probe_read_user((&raw mut value).cast(), size_of::<T>() as u32, address as *const _) };
    (failed == 0).then_some(value)
}

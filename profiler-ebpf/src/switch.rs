//! Threads of the target leaving a CPU to block, and coming back.
//!
//! At a switch, the thread that leaves still has its saved user registers: they name the system call and its
//! arguments. So calls that do not block cost nothing, and no system-call tracepoint taxes the rest of the machine.

use aya_ebpf::{
    bindings::BPF_NOEXIST, helpers::generated::bpf_ktime_get_ns, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use core::sync::atomic::{Ordering, compiler_fence};
use profiler_common::{BlockEvent, Counter, EVENT_BLOCK, EventHeader, Placement, ThreadState};

use crate::{
    config::config,
    context,
    maps::{EVENTS, THREADS, count, wake_flags},
    task::{Task, copy_registers},
};

/// `TASK_DEAD` of `include/linux/sched.h`: the thread's last switch.
const DEAD: u32 = 0x80;

/// What a new slot of [`THREADS`] starts from; too large for the stack of a program.
static EMPTY: ThreadState = ThreadState::EMPTY;

/// Attached to the scheduler's switch. Arguments: preempt, prev, next (and prev_state, which Linux 5.18 added, and
/// which is therefore not used).
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: arguments of the tracepoint, never null.
    let (prev, next) = unsafe { (Task::new(ctx.arg(1)), Task::new(ctx.arg(2))) };
    if prev.is_target() {
        let preempted = ctx.arg::<u64>(0) & 0xff != 0;
        leave(prev, preempted);
    }
    if next.is_target() {
        come_back(next);
    }
    0
}

/// A thread of the target leaves its CPU.
#[inline(always)]
fn leave(task: Task, preempted: bool) {
    let state = task.state();
    if state & DEAD != 0 {
        let _ = THREADS.remove(task.kernel_tid());
        return;
    }
    if preempted || state == 0 {
        return;
    }
    count(Counter::Blocked);
    let registers = task.registers();
    let fs_base = task.fs_base();
    // SAFETY: registers of a task, read as the verifier allows.
    let syscall = unsafe { (&raw const (*registers).orig_rax).read_volatile() };
    let context = context::read(fs_base, syscall);
    let in_poll = matches!(context.placement, Placement::Polling | Placement::Unbudgeted);
    if in_poll {
        count(Counter::BlockedInPoll);
    } else if config!(every_block) == 0 && context.placement != Placement::Unknown {
        // A worker without work, or a thread that polls nothing.
        return;
    }
    let Some(slot) = slot(task) else {
        return;
    };
    // SAFETY: a slot of the map, read by the kernel program alone.
    if unsafe { (*slot).seq } & 1 != 0 {
        count(Counter::BlockTorn);
    }
    // SAFETY: a slot of the map. Only this thread's own switches write it, and they do not overlap; user space
    // checks its copy by the two sequence numbers, of which the first is written first and the second last.
    unsafe {
        (&raw mut (*slot).seq).write_volatile(((*slot).seq + 1) | 1);
        compiler_fence(Ordering::SeqCst);
        (*slot).since_ns = bpf_ktime_get_ns();
        (*slot).task_id = context.task_id;
        (*slot).fs_base = fs_base;
        (*slot).polls = context::polls(context.scheduler);
        copy_registers(registers, &raw mut (*slot).registers);
        (*slot).placement = context.placement as u32;
        (*slot).task_state = state;
        compiler_fence(Ordering::SeqCst);
        (&raw mut (*slot).seq_end).write_volatile((*slot).seq);
    }
}

/// The thread's slot, new if it has none.
#[inline(always)]
fn slot(task: Task) -> Option<*mut ThreadState> {
    let kernel_tid = task.kernel_tid();
    if let Some(slot) = THREADS.get_ptr_mut(kernel_tid) {
        return Some(slot);
    }
    let inserted = THREADS.insert(kernel_tid, &EMPTY, u64::from(BPF_NOEXIST));
    let Some(slot) = THREADS.get_ptr_mut(kernel_tid) else {
        count(Counter::ThreadMapFull);
        warn!((), "no room to record thread {}: {}", kernel_tid, inserted.err().unwrap_or(0));
        return None;
    };
    // SAFETY: a slot of the map, new, so that nobody reads it as blocked yet.
    unsafe {
        (*slot).tid = task.own_tid();
        (*slot).kernel_tid = kernel_tid;
    }
    Some(slot)
}

/// A thread of the target gets a CPU.
#[inline(always)]
fn come_back(task: Task) {
    let Some(slot) = THREADS.get_ptr_mut(task.kernel_tid()) else {
        return;
    };
    // SAFETY: a slot of the map that only this thread's own switches write.
    let state = unsafe { &mut *slot };
    if state.seq & 1 == 0 {
        return;
    }
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let duration_ns = now.saturating_sub(state.since_ns);
    if duration_ns >= config!(min_block_ns) && is_wanted(state) {
        send(state, now, duration_ns);
    }
    state.seq += 1;
    state.seq_end = state.seq;
}

/// Whether the end of this block is worth an event.
#[inline(always)]
fn is_wanted(state: &ThreadState) -> bool {
    // Without a context, a wait on a futex or on epoll is most likely a thread without work.
    config!(every_block) != 0
        || state.placement != Placement::Unknown as u32
        || !context::is_wait(state.registers.orig_rax)
}

#[inline(always)]
fn send(state: &ThreadState, at_ns: u64, duration_ns: u64) {
    let Some(mut entry) = EVENTS.reserve::<BlockEvent>(0) else {
        count(Counter::BlockRingFull);
        return;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: reserved with the size of the struct, every field written.
    unsafe {
        (*event).header = EventHeader { kind: EVENT_BLOCK, tid: state.tid, at_ns };
        (*event).duration_ns = duration_ns;
        (*event).state = *state;
    }
    entry.submit(wake_flags::<BlockEvent>(&EVENTS));
    count(Counter::BlockEvents);
}

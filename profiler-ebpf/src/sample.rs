//! Sampling what runs: one event a CPU, filtered by process. One event a thread costs the target far more.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_user},
    macros::perf_event,
    programs::PerfEventContext,
};
use profiler_common::{
    Counter, EVENT_SAMPLE, EventHeader, Registers, SAMPLE_IN_KERNEL, SAMPLE_STACK_CUT, SAMPLE_STACK_UNREADABLE,
    STACK_BYTES, SampleEvent,
};

use crate::{
    config::config,
    context,
    maps::{SAMPLES, count, wake_flags},
    task::{Task, copy_registers},
};

/// Piece in which a stack is read that cannot be read at once.
const PIECE: usize = 1024;

/// Attached to the CPU clock of every CPU.
#[perf_event]
pub fn sample(ctx: PerfEventContext) -> u32 {
    let task = Task::current();
    if !task.is_target() {
        return 0;
    }
    // The interrupted context's registers come first in the event's data.
    let interrupted: *const Registers = ctx.as_ptr().cast();
    // SAFETY: the verifier knows the context's type and checks the offset.
    let in_kernel = unsafe { (&raw const (*interrupted).cs).read_volatile() } & 3 == 0;
    take(task, in_kernel);
    0
}

#[inline(always)]
fn take(task: Task, in_kernel: bool) {
    let Some(mut entry) = SAMPLES.reserve::<SampleEvent>(0) else {
        count(Counter::SampleRingFull);
        return;
    };
    let event = entry.as_mut_ptr();
    let registers = task.registers();
    let fs_base = task.fs_base();
    // SAFETY: reserved with the size of the struct; every field of its head is written, and the stack's bytes as
    // far as `stack_len` says.
    unsafe {
        copy_registers(registers, &raw mut (*event).head.registers);
        let context = context::read(fs_base, (*event).head.registers.orig_rax);
        (*event).head.header = EventHeader { kind: EVENT_SAMPLE, tid: task.own_tid(), at_ns: bpf_ktime_get_ns() };
        (*event).head.fs_base = fs_base;
        (*event).head.task_id = context.task_id;
        (*event).head.polls = context::polls(context.scheduler);
        (*event).head.placement = context.placement as u32;
        (*event).head.kernel_tid = task.kernel_tid();
        let (stack_len, stack_flags) = copy_stack(task, (*event).head.registers.rsp, (&raw mut (*event).stack).cast());
        (*event).head.stack_len = stack_len;
        (*event).head.flags = stack_flags | if in_kernel { SAMPLE_IN_KERNEL } else { 0 };
    }
    entry.submit(wake_flags::<SampleEvent>(&SAMPLES));
    count(Counter::Samples);
}

/// Copies the stack from `from` upwards. Returns the bytes copied and `SAMPLE_` flags.
///
/// A thread's stack ends below its thread control block, which its `fs` base points at; the main thread's ends where
/// the loader says.
///
/// # Safety
/// `to` must be writable for [`STACK_BYTES`].
#[inline(always)]
unsafe fn copy_stack(task: Task, from: u64, to: *mut u8) -> (u32, u32) {
    let is_main = task.kernel_tid() == task.tgid();
    // Both loaded first: the compiler would merge two loads in two branches, of two kinds of memory, which the
    // verifier refuses.
    let (main_end, control_block) = (config!(main_stack_end), task.fs_base());
    let end = if is_main && main_end != 0 { main_end } else { control_block };
    let wanted = end.wrapping_sub(from);
    if wanted <= STACK_BYTES as u64 {
        // SAFETY: at most the size of the destination; the helper checks the source.
        if unsafe { bpf_probe_read_user(to.cast(), wanted as u32, from as *const _) } == 0 {
            return (wanted as u32, 0);
        }
    // SAFETY: as above.
    } else if unsafe { bpf_probe_read_user(to.cast(), STACK_BYTES as u32, from as *const _) } == 0 {
        count(Counter::StackCut);
        return (STACK_BYTES as u32, SAMPLE_STACK_CUT);
    }
    count(Counter::StackUnreadable);
    let mut copied = 0;
    while copied < STACK_BYTES {
        // SAFETY: `copied` and a piece lie within the destination; the helper checks the source.
        let failed =
            unsafe { bpf_probe_read_user(to.add(copied).cast(), PIECE as u32, (from + copied as u64) as *const _) };
        if failed != 0 {
            break;
        }
        copied += PIECE;
    }
    (copied as u32, SAMPLE_STACK_UNREADABLE)
}

//! Entries into functions of the target, by uprobe: where its runtime queues, hands over and wakes.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_attach_cookie, bpf_ktime_get_ns},
    macros::uprobe,
    programs::ProbeContext,
};
use profiler_common::{Counter, EVENT_WAIT, EventHeader, Registers, WAIT_KINDS, WaitEvent};

use crate::{
    context,
    maps::{EVENTS, SEND_WAITS, WAIT_COUNTS, add_one, count, wake_flags},
    task::Task,
};

/// Counts each entry, and sends it while [`SEND_WAITS`] says so: detaching costs the kernel a grace period a function,
/// so what has been counted and found cheap enough is not attached anew.
#[uprobe]
pub fn wait(ctx: ProbeContext) -> u32 {
    let task = Task::current();
    if !task.is_target() {
        return 0;
    }
    let kind = kind(&ctx);
    add_one(&WAIT_COUNTS, kind);
    if SEND_WAITS.get(0) != Some(&1) {
        return 0;
    }
    let Some(mut entry) = EVENTS.reserve::<WaitEvent>(0) else {
        count(Counter::WaitRingFull);
        return 0;
    };
    let registers: *const Registers = ctx.regs.cast();
    // On user code's own breakpoint, no system call is under way.
    let context = context::read(task.fs_base(), u64::MAX);
    let event = entry.as_mut_ptr();
    // SAFETY: reserved with the size of the struct, every field written; the context is `struct pt_regs`.
    unsafe {
        (*event).header = EventHeader { kind: EVENT_WAIT, tid: task.own_tid(), at_ns: bpf_ktime_get_ns() };
        (*event).kind = kind;
        (*event).placement = context.placement as u32;
        (*event).task_id = context.task_id;
        (*event).stack_pointer = (&raw const (*registers).rsp).read_volatile();
        (*event).arguments[0] = (&raw const (*registers).rdi).read_volatile();
        (*event).arguments[1] = (&raw const (*registers).rsi).read_volatile();
        (*event).arguments[2] = (&raw const (*registers).rdx).read_volatile();
        (*event).arguments[3] = (&raw const (*registers).rcx).read_volatile();
    }
    entry.submit(wake_flags::<WaitEvent>(&EVENTS));
    count(Counter::Waits);
    0
}

/// The number the loader gave to the function that was entered.
#[inline(always)]
fn kind(ctx: &ProbeContext) -> u32 {
    // SAFETY: the context the kernel gave.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    if cookie < u64::from(WAIT_KINDS) { cookie as u32 } else { WAIT_KINDS - 1 }
}

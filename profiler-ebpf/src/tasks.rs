//! An iterator over threads: their registers, without stopping any of them.
//!
//! User space opens it and reads. The kernel walks the threads visible in the reader's pid namespace.

use aya_ebpf::{
    bindings::seq_file,
    helpers::generated::{bpf_ktime_get_ns, bpf_seq_write},
};
use core::{ffi::c_void, mem::MaybeUninit};
use profiler_common::{Registers, TaskRecord};

use crate::{
    config::config,
    task::{Task, copy_registers},
};

/// `struct bpf_iter_meta` of `include/linux/bpf.h`.
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

/// `struct bpf_iter__task` of `kernel/bpf/task_iter.c`.
#[repr(C)]
struct IterTask {
    meta: *const Meta,
    task: *const u8,
}

/// Writes a [`TaskRecord`] for each thread of the target, or of every process where the loader named none.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn tasks(ctx: *mut c_void) -> i32 {
    let ctx: *const IterTask = ctx.cast();
    // SAFETY: the kernel calls with this struct; the verifier knows its type.
    let (meta, pointer) =
        unsafe { ((&raw const (*ctx).meta).read_volatile(), (&raw const (*ctx).task).read_volatile()) };
    if pointer.is_null() {
        return 0;
    }
    // SAFETY: the iterator's own pointer, not null.
    let task = unsafe { Task::new(pointer) };
    if config!(tgid) != 0 && !task.is_target() {
        return 0;
    }
    let mut record = MaybeUninit::<TaskRecord>::uninit();
    let out = record.as_mut_ptr();
    let own_level = if config!(tgid) == 0 { Task::current().namespace_level() } else { config!(own_level) };
    // SAFETY: every field is written before the record is handed to the kernel, which copies it.
    unsafe {
        let registers: *const Registers = task.registers();
        copy_registers(registers, &raw mut (*out).registers);
        (*out).fs_base = task.fs_base();
        (*out).switches = task.switches();
        (*out).at_ns = bpf_ktime_get_ns();
        (*out).tid = task.own_tid();
        (*out).kernel_tid = task.kernel_tid();
        (*out).kernel_tgid = task.tgid();
        (*out).own_level = own_level;
        (*out).own_number = task.number_at(own_level);
        (*out).task_state = task.state();
        (*out).on_cpu = task.on_cpu();
        (*out).reserved = 0;
        let seq = (&raw const (*meta).seq).read_volatile();
        bpf_seq_write(seq, out.cast(), size_of::<TaskRecord>() as u32);
    }
    0
}

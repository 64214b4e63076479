//! Reading the kernel's `task_struct`.

use aya_ebpf::{
    bindings::task_struct,
    helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs},
};
use core::ptr::read_volatile;
use profiler_common::Registers;

use crate::config::config;

/// A thread, by a pointer that the verifier knows to be one.
#[derive(Clone, Copy)]
pub struct Task(*const u8);

impl Task {
    /// Takes a pointer to a `task_struct` as a program got it from the kernel.
    ///
    /// # Safety
    /// It must be an argument of the tracepoint or of the iterator, not null, and used only while the program runs.
    #[inline(always)]
    pub unsafe fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    /// The thread that the program interrupted.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: the helper has no preconditions.
        Self(unsafe { bpf_get_current_task_btf() }.cast())
    }

    /// The field at `offset`. A load the verifier checks against the kernel's own type of the struct.
    #[inline(always)]
    fn field<T: Copy>(self, offset: u32) -> T {
        // SAFETY: the verifier refuses the program unless this lies within a `task_struct`; volatile keeps the
        // compiler from splitting or merging loads, which it would refuse too.
        unsafe { read_volatile(self.0.add(offset as usize).cast()) }
    }

    /// Process id in the initial namespace.
    #[inline(always)]
    pub fn tgid(self) -> u32 {
        self.field(config!(kernel.tgid))
    }

    /// Thread id in the initial namespace.
    #[inline(always)]
    pub fn kernel_tid(self) -> u32 {
        self.field(config!(kernel.pid))
    }

    /// Whether this is a thread of the target.
    #[inline(always)]
    pub fn is_target(self) -> bool {
        self.tgid() == config!(tgid)
    }

    /// Task state bits. The field was an 8-byte one before Linux 5.14; all bits lie in its low half.
    #[inline(always)]
    pub fn state(self) -> u32 {
        self.field(config!(kernel.state))
    }

    /// Whether it runs on a CPU right now.
    #[inline(always)]
    pub fn on_cpu(self) -> u32 {
        self.field(config!(kernel.on_cpu))
    }

    /// Base of its thread-local storage, as of its last switch; programs set it once, when a thread starts.
    #[inline(always)]
    pub fn fs_base(self) -> u64 {
        self.field(config!(kernel.fs_base))
    }

    /// Times it left a CPU, of its own will and not.
    #[inline(always)]
    pub fn switches(self) -> u64 {
        let voluntary: u64 = self.field(config!(kernel.switches));
        let involuntary: u64 = self.field(config!(kernel.switches) + 8);
        voluntary.wrapping_add(involuntary)
    }

    /// Its registers in user mode, as they were when it entered the kernel.
    #[inline(always)]
    pub fn registers(self) -> *const Registers {
        // SAFETY: a task pointer, as the helper demands. `Registers` is `struct pt_regs` field by field.
        unsafe { bpf_task_pt_regs(self.0.cast::<task_struct>().cast_mut()) as *const Registers }
    }

    /// Depth of the innermost pid namespace it is in.
    #[inline(always)]
    pub fn namespace_level(self) -> u32 {
        let pid: u64 = self.field(config!(kernel.thread_pid));
        read_kernel::<u32>(pid + u64::from(config!(pid_level)))
    }

    /// Its thread id in the namespace at `level` of those it is in.
    #[inline(always)]
    pub fn number_at(self, level: u32) -> u32 {
        let pid: u64 = self.field(config!(kernel.thread_pid));
        let number = u64::from(config!(kernel.pid_numbers)) + u64::from(level) * u64::from(config!(upid_size));
        read_kernel::<u32>(pid + number)
    }

    /// Its thread id in gordian's own pid namespace.
    #[inline(always)]
    pub fn own_tid(self) -> u32 {
        let level = config!(own_level);
        if level == 0 { self.kernel_tid() } else { self.number_at(level) }
    }
}

/// A 4-byte integer of kernel memory; 0 where there is none.
#[inline(always)]
fn read_kernel<T: Copy + Default>(address: u64) -> T {
    let mut value = T::default();
    // SAFETY: `value` is writable for its size. The helper checks the source and zeroes the destination on failure.
    unsafe { bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, address as *const _) };
    value
}

/// Copies registers word by word, with loads the verifier can follow.
///
/// # Safety
/// `from` must come from [`Task::registers`], `to` must be writable.
#[inline(always)]
pub unsafe fn copy_registers(from: *const Registers, to: *mut Registers) {
    macro_rules! copy {
        ($($field:ident)+) => {
            $(
                // SAFETY: the caller's promise, and fields of the struct.
                unsafe { (&raw mut (*to).$field).write(read_volatile(&raw const (*from).$field)) };
            )+
        };
    }
    copy!(r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs rflags rsp ss);
}

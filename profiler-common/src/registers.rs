//! User-space registers of a thread.

/// General registers in the order of the kernel's `struct pt_regs` on x86-64.
///
/// That order is the kernel's user ABI: `ptrace`'s `user_regs_struct` and core files have it too
/// (`arch/x86/include/uapi/asm/ptrace.h`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Callee-saved.
    pub r15: u64,
    /// Callee-saved.
    pub r14: u64,
    /// Callee-saved.
    pub r13: u64,
    /// Callee-saved.
    pub r12: u64,
    /// Callee-saved, the frame pointer where code keeps one.
    pub rbp: u64,
    /// Callee-saved.
    pub rbx: u64,
    /// Overwritten with the flags by `syscall`.
    pub r11: u64,
    /// Fourth argument of a system call.
    pub r10: u64,
    /// Sixth argument.
    pub r9: u64,
    /// Fifth argument.
    pub r8: u64,
    /// Return value; `-ENOSYS` while a system call runs.
    pub rax: u64,
    /// Overwritten with the return address by `syscall`.
    pub rcx: u64,
    /// Third argument.
    pub rdx: u64,
    /// Second argument.
    pub rsi: u64,
    /// First argument.
    pub rdi: u64,
    /// The system call's number, or -1 where the thread entered the kernel by a fault or an interrupt.
    pub orig_rax: u64,
    /// Program counter.
    pub rip: u64,
    /// Code segment; its two low bits are 3 in user mode.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

impl Registers {
    /// All zero: the value of a slot not written yet.
    pub const ZERO: Self = Self {
        r15: 0,
        r14: 0,
        r13: 0,
        r12: 0,
        rbp: 0,
        rbx: 0,
        r11: 0,
        r10: 0,
        r9: 0,
        r8: 0,
        rax: 0,
        rcx: 0,
        rdx: 0,
        rsi: 0,
        rdi: 0,
        orig_rax: 0,
        rip: 0,
        cs: 0,
        rflags: 0,
        rsp: 0,
        ss: 0,
    };

    /// The system call the thread is in: number and six arguments, or `None` where it is in none.
    pub fn syscall(&self) -> Option<(i64, [u64; 6])> {
        let number = self.orig_rax.cast_signed();
        (number >= 0).then_some((number, [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]))
    }
}

//! Registers of a stopped or blocked thread.

use serde::{Deserialize, Serialize};

/// The registers that user code had when it entered the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRegisters {
    /// Program counter.
    pub ip: u64,
    /// The sixteen general registers by their DWARF numbers (System V ABI for AMD64, figure 3.36): rax, rdx, rcx, rbx, rsi, rdi,
    /// rbp, rsp, r8 … r15.
    pub general: [u64; 16],
    /// Thread pointer.
    pub fs_base: u64,
}

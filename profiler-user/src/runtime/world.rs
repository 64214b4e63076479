//! What a runtime backend may look at.

use crate::{
    debuginfo::{FrameRegisters, Module},
    model::Frame,
    target::{AddressSpace, ThreadFacts, UserRegisters},
};

/// Registers of a thread that is blocked in the kernel, as far as they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadRegisters {
    /// Thread id as gordian sees it.
    pub tid: i32,
    /// Its innermost user frame. procfs tells the program counter and the stack pointer; the kernel programs tell all.
    pub frame: FrameRegisters,
    /// Thread pointer; `None` where it was not read.
    pub fs_base: Option<u64>,
}

/// Where a runtime keeps what its thread is at: offsets into thread-local storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadContext {
    /// From a thread's `fs` base to the context; negative on x86-64.
    pub tls_offset: i64,
    /// From there to the current task's id: 8 bytes, 0 for none.
    pub task_id: u32,
    /// From there to the byte that is 1 while a task is being polled.
    pub budget: u32,
}

/// How what is read of a process in one look hangs together.
#[derive(Clone, Copy, Debug)]
pub enum Reads<'a> {
    /// It runs on meanwhile, and can be read again.
    Passing,
    /// All is of one moment; these are the registers that its threads had, every one of them.
    Still(&'a [UserRegisters]),
    /// It was kept while it ran, and cannot be read again.
    Torn,
}

/// The target at one moment: everything that is read lies in it.
pub struct World<'a> {
    /// Its memory, one consistent view.
    pub memory: &'a AddressSpace,
    /// Its code.
    pub modules: &'a [Module],
    /// Its threads, with the user stack of each, root first, where it could be unwound.
    pub threads: &'a [(ThreadFacts, Option<ThreadRegisters>, Vec<Frame>)],
    /// How its reads hang together.
    pub reads: Reads<'a>,
}

impl World<'_> {
    /// The module whose code or data is at `address`.
    pub fn module_at(&self, address: u64) -> Option<&Module> {
        self.modules.iter().find(|module| module.contains(address))
    }
}

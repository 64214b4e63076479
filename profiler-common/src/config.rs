//! What the loader tells the kernel programs before they are verified.
//!
//! It goes into one read-only global, [`Config::GLOBAL`]. aya freezes it before loading, so that the verifier sees
//! constants: code that a zero switches off is not even loaded, and reads of kernel structs at offsets from here pass
//! as typed loads.

/// Byte offsets in kernel structs, from the running kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelOffsets {
    /// `task_struct.tgid`.
    pub tgid: u32,
    /// `task_struct.pid`.
    pub pid: u32,
    /// `task_struct.__state`, or `state` before Linux 5.14.
    pub state: u32,
    /// `task_struct.on_cpu`.
    pub on_cpu: u32,
    /// `task_struct.thread.fsbase`.
    pub fs_base: u32,
    /// `task_struct.nvcsw`; `nivcsw` follows it.
    pub switches: u32,
    /// `task_struct.thread_pid`.
    pub thread_pid: u32,
    /// `struct pid.numbers`; `level` is looked for by `pid_level`.
    pub pid_numbers: u32,
}

/// Where a runtime keeps its per-thread context.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextOffsets {
    /// From the thread's `fs` base to the context; 0 where no layout is known.
    pub tls_offset: i64,
    /// Bytes of the context to read, at most [`Config::MAX_CONTEXT`].
    pub size: u32,
    /// The current task's id: 8 bytes, 0 for none.
    pub task_id: u32,
    /// The byte that is 1 while a cooperative budget is set.
    pub budget: u32,
    /// The pointer to the scheduler's context: 8 bytes, null outside a worker.
    pub scheduler: u32,
}

/// Where a worker counts its polls, for up to two kinds of scheduler. All zero where it is not known.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollCounter {
    /// Whether any of this is known.
    pub known: u32,
    /// From the scheduler's context to the 4-byte tag that tells its kind.
    pub tag_offset: u32,
    /// Tag of each kind.
    pub tags: [u32; 2],
    /// From the scheduler's context to the pointer to its core.
    pub cores: [u32; 2],
    /// From the core to the 4-byte counter.
    pub counters: [u32; 2],
}

/// The whole configuration.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Blocks shorter than this are not sent.
    pub min_block_ns: u64,
    /// End of the main thread's stack; 0 where it is not known.
    pub main_stack_end: u64,
    /// Bytes waiting in a ring buffer from which on the reader is woken.
    pub wake_bytes: u64,
    /// The target's process id in the initial pid namespace; 0 for every process, which only the iterator heeds.
    pub tgid: u32,
    /// Depth of gordian's own pid namespace.
    pub own_level: u32,
    /// 1: record and send every block, in a poll or not.
    pub every_block: u32,
    /// `struct pid.level`.
    pub pid_level: u32,
    /// `sizeof(struct upid)`.
    pub upid_size: u32,
    /// Always 0: fills the struct up to a multiple of 8 bytes.
    pub reserved: u32,
    /// Offsets in kernel structs.
    pub kernel: KernelOffsets,
    /// Where the runtime's context is.
    pub context: ContextOffsets,
    /// Where polls are counted.
    pub polls: PollCounter,
}

impl Config {
    /// Symbol of the global in the object.
    pub const GLOBAL: &str = "CONFIG";

    /// Most bytes of a runtime's context that are read.
    pub const MAX_CONTEXT: u32 = 128;

    /// What stands in the object as built: nothing known.
    pub const EMPTY: Self = Self {
        min_block_ns: 0,
        main_stack_end: 0,
        wake_bytes: 0,
        tgid: 0,
        own_level: 0,
        every_block: 0,
        pid_level: 0,
        upid_size: 0,
        reserved: 0,
        kernel: KernelOffsets {
            tgid: 0,
            pid: 0,
            state: 0,
            on_cpu: 0,
            fs_base: 0,
            switches: 0,
            thread_pid: 0,
            pid_numbers: 0,
        },
        context: ContextOffsets { tls_offset: 0, size: 0, task_id: 0, budget: 0, scheduler: 0 },
        polls: PollCounter { known: 0, tag_offset: 0, tags: [0; 2], cores: [0; 2], counters: [0; 2] },
    };
}

//! The target's threads: names, states, the system calls they are in, and their thread pointers.

use procfs::process::Syscall as ProcSyscall;

use serde::{Deserialize, Serialize};

use super::{Mapping, Mappings, Memory, UserRegisters};

/// Whether a thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// On CPU or ready to be.
    Running,
    /// Waits in the kernel.
    Sleeping,
    /// Stopped by a signal or a tracer.
    Stopped,
    /// Ended, or unknown.
    Other,
}

/// What `/proc/PID/task/TID/syscall` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyscallState {
    /// On CPU: nothing to tell.
    Running,
    /// Blocked outside a system call (a page fault).
    Blocked {
        /// Stack pointer.
        sp: u64,
        /// Program counter.
        pc: u64,
    },
    /// Blocked in a system call.
    InSyscall {
        /// x86-64 number.
        number: i64,
        /// Argument registers.
        args: [u64; 6],
        /// Stack pointer.
        sp: u64,
        /// Program counter.
        pc: u64,
    },
    /// The kernel did not say.
    Unknown,
}

/// One thread, as procfs shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadFacts {
    /// Thread id as gordian sees it.
    pub tid: i32,
    /// Thread id in the target's own pid namespace; `None` where the kernel did not say.
    pub own_tid: Option<i32>,
    /// `comm`.
    pub name: String,
    /// Whether it runs.
    pub state: RunState,
    /// The system call it is in.
    pub syscall: SyscallState,
    /// Times it went to sleep, counted after `syscall` was read; `None` where the kernel did not say.
    pub switches: Option<u64>,
    /// Its registers, where it was kept with them; procfs does not tell.
    pub registers: Option<UserRegisters>,
}

impl ThreadFacts {
    /// Stack pointer and program counter, where the thread is blocked.
    pub fn stack(&self) -> Option<(u64, u64)> {
        match self.syscall {
            SyscallState::Blocked { sp, pc } | SyscallState::InSyscall { sp, pc, .. } => Some((sp, pc)),
            _ => None,
        }
    }
}

/// The threads of `process`; one that ends while it is read is left out.
pub(super) fn list(process: &procfs::process::Process) -> procfs::ProcResult<Vec<ThreadFacts>> {
    let threads = process.tasks()?.flatten().filter_map(|task| {
        let stat = task.stat().ok()?;
        let syscall = match task.syscall() {
            Ok(ProcSyscall::Running) => SyscallState::Running,
            Ok(ProcSyscall::Blocked { stack_pointer: sp, program_counter: pc, syscall_number, argument_registers }) => {
                if syscall_number < 0 {
                    SyscallState::Blocked { sp, pc }
                } else {
                    SyscallState::InSyscall { number: syscall_number, args: argument_registers, sp, pc }
                }
            }
            Ok(_) | Err(_) => SyscallState::Unknown,
        };
        let state = match stat.state {
            'R' => RunState::Running,
            'S' | 'D' | 'I' => RunState::Sleeping,
            'T' | 't' => RunState::Stopped,
            _ => RunState::Other,
        };
        let status = std::fs::read_to_string(format!("/proc/{}/task/{}/status", process.pid(), task.tid));
        let status = status.unwrap_or_default();
        let own_tid = field(&status, "NSpid:").and_then(|ids| ids.split_whitespace().last()?.parse().ok());
        let switches = field(&status, "voluntary_ctxt_switches:").and_then(|count| count.trim().parse().ok());
        Some(ThreadFacts { tid: task.tid, own_tid, name: stat.comm, state, syscall, switches, registers: None })
    });
    Ok(threads.collect())
}

/// How often each thread of a process has gone to sleep, by its id; `None` where one of them does not sleep, or the kernel does
/// not say. Where it is the same later, no code of the process has run in between.
pub fn standstill(pid: i32) -> Option<Vec<(i32, u64)>> {
    let tasks = procfs::process::Process::new(pid).ok()?.tasks().ok()?;
    let asleep = |task: procfs::process::Task| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/task/{}/status", task.tid)).ok()?;
        let sleeps = field(&status, "State:").is_some_and(|state| state.trim_start().starts_with(['S', 'D']));
        let times = field(&status, "voluntary_ctxt_switches:")?.trim().parse().ok()?;
        sleeps.then_some((task.tid, times))
    };
    tasks.map(|task| asleep(task.ok()?)).collect()
}

/// What stands behind `name` on the line that begins with it.
fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    status.lines().find_map(|line| line.strip_prefix(name))
}

/// The thread pointer (`fs` base) of the thread whose stack pointer is `sp`, without stopping it.
///
/// The x86-64 ABI's variant II TLS puts a word at the thread pointer that points at itself. glibc and musl both keep
/// to it, and glibc repeats it at +16 (`tcbhead_t.self`, sysdeps/x86_64/nptl/tls.h). For a thread that libc made, the
/// block lies above the stack pointer in the very mapping of its stack; for the main thread, in some small anonymous
/// mapping that no other thread's stack lies in: `None` then, unless `near` (an address in the same block) is known.
pub fn thread_pointer(memory: &dyn Memory, mappings: &Mappings, sp: u64) -> Option<u64> {
    let stack = mappings.at(sp)?;
    if stack.label.as_deref() == Some("stack") {
        return main_thread_pointer(memory, mappings);
    }
    self_pointer(memory, stack, sp)
}

/// The thread pointer of some thread, where no stack pointer is known.
pub fn any_thread_pointer(memory: &dyn Memory, mappings: &Mappings) -> Option<u64> {
    at_ends(memory, mappings).next()
}

/// The thread pointers of all threads, as far as they are found.
pub fn thread_pointers(memory: &dyn Memory, mappings: &Mappings) -> Vec<u64> {
    let mut pointers: Vec<u64> = at_ends(memory, mappings).chain(main_thread_pointer(memory, mappings)).collect();
    pointers.sort_unstable();
    pointers.dedup();
    pointers
}

/// Thread stacks end with the block that their thread pointer points at.
fn at_ends(memory: &dyn Memory, mappings: &Mappings) -> impl Iterator<Item = u64> {
    stacks(memory, mappings).map(|(_, pointer)| pointer)
}

/// The mappings that are stacks of threads that libc made, also of such that have ended, each with its thread's pointer.
pub fn stacks<'m>(memory: &dyn Memory, mappings: &'m Mappings) -> impl Iterator<Item = (&'m Mapping, u64)> {
    /// Bytes at the end of a mapping in which the block of its thread lies, at most.
    const TOP: u64 = 64 << 10;
    let stacks = mappings.iter().filter(|mapping| mapping.is_anonymous() && mapping.write);
    stacks.filter_map(move |mapping| {
        let top = mapping.range.end.saturating_sub(TOP).max(mapping.range.start);
        Some((mapping, self_pointer(memory, mapping, top)?))
    })
}

fn main_thread_pointer(memory: &dyn Memory, mappings: &Mappings) -> Option<u64> {
    // ld.so allocates it with the first libraries: a small anonymous mapping; static programs have it in the heap.
    mappings
        .iter()
        .filter(|mapping| mapping.is_anonymous() && mapping.write && mapping.range.end - mapping.range.start <= 1 << 20)
        .find_map(|mapping| self_pointer(memory, mapping, mapping.range.start))
}

/// The highest address in `mapping`, not below `from`, that holds its own address and, 16 bytes on, again.
fn self_pointer(memory: &dyn Memory, mapping: &Mapping, from: u64) -> Option<u64> {
    const CHUNK: u64 = 4096;
    let mut end = mapping.range.end;
    let floor = from & !15;
    while end > floor {
        let start = end.saturating_sub(CHUNK).max(floor);
        let mut bytes = vec![0; (end - start) as usize];
        if memory.read(start, &mut bytes).is_ok() {
            let words = bytes.as_chunks::<8>().0;
            for index in (0..words.len()).rev() {
                let at = start + index as u64 * 8;
                if u64::from_le_bytes(words[index]) == at && memory.read_u64(at + 16) == Ok(at) {
                    return Some(at);
                }
            }
        }
        end = start;
    }
    None
}

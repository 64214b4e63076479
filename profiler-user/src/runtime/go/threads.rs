//! The threads of a Go program. The scheduler makes as many as it needs, so none of them is a worker that tasks depend on.

use rustc_hash::FxHashMap;

use super::{
    goroutine::{Goroutine, Status},
    layout::Layout,
};
use crate::{
    model::{Syscall, Task, TaskState, Thread, ThreadActivity, ThreadRole},
    runtime::World,
    target::{Memory, RunState, SyscallState, ThreadFacts},
};

/// The thread that runs a goroutine, or is in a system call for it: its `m` has the kernel's id of it.
pub(super) fn of<'w>(world: &World<'w>, layout: &Layout, goroutine: &Goroutine) -> Option<&'w ThreadFacts> {
    if goroutine.m == 0 || !matches!(goroutine.status, Status::Running | Status::Syscall | Status::CopyStack) {
        return None;
    }
    let id = world.memory.read_u64(goroutine.m.checked_add(layout.m_procid)?).ok()?;
    world.threads.iter().map(|(facts, ..)| facts).find(|facts| {
        // The runtime knows the thread by the id that it has in the target's own namespace.
        facts.own_tid.is_some_and(|own| u64::try_from(own) == Ok(id))
    })
}

/// Describes every thread; those that run a goroutine are said to.
pub(super) fn describe(world: &World<'_>, tasks: &[Task]) -> Vec<Thread> {
    let running: FxHashMap<i32, &Task> = tasks.iter().filter_map(|task| Some((task.thread?, task))).collect();
    let threads = world.threads.iter().map(|(facts, registers, frames)| {
        let party = running.get(&facts.tid).filter(|task| task.state == TaskState::Running).map(|task| task.party);
        Thread {
            tid: facts.tid,
            name: facts.name.clone(),
            role: ThreadRole::Plain,
            activity: match (party, facts.state) {
                (Some(party), _) => ThreadActivity::Polling(party),
                (None, RunState::Running) => ThreadActivity::Running,
                (None, RunState::Sleeping) => ThreadActivity::Blocked,
                _ => ThreadActivity::Unknown,
            },
            syscall: match facts.syscall {
                SyscallState::InSyscall { number, args, .. } => Some(Syscall { number, args }),
                _ => None,
            },
            stack_pointer: registers.and_then(|registers| registers.frame.sp()),
            switches: facts.switches,
            frames: frames.clone(),
            wait: None,
            holds: Vec::new(),
            holds_known: false,
            in_place: false,
        }
    });
    threads.collect()
}

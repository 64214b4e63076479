//! A small language for snapshots.

use std::{path::PathBuf, sync::Arc};

use crate::{
    analysis::{Thresholds, analyse},
    model::{
        Finding, Fork, Frame, Hold, HoldHow, PartyId, QueueEntry, Resource, ResourceKey, ResourceKind, Runtime,
        RuntimeKind, Snapshot, Strand, Target, Task, TaskState, Thread, ThreadActivity, ThreadRole, Wait, WaitMode,
    },
};

/// Address of the only runtime.
pub(crate) const RUNTIME: u64 = 0x1000;

pub(crate) fn party(id: u64) -> PartyId {
    PartyId::Task { runtime: RUNTIME, id }
}

pub(crate) fn frame(function: &str) -> Frame {
    Frame { function: Arc::from(function), file: Some(Arc::from("src/main.rs")), line: Some(7) }
}

pub(crate) fn key(kind: ResourceKind, address: u64) -> ResourceKey {
    ResourceKey { kind, address }
}

pub(crate) fn mutex(address: u64) -> ResourceKey {
    key(ResourceKind::TokioMutex, address)
}

pub(crate) fn hold(resource: ResourceKey, how: HoldHow, amount: u64) -> Hold {
    Hold { resource, how, amount, site: Some(frame("app::holds")) }
}

pub(crate) fn guard(resource: ResourceKey) -> Hold {
    hold(resource, HoldHow::Guard, 1)
}

pub(crate) fn acquire(resource: ResourceKey, permits: u64) -> Wait {
    wait(resource, WaitMode::Acquire { permits })
}

pub(crate) fn wait(resource: ResourceKey, mode: WaitMode) -> Wait {
    Wait { resource, mode, position: None, target: None }
}

pub(crate) fn timer(in_ms: i64) -> Wait {
    wait(key(ResourceKind::Timer, 0), WaitMode::Deadline { in_ms: Some(in_ms) })
}

pub(crate) fn join(id: u64) -> Wait {
    Wait { target: Some(party(id)), ..wait(key(ResourceKind::JoinHandle, 0x9000 + id), WaitMode::Join) }
}

/// A strand that waits and holds.
pub(crate) fn strand(wait: Wait, holds: Vec<Hold>) -> Strand {
    Strand { wait: Some(wait), holds, ..Strand::new(vec![frame("app::work")]) }
}

/// A strand that forks.
pub(crate) fn fork(fork: Fork, holds: Vec<Hold>, children: Vec<Strand>) -> Strand {
    Strand { holds, fork, children, ..Strand::new(vec![frame("app::forks")]) }
}

/// A suspended task.
pub(crate) fn task(id: u64, root: Strand) -> Task {
    Task {
        party: party(id),
        address: 0x9000 + id,
        runtime: 0,
        name: Arc::from("app::work"),
        state: TaskState::Suspended,
        status: None,
        origin: None,
        labels: None,
        since: None,
        root,
        incomplete: None,
        awaits_known: true,
        imprint: None,
        unstable: false,
        thread: None,
    }
}

/// A worker of the only runtime.
pub(crate) fn worker(tid: i32, activity: ThreadActivity) -> Thread {
    Thread {
        tid,
        name: "tokio-runtime-w".to_owned(),
        role: ThreadRole::Worker(0),
        activity,
        syscall: None,
        stack_pointer: None,
        switches: None,
        frames: Vec::new(),
        wait: None,
        holds: Vec::new(),
        holds_known: true,
        in_place: false,
    }
}

/// A lock or semaphore with this many permits in all, none of them free, and this queue of tasks and wants.
pub(crate) fn queued(key: ResourceKey, permits: u64, queue: &[(u64, u64)]) -> Resource {
    Resource {
        permits: Some(permits),
        queue: queue.iter().map(|&(id, wants)| QueueEntry { party: Some(party(id)), wants: Some(wants) }).collect(),
        queue_known: true,
        ..Resource::new(key)
    }
}

/// A process with one parked worker.
pub(crate) fn process(tasks: Vec<Task>, resources: Vec<Resource>) -> Snapshot {
    process_with(vec![worker(100, ThreadActivity::Parked)], tasks, resources)
}

/// A process with these threads.
pub(crate) fn process_with(threads: Vec<Thread>, tasks: Vec<Task>, resources: Vec<Resource>) -> Snapshot {
    let workers = threads.iter().filter(|thread| thread.role == ThreadRole::Worker(0)).map(|thread| thread.tid);
    Snapshot {
        runtimes: vec![Runtime {
            address: RUNTIME,
            kind: RuntimeKind::TokioMultiThread,
            version: None,
            workers: workers.collect(),
        }],
        tasks,
        threads,
        resources,
        ..Snapshot::empty(Target { pid: 1, exe: PathBuf::from("app") })
    }
}

/// The findings in a process in which nothing changes.
pub(crate) fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    analyse(snapshot, Some(snapshot), &[], &Thresholds::default())
}

/// The one finding.
pub(crate) fn only(snapshot: &Snapshot) -> Finding {
    let mut found = findings(snapshot);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

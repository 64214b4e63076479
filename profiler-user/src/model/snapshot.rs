//! A process at one moment.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{LostCounts, Resource, Task, Thread, ThreadRole};

/// Which runtime, as its users call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuntimeKind {
    /// Tokio's multi-thread scheduler.
    TokioMultiThread,
    /// Tokio's current-thread scheduler.
    TokioCurrentThread,
    /// A Tokio `LocalSet`.
    TokioLocalSet,
    /// Tokio, scheduler not told apart.
    Tokio,
    /// Go's scheduler of goroutines.
    Go,
}

impl RuntimeKind {
    /// The name used in text and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::TokioMultiThread => "tokio multi_thread",
            Self::TokioCurrentThread => "tokio current_thread",
            Self::TokioLocalSet => "tokio LocalSet",
            Self::Tokio => "tokio",
            Self::Go => "go",
        }
    }
}

/// One runtime instance in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Address of its handle: the instance's identity.
    pub address: u64,
    /// Which.
    pub kind: RuntimeKind,
    /// Version of the library, where the binary tells it.
    pub version: Option<String>,
    /// Thread ids of its workers.
    pub workers: Vec<i32>,
}

/// The process that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Pid as the user of gordian sees it.
    pub pid: i32,
    /// Path of the executable as the target sees it.
    pub exe: PathBuf,
}

/// How much of the target was understood, in tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Tasks found.
    pub seen: u64,
    /// Tasks whose state, await stack and holds were read whole.
    pub decoded: u64,
    /// Tasks of which some part could not be read.
    pub unknown: u64,
    /// Tasks that changed while they were read.
    pub unstable: u64,
}

/// What the runtimes of a process look like at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Of which process.
    pub target: Target,
    /// When the read began, gordian's clock.
    pub taken_at: Instant,
    /// Runtime instances.
    pub runtimes: Vec<Runtime>,
    /// Every live task and `block_on` root, unordered.
    pub tasks: Vec<Task>,
    /// Every thread.
    pub threads: Vec<Thread>,
    /// What is known of the resources that strands and threads name.
    pub resources: Vec<Resource>,
    /// What the descriptors lead to that tasks wait for, where that was asked: the number, and the peer in a few words.
    pub descriptors: Vec<(i32, String)>,
    /// How much was understood.
    pub coverage: Coverage,
    /// Whether await stacks show functions that were inlined: the executable has line tables.
    pub inlined_frames: bool,
    /// What could not be looked at, one plain sentence each.
    pub missing: Vec<String>,
    /// Events lost since attach.
    pub lost: LostCounts,
    /// Processor time that the process had used when the read began; `None` where it was not read.
    pub cpu: Option<Duration>,
    /// How long the process was stopped for this read; `None`: it ran.
    pub stopped_for: Option<Duration>,
}

impl Snapshot {
    /// The threads that poll the tasks of a runtime, by its index, as far as they are known.
    pub fn workers_of(&self, runtime: usize) -> impl Iterator<Item = &Thread> {
        let listed = self.runtimes.get(runtime).map_or(&[][..], |runtime| &runtime.workers);
        let serves = move |thread: &&Thread| thread.role == ThreadRole::Worker(runtime) || listed.contains(&thread.tid);
        self.threads.iter().filter(serves)
    }

    /// An empty snapshot of `target`, taken now.
    pub fn empty(target: Target) -> Self {
        Self {
            target,
            taken_at: Instant::now(),
            runtimes: Vec::new(),
            tasks: Vec::new(),
            threads: Vec::new(),
            resources: Vec::new(),
            descriptors: Vec::new(),
            coverage: Coverage::default(),
            inlined_frames: true,
            missing: Vec::new(),
            lost: LostCounts::default(),
            cpu: None,
            stopped_for: None,
        }
    }

    /// Whether everything was read.
    pub fn complete(&self) -> bool {
        self.missing.is_empty() && self.coverage.unknown == 0
    }
}

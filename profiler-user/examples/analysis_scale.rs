//! How long the analysis takes on a million tasks: `cargo run --release -p profiler-user --example analysis_scale [TASKS [SHAPE]]`.
//!
//! Prints a line for each shape: its name, tasks, waits, holds, findings, and the median of three runs in seconds of CPU time,
//! which other programs on the machine do not add to. `cargo xtask bench` puts them into docs/benchmarks.md.

use std::{hint::black_box, path::PathBuf, sync::Arc};

use profiler_user::{
    analysis::{Thresholds, analyse},
    model::{
        Fork, Frame, Hold, HoldHow, PartyId, QueueEntry, Resource, ResourceKey, ResourceKind, Runtime, RuntimeKind,
        Snapshot, Strand, Target, Task, TaskState, Thread, ThreadActivity, ThreadRole, Wait, WaitMode,
    },
};

/// Address of the only runtime.
const RUNTIME: u64 = 0x1000;
/// Address of the first lock.
const LOCKS: u64 = 0x10_0000;

/// Makes a process with so many tasks.
type Shape = fn(u64) -> Snapshot;

fn main() {
    let tasks: u64 = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let shapes: [(&str, Shape); 4] = [
        ("a busy service: a hot lock, a channel, timers", busy),
        ("a queue behind one deadlock", queue),
        ("one ring of all", ring),
        ("a select over two locks in every task", forks),
    ];
    let only = std::env::args().nth(2).unwrap_or_default();
    for (name, shape) in shapes.into_iter().filter(|(name, _)| name.contains(&only)) {
        let snapshot = shape(tasks);
        let waits: usize = snapshot.tasks.iter().map(|task| task.root.waits().count()).sum();
        let holds: usize = snapshot.tasks.iter().map(|task| task.root.all_holds().count()).sum();
        let mut found = 0;
        let mut seconds: Vec<f64> = (0..3)
            .map(|_| {
                let begin = cpu_seconds();
                found = black_box(analyse(&snapshot, Some(&snapshot), &[], &Thresholds::default())).len();
                cpu_seconds() - begin
            })
            .collect();
        seconds.sort_unstable_by(f64::total_cmp);
        println!("{name}\t{tasks}\t{waits}\t{holds}\t{found}\t{:.3}", seconds[1]);
    }
}

/// CPU time of this thread so far: the first number of its schedstat, nanoseconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

fn mutex(number: u64) -> ResourceKey {
    ResourceKey { kind: ResourceKind::TokioMutex, address: LOCKS + 16 * number }
}

fn acquire(number: u64) -> Wait {
    Wait { resource: mutex(number), mode: WaitMode::Acquire { permits: 1 }, position: None, target: None }
}

fn guard(number: u64) -> Hold {
    Hold { resource: mutex(number), how: HoldHow::Guard, amount: 1, site: None }
}

fn strand(frames: &[Frame], wait: Wait, holds: Vec<Hold>) -> Strand {
    Strand { wait: Some(wait), holds, ..Strand::new(frames.to_vec()) }
}

/// A process with a parked worker and `count` suspended tasks.
fn process(count: u64, resources: Vec<Resource>, root: impl Fn(u64, &[Frame]) -> Strand) -> Snapshot {
    let frames: Vec<Frame> = ["app::serve", "app::handle", "app::ledger::transfer"]
        .map(|function| Frame { function: function.into(), file: Some("src/main.rs".into()), line: Some(7) })
        .into();
    let name: Arc<str> = "app::serve".into();
    let tasks = (0..count).map(|id| Task {
        party: PartyId::Task { runtime: RUNTIME, id },
        origin: None,
        labels: None,
        status: None,
        address: 0x7000_0000 + 256 * id,
        runtime: 0,
        name: Arc::clone(&name),
        state: TaskState::Suspended,
        since: None,
        root: root(id, &frames),
        incomplete: None,
        awaits_known: true,
        imprint: None,
        unstable: false,
        thread: None,
    });
    let worker = Thread {
        tid: 1,
        name: "tokio-runtime-w".into(),
        role: ThreadRole::Worker(0),
        activity: ThreadActivity::Parked,
        syscall: None,
        stack_pointer: None,
        switches: None,
        frames: Vec::new(),
        wait: None,
        holds: Vec::new(),
        holds_known: true,
        in_place: false,
    };
    let kind = RuntimeKind::TokioMultiThread;
    Snapshot {
        runtimes: vec![Runtime { address: RUNTIME, kind, version: None, workers: vec![1] }],
        tasks: tasks.collect(),
        threads: vec![worker],
        resources,
        ..Snapshot::empty(Target { pid: 1, exe: PathBuf::from("app") })
    }
}

/// A third queue for a lock, a third receive and own a sender, a third sleep.
fn busy(count: u64) -> Snapshot {
    let bus = ResourceKey { kind: ResourceKind::TokioBroadcast, address: 0x30 };
    let sender = Hold { resource: bus.clone(), how: HoldHow::Sender, amount: 1, site: None };
    let timer = ResourceKey { kind: ResourceKind::Timer, address: 0 };
    let wait = |resource: &ResourceKey, mode| Wait { resource: resource.clone(), mode, position: None, target: None };
    process(count, Vec::new(), |id, frames| match id % 3 {
        0 => strand(frames, acquire(0), Vec::new()),
        1 => strand(frames, wait(&bus, WaitMode::Receive), vec![sender.clone()]),
        _ => strand(frames, wait(&timer, WaitMode::Deadline { in_ms: Some(5) }), vec![sender.clone()]),
    })
}

/// Two tasks lock in opposite order; half of the rest queue for the one lock, half join one another in a chain.
fn queue(count: u64) -> Snapshot {
    let party = |id| PartyId::Task { runtime: RUNTIME, id };
    let line = std::iter::once(0).chain(2..count / 2);
    let queue = line.map(|id| QueueEntry { party: Some(party(id)), wants: Some(1) }).collect();
    let lock = Resource { permits: Some(1), available: Some(0), queue, queue_known: true, ..Resource::new(mutex(1)) };
    process(count, vec![lock], |id, frames| match id {
        0 => strand(frames, acquire(1), vec![guard(0)]),
        1 => strand(frames, acquire(0), vec![guard(1)]),
        id if id < count / 2 => strand(frames, acquire(1), Vec::new()),
        id => {
            let resource = ResourceKey { kind: ResourceKind::JoinHandle, address: 0x7000_0000 + 256 * (id - 1) };
            let join = Wait { resource, mode: WaitMode::Join, position: None, target: Some(party(id - 1)) };
            strand(frames, join, Vec::new())
        }
    })
}

/// Each waits for the lock of the next.
fn ring(count: u64) -> Snapshot {
    process(count, Vec::new(), |id, frames| strand(frames, acquire((id + 1) % count), vec![guard(id)]))
}

/// Each waits for either of two locks that others hold; all hangs on one sleeper in the end.
fn forks(count: u64) -> Snapshot {
    let timer = ResourceKey { kind: ResourceKind::Timer, address: 0 };
    process(count, Vec::new(), |id, frames| {
        if id == 0 {
            let sleep = WaitMode::Deadline { in_ms: Some(5) };
            let wait = Wait { resource: timer.clone(), mode: sleep, position: None, target: None };
            return strand(frames, wait, vec![guard(0)]);
        }
        let branch = |lock| strand(frames, acquire(lock), Vec::new());
        Strand {
            holds: vec![guard(id)],
            fork: Fork::Any,
            children: vec![branch(id - 1), branch((id + 1) % count)],
            ..Strand::new(frames.to_vec())
        }
    })
}

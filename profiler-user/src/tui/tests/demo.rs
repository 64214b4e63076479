//! Pictures to test with: a service with a deadlock, a healthy one, an empty one, a huge one.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    model::{
        BlockedPoll, Certainty, Coverage, Edge, EdgeEnd, Escape, Finding, FindingKind, Fork, Frame, Hold, HoldHow,
        PartyId, QueueEntry, Resource, ResourceKey, ResourceKind, Runtime, RuntimeKind, Since, SinceSource, Snapshot,
        Strand, Syscall, Target, Task, TaskState, Thread, ThreadActivity, ThreadRole, Wait, WaitMode,
    },
    session::{ProbeState, View},
};

const RUNTIME: u64 = 0x7f3a_0400_1000;
const ACCOUNTS: u64 = 0x7f3a_0c01_2a40;
const LEDGER: u64 = 0x7f3a_0c01_2b80;

/// The wall clock of every picture.
pub(super) fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
}

pub(super) fn party(id: u64) -> PartyId {
    PartyId::Task { runtime: RUNTIME, id }
}

pub(super) fn key(kind: ResourceKind, address: u64) -> ResourceKey {
    ResourceKey { kind, address }
}

pub(super) fn frame(function: &str, file: &str, line: u32) -> Frame {
    Frame { function: function.into(), file: Some(file.into()), line: Some(line) }
}

fn wait(resource: ResourceKey, mode: WaitMode, position: Option<u32>) -> Wait {
    Wait { resource, mode, position, target: None }
}

fn since(at_least_s: f64, source: SinceSource) -> Since {
    Since { at_least_s, source }
}

pub(super) fn task(id: u64, name: &str, state: TaskState, root: Strand) -> Task {
    Task {
        party: party(id),
        address: 0x7f3a_1000_0000 + id * 0x100,
        runtime: 0,
        name: name.into(),
        state,
        status: None,
        origin: None,
        labels: None,
        since: Some(since(0.4, SinceSource::Snapshot)),
        root,
        incomplete: None,
        awaits_known: true,
        imprint: None,
        unstable: false,
        thread: None,
    }
}

fn thread(tid: i32, name: &str, role: ThreadRole, activity: ThreadActivity) -> Thread {
    Thread {
        tid,
        name: name.into(),
        role,
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

fn leaf(function: &str, line: u32) -> Frame {
    frame(function, "/home/build/.cargo/registry/src/index.example-1/tokio-1.48.0/src/sync/mutex.rs", line)
}

/// A picture of nothing.
pub(super) fn empty() -> View {
    let target = Target { pid: 4242, exe: PathBuf::from("/usr/bin/orders-service") };
    View {
        sequence: 1,
        snapshot: Arc::new(Snapshot::empty(target)),
        findings: Arc::new([]),
        ended_findings: Arc::new([]),
        blocked: Arc::new([]),
        switch_probe: ProbeState::On,
        wait_probe: ProbeState::Off,
        ended: None,
    }
}

/// `view` with its snapshot changed.
pub(super) fn with(mut view: View, change: impl FnOnce(&mut Snapshot)) -> View {
    let mut snapshot = Snapshot::clone(&view.snapshot);
    change(&mut snapshot);
    view.snapshot = Arc::new(snapshot);
    view
}

/// A runtime with four workers and no tasks.
pub(super) fn idle() -> View {
    with(empty(), |snapshot| {
        snapshot.runtimes.push(Runtime {
            address: RUNTIME,
            kind: RuntimeKind::TokioMultiThread,
            version: Some("1.48.0".into()),
            workers: vec![4250, 4251, 4252, 4253],
        });
        snapshot.threads.push(thread(4242, "orders-service", ThreadRole::BlockOn, ThreadActivity::Blocked));
        for tid in 4250..4254 {
            let doing = if tid == 4250 { ThreadActivity::Driving } else { ThreadActivity::Parked };
            snapshot.threads.push(thread(tid, "tokio-runtime-w", ThreadRole::Worker(0), doing));
        }
    })
}

/// A connection that waits for its socket, or for the other things a busy service waits for.
fn connection(id: u64) -> Task {
    let handler = frame("orders::http::serve_connection", "src/http.rs", 88);
    let mut root = Strand::new(vec![frame("orders::http::accept_loop", "src/http.rs", 31), handler]);
    let (state, wait_) = match id % 5 {
        0 => (TaskState::Scheduled, None),
        1 => (
            TaskState::Suspended,
            Some(wait(key(ResourceKind::TokioMpsc, 0x7f3a_2000_0000 + id % 7 * 64), WaitMode::Receive, None)),
        ),
        2 => (
            TaskState::Suspended,
            Some(wait(
                key(ResourceKind::Timer, 0x7f3a_3000_0000 + id * 64),
                WaitMode::Deadline { in_ms: Some(4_500) },
                None,
            )),
        ),
        _ => (
            TaskState::Suspended,
            Some(wait(
                key(ResourceKind::Io, 0x7f3a_4000_0000 + id * 64),
                WaitMode::Ready { fd: Some(20 + id as i32) },
                None,
            )),
        ),
    };
    root.wait = wait_;
    let mut task = task(id, "orders::http::serve_connection", state, root);
    task.since = Some(since(id as f64 / 10.0, SinceSource::Snapshot));
    task
}

/// A healthy service with `tasks` tasks.
pub(super) fn busy(tasks: u64) -> View {
    with(idle(), |snapshot| {
        snapshot.tasks = (1..=tasks).map(connection).collect();
        snapshot.coverage = Coverage { seen: tasks, decoded: tasks, unknown: 0, unstable: 0 };
    })
}

/// One of the two tasks of the deadlock.
fn locker(id: u64, function: &str, held: u64, wanted: u64, line: u32) -> Task {
    let mut root = Strand::new(vec![
        frame("orders::settle::run", "src/settle.rs", 20),
        frame(&format!("orders::settle::{function}"), "src/settle.rs", line),
        leaf("tokio::sync::mutex::Mutex::lock", 436),
    ]);
    root.wait = Some(wait(key(ResourceKind::TokioMutex, wanted), WaitMode::Acquire { permits: 1 }, Some(0)));
    root.holds.push(Hold {
        resource: key(ResourceKind::TokioMutex, held),
        how: HoldHow::Guard,
        amount: 1,
        site: Some(frame(&format!("orders::settle::{function}"), "src/settle.rs", line)),
    });
    let mut task = task(id, &format!("orders::settle::{function}"), TaskState::Suspended, root);
    task.since = Some(since(40.0, SinceSource::Attach));
    task
}

fn mutex(address: u64, queue: &[u64]) -> Resource {
    Resource {
        permits: Some(1),
        available: Some(0),
        queue: queue.iter().map(|&id| QueueEntry { party: Some(party(id)), wants: Some(1) }).collect(),
        queue_known: true,
        ..Resource::new(key(ResourceKind::TokioMutex, address))
    }
}

fn edge(from: u64, to: u64, names: [&str; 2], resource: u64, sites: [u32; 2]) -> Edge {
    let end = |id, name: &str| EdgeEnd { party: party(id), name: format!("orders::settle::{name}") };
    let site = |name: &str, line| Some(frame(&format!("orders::settle::{name}"), "src/settle.rs", line));
    Edge {
        from: end(from, names[0]),
        to: Some(end(to, names[1])),
        resource: key(ResourceKind::TokioMutex, resource),
        wait_site: site(names[0], sites[0]),
        hold_site: site(names[1], sites[1]),
    }
}

/// Two tasks with two mutexes in opposite order, a third queued behind one of them, one that joins the third, a worker
/// blocked in a `std` mutex, a select, a task that could not be read, missing probes and lost events.
pub(super) fn deadlock() -> View {
    let mut view = with(busy(40), |snapshot| {
        snapshot.tasks.push(locker(112, "debit_then_credit", ACCOUNTS, LEDGER, 58));
        snapshot.tasks.push(locker(113, "credit_then_debit", LEDGER, ACCOUNTS, 74));
        let mut third = locker(114, "audit", 0x7f3a_0c01_2c00, LEDGER, 91);
        if let Some(wait) = &mut third.root.wait {
            wait.position = Some(1);
        }
        snapshot.tasks.push(third);
        snapshot.resources.extend([mutex(LEDGER, &[112, 114]), mutex(ACCOUNTS, &[113])]);
        snapshot.tasks.push(joiner());
        snapshot.tasks.push(selector());
        snapshot.tasks.push(blocked_task());
        let mut unread = task(118, "orders::metrics::flush", TaskState::Unknown, Strand::unknown());
        unread.incomplete = Some("its poll calls through a table that could not be followed".into());
        unread.since = None;
        snapshot.tasks.push(unread);
        for worker in &mut snapshot.threads {
            if worker.tid == 4252 {
                worker.activity = ThreadActivity::BlockedIn(party(117));
                worker.syscall = Some(Syscall { number: 202, args: [0x7f3a_0d00_0010, 0, 2, 0, 0, 0] });
                worker.wait =
                    Some(wait(key(ResourceKind::StdMutex, 0x7f3a_0d00_0010), WaitMode::Acquire { permits: 1 }, None));
                worker.frames = vec![
                    frame("orders::cache::refresh", "src/cache.rs", 19),
                    frame("std::sync::Mutex::lock", "mutex.rs", 317),
                ];
            }
        }
        snapshot.coverage = Coverage { seen: 47, decoded: 46, unknown: 1, unstable: 0 };
        snapshot.lost.ring_full = 12;
        snapshot.missing.push("1 task could not be followed (orders::metrics::flush)".into());
    });
    let each_holds = "task 112 orders::settle::debit_then_credit and task 113 orders::settle::credit_then_debit each hold \
                      the tokio::sync::Mutex that the other waits for";
    let blocked = "worker 4252 has been blocked for 3.1 s in one poll of task 117 orders::cache::refresh";
    view.findings = Arc::new([
        Finding {
            tasks: vec![party(112), party(113)],
            edges: vec![
                edge(112, 113, ["debit_then_credit", "credit_then_debit"], LEDGER, [58, 74]),
                edge(113, 112, ["credit_then_debit", "debit_then_credit"], ACCOUNTS, [74, 58]),
            ],
            breakable_by: vec![Escape { what: "timeout around orders::settle::run".into(), in_ms: Some(12_000) }],
            effects: 2,
            first_seen: wall() - Duration::from_secs(40),
            ..Finding::new("deadlock-1".into(), FindingKind::Deadlock, Certainty::Proved, each_holds.into())
        },
        Finding {
            cause: Some("std::sync::Mutex::lock at src/cache.rs:19".into()),
            tasks: vec![party(117)],
            unknowns: vec!["the holder of the std::sync::Mutex was not found".into()],
            formed_at: Some(wall() - Duration::from_millis(3_100)),
            first_seen: wall() - Duration::from_secs(3),
            ..Finding::new("blocked-1".into(), FindingKind::BlockedWorker, Certainty::Proved, blocked.into())
        },
    ]);
    view.blocked = Arc::new([BlockedPoll {
        tid: 4252,
        thread_name: "tokio-runtime-w".into(),
        party: Some(party(117)),
        syscall: Syscall { number: 202, args: [0; 6] },
        blocked_ns: 3_100_000_000,
        ongoing: true,
        frames: vec![frame("std::sync::Mutex::lock", "mutex.rs", 317)],
        since_ns: 1,
    }]);
    view.wait_probe = ProbeState::Missing(
        "uprobes need CAP_PERFMON and CAP_BPF; run `sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace+ep $(which gordian)`".into(),
    );
    view
}

fn joiner() -> Task {
    let mut root = Strand::new(vec![frame("orders::shutdown::drain", "src/shutdown.rs", 12)]);
    let mut join = wait(key(ResourceKind::JoinHandle, 0x7f3a_1000_0000 + 114 * 0x100), WaitMode::Join, None);
    join.target = Some(party(114));
    root.wait = Some(join);
    let mut task = task(115, "orders::shutdown::drain", TaskState::Suspended, root);
    task.since = Some(since(38.0, SinceSource::Snapshot));
    task
}

fn selector() -> Task {
    let mut root = Strand::new(vec![frame("orders::relay::pump", "src/relay.rs", 44)]);
    root.fork = Fork::Any;
    let mut receive = Strand::new(vec![frame("tokio::sync::mpsc::Receiver::recv", "chan.rs", 300)]);
    receive.wait = Some(wait(key(ResourceKind::TokioMpsc, 0x7f3a_2000_0900), WaitMode::Receive, None));
    let mut sleep = Strand::new(vec![frame("tokio::time::Sleep", "sleep.rs", 400)]);
    sleep.wait = Some(wait(key(ResourceKind::Timer, 0x7f3a_2000_0a00), WaitMode::Deadline { in_ms: Some(700) }, None));
    root.children = vec![receive, sleep];
    task(116, "orders::relay::pump", TaskState::Suspended, root)
}

fn blocked_task() -> Task {
    let mut task = task(
        117,
        "orders::cache::refresh",
        TaskState::Blocked,
        Strand::new(vec![frame("orders::cache::refresh", "src/cache.rs", 19)]),
    );
    task.thread = Some(4252);
    task.since = Some(since(3.1, SinceSource::Event));
    task
}

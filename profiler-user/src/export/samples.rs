//! Values for the tests of this room: a deadlock of n tasks, a healthy program, a blocked worker, and anything at all.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::{
    model::{
        Certainty, Coverage, Edge, EdgeEnd, Escape, Finding, FindingKind, FindingThread, Fork, Frame, Hold, HoldHow,
        LostCounts, Origin, PartyId, ResourceKey, ResourceKind, Runtime, RuntimeKind, Since, SinceSource, Snapshot,
        Strand, Target, Task, TaskState, Wait, WaitMode,
    },
    session::{ProbeState, View},
};

pub(super) const RUNTIME: u64 = 0x5581_0000;

pub(crate) fn frame(function: &str, file: &str, line: u32) -> Frame {
    Frame { function: function.into(), file: Some(file.into()), line: Some(line) }
}

pub(crate) fn moment() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250)
}

pub(crate) fn mutex(n: u64) -> ResourceKey {
    ResourceKey { kind: ResourceKind::TokioMutex, address: 0x7f10_0000 + n * 0x40 }
}

fn party(id: u64) -> PartyId {
    PartyId::Task { runtime: RUNTIME, id }
}

pub(crate) fn task(id: u64, name: &str, root: Strand) -> Task {
    Task {
        party: party(id),
        address: 0x7f20_0000 + id * 0x100,
        runtime: 0,
        name: name.into(),
        state: TaskState::Suspended,
        status: None,
        origin: None,
        labels: None,
        since: Some(Since { at_least_s: 2.04, source: SinceSource::Attach }),
        root,
        incomplete: None,
        awaits_known: true,
        imprint: None,
        unstable: false,
        thread: None,
    }
}

pub(crate) fn view(tasks: Vec<Task>, findings: Vec<Finding>) -> View {
    let target = Target { pid: 4242, exe: PathBuf::from("/srv/ledger") };
    let seen = tasks.len() as u64;
    let runtime = Runtime {
        address: RUNTIME,
        kind: RuntimeKind::TokioMultiThread,
        version: Some("1.54.1".into()),
        workers: vec![4243, 4244],
    };
    let snapshot = Snapshot {
        runtimes: vec![runtime],
        tasks,
        coverage: Coverage { seen, decoded: seen, unknown: 0, unstable: 0 },
        ..Snapshot::empty(target)
    };
    View {
        sequence: 2,
        snapshot: Arc::new(snapshot),
        findings: findings.into(),
        ended_findings: Arc::new([]),
        blocked: Arc::new([]),
        switch_probe: ProbeState::On,
        wait_probe: ProbeState::Off,
        ended: None,
    }
}

/// Task k holds mutex k and waits for mutex k + 1, around.
pub(crate) fn ring(n: u64) -> View {
    let names = ["ledger::transfer", "ledger::refund"];
    let name = |k: u64| names[(k % 2) as usize];
    let hold_site = |k: u64| frame(&format!("{}::debit", name(k)), "src/ledger.rs", 52);
    let wait_site = || frame("ledger::lock_account", "src/ledger.rs", 88);
    let member = |k: u64| {
        let mut root = Strand::new(vec![frame(name(k), "src/ledger.rs", 41), hold_site(k), wait_site()]);
        root.wait = Some(Wait {
            resource: mutex((k + 1) % n),
            mode: WaitMode::Acquire { permits: 1 },
            position: Some(0),
            target: None,
        });
        root.holds.push(Hold { resource: mutex(k), how: HoldHow::Guard, amount: 1, site: Some(hold_site(k)) });
        task(k + 10, name(k), root)
    };
    let end = |k: u64| EdgeEnd { party: party(k + 10), name: name(k).into() };
    let edge = |k: u64| Edge {
        from: end(k),
        to: Some(end((k + 1) % n)),
        resource: mutex((k + 1) % n),
        wait_site: Some(wait_site()),
        hold_site: Some(hold_site((k + 1) % n)),
    };
    let summary = format!("{n} tasks wait for one another in a ring, each for the mutex that the next one holds");
    let finding = Finding {
        tasks: (0..n).map(|k| party(k + 10)).collect(),
        edges: (0..n).map(edge).collect(),
        effects: 3,
        first_seen: moment(),
        ..Finding::new("deadlock-3fa9c2d1".into(), FindingKind::Deadlock, Certainty::Proved, summary)
    };
    view((0..n).map(member).collect(), vec![finding])
}

/// A worker that waits for a std mutex inside a poll, held by a task that waits, with a timeout, for a mutex that the
/// polled task holds.
pub(crate) fn through_a_thread() -> View {
    let std_mutex = ResourceKey { kind: ResourceKind::StdMutex, address: 0x7f30_0000 };
    let hold = |resource: &ResourceKey, function| Hold {
        resource: resource.clone(),
        how: HoldHow::Guard,
        amount: 1,
        site: Some(frame(function, "src/cache.rs", 14)),
    };
    let mut polled = Strand::new(vec![frame("ledger::audit", "src/audit.rs", 30)]);
    polled.holds.push(hold(&mutex(1), "ledger::audit"));
    let mut polled = task(40, "ledger::audit", polled);
    polled.state = TaskState::Blocked;
    polled.thread = Some(4243);
    let mut locking = Strand::new(vec![frame("ledger::cache::refill", "src/cache.rs", 14)]);
    locking.holds.push(hold(&std_mutex, "ledger::cache::refill"));
    let mode = WaitMode::Acquire { permits: 1 };
    locking.wait = Some(Wait { resource: mutex(1), mode, position: Some(0), target: None });
    let mut sleep = Strand::new(vec![frame("tokio::time::sleep::Sleep::poll", "src/sleep.rs", 9)]);
    let timer = ResourceKey { kind: ResourceKind::Timer, address: 0x7f40_0000 };
    let mode = WaitMode::Deadline { in_ms: Some(28_000) };
    sleep.wait = Some(Wait { resource: timer, mode, position: None, target: None });
    let mut root = Strand::new(vec![frame("ledger::cache::run", "src/cache.rs", 40)]);
    root.fork = Fork::Any;
    root.children = vec![locking, sleep];
    let thread = EdgeEnd { party: PartyId::Thread { tid: 4243 }, name: "tokio-rt-worker".into() };
    let audit = EdgeEnd { party: party(40), name: "ledger::audit".into() };
    let cache = EdgeEnd { party: party(41), name: "ledger::cache::run".into() };
    let edge = |from: &EdgeEnd, to: &EdgeEnd, resource: &ResourceKey, wait_site, hold_site| Edge {
        from: from.clone(),
        to: Some(to.clone()),
        resource: resource.clone(),
        wait_site,
        hold_site,
    };
    let summary = "thread 4243 (tokio-rt-worker) and task 41 (ledger::cache::run) wait for each other".into();
    let finding = Finding {
        tasks: vec![party(41), party(40)],
        threads: vec![FindingThread {
            tid: 4243,
            name: "tokio-rt-worker".into(),
            frames: vec![
                frame("ledger::audit", "src/audit.rs", 30),
                frame("std::sys::sync::mutex::futex::Mutex::lock_contended", "/rustc/59/library/std/src/sys/m.rs", 3),
            ],
        }],
        edges: vec![
            edge(&thread, &cache, &std_mutex, Some(frame("ledger::audit", "src/audit.rs", 30)), None),
            edge(&cache, &audit, &mutex(1), Some(frame("ledger::cache::refill", "src/cache.rs", 14)), None),
        ],
        unknowns: vec!["what the frames of thread 4243 hold could not be read whole".into()],
        breakable_by: vec![Escape { what: "timeout around task 41".into(), in_ms: Some(28_000) }],
        effects: 1,
        formed_at: Some(moment()),
        first_seen: moment(),
        ..Finding::new("deadlock-88e1".into(), FindingKind::Deadlock, Certainty::Likely, summary)
    };
    view(vec![polled, task(41, "ledger::cache::run", root)], vec![finding])
}

/// A worker that sleeps inside a poll.
pub(crate) fn blocked_worker() -> View {
    let root = Strand::new(vec![frame("ledger::report", "src/report.rs", 12)]);
    let mut polled = task(31, "ledger::report", root);
    polled.state = TaskState::Blocked;
    polled.thread = Some(4243);
    polled.since = Some(Since { at_least_s: 0.25, source: SinceSource::Event });
    let summary = "a worker has been blocked for 250 ms in one poll of task 31 (ledger::report)".into();
    let finding = Finding {
        cause: Some("the system call clock_nanosleep".into()),
        tasks: vec![party(31)],
        threads: vec![FindingThread {
            tid: 4243,
            name: "tokio-rt-worker".into(),
            frames: vec![
                frame("ledger::report", "src/report.rs", 12),
                frame("std::thread::sleep", "/rustc/59807616e/library/std/src/thread/mod.rs", 900),
                Frame { function: "clock_nanosleep".into(), file: None, line: None },
            ],
        }],
        unknowns: vec!["how long it was blocked before gordian attached".into()],
        formed_at: Some(moment()),
        first_seen: moment(),
        ..Finding::new("blocked-worker-07d1".into(), FindingKind::BlockedWorker, Certainty::Observed, summary)
    };
    view(vec![polled], vec![finding])
}

/// Four idle connections and a task with a select.
pub(crate) fn healthy() -> View {
    let connection = |id: u64| {
        let tokio = "/h/.cargo/registry/src/index-1/tokio-1.54.1/src/io/util/read.rs";
        let mut root = Strand::new(vec![
            frame("ledger::serve::connection", "src/serve.rs", 20),
            frame("tokio::io::util::read::Read::poll", tokio, 60),
        ]);
        root.wait = Some(Wait {
            resource: ResourceKey { kind: ResourceKind::Io, address: 0x9000 + id },
            mode: WaitMode::Ready { fd: Some(id as i32) },
            position: None,
            target: None,
        });
        task(id, "ledger::serve::connection", root)
    };
    let mut receive = Strand::new(vec![frame("tokio::sync::mpsc::Receiver::recv", "src/mpsc.rs", 4)]);
    receive.wait = Some(Wait {
        resource: ResourceKey { kind: ResourceKind::TokioMpsc, address: 0x8000 },
        mode: WaitMode::Receive,
        position: None,
        target: None,
    });
    receive.holds.push(Hold {
        resource: ResourceKey { kind: ResourceKind::TokioMpsc, address: 0x8000 },
        how: HoldHow::Receiver,
        amount: 1,
        site: None,
    });
    let mut sleep = Strand::new(vec![frame("tokio::time::sleep::Sleep::poll", "src/sleep.rs", 9)]);
    sleep.wait = Some(Wait {
        resource: ResourceKey { kind: ResourceKind::Timer, address: 0 },
        mode: WaitMode::Deadline { in_ms: Some(3200) },
        position: None,
        target: None,
    });
    let mut root = Strand::new(vec![frame("ledger::flush", "src/flush.rs", 33)]);
    root.fork = Fork::Any;
    root.children = vec![receive, sleep];
    view((5..9).map(connection).chain([task(9, "ledger::flush", root)]).collect(), vec![])
}

/// The healthy program, of which not everything could be read.
pub(crate) fn partial() -> View {
    let mut partial = healthy();
    let mut snapshot = (*partial.snapshot).clone();
    snapshot.tasks[4].incomplete = Some("its poll function calls code outside the executable".into());
    snapshot.coverage = Coverage { seen: 5, decoded: 4, unknown: 1, unstable: 1 };
    snapshot.missing.push("the tasks of LocalSets: no symbols".into());
    snapshot.lost = LostCounts { ring_full: 2, ..LostCounts::default() };
    partial.snapshot = Arc::new(snapshot);
    partial.switch_probe = ProbeState::Missing("kernel programs need CAP_BPF: run with sudo".into());
    partial
}

// Anything at all.

/// Text as a hostile target might name its types.
fn text() -> impl Strategy<Value = String> {
    "[a-z:<>]{0,12}|[\\x00-\\x1f\\x7f-\\x9f\\u{202a}-\\u{202e}a\"\\\\;]{0,8}"
}

fn any_frame() -> impl Strategy<Value = Frame> {
    (text(), option::of(text()), option::of(any::<u32>())).prop_map(|(function, file, line)| Frame {
        function: function.into(),
        file: file.map(Into::into),
        line,
    })
}

pub(crate) fn any_party() -> impl Strategy<Value = PartyId> {
    prop_oneof![
        (any::<u64>(), any::<u64>()).prop_map(|(runtime, id)| PartyId::Task { runtime, id }),
        any::<i32>().prop_map(|tid| PartyId::BlockOn { tid }),
        any::<i32>().prop_map(|tid| PartyId::Thread { tid }),
    ]
}

fn any_resource() -> impl Strategy<Value = ResourceKey> {
    let kind = prop_oneof![
        Just(ResourceKind::TokioMutex),
        Just(ResourceKind::JoinHandle),
        Just(ResourceKind::Timer),
        Just(ResourceKind::StdMutex),
        text().prop_map(ResourceKind::Other)
    ];
    (kind, prop_oneof![Just(0), any::<u64>()]).prop_map(|(kind, address)| ResourceKey { kind, address })
}

fn any_wait() -> impl Strategy<Value = Wait> {
    let mode = prop_oneof![
        any::<u64>().prop_map(|permits| WaitMode::Acquire { permits }),
        any::<Option<i64>>().prop_map(|in_ms| WaitMode::Deadline { in_ms }),
        any::<Option<i32>>().prop_map(|fd| WaitMode::Ready { fd }),
        select(vec![WaitMode::Receive, WaitMode::Send, WaitMode::Join, WaitMode::Notified, WaitMode::Unknown]),
    ];
    (any_resource(), mode, any::<Option<u32>>(), option::of(any_party()))
        .prop_map(|(resource, mode, position, target)| Wait { resource, mode, position, target })
}

fn any_hold() -> impl Strategy<Value = Hold> {
    use HoldHow::{AssignedUnpolled, Guard, JoinHandle, Receiver, Reserved, Sender};
    let how = select(vec![Guard, AssignedUnpolled, Reserved, Sender, Receiver, JoinHandle]);
    (any_resource(), how, any::<u64>(), option::of(any_frame())).prop_map(|(resource, how, amount, site)| Hold {
        resource,
        how,
        amount,
        site,
    })
}

fn any_strand() -> impl Strategy<Value = Strand> {
    let fork = || select(vec![Fork::All, Fork::Any, Fork::Unknown]);
    let leaf = (vec(any_frame(), 0..4), option::of(any_wait()), vec(any_hold(), 0..3), fork())
        .prop_map(|(frames, wait, holds, fork)| Strand { frames: frames.into(), wait, holds, fork, children: vec![] });
    leaf.prop_recursive(3, 8, 3, move |inner| {
        (vec(any_frame(), 0..3), vec(inner, 0..3), fork()).prop_map(|(frames, children, fork)| Strand {
            frames: frames.into(),
            wait: None,
            holds: vec![],
            fork,
            children,
        })
    })
}

fn any_task() -> impl Strategy<Value = Task> {
    use TaskState::{Blocked, Complete, Running, Scheduled, Suspended, Unknown};
    let state = select(vec![Running, Scheduled, Suspended, Blocked, Complete, Unknown]);
    let source = select(vec![SinceSource::Attach, SinceSource::Snapshot, SinceSource::Event, SinceSource::Runtime]);
    let since = option::of((any::<f64>(), source).prop_map(|(at_least_s, source)| Since { at_least_s, source }));
    let origin = (option::of(any_party()), option::of(any_frame()));
    let origin = origin.prop_map(|(party, site)| Box::new(Origin { party, site }));
    let labels = vec((text(), text()), 0..3).prop_map(Into::into);
    let told = (option::of(text()), option::of(origin), option::of(labels), option::of(text()));
    (any_party(), text(), state, since, any_strand(), told, any::<(bool, Option<i32>, u64)>()).prop_map(
        |(party, name, state, since, root, (status, origin, labels, incomplete), (unstable, thread, address))| Task {
            party,
            address,
            runtime: 0,
            name: name.into(),
            state,
            status: status.map(Into::into),
            since,
            origin,
            labels,
            root,
            awaits_known: incomplete.is_none(),
            imprint: None,
            incomplete: incomplete.map(Into::into),
            unstable,
            thread,
        },
    )
}

fn any_finding() -> impl Strategy<Value = Finding> {
    let certainty = select(vec![Certainty::Observed, Certainty::Likely, Certainty::Proved]);
    let end = || (any_party(), text()).prop_map(|(party, name)| EdgeEnd { party, name });
    let edge = (end(), option::of(end()), any_resource(), option::of(any_frame()), option::of(any_frame()))
        .prop_map(|(from, to, resource, wait_site, hold_site)| Edge { from, to, resource, wait_site, hold_site });
    let thread = (any::<i32>(), text(), vec(any_frame(), 0..3)).prop_map(|(tid, name, frames)| FindingThread {
        tid,
        name,
        frames,
    });
    let escape = (text(), any::<Option<i64>>()).prop_map(|(what, in_ms)| Escape { what, in_ms });
    (
        (text(), select(FindingKind::ALL.to_vec()), certainty, text(), option::of(text())),
        (vec(any_party(), 0..3), vec(thread, 0..9), vec(edge, 0..4), vec(text(), 0..2), vec(escape, 0..2)),
        (any::<u64>(), any::<Option<u32>>()),
    )
        .prop_map(|(head, (tasks, threads, edges, unknowns, breakable_by), (effects, formed))| Finding {
            cause: head.4,
            tasks,
            threads,
            edges,
            unknowns,
            breakable_by,
            effects,
            formed_at: formed.map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s.into())),
            first_seen: moment(),
            ..Finding::new(head.0, head.1, head.2, head.3)
        })
}

/// A view of anything, in which some findings are about tasks that are there.
pub(crate) fn any_view() -> impl Strategy<Value = View> {
    let probe = || prop_oneof![Just(ProbeState::On), Just(ProbeState::Off), text().prop_map(ProbeState::Missing)];
    (vec(any_task(), 0..6), vec(any_finding(), 0..3), text(), vec(text(), 0..2), option::of(text()), probe(), probe())
        .prop_map(|(tasks, mut findings, exe, missing, ended, switch_probe, wait_probe)| {
            for finding in &mut findings {
                finding.tasks.extend(tasks.iter().take(2).map(|task| task.party));
            }
            let mut made = view(tasks, findings);
            let mut snapshot = (*made.snapshot).clone();
            snapshot.target.exe = exe.into();
            snapshot.missing = missing;
            made.snapshot = Arc::new(snapshot);
            View { switch_probe, wait_probe, ended, ..made }
        })
}

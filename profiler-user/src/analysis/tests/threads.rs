//! Threads in the graph: locks that block a thread, workers that nobody frees, roots of `block_on`, drivers.

use super::build::*;
use crate::analysis::{Thresholds, analyse};
use crate::model::{
    Certainty, FindingKind, Fork, HoldHow, PartyId, Resource, ResourceKey, ResourceKind, Snapshot, Syscall, Task,
    TaskState, Thread, ThreadActivity, ThreadRole, Wait, WaitMode,
};

fn std_mutex(address: u64) -> ResourceKey {
    key(ResourceKind::StdMutex, address)
}

fn locks(address: u64) -> Wait {
    wait(std_mutex(address), WaitMode::Unknown)
}

/// A worker that is blocked in a lock inside a poll of task `id`.
fn stuck_worker(tid: i32, id: u64, address: u64) -> Thread {
    Thread { wait: Some(locks(address)), ..worker(tid, ThreadActivity::BlockedIn(party(id))) }
}

fn blocked_task(id: u64, tid: i32) -> Task {
    Task { state: TaskState::Blocked, thread: Some(tid), ..task(id, fork(Fork::Unknown, vec![], vec![])) }
}

/// Task 1 suspends with a std guard; task 2 blocks the only worker on it.
fn guard_across_await(workers: Vec<Thread>) -> Snapshot {
    let sleeper = task(1, strand(timer(10), vec![guard(std_mutex(0x50))]));
    process_with(workers, vec![sleeper, blocked_task(2, 100)], vec![])
}

#[test]
fn a_std_guard_across_an_await_stops_the_only_worker() {
    let found = only(&guard_across_await(vec![stuck_worker(100, 2, 0x50)]));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Proved));
    assert_eq!(found.tasks, [party(1), party(2)]);
    assert_eq!(found.threads.iter().map(|thread| thread.tid).collect::<Vec<_>>(), [100]);
    assert!(found.summary.contains("which locks std::sync::Mutex 0x50, held by task 1"), "{}", found.summary);

    // Another worker polls the sleeper.
    let free = worker(101, ThreadActivity::Driving);
    assert_eq!(findings(&guard_across_await(vec![stuck_worker(100, 2, 0x50), free])), []);
    // A worker that was not found may do so.
    let mut unknown = guard_across_await(vec![stuck_worker(100, 2, 0x50)]);
    unknown.runtimes[0].workers.push(101);
    assert_eq!(findings(&unknown), []);
    // So may a thread whose stack has never been read.
    let unseen = Thread { role: ThreadRole::Unknown, ..worker(101, ThreadActivity::Running) };
    assert_eq!(findings(&guard_across_await(vec![stuck_worker(100, 2, 0x50), unseen])), []);
}

/// Two jobs on the threads of a blocking pool, 100 and 101; each waits in a `block_on` for work that nobody has begun.
fn jobs_that_wait_for_jobs(others: Vec<Thread>) -> Snapshot {
    let root = |tid: i32| {
        let work = key(ResourceKind::BlockingPool, tid as u64);
        let root = Task { thread: Some(tid), ..task(0, strand(wait(work.clone(), WaitMode::Join), vec![])) };
        (Task { party: PartyId::BlockOn { tid }, ..root }, work)
    };
    let thread = |tid| Thread { role: ThreadRole::BlockingPool, ..worker(tid, ThreadActivity::Parked) };
    let threads: Vec<Thread> = [100, 101].map(thread).into_iter().chain(others).collect();
    let begin = threads.iter().map(|thread| PartyId::Thread { tid: thread.tid }).collect::<Vec<_>>();
    let (tasks, resources) = [100, 101]
        .map(root)
        .into_iter()
        .map(|(task, work)| (task, Resource { reachable_by: Some(begin.clone()), ..Resource::new(work) }))
        .unzip();
    process_with(threads, tasks, resources)
}

#[test]
fn work_that_only_those_who_wait_for_it_could_begin_never_begins() {
    let found = only(&jobs_that_wait_for_jobs(vec![]));
    assert_eq!((found.kind, found.certainty, found.tasks.len()), (FindingKind::Deadlock, Certainty::Proved, 2));
    assert!(found.summary.contains("which stands in the pool's queue until block_on:101"), "{}", found.summary);
    // A third thread of the pool sleeps, and comes back.
    let third = Thread { role: ThreadRole::BlockingPool, ..worker(102, ThreadActivity::Blocked) };
    assert_eq!(findings(&jobs_that_wait_for_jobs(vec![third])), []);
}

#[test]
fn a_ready_task_stands_still_without_its_worker() {
    // Task 1 is to be polled and has the only sender; task 2 blocks the only worker in a `block_on` for what it sends.
    let reply = key(ResourceKind::TokioOneshot, 0x70);
    let ready = Task {
        state: TaskState::Scheduled,
        incomplete: Some("woken".into()),
        awaits_known: false,
        ..task(1, strand(timer(1), vec![hold(reply.clone(), HoldHow::Sender, 1)]))
    };
    let root = Task {
        party: PartyId::BlockOn { tid: 100 },
        thread: Some(100),
        ..task(0, strand(wait(reply, WaitMode::Receive), vec![]))
    };
    let blocked = worker(100, ThreadActivity::BlockedIn(party(2)));
    let process = |threads| process_with(threads, vec![ready.clone(), blocked_task(2, 100), root.clone()], vec![]);
    let found = only(&process(vec![blocked.clone()]));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Likely));
    assert_eq!(findings(&process(vec![blocked, worker(101, ThreadActivity::Driving)])), []);
}

#[test]
fn a_timeout_that_nobody_drives_is_told_of_on_its_own() {
    // A second mistake in the shadow of the first: task 3 waits for its own lock, and its timeout for the worker too.
    let lock = || key(ResourceKind::TokioMutex, 0x70);
    let branches = vec![strand(acquire(lock(), 1), vec![]), strand(timer(5), vec![])];
    let timed = task(3, fork(Fork::Any, vec![guard(lock())], branches));
    let mut snapshot = guard_across_await(vec![stuck_worker(100, 2, 0x50)]);
    snapshot.tasks.push(timed);
    let found = findings(&snapshot);
    let told: Vec<_> =
        found.iter().map(|finding| (finding.tasks.clone(), finding.breakable_by.len(), finding.effects)).collect();
    assert_eq!(found.iter().map(|finding| finding.kind).collect::<Vec<_>>(), [FindingKind::Deadlock; 2]);
    assert!(told.contains(&(vec![party(1), party(2)], 0, 0)), "{told:?}");
    assert!(told.contains(&(vec![party(3)], 1, 0)), "{told:?}");
}

#[test]
fn two_threads_lock_in_opposite_order() {
    let thread =
        |tid, wants, holds| Thread { holds: vec![guard(std_mutex(holds))], ..stuck_worker(tid, tid as u64, wants) };
    let threads = vec![thread(100, 0x50, 0x60), thread(101, 0x60, 0x50)];
    let found = only(&process_with(threads, vec![blocked_task(100, 100), blocked_task(101, 101)], vec![]));
    assert_eq!((found.certainty, found.threads.len(), found.tasks.len()), (Certainty::Proved, 2, 2));
    assert_eq!(
        found.summary,
        "thread 100 (tokio-runtime-w) locks std::sync::Mutex 0x50 while thread 101 (tokio-runtime-w), which holds it, \
         waits for std::sync::Mutex 0x60 that thread 100 holds"
    );
}

#[test]
fn a_thread_that_has_run_between_two_reads_has_had_its_lock() {
    let thread = |tid, wants, holds| Thread {
        role: ThreadRole::Plain,
        activity: ThreadActivity::Blocked,
        holds: vec![guard(std_mutex(holds))],
        switches: Some(5),
        ..stuck_worker(tid, 1, wants)
    };
    let earlier = process_with(vec![thread(200, 0x50, 0x60), thread(201, 0x60, 0x50)], vec![], vec![]);
    assert_eq!(only(&earlier).certainty, Certainty::Proved);
    let mut now = earlier.clone();
    now.threads[1].switches = Some(6);
    assert_eq!(analyse(&now, Some(&earlier), &[], &Thresholds::default()), []);
}

#[test]
fn a_cycle_passes_through_a_task_and_a_thread() {
    // The thread has the std mutex and wants the tokio one (blocking_lock); the task has the tokio one and blocks a worker.
    let thread = Thread {
        role: ThreadRole::Plain,
        wait: Some(acquire(mutex(0x10), 1)),
        holds: vec![guard(std_mutex(0x50))],
        ..worker(200, ThreadActivity::Blocked)
    };
    let mut task = blocked_task(2, 100);
    task.root.holds.push(guard(mutex(0x10)));
    let threads = vec![stuck_worker(100, 2, 0x50), worker(101, ThreadActivity::Parked), thread];
    let found = only(&process_with(threads, vec![task], vec![]));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Proved));
    assert_eq!((found.tasks, found.threads.len()), (vec![party(2)], 2));
}

#[test]
fn a_bare_futex_and_a_lock_with_a_time_limit_are_no_evidence() {
    let mut futex = guard_across_await(vec![stuck_worker(100, 2, 0x50)]);
    futex.threads[0].wait = Some(wait(key(ResourceKind::Futex, 0x51), WaitMode::Unknown));
    assert_eq!(findings(&futex), []);

    let mut timed = guard_across_await(vec![stuck_worker(100, 2, 0x50)]);
    timed.threads[0].syscall = Some(Syscall { number: 202, args: [0x50, 128, 2, 0x7f00, 0, 0] });
    assert_eq!(findings(&timed), []);
}

#[test]
fn block_on_inside_the_only_worker_waits_for_a_task_of_that_worker() {
    let outer = Task { state: TaskState::Running, ..blocked_task(1, 100) };
    let root = Task { party: PartyId::BlockOn { tid: 100 }, ..task(9, strand(join(2), vec![])) };
    let inner = Task { state: TaskState::Scheduled, ..task(2, strand(timer(0), vec![])) };
    let threads = vec![worker(100, ThreadActivity::BlockedIn(party(1)))];
    let found = only(&process_with(threads, vec![outer, root, inner.clone()], vec![]));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Proved));
    assert_eq!(found.tasks, [party(1), party(2), PartyId::BlockOn { tid: 100 }]);

    // The main thread of a current_thread runtime polls its tasks while its root waits.
    let root = Task { party: PartyId::BlockOn { tid: 100 }, ..task(9, strand(join(2), vec![])) };
    let threads = vec![Thread { role: ThreadRole::BlockOn, ..worker(100, ThreadActivity::Driving) }];
    let mut healthy = process_with(threads, vec![root, inner], vec![]);
    healthy.runtimes[0].workers.push(100);
    assert_eq!(findings(&healthy), []);
}

fn mpsc(address: u64) -> ResourceKey {
    key(ResourceKind::TokioMpsc, address)
}

fn channel(address: u64, senders: u64) -> Resource {
    Resource { senders: Some(senders), receivers: Some(1), ..Resource::new(mpsc(address)) }
}

#[test]
fn two_actors_send_into_each_other_s_full_mailbox() {
    let actor = |id, own, peer| {
        let ends = vec![hold(mpsc(own), HoldHow::Receiver, 1), hold(mpsc(peer), HoldHow::Sender, 1)];
        task(id, strand(wait(mpsc(peer), WaitMode::Send), ends))
    };
    let snapshot = process(vec![actor(1, 0x10, 0x20), actor(2, 0x20, 0x10)], vec![channel(0x10, 1), channel(0x20, 1)]);
    let found = only(&snapshot);
    assert_eq!((found.kind, found.certainty, found.tasks.len()), (FindingKind::Deadlock, Certainty::Proved, 2));
    assert!(found.summary.contains("waits for room in tokio::sync::mpsc 0x20, whose receiver is owned by task 2"));
}

#[test]
fn a_receiver_waits_for_the_sender_that_it_owns_itself() {
    let waits = |senders| {
        let own = vec![hold(mpsc(0x10), HoldHow::Sender, 1)];
        process(vec![task(1, strand(wait(mpsc(0x10), WaitMode::Receive), own))], vec![channel(0x10, senders)])
    };
    assert_eq!(only(&waits(1)).kind, FindingKind::Deadlock);
    // A second sender exists somewhere.
    assert_eq!(findings(&waits(2)), []);
}

#[test]
fn more_permits_than_there_are_never_come() {
    let pool = key(ResourceKind::TokioSemaphore, 0x10);
    let greedy = task(1, strand(acquire(pool.clone(), 10), vec![hold(pool.clone(), HoldHow::Reserved, 5)]));
    let found = only(&process(vec![greedy], vec![queued(pool, 5, &[(1, 5)])]));
    assert_eq!((found.kind, found.certainty), (FindingKind::Orphaned, Certainty::Proved));
    assert!(found.summary.ends_with("and nobody is left who could bring it"), "{}", found.summary);
    assert_eq!(found.edges[0].to, None);
}

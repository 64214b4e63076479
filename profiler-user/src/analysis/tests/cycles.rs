//! Deadlocks of the everyday kind, and what looks like them.

use super::build::*;
use crate::{
    analysis::{Thresholds, analyse},
    model::{
        Certainty, FindingKind, Fork, Grounds, HoldHow, Resource, ResourceKind, Since, SinceSource, Snapshot, Strand,
        TaskState, WaitMode,
    },
};

fn ab_ba() -> Snapshot {
    process(
        vec![
            task(7, strand(acquire(mutex(0x10), 1), vec![guard(mutex(0x20))])),
            task(9, strand(acquire(mutex(0x20), 1), vec![guard(mutex(0x10))])),
        ],
        vec![queued(mutex(0x10), 1, &[(7, 1)]), queued(mutex(0x20), 1, &[(9, 1)])],
    )
}

#[test]
fn two_tasks_lock_in_opposite_order() {
    let found = only(&ab_ba());
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Proved));
    assert_eq!(found.tasks, [party(7), party(9)]);
    assert_eq!(
        found.summary,
        "task 7 (app::work) locks tokio::sync::Mutex 0x10 while task 9 (app::work), which holds it, waits for \
         tokio::sync::Mutex 0x20 that task 7 holds"
    );
    let edges: Vec<_> = found
        .edges
        .iter()
        .map(|edge| (edge.from.party, edge.to.as_ref().map(|to| to.party), edge.resource.address))
        .collect();
    assert_eq!(edges, [(party(7), Some(party(9)), 0x10), (party(9), Some(party(7)), 0x20)]);
    assert_eq!(found.edges[0].wait_site, Some(frame("app::work")));
    assert_eq!(found.edges[0].hold_site, Some(frame("app::holds")));
    assert!(found.unknowns.is_empty() && found.breakable_by.is_empty() && found.effects == 0);
}

#[test]
fn what_follows_from_a_deadlock_is_its_effect() {
    let mut snapshot = ab_ba();
    for id in 20..25 {
        snapshot.tasks.push(task(id, strand(acquire(mutex(0x10), 1), vec![])));
    }
    snapshot.tasks.push(task(30, strand(join(20), vec![])));
    assert_eq!(only(&snapshot).effects, 6);
}

#[test]
fn one_read_proves_nothing() {
    assert_eq!(analyse(&ab_ba(), None, &[], &Thresholds::default()), []);
}

#[test]
fn what_changes_between_two_reads_is_no_evidence() {
    let (now, mut earlier) = (ab_ba(), ab_ba());
    earlier.tasks[1].state = TaskState::Running;
    assert_eq!(analyse(&now, Some(&earlier), &[], &Thresholds::default()), []);

    let mut unstable = ab_ba();
    unstable.tasks[0].unstable = true;
    assert_eq!(findings(&unstable), []);
}

#[test]
fn an_incomplete_task_lowers_the_certainty_and_says_why() {
    let mut snapshot = ab_ba();
    snapshot.tasks[1].incomplete = Some("step limit".into());
    let found = only(&snapshot);
    assert_eq!(found.certainty, Certainty::Likely);
    assert_eq!(found.unknowns, ["task 9 (app::work) was not read whole: step limit"]);
}

#[test]
fn a_ring_is_named_whole_in_the_edges_and_abridged_in_the_sentence() {
    for size in [3_u64, 50] {
        let tasks = (0..size)
            .map(|id| task(id, strand(acquire(mutex(0x100 + (id + 1) % size), 1), vec![guard(mutex(0x100 + id))])))
            .collect();
        let found = only(&process(tasks, vec![]));
        assert_eq!(found.tasks.len() as u64, size);
        assert_eq!(found.edges.len() as u64, size);
        assert_eq!(found.summary.contains("and so on through 46 more back to task 0"), size == 50);
    }
}

#[test]
fn a_task_locks_what_it_holds() {
    let found = only(&process(vec![task(1, strand(acquire(mutex(0x10), 1), vec![guard(mutex(0x10))]))], vec![]));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Proved));
    assert_eq!(found.summary, "task 1 (app::work) locks tokio::sync::Mutex 0x10, which it holds itself");
}

#[test]
fn a_reader_reads_again_behind_a_queued_writer() {
    let lock = key(ResourceKind::TokioRwLock, 0x10);
    let reader = task(1, strand(acquire(lock.clone(), 1), vec![guard(lock.clone())]));
    let writer = task(2, strand(acquire(lock.clone(), 8), vec![hold(lock.clone(), HoldHow::Reserved, 7)]));
    let queue = queued(lock.clone(), 8, &[(2, 1), (1, 1)]);
    let found = only(&process(vec![reader.clone(), writer], vec![queue]));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Proved));
    assert_eq!(found.tasks, [party(1), party(2)]);
    assert!(found.summary.contains("queued behind task 2"), "{}", found.summary);

    // Without the writer the second read succeeds.
    let alone = queued(lock, 8, &[(1, 1)]);
    assert_eq!(findings(&process(vec![reader], vec![alone])), []);
}

#[test]
fn each_of_two_holds_one_permit_and_wants_another() {
    let pool = key(ResourceKind::TokioSemaphore, 0x10);
    let greedy = |id| task(id, strand(acquire(pool.clone(), 1), vec![guard(pool.clone())]));
    let found = only(&process(vec![greedy(1), greedy(2)], vec![queued(pool.clone(), 2, &[(1, 1), (2, 1)])]));
    assert_eq!((found.certainty, found.tasks.len()), (Certainty::Proved, 2));

    // A third permit that nobody was found with may come back.
    let third = queued(pool.clone(), 3, &[(1, 1), (2, 1)]);
    assert_eq!(findings(&process(vec![greedy(1), greedy(2)], vec![third])), []);

    // Who can reach it may add some, and sleeps only.
    let mut grows = queued(pool.clone(), 2, &[(1, 1), (2, 1)]);
    grows.reachable_by = Some(vec![party(1), party(2), party(3)]);
    let tasks = vec![greedy(1), greedy(2), task(3, strand(timer(20_000), vec![]))];
    assert_eq!(findings(&process(tasks, vec![grows.clone()])), []);

    // Who waits for clients might too; that it has not for long is evidence, and no proof.
    let socket = || strand(wait(key(ResourceKind::Io, 0x50), WaitMode::Ready { fd: Some(9) }), vec![]);
    let served = |at_least_s: f64, third: Strand| {
        let mut tasks = vec![greedy(1), greedy(2), task(3, third)];
        let since = Since { at_least_s, source: SinceSource::Attach };
        for task in &mut tasks {
            task.since = Some(since);
        }
        process(tasks, vec![grows.clone()])
    };
    assert_eq!(findings(&served(9.0, socket())), []);
    assert_eq!(findings(&served(11.0, strand(timer(20_000), vec![]))), []);
    let found = only(&served(11.0, socket()));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Likely));
    assert!(found.unknowns[0].contains("may add permits"), "{:?}", found.unknowns);

    // How many there are is not known: somebody who was not found may give one back.
    assert_eq!(findings(&process(vec![greedy(1), greedy(2)], vec![Resource::new(pool.clone())])), []);
}

#[test]
fn an_uncounted_sender_is_no_evidence_for_others() {
    // An actor with a handle to itself: whether the rest of the program has another is not known.
    let inbox = key(ResourceKind::TokioMpsc, 0x10);
    let actor = task(1, strand(wait(inbox.clone(), WaitMode::Receive), vec![hold(inbox.clone(), HoldHow::Sender, 1)]));
    assert_eq!(findings(&process(vec![actor], vec![Resource::new(inbox)])), []);
}

#[test]
fn a_task_not_read_whole_is_no_proof() {
    let mut snapshot = ab_ba();
    snapshot.tasks[0].incomplete = Some("its drop calls code outside the executable".into());
    let found = only(&snapshot);
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Likely));
    assert_eq!(found.unknowns, ["task 7 (app::work) was not read whole: its drop calls code outside the executable"]);
    // There may be another branch, in which it goes on.
    snapshot.tasks[0].awaits_known = false;
    assert_eq!(findings(&snapshot), []);
}

#[test]
fn more_found_held_than_there_is_is_no_proof() {
    let mut snapshot = ab_ba();
    snapshot.tasks.push(task(11, strand(acquire(mutex(0x10), 1), vec![guard(mutex(0x10))])));
    let found = only(&snapshot);
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Likely));
    assert_eq!(found.unknowns, ["more of tokio::sync::Mutex 0x10 was found held or free than exists"]);
}

#[test]
fn tasks_await_each_other_s_end() {
    let found = only(&process(vec![task(1, strand(join(2), vec![])), task(2, strand(join(1), vec![]))], vec![]));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Proved));
    assert!(found.summary.starts_with("task 1 (app::work) waits for the end of task 2"), "{}", found.summary);
}

#[test]
fn a_timeout_around_a_deadlock_is_named() {
    let limited = |id, wants, holds| {
        task(
            id,
            fork(
                Fork::Any,
                vec![guard(mutex(holds))],
                vec![strand(acquire(mutex(wants), 1), vec![]), strand(timer(3_200), vec![])],
            ),
        )
    };
    let found = only(&process(vec![limited(1, 0x10, 0x20), limited(2, 0x20, 0x10)], vec![]));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Proved));
    let what: Vec<_> = found.breakable_by.iter().map(|escape| (escape.what.as_str(), escape.in_ms)).collect();
    assert_eq!(what, [("timeout of task 1", Some(3_200)), ("timeout of task 2", Some(3_200))]);
}

#[test]
fn a_token_that_somebody_may_cancel_is_an_escape() {
    let mut snapshot = ab_ba();
    let token = key(ResourceKind::TokioNotify, 0x30);
    for task in &mut snapshot.tasks {
        let mut cancelled = strand(wait(token.clone(), WaitMode::Notified), vec![]);
        cancelled.frames = vec![frame("tokio_util::sync::cancellation_token::WaitForCancellationFuture::poll")].into();
        let locks = Strand { holds: Vec::new(), ..task.root.clone() };
        task.root = fork(Fork::Any, task.root.holds.clone(), vec![cancelled, locks]);
    }
    snapshot.tasks.push(task(3, strand(timer(20_000), vec![])));
    let everyone = Some(vec![party(7), party(9), party(3)]);
    snapshot.resources.push(Resource { reachable_by: everyone, ..Resource::new(token) });
    let found = only(&snapshot);
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Proved));
    assert_eq!(found.breakable_by.len(), 2, "{:?}", found.breakable_by);
}

#[test]
fn who_would_have_to_add_permits_is_part_of_the_deadlock() {
    let tokens = key(ResourceKind::TokioSemaphore, 0x10);
    let config = mutex(0x20);
    let wants = |id, holds| task(id, strand(acquire(tokens.clone(), 1), holds));
    let refill = task(3, strand(acquire(config.clone(), 1), vec![]));
    let mut empty = queued(tokens.clone(), 0, &[(1, 1), (2, 1)]);
    empty.reachable_by = Some(vec![party(1), party(2), party(3)]);
    let tasks = vec![wants(1, vec![]), wants(2, vec![guard(config.clone())]), refill];
    let found = only(&process(tasks, vec![empty, queued(config, 1, &[(3, 1)])]));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Proved));
    assert_eq!((found.tasks, found.effects), (vec![party(2), party(3)], 1));
    assert!(found.summary.contains("to which only task 3"), "{}", found.summary);
}

#[test]
fn that_memory_was_searched_is_evidence_and_no_proof() {
    let reply = key(ResourceKind::TokioOneshot, 0x40);
    let pool = key(ResourceKind::TokioSemaphore, 0x10);
    let waiting = |incomplete: bool| {
        let mut waiting = task(3, strand(wait(reply.clone(), WaitMode::Receive), vec![]));
        waiting.awaits_known = true;
        waiting.incomplete = incomplete.then(|| "not read whole".into());
        waiting
    };
    let reached = |grounds, by: u64| Resource {
        reachable_by: Some(vec![party(by)]),
        grounds,
        senders: Some(1),
        ..Resource::new(reply.clone())
    };
    let one = |incomplete, grounds| process(vec![waiting(incomplete)], vec![reached(grounds, 3)]);
    let counted = only(&one(false, Grounds::Counted));
    assert_eq!((counted.kind, counted.certainty), (FindingKind::Orphaned, Certainty::Proved));
    let searched = only(&one(false, Grounds::Searched));
    assert_eq!((searched.kind, searched.certainty), (FindingKind::Orphaned, Certainty::Likely));
    assert!(searched.unknowns[0].contains("searching memory"), "{:?}", searched.unknowns);
    assert_eq!(findings(&one(true, Grounds::Searched)), [], "two things that are not known");

    let greedy = |id| task(id, strand(acquire(pool.clone(), 1), vec![guard(pool.clone())]));
    let mut permits = queued(pool.clone(), 2, &[(1, 1), (2, 1)]);
    (permits.reachable_by, permits.grounds) = (Some(vec![party(1), party(2)]), Grounds::Searched);
    let found = only(&process(vec![greedy(1), greedy(2)], vec![permits]));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Likely));
    assert!(found.unknowns[0].contains("searching memory"), "{:?}", found.unknowns);
}

#[test]
fn a_result_that_nobody_wants_any_more_is_a_way_out() {
    let cancelled = |id, wants, holds| {
        let unwanted = wait(key(ResourceKind::TokioOneshot, 0x100 + id), WaitMode::Notified);
        let work = strand(acquire(mutex(wants), 1), vec![]);
        task(id, fork(Fork::Any, vec![guard(mutex(holds))], vec![work, strand(unwanted, vec![])]))
    };
    let found = only(&process(vec![cancelled(1, 0x10, 0x20), cancelled(2, 0x20, 0x10)], vec![]));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Proved));
    let what: Vec<_> = found.breakable_by.iter().map(|escape| escape.what.as_str()).collect();
    assert_eq!(what, [1, 2].map(|id| format!("the end of whoever receives from tokio::sync::oneshot of task {id}")));
}

#[test]
fn heartbeats_are_no_escapes() {
    let actor = |id, inbox, peer| {
        task(
            id,
            fork(
                Fork::Any,
                vec![hold(key(ResourceKind::TokioMpsc, peer), HoldHow::Sender, 1)],
                vec![
                    strand(wait(key(ResourceKind::TokioMpsc, inbox), WaitMode::Receive), vec![]),
                    strand(timer(1_000), vec![]),
                ],
            ),
        )
    };
    let channel = |address| Resource { senders: Some(1), ..Resource::new(key(ResourceKind::TokioMpsc, address)) };
    let snapshot = process(vec![actor(1, 0x10, 0x20), actor(2, 0x20, 0x10)], vec![channel(0x10), channel(0x20)]);
    assert_eq!(findings(&snapshot), []);
}

#[test]
fn a_timer_beside_a_reply_gives_up_on_it_only_in_a_timeout() {
    let asks = |id, reply, owed, frames: &[&str]| {
        let waits = strand(wait(key(ResourceKind::TokioOneshot, reply), WaitMode::Receive), vec![]);
        let owes = hold(key(ResourceKind::TokioOneshot, owed), HoldHow::Sender, 1);
        let select = fork(Fork::Any, vec![owes], vec![waits, strand(timer(45_000), vec![])]);
        task(id, Strand { frames: frames.iter().map(|name| frame(name)).collect(), ..select })
    };
    let reply = |address| Resource { senders: Some(1), ..Resource::new(key(ResourceKind::TokioOneshot, address)) };
    let both = |frames: &[&str]| {
        let tasks = vec![asks(1, 0x10, 0x20, frames), asks(2, 0x20, 0x10, frames)];
        process(tasks, vec![reply(0x10), reply(0x20)])
    };
    assert_eq!(findings(&both(&["app::until_stopped"])), [], "the timer may be for the work of a loop");
    let found = only(&both(&["app::asks", "tokio::time::timeout::Timeout::poll"]));
    assert_eq!((found.kind, found.breakable_by.len()), (FindingKind::Deadlock, 2));
}

#[test]
fn a_hot_lock_and_a_hidden_holder_are_no_deadlock() {
    let waiters = || (2..9).map(|id| task(id, strand(acquire(mutex(0x10), 1), vec![])));
    // The holder sleeps.
    let mut tasks = vec![task(1, strand(timer(500), vec![guard(mutex(0x10))]))];
    tasks.extend(waiters());
    assert_eq!(findings(&process(tasks, vec![])), []);
    // Nobody was found to hold it.
    assert_eq!(findings(&process(waiters().collect(), vec![])), []);
}

#[test]
fn a_future_that_nobody_polls_keeps_its_place_and_what_it_is_given() {
    // select! over `&mut lock_future`, then the other branch locks too: the permit went to the future that is not polled.
    let given = hold(mutex(0x10), HoldHow::AssignedUnpolled, 1);
    let mut lock = acquire(mutex(0x10), 1);
    lock.position = Some(0);
    let found = only(&process(vec![task(1, strand(lock, vec![given]))], vec![queued(mutex(0x10), 1, &[(1, 1)])]));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Proved));

    // The same before the holder lets go: the place in front is the task's own and not polled.
    let holder = task(2, strand(timer(10), vec![guard(mutex(0x10))]));
    let mut lock = acquire(mutex(0x10), 1);
    lock.position = Some(1);
    let queue = queued(mutex(0x10), 1, &[(1, 1), (1, 1)]);
    let found = only(&process(vec![task(1, strand(lock, vec![])), holder], vec![queue]));
    assert_eq!(found.tasks, [party(1)]);
}

//! `exhausted`, `leak` and `starved`: what must show, and what must not.

use std::time::{Duration, Instant};

use super::build::*;
use crate::{
    analysis::{Thresholds, Trends},
    model::{
        Finding, FindingKind, Resource, ResourceKey, ResourceKind, Since, SinceSource, Snapshot, Task, TaskState,
        ThreadActivity,
    },
};

/// Shows `at(second)` twice a second for this long; the findings after each look.
fn watch(seconds: u64, at: impl Fn(f64) -> Snapshot) -> Vec<Vec<Finding>> {
    let (begin, mut trends) = (Instant::now(), Trends::default());
    (0..=seconds * 2)
        .map(|half| {
            let second = half as f64 / 2.0;
            let mut snapshot = at(second);
            snapshot.taken_at = begin + Duration::from_secs_f64(second);
            let mut findings = Vec::new();
            trends.observe(&snapshot, &Thresholds::default(), &mut findings);
            findings
        })
        .collect()
}

fn pool() -> ResourceKey {
    key(ResourceKind::TokioSemaphore, 0x10)
}

/// Tasks `holders` have a permit each and sleep; 9 and 10 queue.
fn full(holders: &[u64], next: u64) -> Snapshot {
    let mut tasks: Vec<Task> = holders.iter().map(|&id| task(id, strand(timer(5), vec![guard(pool())]))).collect();
    tasks.extend([9, 10].map(|id| task(id, strand(acquire(pool(), 1), vec![]))));
    let queue = queued(pool(), 0, &[(next, 1), (19 - next, 1)]);
    process(tasks, vec![Resource { permits: None, available: Some(0), ..queue }])
}

#[test]
fn a_pool_that_nobody_gives_back_to_is_exhausted() {
    let looks = watch(12, |_| full(&[1, 2], 9));
    assert!(looks[..20].iter().all(Vec::is_empty));
    let found = &looks[20][0];
    assert_eq!((found.kind, &found.tasks[..], found.effects), (FindingKind::Exhausted, &[party(1), party(2)][..], 2));
    assert_eq!(
        found.summary,
        "2 tasks queue for tokio::sync::Semaphore 0x10, of which 2 tasks, like task 1 (app::work), have had 2 permits for \
         10 s without handing one over"
    );
    assert_eq!(found.cause.as_deref(), Some("task 1 (app::work) waits for timer in app::work"));
    assert!(looks[21..].iter().all(|findings| findings[0].id == found.id));
}

#[test]
fn a_pool_that_nobody_could_give_back_to_is_exhausted_without_holders() {
    let lost = |_| {
        let mut snapshot = full(&[], 9);
        snapshot.resources[0].abandoned = true;
        snapshot
    };
    let looks = watch(12, lost);
    assert!(looks[..20].iter().all(Vec::is_empty));
    assert!(looks[20][0].summary.ends_with("all has been taken and nobody is left who could give it back"));
    assert_eq!((looks[20][0].edges.len(), looks[20][0].effects), (1, 2));
}

#[test]
fn a_pool_that_hands_over_or_whose_holders_are_hidden_is_not() {
    let busy = |second: f64| if second % 9.0 < 4.5 { full(&[1, 2], 9) } else { full(&[1, 9], 10) };
    assert!(watch(60, busy).iter().all(Vec::is_empty));
    assert!(watch(60, |_| full(&[], 9)).iter().all(Vec::is_empty));
    // One holder: a lock by another name.
    assert!(watch(60, |_| full(&[1], 9)).iter().all(Vec::is_empty));
}

fn aged(id: u64, second: f64, born: f64) -> Task {
    let inbox = key(ResourceKind::TokioMpsc, 0x1000 + id);
    let handler = task(id, strand(wait(inbox, crate::model::WaitMode::Receive), vec![]));
    Task { since: Some(Since { at_least_s: second - born, source: SinceSource::Snapshot }), ..handler }
}

/// A request each half second that ends half a second later; each `stays`-th of them stays.
fn service(second: f64, stays: u64) -> Snapshot {
    let newest = (second * 2.0) as u64;
    let there = (0..=newest).filter(|id| id % stays == 0 || newest - id <= 1);
    process(there.map(|id| aged(id, second, id as f64 / 2.0)).collect(), vec![])
}

#[test]
fn handlers_that_pile_up_where_others_pass_are_a_leak() {
    let looks = watch(25, |second| service(second, 3));
    assert!(looks[..20].iter().all(Vec::is_empty));
    let found = looks.last().and_then(|findings| findings.first()).expect("a leak");
    assert_eq!(found.kind, FindingKind::Leak);
    assert!(found.summary.contains("tasks of type app::work wait in app::work and do not end"), "{}", found.summary);
    assert_eq!(found.cause.as_deref(), Some("nothing comes on tokio::sync::mpsc, and its senders are not dropped"));
    assert!(looks[20..].iter().flatten().all(|other| other.id == found.id));
}

#[test]
fn handlers_of_which_none_ends_are_a_leak_in_the_long_run() {
    let looks = watch(50, |second| service(second, 1));
    let found = looks.last().and_then(|findings| findings.first()).expect("a leak");
    assert_eq!(found.kind, FindingKind::Leak);
    assert!(found.summary.contains("and none of the type has ended"), "{}", found.summary);
}

#[test]
fn a_service_that_fills_up_with_clients_or_empties_again_is_no_leak() {
    // All stay: a warm-up.
    let warm_up = |second: f64| service(second.min(30.0), 1);
    assert!(watch(90, warm_up).iter().all(Vec::is_empty));
    // Those that stay end at a point in time that they know.
    let expiring = |second: f64| {
        let mut snapshot = service(second, 3);
        snapshot.tasks.iter_mut().for_each(|task| task.root = strand(timer(300_000), vec![]));
        snapshot
    };
    assert!(watch(90, expiring).iter().all(Vec::is_empty));
    // All pass.
    assert!(watch(30, |second| service(second, 10_000)).iter().all(Vec::is_empty));
    // Each that stays has a socket beside it.
    let with_sockets = |second: f64| {
        let mut snapshot = service(second, 3);
        let sockets: Vec<Task> = (0..snapshot.tasks.len() as u64)
            .map(|id| {
                let ready = wait(key(ResourceKind::Io, 0x5000 + id), crate::model::WaitMode::Ready { fd: None });
                Task { name: "app::reader".into(), ..task(100_000 + id, strand(ready, vec![])) }
            })
            .collect();
        snapshot.tasks.extend(sockets);
        snapshot
    };
    assert!(watch(30, with_sockets).iter().all(Vec::is_empty));
    // The old ones leave in the end.
    let leaving = |second: f64| {
        let mut snapshot = service(second, 3);
        let age = |task: &Task| task.since.map_or(0.0, |since| since.at_least_s);
        snapshot.tasks.retain(|task| age(task) < 6.0);
        snapshot
    };
    assert!(watch(60, leaving).iter().all(Vec::is_empty));
}

/// One worker polls task `polled`, and task 2, which is ready, is made of `imprint`; the process has used `cpu` seconds.
fn spinning(polled: u64, imprint: u64, cpu: f64) -> Snapshot {
    let spinner = Task { state: TaskState::Running, ..task(polled, strand(timer(5), vec![])) };
    let ready = Task { state: TaskState::Scheduled, imprint: Some(imprint), ..task(2, strand(timer(5), vec![])) };
    let threads = vec![worker(100, ThreadActivity::Polling(party(polled)))];
    Snapshot { cpu: Some(Duration::from_secs_f64(cpu)), ..process_with(threads, vec![spinner, ready], vec![]) }
}

#[test]
fn a_ready_task_behind_one_endless_poll_is_starved() {
    let looks = watch(3, |second| spinning(1, 7, second));
    assert!(looks[..2].iter().all(Vec::is_empty));
    let found = &looks[2][0];
    assert_eq!((found.kind, &found.tasks[..]), (FindingKind::Starved, &[party(2)][..]));
    assert_eq!(found.threads.iter().map(|thread| thread.tid).collect::<Vec<_>>(), [100]);
    assert_eq!(
        found.summary,
        "task 2 (app::work) has been ready for 1.0 s, and nobody polls: task 1 (app::work) is being polled all the time and \
         never comes to an await"
    );
    assert!(looks[3..].iter().all(|findings| findings[0].id == found.id));
}

#[test]
fn a_busy_or_throttled_runtime_starves_nobody() {
    // The ready task moves, as one that is polled does; or others are polled each time.
    assert!(watch(9, |second| spinning(1, second.to_bits(), second)).iter().all(Vec::is_empty));
    assert!(watch(9, |second| spinning(3 + (second * 2.0) as u64, 7, second)).iter().all(Vec::is_empty));
    // It gets a twentieth of the processor.
    assert!(watch(9, |second| spinning(1, 7, second / 20.0)).iter().all(Vec::is_empty));
    // A worker is there for it.
    let with_idle = |second: f64| {
        let mut snapshot = spinning(1, 7, second);
        snapshot.threads.push(worker(101, ThreadActivity::Driving));
        snapshot
    };
    assert!(watch(9, with_idle).iter().all(Vec::is_empty));
}

//! Resources that record no owner: who can reach them, and who was found to hold them by what the code does.

use std::sync::Arc;

use super::build::*;
use crate::model::{Certainty, FindingKind, Fork, Resource, ResourceKey, ResourceKind, Snapshot, Task, WaitMode};

fn go_mutex(address: u64) -> ResourceKey {
    key(ResourceKind::GoMutex, address)
}

/// Two goroutines that lock in opposite order; `found` says whether the locks' holders are taken to be all.
fn opposite(found: bool) -> Snapshot {
    let resource = |address| Resource { permits: found.then_some(1), ..Resource::new(go_mutex(address)) };
    process(
        vec![
            task(7, strand(acquire(go_mutex(0x10), 1), vec![guard(go_mutex(0x20))])),
            task(9, strand(acquire(go_mutex(0x20), 1), vec![guard(go_mutex(0x10))])),
        ],
        vec![resource(0x10), resource(0x20)],
    )
}

/// A goroutine that waits for what nobody can reach.
fn leaked(id: u64, name: &str) -> (Task, Resource) {
    let channel = key(ResourceKind::GoChan, id * 0x10);
    let task = Task { name: Arc::from(name), ..task(id, strand(wait(channel.clone(), WaitMode::Receive), vec![])) };
    (task, Resource { reachable_by: Some(vec![party(id)]), ..Resource::new(channel) })
}

#[test]
fn a_cycle_of_locks_without_owners_is_likely_and_says_why() {
    let found = only(&opposite(true));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Likely));
    assert_eq!(found.unknowns.len(), 2, "{found:#?}");
    assert_eq!(findings(&opposite(false)), []);
}

#[test]
fn behind_a_lock_without_owner_whose_holder_moves_nobody_is_stuck() {
    let mut snapshot = opposite(true);
    snapshot.tasks[1] = task(9, strand(timer(500), vec![guard(go_mutex(0x10))]));
    assert_eq!(findings(&snapshot), []);
}

/// Two goroutines that have a connection each of a pool of `connections`, and wait for one more; `until` is what they wait for
/// besides.
fn nested(connections: u64, until: Option<&ResourceKind>) -> Snapshot {
    let pool = key(ResourceKind::GoSqlDb, 0x10);
    let waits = |id| {
        let one_more = acquire(pool.clone(), 1);
        task(
            id,
            match until {
                None => strand(one_more, vec![guard(pool.clone())]),
                Some(kind) => {
                    let other = wait(key(kind.clone(), 0x20), WaitMode::Notified);
                    fork(Fork::Any, vec![guard(pool.clone())], vec![strand(one_more, vec![]), strand(other, vec![])])
                }
            },
        )
    };
    process(vec![waits(7), waits(9)], vec![queued(pool.clone(), connections, &[(7, 1), (9, 1)])])
}

#[test]
fn those_who_have_all_connections_and_wait_for_one_more_are_likely_stuck() {
    let found = only(&nested(2, None));
    assert_eq!((found.kind, found.certainty), (FindingKind::Deadlock, Certainty::Likely));
    assert!(found.unknowns[0].contains("more connections") && found.breakable_by.is_empty(), "{found:#?}");
    // Somebody who was not found has the third.
    assert_eq!(findings(&nested(3, None)), []);
}

#[test]
fn the_end_of_a_context_breaks_a_deadlock_and_that_of_a_channel_may_mean_anything() {
    let found = only(&nested(2, Some(&ResourceKind::GoContext)));
    assert_eq!((found.kind, found.breakable_by.len()), (FindingKind::Deadlock, 2), "{found:#?}");
    assert!(found.breakable_by[0].what.starts_with("the end of the context"), "{found:#?}");
    assert_eq!(findings(&nested(2, Some(&ResourceKind::GoChan))), []);
}

#[test]
fn a_lock_that_was_abandoned_is_called_that() {
    let lock = go_mutex(0x10);
    let stuck = task(7, strand(acquire(lock.clone(), 1), vec![]));
    let resource =
        |abandoned| Resource { abandoned, reachable_by: Some(vec![party(7)]), ..Resource::new(lock.clone()) };
    let cause = |abandoned| only(&process(vec![stuck.clone()], vec![resource(abandoned)])).cause;
    assert!(cause(true).is_some_and(|cause| cause.starts_with("sync.Mutex 0x10 is abandoned")));
    assert_eq!(cause(false), None);
}

#[test]
fn equal_leaks_are_one_finding_that_keeps_its_name() {
    let snapshot = |ids: &[u64]| {
        let (mut tasks, mut resources): (Vec<_>, Vec<_>) = ids.iter().map(|id| leaked(*id, "main.serve")).unzip();
        let (other, channel) = leaked(99, "main.other");
        tasks.push(other);
        resources.push(channel);
        process(tasks, resources)
    };
    let found = findings(&snapshot(&[1, 2, 3]));
    assert_eq!(found.len(), 2, "{found:#?}");
    let many = found.iter().find(|finding| finding.tasks.len() == 3).expect("the three in one");
    assert_eq!((many.kind, many.certainty), (FindingKind::Orphaned, Certainty::Proved));
    assert!(many.summary.starts_with("3 tasks are stuck alike: task 1 (main.serve)"), "{}", many.summary);
    let later = findings(&snapshot(&[2, 3, 4, 5]));
    assert!(later.iter().any(|finding| finding.id == many.id && finding.tasks.len() == 4), "{later:#?}");
}

//! What to do about a finding, in a sentence or two.

use crate::model::{Edge, Finding, FindingKind, PartyId, ResourceKind};

/// What to change, and what helps until then.
pub(super) fn remedy(finding: &Finding) -> String {
    let change = match finding.kind {
        FindingKind::Deadlock => deadlock(&finding.edges),
        FindingKind::Orphaned if finding.edges.iter().any(|edge| edge.resource.kind.is_goroutine_lock()) => {
            "Unlock on every way out of the function that locks: `defer` it right behind the Lock."
        }
        FindingKind::Orphaned => {
            "Keep whoever should answer alive until it has answered, or let the waiter see that it is gone (a dropped \
             sender, a timeout)."
        }
        FindingKind::Undriven => "Await or spawn this future, or keep the runtime that polls it running.",
        FindingKind::BlockedWorker => {
            "Move the blocking call to tokio::task::spawn_blocking or use its async counterpart: every other task of \
             this worker waits meanwhile."
        }
        FindingKind::Starved => "Find the task that does not yield, or give the runtime more workers.",
        FindingKind::Exhausted if finding.edges.iter().all(|edge| edge.to.is_none()) => {
            "Give back what was taken on every way out of the function that takes it."
        }
        FindingKind::Exhausted => "Find what keeps the holders, or raise the limit.",
        FindingKind::Leak => "Find who spawns these tasks and what should end them.",
        FindingKind::Stalled => "Nothing yet: this can still end by itself.",
    };
    match meanwhile(finding) {
        Some(meanwhile) => format!("{change} {meanwhile}"),
        None => change.into(),
    }
}

/// What to change where parties wait on one another, by what they wait for: the pattern with the plainest remedy first.
fn deadlock(edges: &[Edge]) -> &'static str {
    let all = |of: fn(&Edge) -> bool| !edges.is_empty() && edges.iter().all(of);
    let any = |of: fn(&Edge) -> bool| edges.iter().any(of);
    let one_resource = edges.windows(2).all(|pair| pair[0].resource == pair[1].resource);
    if one_resource && all(|edge| edge.resource.kind == ResourceKind::TokioRwLock) {
        "Do not take this lock again while holding a guard of it: a writer may have queued in between. Pass the guard on instead."
    } else if all(is_to_itself) && any(is_lock) {
        "Drop what the task holds of it before this await, also what a future that is no longer polled was given: drop that \
         future first."
    } else if all(is_to_itself) && any(is_channel) {
        "Drop the task's own sender before it waits for the channel to end, or end the loop by a message."
    } else if all(|edge| edge.resource.kind == ResourceKind::GoSqlDb) {
        "Do not wait for a connection while having one: use the transaction or the rows' own connection, or close them first."
    } else if all(is_pool) {
        "Take all the permits that a task needs at once (acquire_many), or fewer than there are by one for each task that may \
         wait with some in hand."
    } else if any(is_worker) && edges.iter().any(|edge| edge.resource.kind.is_thread_lock()) {
        "Do not hold a lock that blocks threads across an await: end the guard's block before it, or use tokio::sync::Mutex."
    } else if any(is_worker) {
        "Do not block a worker on what only this runtime's workers can bring: await it, or use a runtime of its own."
    } else if all(is_lock) {
        "Take these locks in the same order everywhere, or drop the first guard before waiting for the next lock."
    } else if all(is_channel) {
        "Do not wait for room in a channel while the one that empties it may wait for you: use try_send, a reply channel with \
         room, or a task of its own for one direction."
    } else if any(is_lock) && any(is_join) {
        "Drop the guard before awaiting the task that needs the lock."
    } else if any(is_lock) {
        "Drop the guard before waiting for somebody who needs the lock."
    } else {
        "One of these waits has to go."
    }
}

/// What ends a permanent finding in the running process.
fn meanwhile(finding: &Finding) -> Option<&'static str> {
    let threads = finding.edges.iter().flat_map(parties).any(|party| matches!(party, PartyId::Thread { .. }));
    match finding.kind {
        kind if !kind.is_permanent() => None,
        _ if finding.breakable_by.iter().any(|escape| escape.in_ms.is_some()) => {
            Some("Until then it is broken by what is said above, and can come back.")
        }
        // A thread cannot be aborted, nor can a goroutine.
        _ if threads || finding.edges.iter().any(|edge| edge.resource.kind.is_of_goroutines()) => {
            Some("Until then a restart helps.")
        }
        FindingKind::Deadlock => Some("Until then aborting one of the tasks (JoinHandle::abort) or a restart helps."),
        _ => Some("Until then aborting the task (JoinHandle::abort) or a restart helps."),
    }
}

fn parties(edge: &Edge) -> impl Iterator<Item = PartyId> {
    [Some(edge.from.party), edge.to.as_ref().map(|to| to.party)].into_iter().flatten()
}

fn is_to_itself(edge: &Edge) -> bool {
    edge.to.as_ref().is_some_and(|to| to.party == edge.from.party)
}

fn is_lock(edge: &Edge) -> bool {
    let kind = &edge.resource.kind;
    kind.is_permits() || kind.is_thread_lock() || kind.is_goroutine_lock()
}

fn is_pool(edge: &Edge) -> bool {
    edge.resource.kind == ResourceKind::TokioSemaphore
}

fn is_channel(edge: &Edge) -> bool {
    matches!(
        edge.resource.kind,
        ResourceKind::TokioMpsc | ResourceKind::TokioOneshot | ResourceKind::TokioWatch | ResourceKind::TokioBroadcast
    )
}

fn is_join(edge: &Edge) -> bool {
    edge.resource.kind == ResourceKind::JoinHandle
}

/// Whether one needs the time of a thread.
fn is_worker(edge: &Edge) -> bool {
    matches!(&edge.resource.kind, ResourceKind::Other(name) if name == "worker" || name == "block_on")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{export::samples, model::Escape};

    #[test]
    fn each_pattern_has_its_remedy() {
        let of = |parties: u64, kinds: &[ResourceKind]| {
            let mut finding = samples::ring(parties).findings[0].clone();
            for (edge, kind) in finding.edges.iter_mut().zip(kinds) {
                edge.resource.kind = kind.clone();
            }
            remedy(&finding)
        };
        let worker = ResourceKind::Other("worker".into());
        for (parties, kinds, said) in [
            (2, [ResourceKind::TokioMutex, ResourceKind::TokioMutex], "in the same order"),
            (2, [ResourceKind::TokioMpsc, ResourceKind::TokioMpsc], "room in a channel"),
            (2, [ResourceKind::TokioSemaphore, ResourceKind::TokioSemaphore], "at once"),
            (2, [ResourceKind::TokioMutex, ResourceKind::JoinHandle], "before awaiting the task"),
            (2, [worker.clone(), ResourceKind::StdMutex], "across an await"),
            (2, [worker, ResourceKind::JoinHandle], "Do not block a worker"),
            (1, [ResourceKind::TokioRwLock, ResourceKind::TokioRwLock], "a writer may have queued"),
            (1, [ResourceKind::TokioMutex, ResourceKind::TokioMutex], "before this await"),
            (1, [ResourceKind::TokioMpsc, ResourceKind::TokioMpsc], "own sender"),
        ] {
            let remedy = of(parties, &kinds);
            assert!(remedy.contains(said), "{kinds:?}: {remedy}");
        }
    }

    #[test]
    fn an_escape_with_a_deadline_is_no_reason_to_restart() {
        let mut finding = samples::ring(2).findings[0].clone();
        assert!(remedy(&finding).contains("JoinHandle::abort"));
        finding.breakable_by.push(Escape { what: "a timeout".into(), in_ms: Some(100) });
        assert!(remedy(&finding).ends_with("can come back."));
    }

    #[test]
    fn a_thread_is_not_said_to_be_abortable() {
        let mut finding = samples::ring(2).findings[0].clone();
        finding.edges[0].from.party = PartyId::Thread { tid: 7 };
        assert!(remedy(&finding).ends_with("Until then a restart helps."));
    }
}

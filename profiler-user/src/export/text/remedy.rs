//! What to do about a finding, in a sentence or two.

use crate::model::{Edge, Finding, FindingKind, PartyId};

/// What to change, and what helps until then.
pub(super) fn remedy(finding: &Finding) -> String {
    let change = match finding.kind {
        FindingKind::Deadlock if waits_for_itself(&finding.edges) => "Drop what the task holds before this await.",
        FindingKind::Deadlock if !finding.edges.is_empty() && finding.edges.iter().all(is_lock) => {
            "Take these locks in the same order everywhere, or drop the first guard before waiting for the next lock."
        }
        FindingKind::Deadlock => "One of these waits has to go.",
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
        FindingKind::Exhausted => "Find what keeps the holders, or raise the limit.",
        FindingKind::Leak => "Find who spawns these tasks and what should end them.",
        FindingKind::Stalled => "Nothing yet: this can still end by itself.",
    };
    match meanwhile(finding) {
        Some(meanwhile) => format!("{change} {meanwhile}"),
        None => change.into(),
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
        // A thread cannot be aborted.
        _ if threads => Some("Until then a restart helps."),
        FindingKind::Deadlock => Some("Until then aborting one of the tasks (JoinHandle::abort) or a restart helps."),
        _ => Some("Until then aborting the task (JoinHandle::abort) or a restart helps."),
    }
}

fn parties(edge: &Edge) -> impl Iterator<Item = PartyId> {
    [Some(edge.from.party), edge.to.as_ref().map(|to| to.party)].into_iter().flatten()
}

fn waits_for_itself(edges: &[Edge]) -> bool {
    !edges.is_empty() && edges.iter().all(|edge| edge.to.as_ref().is_some_and(|to| to.party == edge.from.party))
}

fn is_lock(edge: &Edge) -> bool {
    edge.resource.kind.is_permits() || edge.resource.kind.is_thread_lock()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{export::samples, model::Escape};

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

//! What to do about a finding, in a sentence or two.

use crate::model::{Edge, Finding, FindingKind, PartyId};

/// What to type or change next.
pub(super) fn remedy(finding: &Finding) -> &'static str {
    match finding.kind {
        FindingKind::Deadlock if waits_for_itself(&finding.edges) => {
            "drop the guard before this await. Until then only an abort of the task or a restart ends it."
        }
        FindingKind::Deadlock if finding.edges.iter().all(is_lock) && !finding.edges.is_empty() => {
            "take these locks in the same order everywhere, or drop the first guard before awaiting the next lock. \
             Until then aborting one of the tasks (JoinHandle::abort) or a restart frees the others."
        }
        FindingKind::Deadlock => {
            "one of these waits has to go. Until then only an abort of a task in it or a restart ends it."
        }
        FindingKind::Orphaned => {
            "keep whoever should answer alive until it has answered, or let the waiter see that it is gone \
             (a dropped sender, a timeout)."
        }
        FindingKind::Undriven => "await or spawn this future, or keep the runtime that polls it running.",
        FindingKind::BlockedWorker => {
            "move the blocking call to tokio::task::spawn_blocking or use its async counterpart: \
             every other task of this worker waits meanwhile."
        }
        FindingKind::Starved => {
            "find the task that does not yield (gordian flame --on-cpu), or give the runtime more workers."
        }
        FindingKind::Exhausted => "find what keeps the holders (gordian tasks shows them), or raise the limit.",
        FindingKind::Leak => "find who spawns these tasks and what should end them.",
        FindingKind::Stalled => "nothing to do yet: this can still end by itself.",
    }
}

fn waits_for_itself(edges: &[Edge]) -> bool {
    !edges.is_empty() && edges.iter().all(|edge| edge.to.as_ref().is_some_and(|to| to.party == edge.from.party))
}

fn is_lock(edge: &Edge) -> bool {
    let threads = [Some(edge.from.party), edge.to.as_ref().map(|to| to.party)];
    edge.resource.kind.is_permits()
        && !threads.into_iter().flatten().any(|party| matches!(party, PartyId::Thread { .. }))
}

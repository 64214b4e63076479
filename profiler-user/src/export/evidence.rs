//! What a finding points at, looked up in the snapshot it was made from.

use std::collections::{HashMap, HashSet};

use crate::model::{Edge, Finding, Hold, HoldHow, PartyId, Snapshot, Task, WaitMode};

/// The tasks of a finding, in its order. One that the snapshot does not have is left out.
pub(super) fn tasks<'a>(finding: &Finding, snapshot: &'a Snapshot) -> Vec<&'a Task> {
    let wanted: HashSet<PartyId> = finding.tasks.iter().copied().collect();
    let found: HashMap<PartyId, &Task> =
        snapshot.tasks.iter().filter(|task| wanted.contains(&task.party)).map(|task| (task.party, task)).collect();
    finding.tasks.iter().filter_map(|party| found.get(party).copied()).collect()
}

/// Why the `to` of an edge must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tie<'a> {
    /// It holds the resource.
    Holds(&'a Hold),
    /// It waits for the same resource, and its turn comes first.
    Ahead,
    /// It is the task that is joined.
    Joined,
    /// The finding says no more.
    Unsaid,
}

/// Why `to` must act for the waiter of `edge`.
pub(super) fn tie<'a>(edge: &Edge, to: PartyId, snapshot: &'a Snapshot) -> Tie<'a> {
    let task = snapshot.tasks.iter().find(|task| task.party == to);
    let thread = snapshot.threads.iter().find(|thread| PartyId::Thread { tid: thread.tid } == to);
    let waiter = snapshot.tasks.iter().find(|task| task.party == edge.from.party);
    let wait = waiter.and_then(|waiter| waiter.root.waits().find(|wait| wait.resource == edge.resource));
    // Of a channel it may have both ends, and room that it has reserved.
    let end = wait.and_then(|wait| match wait.mode {
        WaitMode::Receive => Some(HoldHow::Sender),
        WaitMode::Send => Some(HoldHow::Receiver),
        _ => None,
    });
    let of_task = task.into_iter().flat_map(|task| task.root.all_holds());
    let of_thread = thread.into_iter().flat_map(|thread| thread.holds.iter());
    let mut holds = of_task.chain(of_thread).filter(|hold| hold.resource == edge.resource);
    let first = holds.next();
    if let Some(hold) = first.into_iter().chain(holds).find(|hold| Some(hold.how) == end).or(first) {
        return Tie::Holds(hold);
    }
    if waiter
        .is_some_and(|waiter| waiter.root.waits().any(|wait| wait.resource == edge.resource && wait.target == Some(to)))
    {
        return Tie::Joined;
    }
    let mut waits = task.into_iter().flat_map(|task| task.root.waits()).chain(thread.and_then(|t| t.wait.as_ref()));
    if to != edge.from.party && waits.any(|wait| wait.resource == edge.resource) {
        return Tie::Ahead;
    }
    Tie::Unsaid
}

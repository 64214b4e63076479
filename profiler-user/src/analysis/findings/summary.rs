//! One sentence for a permanent finding: who waits for what, and for whom.

use std::fmt::Write;

use rustc_hash::FxHashMap;

use crate::{
    analysis::{
        causes::{Cause, Link, Shape},
        graph::{Drive, Graph, Need, NodeId},
        names,
        resources::ResourceId,
    },
    model::{HoldHow, PartyId, ResourceKind, Wait, WaitMode},
};

/// Parties of a ring that a sentence still names one by one.
const NAMED: usize = 6;

/// The sentence.
pub(super) fn of(graph: &Graph<'_>, cause: &Cause) -> String {
    let speaker = cause.links.first().map_or(cause.nodes[0], |link| link.from);
    let who = names::full(graph, speaker);
    match cause.shape {
        Shape::Cycle => cycle(graph, cause),
        Shape::Orphan => format!("{who} {}, and nobody is left who could bring it", waits(graph, speaker)),
        Shape::Undriven => format!("{who} could go on, and nothing will ever poll it"),
    }
}

fn cycle(graph: &Graph<'_>, cause: &Cause) -> String {
    let ring = ring(graph, cause);
    let parties = parties(graph, cause);
    let mut sentence = match ring.as_slice() {
        [] => names::full(graph, cause.nodes[0]),
        [only] => alone(graph, *only),
        [first, second]
            if relation(graph, *first) == Relation::Holds && relation(graph, *second) == Relation::Holds =>
        {
            format!(
                "{} {} while {}, which holds it, {} that {} holds",
                names::full(graph, first.from),
                waits(graph, first.from),
                names::full(graph, second.from),
                waits_plainly(graph, second.from),
                names::short(graph, first.from),
            )
        }
        links => chain(graph, links),
    };
    let others = parties.saturating_sub(ring.len());
    if others > 0 {
        let _ = write!(sentence, "; {others} more {} part of it", if others == 1 { "party is" } else { "parties are" });
    }
    sentence
}

fn parties(graph: &Graph<'_>, cause: &Cause) -> usize {
    let mut parties: Vec<PartyId> = cause.nodes.iter().map(|&node| graph.party(node)).collect();
    parties.sort_unstable();
    parties.dedup();
    parties.len()
}

/// A way around the cycle, one link a party, beginning at the first party that is on it.
fn ring(graph: &Graph<'_>, cause: &Cause) -> Vec<Link> {
    let mut next: FxHashMap<PartyId, Link> = FxHashMap::default();
    for link in &cause.links {
        let from = graph.party(link.from);
        let to_self = link.to.is_some_and(|to| graph.party(to) == from);
        let known = next.entry(from).or_insert(*link);
        // Another party says more than oneself.
        if !to_self && known.to.is_some_and(|to| graph.party(to) == from) {
            *known = *link;
        }
    }
    let mut path: Vec<Link> = Vec::new();
    let mut at: FxHashMap<PartyId, usize> = FxHashMap::default();
    let mut party = cause.nodes.iter().map(|&node| graph.party(node)).find(|party| next.contains_key(party));
    while let Some(now) = party {
        if let Some(&begin) = at.get(&now) {
            return path.split_off(begin);
        }
        let Some(link) = next.get(&now) else { return path };
        at.insert(now, path.len());
        path.push(*link);
        party = link.to.map(|to| graph.party(to));
    }
    path
}

fn alone(graph: &Graph<'_>, link: Link) -> String {
    let tail = match relation(graph, link) {
        Relation::Holds => ", which it holds itself",
        Relation::Before => ", behind another place in the queue that is its own and that it does not poll",
        Relation::Sender => ", whose sender it owns itself",
        Relation::Receiver => ", whose receiver it owns itself",
        Relation::Reaches => ", which only it itself can reach",
        Relation::Adds => ", to which only it itself could add one",
        Relation::Begins => ", which only its own thread could begin",
        Relation::Ends | Relation::Runs => ", which is itself",
    };
    format!("{} {}{tail}", names::full(graph, link.from), waits(graph, link.from))
}

fn chain(graph: &Graph<'_>, links: &[Link]) -> String {
    let mut sentence = names::full(graph, links[0].from);
    let shown = if links.len() > NAMED { NAMED / 2 } else { links.len() };
    for (index, link) in links.iter().take(shown).enumerate() {
        let Some(to) = link.to else { continue };
        let whom = if index + 1 == links.len() { names::short(graph, to) } else { names::full(graph, to) };
        let which = if index == 0 { "" } else { ", which" };
        let phrase = match relation(graph, *link) {
            Relation::Holds => format!("{}, held by {whom}", waits(graph, link.from)),
            Relation::Before => format!("{}, queued behind {whom}", waits(graph, link.from)),
            Relation::Sender => format!("{}, whose sender is owned by {whom}", waits(graph, link.from)),
            Relation::Receiver => format!("{}, whose receiver is owned by {whom}", waits(graph, link.from)),
            Relation::Reaches => format!("{}, which only {whom} could reach", waits(graph, link.from)),
            Relation::Adds => format!("{}, to which only {whom} could add any", waits(graph, link.from)),
            Relation::Begins => {
                format!("{}, which stands in the pool's queue until {whom} is done", waits(graph, link.from))
            }
            Relation::Ends => format!("waits for the end of {whom}"),
            Relation::Runs => format!("can only be run by {whom}"),
        };
        let _ = write!(sentence, "{which} {phrase}");
    }
    if shown < links.len() {
        let more = links.len() - shown - 1;
        let _ = write!(sentence, ", and so on through {more} more back to {}", names::short(graph, links[0].from));
    }
    sentence
}

/// What `to` is to the wait of `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Holds,
    Before,
    Sender,
    Receiver,
    Reaches,
    Adds,
    Begins,
    Ends,
    Runs,
}

fn relation(graph: &Graph<'_>, link: Link) -> Relation {
    if link.to_run {
        return Relation::Runs;
    }
    // Permits reserved in the queue are no guard: their waiter only stands before.
    let has = |resource: ResourceId, to: NodeId| {
        let mut holders = graph.resources.all[resource].holders.iter();
        holders.any(|holder| holder.node == to && holder.hold.how != HoldHow::Reserved)
    };
    match graph.nodes[link.from].need {
        Need::Permits(resource, _) if link.to.is_some_and(|to| has(resource, to)) => Relation::Holds,
        Need::Permits(resource, _) if link.to.is_some_and(|to| adds(graph, to, resource)) => Relation::Adds,
        Need::Permits(..) => Relation::Before,
        Need::Release(_) => Relation::Holds,
        Need::Reached(resource) if link.to.is_some_and(|to| has(resource, to)) => Relation::Holds,
        Need::Reached(resource) if graph.resources.all[resource].key.kind == ResourceKind::BlockingPool => {
            Relation::Begins
        }
        Need::Reached(_) => Relation::Reaches,
        Need::Message(_) => Relation::Sender,
        Need::Room(_) => Relation::Receiver,
        Need::End(_) => Relation::Ends,
        Need::Driver | Need::Nothing | Need::Children => Relation::Runs,
    }
}

/// Whether a node is of one who can reach a semaphore, and does not wait for it.
fn adds(graph: &Graph<'_>, node: NodeId, resource: ResourceId) -> bool {
    let reachers = graph.resources.all[resource].reachers.as_deref().unwrap_or_default();
    !graph.wants_permits(node, resource) && reachers.contains(&graph.nodes[node].owner)
}

/// "locks tokio::sync::Mutex 0x55…".
fn waits(graph: &Graph<'_>, node: NodeId) -> String {
    match graph.nodes[node].wait {
        Some(wait) if is_lock(wait) => format!("locks {} {:#x}", wait.resource.kind, wait.resource.address),
        _ => waits_plainly(graph, node),
    }
}

fn waits_plainly(graph: &Graph<'_>, node: NodeId) -> String {
    let Some(wait) = graph.nodes[node].wait else {
        return match graph.nodes[node].drive {
            Drive::Kernel => "waits for the root of its block_on".to_owned(),
            _ => "waits to be run".to_owned(),
        };
    };
    let name = format!("{} {:#x}", wait.resource.kind, wait.resource.address);
    match graph.nodes[node].need {
        Need::Permits(_, 1) if wait.resource.kind == ResourceKind::TokioSemaphore => {
            format!("waits for a permit of {name}")
        }
        Need::Permits(_, more) if wait.resource.kind == ResourceKind::TokioSemaphore => {
            format!("waits for {more} permits of {name}")
        }
        Need::Permits(..) if wait.resource.kind == ResourceKind::GoSqlDb => format!("waits for a connection of {name}"),
        Need::Message(_) => format!("waits for a message on {name}"),
        Need::Room(_) => format!("waits for room in {name}"),
        Need::End(_) => format!("waits for the end of {name}"),
        Need::Reached(_) if wait.mode == WaitMode::Receive => format!("waits for a message on {name}"),
        Need::Reached(_) if wait.mode == WaitMode::Send => format!("waits for room in {name}"),
        _ => format!("waits for {name}"),
    }
}

fn is_lock(wait: &Wait) -> bool {
    wait.resource.kind.is_goroutine_lock()
        || matches!(wait.resource.kind, ResourceKind::TokioMutex | ResourceKind::TokioRwLock)
        || wait.resource.kind.is_thread_lock()
}

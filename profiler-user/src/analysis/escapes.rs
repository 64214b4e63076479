//! Waits that end something bigger by themselves: a timeout, a cancellation token, a context, the connection's own socket, the
//! end of those who wanted the result.
//!
//! An escape stands beside what it would end: a branch of the same select. It counts as one only where the other branch
//! waits for something that somebody has: a lock, a reply, room, the end of a task. Beside an idle receive a timer is a
//! heartbeat, and the tick of an interval is work wherever it stands: no escapes, and a task that has them is at work. Whether a
//! timer in a `select!` gives up on a reply, or on room, or is work that goes on meanwhile, nothing tells: it counts only where a
//! function that is called so makes a timeout of it. Who waits for the end of a task beside a timer looks after it.

use super::{
    graph::{Graph, Need, Node, NodeId, Owner},
    resources::Family,
};
use crate::model::{Escape, Fork, ResourceKind, Wait, WaitMode};

/// A flag for every node that is an escape.
pub(super) fn mark(graph: &Graph<'_>) -> Vec<bool> {
    let waits = waits_for_someone(graph);
    // How many children of each node wait for what.
    let mut waiting = vec![[0_usize; Awaited::ALL.len()]; graph.nodes.len()];
    for (node, awaited) in graph.nodes.iter().zip(&waits) {
        if let (Some(parent), Some(awaited)) = (node.parent, awaited) {
            waiting[parent][*awaited as usize] += 1;
        }
    }
    let is_escape = |id: NodeId| {
        let (node, parent) = (&graph.nodes[id], graph.nodes[id].parent?);
        let is_beside =
            |awaited: &Awaited| waiting[parent][*awaited as usize] > usize::from(waits[id] == Some(*awaited));
        let awaited = Awaited::ALL.into_iter().rfind(is_beside)?;
        let is_timer = node.wait.is_some_and(|wait| wait.resource.kind == ResourceKind::Timer);
        let is_given_up = !is_timer
            || match awaited {
                Awaited::Permits => true,
                Awaited::Turn => is_timeout(&graph.nodes[parent]),
                Awaited::End => false,
            };
        Some(graph.nodes[parent].fork != Fork::All && is_given_up && ends_others(node))
    };
    (0..graph.nodes.len()).map(|id| is_escape(id).unwrap_or(false)).collect()
}

/// What somebody has and a node waits for: what counts more comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Awaited {
    /// The end of a task.
    End,
    /// A reply, or room.
    Turn,
    /// Locks and permits.
    Permits,
}

impl Awaited {
    /// What counts most comes last.
    const ALL: [Self; 3] = [Self::End, Self::Turn, Self::Permits];
}

/// Whether the branches below this node are those of a timeout: its innermost function is called so, as are
/// `tokio::time::timeout::Timeout` and what tower and hyper have for it.
fn is_timeout(node: &Node<'_>) -> bool {
    node.frames.last().is_some_and(|frame| frame.function.to_ascii_lowercase().contains("timeout"))
}

/// Whether the node is of a sort that ends its siblings: a timer but no interval, a token, a context, a socket, the end of a
/// channel's receivers.
fn ends_others(node: &Node<'_>) -> bool {
    let Some(wait) = node.wait.filter(|_| node.children.is_empty()) else { return false };
    let in_frames = |found: fn(&str) -> bool| node.frames.iter().any(|frame| found(&frame.function));
    match (node.need, &wait.resource.kind) {
        (Need::Driver, ResourceKind::Timer) => !in_frames(|name| name.contains("interval")),
        (Need::Driver, _) | (Need::Nothing, ResourceKind::GoContext) => true,
        (Need::Nothing | Need::Reached(_), ResourceKind::TokioNotify) => in_frames(is_token),
        (Need::Nothing | Need::Reached(_), ResourceKind::Other(name)) => is_token(name),
        _ => node.need == Need::Nothing && is_closing(wait),
    }
}

/// Whether the wait is a sender's for the end of all receivers, by which it learns that it is no longer needed.
fn is_closing(wait: &Wait) -> bool {
    let resource = &wait.resource;
    wait.mode == WaitMode::Notified && Family::of(&resource.kind) == Family::Channel && resource.address != 0
}

/// Whether a function or type is that of tokio-util's `CancellationToken` (sync/cancellation_token.rs, 0.7).
fn is_token(name: &str) -> bool {
    name.contains("cancellation_token") || name.contains("WaitForCancellation")
}

/// What every node, or anything below it, waits for that somebody has.
fn waits_for_someone(graph: &Graph<'_>) -> Vec<Option<Awaited>> {
    let mut waits: Vec<Option<Awaited>> = vec![None; graph.nodes.len()];
    // Children stand after their parents.
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        let own = match node.need {
            Need::Permits(..) | Need::Release(_) => Some(Awaited::Permits),
            Need::Room(_) => Some(Awaited::Turn),
            Need::End(_) => Some(Awaited::End),
            Need::Message(resource) | Need::Reached(resource) => {
                let for_room = node.wait.is_some_and(|wait| wait.mode == WaitMode::Send);
                let is_turn = for_room || graph.resources.all[resource].key.kind == ResourceKind::TokioOneshot;
                is_turn.then_some(Awaited::Turn)
            }
            Need::Nothing | Need::Driver | Need::Children => None,
        };
        waits[id] = waits[id].max(own);
        if let Some(parent) = node.parent {
            waits[parent] = waits[parent].max(waits[id]);
        }
    }
    waits
}

/// The escapes that would break a set of nodes: those beside any of them or beside what they are part of.
pub(super) fn around(graph: &Graph<'_>, escapes: &[bool], nodes: &[NodeId]) -> Vec<Escape> {
    let mut found: Vec<NodeId> = Vec::new();
    for &node in nodes {
        let mut above = graph.nodes[node].parent;
        while let Some(parent) = above {
            found.extend(graph.nodes[parent].children.iter().filter(|&&child| escapes[child]));
            above = graph.nodes[parent].parent;
        }
    }
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|id| describe(graph, id)).collect()
}

fn describe(graph: &Graph<'_>, id: NodeId) -> Escape {
    let node = &graph.nodes[id];
    let whose = match node.owner {
        Owner::Task(task) => format!(" of task {}", graph.now.tasks[task].id()),
        Owner::Thread(_) => String::new(),
    };
    let in_ms = match node.wait.map(|wait| wait.mode) {
        Some(WaitMode::Deadline { in_ms }) => in_ms,
        _ => None,
    };
    let what = match node.wait.map(|wait| &wait.resource.kind) {
        Some(ResourceKind::Timer) => format!("timeout{whose}"),
        Some(ResourceKind::Io) => format!("the socket{whose}"),
        Some(ResourceKind::GoContext) => format!("the end of the context{whose}"),
        Some(kind) if Family::of(kind) == Family::Channel => format!("the end of whoever receives from {kind}{whose}"),
        _ => format!("cancellation token{whose}"),
    };
    Escape { what, in_ms }
}

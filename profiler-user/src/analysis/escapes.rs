//! Waits that end something bigger by themselves: a timeout, a cancellation token, a context, the connection's own socket, the
//! end of those who wanted the result.
//!
//! An escape stands beside what it would end: a branch of the same select. It counts as one only where the other branch
//! waits for something that somebody has: a lock, a reply, room, the end of a task. Beside an idle receive a timer is a
//! heartbeat, and the tick of an interval is work wherever it stands: no escapes, and a task that has them is at work.

use super::{
    graph::{Graph, Need, Node, NodeId, Owner},
    resources::Family,
};
use crate::model::{Escape, Fork, ResourceKind, Wait, WaitMode};

/// A flag for every node that is an escape.
pub(super) fn mark(graph: &Graph<'_>) -> Vec<bool> {
    let waits = waits_for_someone(graph);
    let mut beside = vec![0_u32; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        if let Some(parent) = node.parent {
            beside[parent] += u32::from(waits[id]);
        }
    }
    let is_escape = |id: NodeId| {
        let parent = graph.nodes[id].parent?;
        let others = beside[parent] - u32::from(waits[id]);
        Some(graph.nodes[parent].fork != Fork::All && others > 0 && ends_others(&graph.nodes[id]))
    };
    (0..graph.nodes.len()).map(|id| is_escape(id).unwrap_or(false)).collect()
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
        (Need::Nothing, ResourceKind::Other(name)) => is_token(name),
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

/// For every node whether it, or anything below it, waits for what somebody has.
fn waits_for_someone(graph: &Graph<'_>) -> Vec<bool> {
    let mut waits = vec![false; graph.nodes.len()];
    // Children stand after their parents.
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        waits[id] |= match node.need {
            Need::Permits(..) | Need::Release(_) | Need::Room(_) | Need::End(_) => true,
            Need::Message(resource) => graph.resources.all[resource].key.kind == ResourceKind::TokioOneshot,
            Need::Nothing | Need::Reached(_) | Need::Driver | Need::Children => false,
        };
        if let Some(parent) = node.parent {
            waits[parent] |= waits[id];
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
        Some(ResourceKind::Timer) => match in_ms {
            Some(left) if left >= 0 => format!("timeout{whose} in {:.1} s", left as f64 / 1000.0),
            _ => format!("timeout{whose}"),
        },
        Some(ResourceKind::Io) => format!("the socket{whose}"),
        Some(ResourceKind::GoContext) => format!("the end of the context{whose}"),
        Some(kind) if Family::of(kind) == Family::Channel => format!("the end of whoever receives from {kind}{whose}"),
        _ => format!("cancellation token{whose}"),
    };
    Escape { what, in_ms }
}

//! Parties and sites in the users' words.

use super::graph::{Graph, NodeId, Owner};
use crate::model::{EdgeEnd, Frame, Hold, PartyId, ResourceKey, Task, Thread};

/// "task 7 (app::transfer)".
pub(super) fn task(task: &Task) -> String {
    format!("{} ({})", short_task(task), task.name)
}

/// "task 7".
pub(super) fn short_task(task: &Task) -> String {
    match task.party {
        PartyId::Task { id, .. } => format!("task {id}"),
        other => other.to_string(),
    }
}

/// "thread 71 (tokio-runtime-w)".
pub(super) fn thread(thread: &Thread) -> String {
    format!("thread {} ({})", thread.tid, thread.name)
}

/// The owner of a node, in full.
pub(super) fn full(graph: &Graph<'_>, node: NodeId) -> String {
    match graph.nodes[graph.face(node)].owner {
        Owner::Task(index) => task(&graph.now.tasks[index]),
        Owner::Thread(index) => thread(&graph.now.threads[index]),
    }
}

/// The owner of a node that was named in full before.
pub(super) fn short(graph: &Graph<'_>, node: NodeId) -> String {
    match graph.nodes[graph.face(node)].owner {
        Owner::Task(index) => short_task(&graph.now.tasks[index]),
        Owner::Thread(index) => format!("thread {}", graph.now.threads[index].tid),
    }
}

/// The owner of a node as an end of an edge.
pub(super) fn end(graph: &Graph<'_>, node: NodeId) -> EdgeEnd {
    let name = match graph.nodes[graph.face(node)].owner {
        Owner::Task(index) => graph.now.tasks[index].name.to_string(),
        Owner::Thread(index) => graph.now.threads[index].name.clone(),
    };
    EdgeEnd { party: graph.party(node), name }
}

/// The innermost frame that is the program's own, or else the innermost.
pub(super) fn site(frames: &[Frame]) -> Option<&Frame> {
    frames.iter().rev().find(|frame| !frame.is_library()).or(frames.last())
}

/// Where a node waits: the site of its own frames, or of the nearest strand around it that has one in the program's code.
pub(super) fn wait_site(graph: &Graph<'_>, node: NodeId) -> Option<Frame> {
    let mut next = Some(node);
    while let Some(id) = next {
        if let Some(frame) = site(graph.nodes[id].frames).filter(|frame| !frame.is_library()) {
            return Some(frame.clone());
        }
        next = graph.nodes[id].parent;
    }
    site(graph.nodes[node].frames).cloned()
}

/// From where in its code `holder` has the resource.
pub(super) fn hold_site(graph: &Graph<'_>, holder: NodeId, resource: &ResourceKey) -> Option<Frame> {
    let id = graph.resources.get(resource)?;
    let of_it = |hold: &&Hold| graph.resources.get(&hold.resource) == Some(id);
    graph.nodes[holder].holds.iter().filter(of_it).find_map(|hold| hold.site.clone())
}

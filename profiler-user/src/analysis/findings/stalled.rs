//! `stalled`: tasks that have waited long for what others hold, with the chain down to whom it all waits for. Information.
//!
//! Only waits for permits begin a chain: a task that awaits a timer, a socket, a message or another task's end may well have
//! nothing else to do.

use std::fmt::Write;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    analysis::{
        Thresholds,
        graph::{Graph, Need, NodeId, Owner},
        identity, names,
    },
    model::{Certainty, Edge, Finding, FindingKind, Frame, HoldHow, ResourceKind, Task, TaskState},
};

/// Links of a chain that are followed.
const CHAIN: usize = 8;

/// One finding for each await stack at which tasks have waited at least as long as the threshold says. Tasks in `known`
/// (by index), which a permanent finding explains, are left out.
pub(in crate::analysis) fn find(graph: &Graph<'_>, thresholds: &Thresholds, known: &FxHashSet<usize>) -> Vec<Finding> {
    let mut stacks: FxHashMap<&[Frame], Vec<NodeId>> = FxHashMap::default();
    for (index, task) in graph.now.tasks.iter().enumerate() {
        if waited(task) < thresholds.stalled.as_secs_f64() || known.contains(&index) {
            continue;
        }
        let waiting = graph.tasks[index].clone().find(|&node| matches!(graph.nodes[node].need, Need::Permits(..)));
        // Beside an arm of ordinary work, a lock that does not come holds nobody up.
        if let Some(node) = waiting.filter(|_| graph.tasks[index].len() == 1) {
            stacks.entry(graph.nodes[node].frames).or_default().push(node);
        }
    }
    stacks.into_values().map(|nodes| explain(graph, &nodes)).collect()
}

/// Seconds for which a task has been suspended, as far as is known.
fn waited(task: &Task) -> f64 {
    match (task.state, task.since) {
        (TaskState::Suspended, Some(since)) => since.at_least_s,
        _ => 0.0,
    }
}

fn owner(graph: &Graph<'_>, node: NodeId) -> Option<usize> {
    match graph.nodes[node].owner {
        Owner::Task(task) => Some(task),
        Owner::Thread(_) => None,
    }
}

fn explain(graph: &Graph<'_>, nodes: &[NodeId]) -> Finding {
    let seconds = |node: NodeId| owner(graph, node).map_or(0.0, |task| waited(&graph.now.tasks[task]));
    // A stack is only made with a node in it; the one that has waited longest speaks for the others.
    let first = nodes.iter().copied().max_by(|a, b| seconds(*a).total_cmp(&seconds(*b))).unwrap_or(nodes[0]);
    let mut tasks: Vec<_> = nodes.iter().map(|&node| graph.party(node)).collect();
    tasks.sort_unstable();
    let chain = chain(graph, first);
    let site = names::wait_site(graph, first);
    let place = site.as_ref().map_or_else(String::new, |frame| format!(" in {}", frame.function));
    let who = match nodes.len() {
        1 => format!("{} has", names::full(graph, first)),
        count => format!("{count} tasks have, like {},", names::full(graph, first)),
    };
    let what = graph.nodes[first]
        .wait
        .map_or_else(String::new, |wait| format!(" for {} {:#x}", wait.resource.kind, wait.resource.address));
    let stack = graph.nodes[first].frames.iter().map(|frame| format!("{}:{:?}", frame.function, frame.line));
    let id = identity::id(FindingKind::Stalled, [stack.collect::<Vec<_>>().join("\n")]);
    let summary = format!("{who} waited at least {:.0} s{place}{what}{}", seconds(first), tell(graph, &chain));
    Finding {
        cause: chain.last().map(|&node| format!("{} {}", names::full(graph, node), doing(graph, node))),
        tasks,
        edges: edges(graph, first, &chain),
        ..Finding::new(id, FindingKind::Stalled, Certainty::Observed, summary)
    }
}

/// Who has what the node waits for, who has what that one waits for, and so on; ends with whom nothing known holds up.
fn chain(graph: &Graph<'_>, first: NodeId) -> Vec<NodeId> {
    let mut chain = Vec::new();
    let mut at = first;
    while let Some(next) = holder(graph, at) {
        if next == first || chain.contains(&next) || chain.len() == CHAIN {
            break;
        }
        chain.push(next);
        at = next;
    }
    chain
}

fn holder(graph: &Graph<'_>, node: NodeId) -> Option<NodeId> {
    match graph.nodes[node].need {
        Need::Permits(resource, _) | Need::Release(resource) => {
            let holders = &graph.resources.all[resource].holders;
            holders.iter().find(|holder| holder.hold.how != HoldHow::Reserved).map(|holder| holder.node)
        }
        Need::End(target) => Some(target),
        Need::Children => graph.nodes[node].children.iter().copied().find(|&child| holder(graph, child).is_some()),
        Need::Nothing | Need::Message(_) | Need::Room(_) | Need::Reached(_) | Need::Driver => None,
    }
}

fn tell(graph: &Graph<'_>, chain: &[NodeId]) -> String {
    let mut text = String::new();
    for (index, &node) in chain.iter().enumerate() {
        let joint = if index == 0 { ", held by" } else { ", which waits for" };
        let _ = write!(text, "{joint} {}", names::full(graph, node));
    }
    if let Some(&last) = chain.last() {
        let _ = write!(text, ", which {}", doing(graph, last));
    }
    text
}

/// What the end of a chain is at.
fn doing(graph: &Graph<'_>, node: NodeId) -> String {
    let task = owner(graph, node).map(|task| &graph.now.tasks[task]);
    match (graph.nodes[node].wait, task) {
        (_, Some(task)) if task.state != TaskState::Suspended => format!("is {}", task.state.name()),
        (Some(wait), _) => match &wait.resource.kind {
            ResourceKind::Timer => "waits for a timer".to_owned(),
            ResourceKind::Io => "waits for a socket or pipe".to_owned(),
            kind => format!("waits for {kind} {:#x}", wait.resource.address),
        },
        _ => "waits for several things".to_owned(),
    }
}

fn edges(graph: &Graph<'_>, first: NodeId, chain: &[NodeId]) -> Vec<Edge> {
    let from = std::iter::once(first).chain(chain.iter().copied());
    from.zip(chain.iter().copied())
        .filter_map(|(from, to)| {
            let resource = graph.nodes[from].wait?.resource.clone();
            Some(Edge {
                from: names::end(graph, from),
                to: Some(names::end(graph, to)),
                wait_site: names::wait_site(graph, from),
                hold_site: names::hold_site(graph, to, &resource),
                resource,
            })
        })
        .collect()
}

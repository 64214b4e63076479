//! `deadlock`, `orphaned` and `undriven`: root causes, with their evidence.

use std::time::SystemTime;

use super::summary;
use crate::{
    analysis::{
        causes::{Cause, Link, Shape},
        escapes,
        graph::{Graph, Need, NodeId, Owner},
        identity, names,
        resources::Accounting,
    },
    model::{
        Certainty, Edge, Finding, FindingKind, FindingThread, Frame, PartyId, ResourceKey, ResourceKind, ThreadActivity,
    },
};

/// A finding for each cause.
pub(in crate::analysis) fn explain(graph: &Graph<'_>, escapes: &[bool], causes: &[Cause]) -> Vec<Finding> {
    causes.iter().map(|cause| explain_one(graph, escapes, cause)).collect()
}

fn explain_one(graph: &Graph<'_>, escapes: &[bool], cause: &Cause) -> Finding {
    let kind = match cause.shape {
        Shape::Cycle => FindingKind::Deadlock,
        Shape::Orphan => FindingKind::Orphaned,
        Shape::Undriven => FindingKind::Undriven,
    };
    let edges: Vec<Edge> = cause.links.iter().map(|&link| edge(graph, link)).collect();
    let tasks = tasks(graph, cause);
    let threads = threads(graph, cause);
    let parts = tasks
        .iter()
        .map(ToString::to_string)
        .chain(threads.iter().map(|thread| format!("thread:{}", thread.tid)))
        .chain(edges.iter().map(|edge| format!("{:#x}", edge.resource.address)));
    Finding {
        id: identity::id(kind, parts),
        kind,
        certainty: if cause.lenient { Certainty::Likely } else { Certainty::Proved },
        summary: summary::of(graph, cause),
        cause: None,
        unknowns: if cause.lenient { unknowns(graph, cause) } else { Vec::new() },
        breakable_by: if cause.by_escape { escapes::around(graph, escapes, &cause.nodes) } else { Vec::new() },
        effects: cause.victims.iter().filter(|&&task| !tasks.contains(&graph.now.tasks[task].party)).count() as u64,
        tasks,
        threads,
        edges,
        formed_at: None,
        first_seen: SystemTime::now(),
    }
}

/// The tasks whose strands are in it, and those in whose polls its threads are.
fn tasks(graph: &Graph<'_>, cause: &Cause) -> Vec<PartyId> {
    let polled = |thread: usize| {
        let inside = matches!(graph.now.threads[thread].activity, ThreadActivity::BlockedIn(_));
        graph.threads[thread].polls.filter(|_| inside)
    };
    let mut tasks: Vec<PartyId> = cause
        .nodes
        .iter()
        .filter_map(|&node| match graph.nodes[node].owner {
            Owner::Task(task) => Some(task),
            Owner::Thread(thread) => polled(thread),
        })
        .map(|task| graph.now.tasks[task].party)
        .collect();
    tasks.sort_unstable();
    tasks.dedup();
    tasks
}

fn threads(graph: &Graph<'_>, cause: &Cause) -> Vec<FindingThread> {
    cause
        .nodes
        .iter()
        .filter_map(|&node| match graph.nodes[node].owner {
            Owner::Thread(thread) => Some(&graph.now.threads[thread]),
            Owner::Task(_) => None,
        })
        .map(|thread| FindingThread { tid: thread.tid, name: thread.name.clone(), frames: thread.frames.clone() })
        .collect()
}

fn edge(graph: &Graph<'_>, link: Link) -> Edge {
    let resource = resource(graph, link);
    Edge {
        from: names::end(graph, link.from),
        to: link.to.map(|to| names::end(graph, to)),
        wait_site: names::wait_site(graph, link.from),
        hold_site: link.to.and_then(|to| hold_site(graph, to, &resource)),
        resource,
    }
}

/// What is waited for; a thread's time, where nothing else is lacking.
fn resource(graph: &Graph<'_>, link: Link) -> ResourceKey {
    let node = &graph.nodes[link.from];
    match (node.wait, node.owner) {
        (Some(wait), _) if !link.to_run => wait.resource.clone(),
        (_, Owner::Task(task)) => {
            let runtime = graph.now.tasks[task].runtime;
            let address = graph.now.runtimes.get(runtime).map_or(0, |runtime| runtime.address);
            ResourceKey { kind: ResourceKind::Other("worker".to_owned()), address }
        }
        (_, Owner::Thread(_)) => ResourceKey { kind: ResourceKind::Other("block_on".to_owned()), address: 0 },
    }
}

fn hold_site(graph: &Graph<'_>, holder: NodeId, resource: &ResourceKey) -> Option<Frame> {
    let id = graph.resources.get(resource)?;
    graph.nodes[holder]
        .holds
        .iter()
        .filter(|hold| graph.resources.get(&hold.resource) == Some(id))
        .find_map(|hold| hold.site.clone())
}

/// What keeps a cause from being proved.
fn unknowns(graph: &Graph<'_>, cause: &Cause) -> Vec<String> {
    let mut unknowns = Vec::new();
    for &id in &cause.nodes {
        let node = &graph.nodes[id];
        if let Owner::Task(task) = node.owner
            && let Some(why) = &graph.now.tasks[task].incomplete
        {
            unknowns.push(format!("{} was not read whole: {why}", names::task(&graph.now.tasks[task])));
        }
        let accounting = match node.need {
            Need::Permits(resource, _) => graph.resources.all[resource].permits(),
            Need::Message(resource) => graph.resources.all[resource].sending_ends(),
            Need::Room(resource) => graph.resources.all[resource].receiving_ends(),
            Need::Nothing | Need::Release(_) | Need::End(_) | Need::Driver | Need::Children => Accounting::Closed,
        };
        if let Accounting::Likely(why) = accounting {
            unknowns.push(why);
        }
    }
    unknowns.sort_unstable();
    unknowns.dedup();
    unknowns
}

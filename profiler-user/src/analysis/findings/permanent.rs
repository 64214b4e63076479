//! `deadlock`, `orphaned` and `undriven`: root causes, with their evidence.

use rustc_hash::FxHashSet;

use super::summary;
use crate::{
    analysis::{
        causes::{Cause, Link, Shape},
        escapes,
        graph::{Graph, Need, Owner},
        identity, names,
        resources::Accounting,
    },
    model::{Certainty, Edge, Finding, FindingKind, FindingThread, PartyId, ResourceKey, ResourceKind},
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
    let mut tasks: Vec<PartyId> = cause.tasks.iter().map(|&task| graph.now.tasks[task].party).collect();
    tasks.sort_unstable();
    let threads = threads(graph, cause);
    let parts = tasks
        .iter()
        .map(ToString::to_string)
        .chain(threads.iter().map(|thread| format!("thread:{}", thread.tid)))
        .chain(edges.iter().map(|edge| format!("{:#x}", edge.resource.address)));
    let id = identity::id(kind, parts);
    let certainty = if cause.lenient { Certainty::Likely } else { Certainty::Proved };
    Finding {
        unknowns: if cause.lenient { unknowns(graph, cause) } else { Vec::new() },
        breakable_by: if cause.by_escape { escapes::around(graph, escapes, &cause.nodes) } else { Vec::new() },
        effects: cause.victims.len() as u64,
        tasks,
        threads,
        edges,
        ..Finding::new(id, kind, certainty, summary::of(graph, cause))
    }
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
        hold_site: link.to.and_then(|to| names::hold_site(graph, to, &resource)),
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

/// What keeps a cause from being proved.
fn unknowns(graph: &Graph<'_>, cause: &Cause) -> Vec<String> {
    let tasks = cause.tasks.iter().map(|&task| &graph.now.tasks[task]);
    let mut unknowns: Vec<String> = tasks
        .filter_map(|task| Some(format!("{} was not read whole: {}", names::task(task), task.incomplete.as_ref()?)))
        .collect();
    let needs: FxHashSet<Need> = cause.nodes.iter().map(|&node| open_need(graph.nodes[node].need)).collect();
    unknowns.extend(needs.into_iter().filter_map(|need| {
        let accounting = match need {
            Need::Permits(resource, _) => graph.resources.all[resource].permits(),
            Need::Message(resource) => graph.resources.all[resource].sending_ends(),
            Need::Room(resource) => graph.resources.all[resource].receiving_ends(),
            _ => Accounting::Closed,
        };
        match accounting {
            Accounting::Likely(why) => Some(why),
            Accounting::Closed | Accounting::Open => None,
        }
    }));
    unknowns.sort_unstable();
    unknowns
}

/// A need without how much: what its accounting depends on.
fn open_need(need: Need) -> Need {
    match need {
        Need::Permits(resource, _) => Need::Permits(resource, 0),
        other => other,
    }
}

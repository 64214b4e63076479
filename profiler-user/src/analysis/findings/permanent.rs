//! `deadlock`, `orphaned` and `undriven`: root causes, with their evidence.

use rustc_hash::{FxHashMap, FxHashSet};

use super::summary;
use crate::{
    analysis::{
        causes::{Cause, Link, Shape},
        escapes,
        graph::{Graph, Need, NodeId, Owner},
        identity, names,
        resources::Accounting,
    },
    model::{Certainty, Edge, Finding, FindingKind, FindingThread, Frame, HoldHow, PartyId, ResourceKey, ResourceKind},
};

/// A finding for each cause; those that nobody is left to end and that are alike share one.
pub(in crate::analysis) fn explain(graph: &Graph<'_>, escapes: &[bool], causes: &[Cause]) -> Vec<Finding> {
    let mut groups: Vec<Vec<&Cause>> = Vec::new();
    let mut places: FxHashMap<(bool, bool, Vec<Standing<'_>>), usize> = FxHashMap::default();
    for cause in causes {
        if cause.shape != Shape::Orphan {
            groups.push(vec![cause]);
            continue;
        }
        let place = *places.entry((cause.lenient, cause.by_escape, standings(graph, cause))).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(cause),
            None => groups.push(vec![cause]),
        }
    }
    groups.iter().map(|group| explain_alike(graph, escapes, group)).collect()
}

/// What one party of a cause has in common with those of another that is alike: its name, where it was started, its stack,
/// and the kind of what it waits for.
type Standing<'a> = (&'a str, Option<&'a Frame>, &'a [Frame], Option<&'a ResourceKind>);

/// Those of all parties, each once.
fn standings<'a>(graph: &Graph<'a>, cause: &Cause) -> Vec<Standing<'a>> {
    let standing = |&node: &NodeId| {
        let (name, origin) = match graph.nodes[node].owner {
            Owner::Task(task) => {
                let task = &graph.now.tasks[task];
                (&*task.name, task.origin.as_ref().and_then(|origin| origin.site.as_ref()))
            }
            Owner::Thread(thread) => (graph.now.threads[thread].name.as_str(), None),
        };
        let node = &graph.nodes[node];
        (name, origin, node.frames, node.wait.map(|wait| &wait.resource.kind))
    };
    let mut met = FxHashSet::default();
    cause.nodes.iter().map(standing).filter(|standing| met.insert(*standing)).collect()
}

/// A finding for causes that are alike; the first of them speaks for all.
fn explain_alike(graph: &Graph<'_>, escapes: &[bool], causes: &[&Cause]) -> Finding {
    let cause = causes[0];
    let kind = match cause.shape {
        Shape::Cycle => FindingKind::Deadlock,
        Shape::Orphan => FindingKind::Orphaned,
        Shape::Undriven => FindingKind::Undriven,
    };
    // That a thread waits for its own root says nothing.
    let says = |link: &&Link| link.to.is_none_or(|to| to == link.from || to != graph.face(link.from));
    let others = |one: &Link| cause.links.iter().any(|link| link.from == one.from && link.to != one.to);
    let says = |link: &&Link| says(link) && !(is_own_share(graph, link) && others(link));
    let edges: Vec<Edge> = cause.links.iter().filter(says).map(|&link| edge(graph, link)).collect();
    let all = causes.iter().flat_map(|cause| &cause.tasks);
    let mut tasks: Vec<PartyId> = all.map(|&task| graph.now.tasks[task].party).collect();
    tasks.sort_unstable();
    let threads: Vec<FindingThread> = causes.iter().flat_map(|cause| threads(graph, cause)).collect();
    let id = if cause.shape == Shape::Orphan {
        // As more of the same come and go, it stays the same finding.
        let mut parts = Vec::new();
        for (name, origin, frames, kind) in standings(graph, cause) {
            let frames = origin.into_iter().chain(frames).map(|frame| format!("{}:{:?}", frame.function, frame.line));
            let kind = kind.map(ToString::to_string);
            parts.push([name.to_owned()].into_iter().chain(frames).chain(kind).collect::<Vec<_>>().join("\n"));
        }
        identity::id(kind, parts)
    } else {
        let parties = tasks.iter().map(ToString::to_string);
        let parts = parties
            .chain(threads.iter().map(|thread| format!("thread:{}", thread.tid)))
            .chain(edges.iter().map(|edge| format!("{:#x}", edge.resource.address)));
        identity::id(kind, parts)
    };
    let certainty = if cause.lenient { Certainty::Likely } else { Certainty::Proved };
    let mut summary = summary::of(graph, cause);
    if causes.len() > 1 {
        summary = format!("{} tasks are stuck alike: {summary}", tasks.len());
    }
    Finding {
        cause: abandoned(graph, &edges),
        unknowns: if cause.lenient { unknowns(graph, cause) } else { Vec::new() },
        breakable_by: if cause.by_escape { escapes::around(graph, escapes, &cause.nodes) } else { Vec::new() },
        effects: causes.iter().map(|cause| cause.victims.len() as u64).sum(),
        tasks,
        threads,
        edges,
        ..Finding::new(id, kind, certainty, summary)
    }
}

/// What is to be said where a lock was not given back.
fn abandoned(graph: &Graph<'_>, edges: &[Edge]) -> Option<String> {
    let is_abandoned = |key: &ResourceKey| {
        let record = graph.resources.get(key).and_then(|id| graph.resources.all[id].record);
        record.is_some_and(|record| record.abandoned && record.key == *key)
    };
    let edge = edges.iter().find(|edge| edge.resource.kind.is_goroutine_lock() && is_abandoned(&edge.resource))?;
    let ResourceKey { kind, address } = &edge.resource;
    Some(format!(
        "{kind} {address:#x} is abandoned: it is locked, and nobody is left who would unlock it; a function ended without \
         doing so, by a return or a panic, or it was copied while it was locked"
    ))
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

/// Whether the one who would have to act is who waits, and has no more of what it waits for than was put by for it.
fn is_own_share(graph: &Graph<'_>, link: &Link) -> bool {
    let resource = resource(graph, *link);
    let Some(to) = link.to.filter(|to| graph.nodes[*to].owner == graph.nodes[link.from].owner) else { return false };
    let mut holds = graph.nodes[to].holds.iter().filter(|hold| hold.resource == resource).peekable();
    holds.peek().is_some() && holds.all(|hold| hold.how == HoldHow::Reserved)
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
    unknowns.extend(needs.iter().filter_map(|&need| {
        let accounting = match need {
            Need::Permits(resource, _) => graph.resources.all[resource].permits(),
            Need::Message(resource) => graph.resources.all[resource].sending_ends(),
            Need::Room(resource) => graph.resources.all[resource].receiving_ends(),
            Need::Release(resource) => graph.resources.all[resource].release(),
            Need::Reached(resource) => graph.resources.all[resource].reach(),
            _ => Accounting::Closed,
        };
        match accounting {
            Accounting::Likely(why) => Some(why),
            Accounting::Closed | Accounting::Open => None,
        }
    }));
    unknowns.extend(needs.into_iter().filter_map(|need| who_may_add(graph, cause, need)));
    unknowns.sort_unstable();
    unknowns
}

/// Who is not stuck and might add permits to those that are lacking, where nobody did for long.
fn who_may_add(graph: &Graph<'_>, cause: &Cause, need: Need) -> Option<String> {
    let Need::Permits(resource, _) = need else { return None };
    let resource = &graph.resources.all[resource];
    let is_free = |owner: &&Owner| match owner {
        Owner::Task(task) => !cause.tasks.contains(task) && !cause.victims.contains(task),
        Owner::Thread(_) => true,
    };
    let who = resource.reachers.iter().flatten().find(is_free).filter(|_| resource.at_rest)?;
    Some(format!(
        "{} can reach {} and may add permits to it, though none came as long as it was watched",
        names::full(graph, graph.nodes_of(*who).start),
        resource.name(),
    ))
}

/// A need without how much: what its accounting depends on.
fn open_need(need: Need) -> Need {
    match need {
        Need::Permits(resource, _) => Need::Permits(resource, 0),
        other => other,
    }
}

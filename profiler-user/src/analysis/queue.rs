//! Who stands where in the queue of a lock or semaphore.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::{
    graph::{Graph, Need, NodeId, Owner, Parties},
    resources::{ResourceId, Slot, Waiter},
};

/// A node that waits for permits, before it has its place.
struct Applicant {
    node: NodeId,
    wants: u64,
    position: Option<u32>,
}

/// Gives every wait for permits its place in its resource's queue, or notes that its place is not known.
pub(super) fn arrange(graph: &mut Graph<'_>, parties: &Parties) {
    let mut applicants: FxHashMap<ResourceId, Vec<Applicant>> = FxHashMap::default();
    for (id, node) in graph.nodes.iter().enumerate() {
        if let Need::Permits(resource, wants) = node.need {
            let position = node.wait.and_then(|wait| wait.position);
            applicants.entry(resource).or_default().push(Applicant { node: id, wants, position });
        }
    }
    for (resource, waiting) in applicants {
        arrange_one(graph, resource, waiting, parties);
    }
}

fn arrange_one(graph: &mut Graph<'_>, resource: ResourceId, waiting: Vec<Applicant>, parties: &Parties) {
    let record = graph.resources.all[resource].record.filter(|record| record.queue_known);
    let mut placed: FxHashMap<u32, Applicant> = FxHashMap::default();
    let mut rest = Unplaced::default();
    let mut unordered = Vec::new();
    for applicant in waiting {
        match applicant.position {
            // Two at one place: torn. The later one is treated as one of unknown place.
            Some(position) if !placed.contains_key(&position) => {
                placed.insert(position, applicant);
            }
            // Nothing is known of the queue that could give it its place.
            _ if record.is_none() => unordered.push((applicant.wants, applicant.node)),
            _ => rest.add(graph, applicant),
        }
    }

    let mut slots = Vec::new();
    if let Some(record) = record {
        for (position, entry) in (0_u32..).zip(&record.queue) {
            let task = entry.party.and_then(|party| parties.task(party));
            let mut applicant = placed.remove(&position);
            if let Some(one) = applicant.take_if(|one| task.is_some_and(|task| !owns(graph, task, one.node))) {
                rest.add(graph, one);
            }
            // One task's waits of unknown place take its places in turn.
            match (applicant.or_else(|| rest.take(task?)), task) {
                (Some(one), _) => {
                    let wants = entry.wants.unwrap_or(one.wants);
                    graph.nodes[one.node].need = Need::Permits(resource, wants);
                    slots.push(Slot { waiter: Waiter::Node(one.node), wants });
                }
                (None, Some(task)) => {
                    slots.push(Slot { waiter: Waiter::Paused(task), wants: entry.wants.unwrap_or(0) });
                }
                (None, None) => {}
            }
        }
        // Places beyond the end of the queue that was read.
        for one in placed.into_values() {
            rest.add(graph, one);
        }
    } else {
        let mut known: Vec<_> = placed.into_iter().collect();
        known.sort_unstable_by_key(|(position, _)| *position);
        slots.extend(known.into_iter().map(|(_, one)| Slot { waiter: Waiter::Node(one.node), wants: one.wants }));
    }

    unordered.extend(rest.by_task.into_values().flatten().map(|one| (one.wants, one.node)));
    unordered.sort_unstable();
    let node = &mut graph.resources.all[resource];
    node.queue = slots;
    node.unordered = unordered;
}

/// Waits whose place is not known, by their task; those of threads together.
#[derive(Default)]
struct Unplaced {
    by_task: FxHashMap<Option<usize>, VecDeque<Applicant>>,
}

impl Unplaced {
    fn add(&mut self, graph: &Graph<'_>, applicant: Applicant) {
        let task = match graph.nodes[applicant.node].owner {
            Owner::Task(task) => Some(task),
            Owner::Thread(_) => None,
        };
        self.by_task.entry(task).or_default().push_back(applicant);
    }

    fn take(&mut self, task: usize) -> Option<Applicant> {
        self.by_task.get_mut(&Some(task))?.pop_front()
    }
}

fn owns(graph: &Graph<'_>, task: usize, node: NodeId) -> bool {
    graph.nodes[node].owner == Owner::Task(task)
}

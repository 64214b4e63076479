//! Why each dead node can never move: for each a set of others that is enough to hold it where it is.
//!
//! The reasons of a node are sufficient by themselves, whatever the rest of the world does. So a set of nodes that holds the
//! reasons of all its members is stuck for good, and a smallest such set is a root cause.

use petgraph::graph::{DiGraph, NodeIndex};
use rustc_hash::FxHashMap;

use super::{
    graph::{Drive, Graph, Need, NodeId, Owner},
    liveness::Liveness,
    resources::{Holder, ResourceId, Waiter},
};
use crate::model::{Fork, HoldHow, ThreadActivity, WaitMode};

/// Something that does not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Point {
    /// The node goes on.
    Goes(NodeId),
    /// The node is dropped by what awaits it.
    Dropped(NodeId),
    /// What the node holds is given away.
    Gives(NodeId),
    /// Enough permits come free for the most modest waiter.
    Permits(ResourceId),
    /// A message, or the end of the senders.
    Message(ResourceId),
    /// Room, or the end of the receivers.
    Room(ResourceId),
    /// A lock for threads is released.
    Release(ResourceId),
    /// Somebody who can reach it acts on it.
    Reached(ResourceId),
    /// Somebody adds permits to those that there are.
    Adds(ResourceId),
    /// A worker of the runtime polls.
    Worker(usize),
    /// Anyone drives timers and sockets.
    Driver,
}

/// All dead points with their reasons: an edge leads from what does not happen to what would have to happen first.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    pub(super) graph: DiGraph<Point, ()>,
    /// Where in `graph` each node's [`Point::Goes`] is, and every other point.
    goes: Vec<Option<NodeIndex>>,
    others: FxHashMap<Point, NodeIndex>,
}

impl Reasons {
    /// The reasons of every node that `liveness` leaves dead. Escapes that it was told to take away stand still by assumption
    /// and are nobody's reason.
    pub(super) fn new(graph: &Graph<'_>, liveness: &Liveness<'_, '_>) -> Self {
        let mut places = vec![None; graph.nodes.len()];
        for resource in &graph.resources.all {
            for (place, slot) in resource.queue.iter().enumerate() {
                if let Waiter::Node(node) = slot.waiter {
                    places[node] = Some(place);
                }
            }
        }
        let view = View { graph, liveness, places };
        let mut this = Self { goes: vec![None; graph.nodes.len()], ..Self::default() };
        let mut pending: Vec<Point> =
            (0..graph.nodes.len()).filter(|&node| liveness.is_stuck(node)).map(Point::Goes).collect();
        for &point in &pending {
            this.intern(point);
        }
        let mut wants_of = FxHashMap::<ResourceId, u64>::default();
        for &point in &pending {
            if let Point::Goes(node) = point
                && let Need::Permits(resource, wants) = graph.nodes[node].need
                && view.blocker(node, resource, wants).is_none()
            {
                let least = wants_of.entry(resource).or_insert(wants);
                *least = wants.min(*least);
            }
        }
        while let Some(point) = pending.pop() {
            let from = this.intern(point);
            for reason in view.reasons_of(point, &wants_of) {
                let met = this.graph.node_count();
                let to = this.intern(reason);
                this.graph.add_edge(from, to, ());
                if to.index() == met {
                    pending.push(reason);
                }
            }
        }
        this
    }

    fn intern(&mut self, point: Point) -> NodeIndex {
        match point {
            Point::Goes(node) => *self.goes[node].get_or_insert_with(|| self.graph.add_node(point)),
            _ => *self.others.entry(point).or_insert_with(|| self.graph.add_node(point)),
        }
    }

    fn index(&self, point: Point) -> Option<NodeIndex> {
        match point {
            Point::Goes(node) => self.goes[node],
            _ => self.others.get(&point).copied(),
        }
    }

    /// The reasons of one point.
    pub(super) fn of(&self, point: Point) -> impl Iterator<Item = Point> {
        self.index(point).into_iter().flat_map(|index| self.graph.neighbors(index)).map(|to| self.graph[to])
    }
}

struct View<'v, 'g, 'a> {
    graph: &'v Graph<'a>,
    liveness: &'v Liveness<'g, 'a>,
    /// Each node's place in the queue that it stands in.
    places: Vec<Option<usize>>,
}

impl View<'_, '_, '_> {
    fn reasons_of(&self, point: Point, wants: &FxHashMap<ResourceId, u64>) -> Vec<Point> {
        let resources = &self.graph.resources.all;
        let gives = |holders: &[Holder<'_>]| self.unreleased(holders).map(|holder| Point::Gives(holder.node)).collect();
        match point {
            Point::Goes(node) => {
                let mut reasons = self.reasons_to_stay(node);
                reasons.extend(self.who_drops(node).map(|_| Point::Dropped(node)));
                reasons
            }
            Point::Dropped(node) => self.who_drops(node).map(Point::Goes).into_iter().collect(),
            Point::Gives(node) => self.reasons_to_keep(node),
            Point::Permits(resource) => {
                self.those_who_have(resource, wants.get(&resource).copied().unwrap_or(u64::MAX))
            }
            Point::Message(resource) => gives(&resources[resource].senders),
            Point::Room(resource) => {
                let mut all: Vec<_> = gives(&resources[resource].receivers);
                all.extend(self.unreleased(&resources[resource].holders).map(|holder| Point::Gives(holder.node)));
                all
            }
            Point::Release(resource) => {
                let mut all: Vec<_> = gives(&resources[resource].holders);
                if !resources[resource].exclusive() {
                    all.truncate(1);
                }
                all
            }
            Point::Reached(resource) => {
                let reachers = resources[resource].reachers.iter().flatten();
                let nodes = reachers.flat_map(|&owner| self.graph.nodes_of(owner));
                nodes.filter(|&node| self.liveness.is_stuck(node)).map(Point::Goes).collect()
            }
            Point::Adds(resource) => self.adders(resource).map(Point::Goes).collect(),
            Point::Worker(runtime) => {
                self.graph.runtimes[runtime].drivers.iter().map(|&thread| Point::Goes(thread)).collect()
            }
            Point::Driver => (0..self.graph.runtimes.len()).map(Point::Worker).collect(),
        }
    }

    fn unreleased<'h>(&self, holders: &'h [Holder<'h>]) -> impl Iterator<Item = &'h Holder<'h>> {
        holders.iter().filter(|holder| !self.liveness.is_released(holder.node))
    }

    /// The nearest strand above that drops the node when it goes on: one that goes on only when the node itself has ended
    /// does not.
    fn who_drops(&self, id: NodeId) -> Option<NodeId> {
        let mut above = self.graph.nodes[id].parent;
        while let Some(parent) = above.filter(|&parent| self.graph.nodes[parent].fork == Fork::All) {
            above = self.graph.nodes[parent].parent;
        }
        above
    }

    fn reasons_to_stay(&self, id: NodeId) -> Vec<Point> {
        let node = &self.graph.nodes[id];
        if self.liveness.is_ready(id) {
            return match node.drive {
                Drive::Worker(runtime) => vec![Point::Worker(runtime)],
                Drive::Awake(thread) | Drive::Unblocked(thread) => vec![Point::Goes(thread)],
                Drive::Kernel => Vec::new(),
            };
        }
        match node.need {
            Need::Nothing => Vec::new(),
            Need::Permits(resource, amount) => match self.blocker(id, resource, amount) {
                Some(blocker) => vec![blocker],
                // Not even all that there are would do: only who adds some could end it.
                None if self.wanted_in_all(id) > self.all_permits(resource) => {
                    self.adders(resource).next().map(|_| Point::Adds(resource)).into_iter().collect()
                }
                None => vec![Point::Permits(resource)],
            },
            Need::Release(resource) => vec![Point::Release(resource)],
            Need::Message(resource) => vec![Point::Message(resource)],
            Need::Room(resource) => vec![Point::Room(resource)],
            Need::Reached(resource) => {
                let reachers = self.graph.resources.all[resource].reachers.as_deref();
                if reachers.is_none_or(<[Owner]>::is_empty) { Vec::new() } else { vec![Point::Reached(resource)] }
            }
            Need::End(target) => vec![Point::Goes(target)],
            Need::Driver => vec![Point::Driver],
            Need::Children => {
                let mut stuck = node
                    .children
                    .iter()
                    .filter(|&&child| self.liveness.is_stuck(child))
                    .map(|&child| Point::Goes(child));
                match node.fork {
                    Fork::All => stuck.next().into_iter().collect(),
                    Fork::Any | Fork::Unknown => stuck.collect(),
                }
            }
        }
    }

    /// Those who can reach a semaphore, and wait for something else.
    fn adders(&self, resource: ResourceId) -> impl Iterator<Item = NodeId> {
        let reachers = self.graph.resources.all[resource].reachers.iter().flatten();
        let nodes = reachers.flat_map(|&owner| self.graph.nodes_of(owner));
        nodes.filter(move |&node| self.liveness.is_stuck(node) && !self.graph.wants_permits(node, resource))
    }

    /// Nothing that could give away what the node holds moves: neither itself nor what borrows from it.
    fn reasons_to_keep(&self, id: NodeId) -> Vec<Point> {
        let node = &self.graph.nodes[id];
        let mut reasons = Vec::with_capacity(node.children.len() + 1);
        if self.liveness.is_stuck(id) {
            reasons.push(Point::Goes(id));
        }
        reasons.extend(
            node.children.iter().filter(|&&child| self.liveness.is_stuck(child)).map(|&child| Point::Gives(child)),
        );
        match node.owner {
            Owner::Thread(thread) => reasons.extend(self.graph.threads[thread].root.map(Point::Gives)),
            Owner::Task(task) => {
                if let Drive::Unblocked(thread) = node.drive
                    && let Owner::Thread(index) = self.graph.nodes[thread].owner
                    && self.graph.threads[index].polls == Some(task)
                    && matches!(self.graph.now.threads[index].activity, ThreadActivity::BlockedIn(_))
                {
                    reasons.push(Point::Gives(thread));
                }
            }
        }
        reasons
    }

    /// What stands before the node in the queue, where there would be permits enough for the node itself.
    fn blocker(&self, id: NodeId, resource: ResourceId, wants: u64) -> Option<Point> {
        let place = self.places[id]?;
        let front = self.liveness.passed(resource);
        if place <= front || self.liveness.free_permits(resource) < wants {
            return None;
        }
        Some(match self.graph.resources.all[resource].queue[front].waiter {
            Waiter::Node(node) => Point::Goes(node),
            Waiter::Paused(task) => Point::Gives(self.graph.tasks[task].start),
        })
    }

    /// Permits that a wait is for, with those that it has already.
    fn wanted_in_all(&self, id: NodeId) -> u64 {
        match self.graph.nodes[id].wait.map(|wait| wait.mode) {
            Some(WaitMode::Acquire { permits }) => permits,
            _ => 0,
        }
    }

    fn all_permits(&self, resource: ResourceId) -> u64 {
        let node = &self.graph.resources.all[resource];
        node.spare().saturating_add(node.held())
    }

    /// As few of those that have permits as are enough to leave less than `wants`: guards before permits that stand in the
    /// queue, greater shares first.
    fn those_who_have(&self, resource: ResourceId, wants: u64) -> Vec<Point> {
        let node = &self.graph.resources.all[resource];
        let mut have: Vec<(bool, u64, Point)> = self
            .unreleased(&node.holders)
            .map(|holder| (holder.hold.how == HoldHow::Reserved, holder.hold.amount, Point::Gives(holder.node)))
            .collect();
        for slot in &node.queue[..self.liveness.passed(resource)] {
            match slot.waiter {
                Waiter::Node(id) if self.liveness.given(id) > 0 => {
                    have.push((true, self.liveness.given(id), Point::Goes(id)));
                }
                Waiter::Paused(task) if !self.liveness.is_released(self.graph.tasks[task].start) => {
                    have.push((true, slot.wants, Point::Gives(self.graph.tasks[task].start)));
                }
                _ => {}
            }
        }
        have.sort_by_key(|&(queued, amount, _)| (queued, std::cmp::Reverse(amount)));
        let all = self.all_permits(resource);
        let mut missing = all.saturating_sub(wants).saturating_add(u64::from(wants <= all));
        let mut chosen = Vec::new();
        for (_, amount, point) in have {
            if missing == 0 {
                break;
            }
            missing = missing.saturating_sub(amount);
            chosen.push(point);
        }
        chosen
    }
}

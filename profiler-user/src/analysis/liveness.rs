//! The fixed point: what can still move, starting from what moves by itself.
//!
//! Everything that a live node holds may be given back, sent or dropped, so what can move only ever grows, and one pass over
//! nodes, waits and holds finds all of it: each node becomes live once, each queue is walked once from its front.

use super::{
    graph::{Drive, Graph, Need, NodeId, Owner},
    resources::{ResourceId, Waiter},
};
use crate::model::{Fork, HoldHow, ThreadActivity};

/// What is taken for granted beyond what the snapshots say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Assumptions<'a> {
    /// Those that were found are taken to be all, where nothing shows that there are others.
    pub(super) lenient: bool,
    /// Waits that never end: escapes that are taken away. One flag a node.
    pub(super) never: Option<&'a [bool]>,
    /// Nodes that move whatever holds them: what has been reported already. One flag a node.
    pub(super) broken: &'a [bool],
}

/// The queue of one resource as it empties.
#[derive(Clone, Debug, Default)]
struct Pool {
    /// Nobody knows how many there are, so there are always enough.
    unbounded: bool,
    /// Permits that could be free by now, less those given to waiters that nobody polls.
    free: u64,
    /// The same without that deduction.
    gross: u64,
    /// Places of the queue that are passed.
    passed: usize,
    /// Unordered waiters that have been served.
    served: usize,
}

/// Sorts of waits that one act ends for all who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Message,
    Room,
    Lock,
    Reach,
}

/// The least fixed point.
#[derive(Debug)]
pub(super) struct Liveness<'g, 'a> {
    graph: &'g Graph<'a>,
    assumptions: Assumptions<'g>,
    /// Can go on, or is dropped by what goes on.
    live: Vec<bool>,
    /// Has what it needs, whether or not anyone will run it.
    ready: Vec<bool>,
    /// May give away what it holds.
    released: Vec<bool>,
    /// Children that are not live.
    stuck_children: Vec<u32>,
    pools: Vec<Pool>,
    /// Channels that somebody unknown may send on, and receive from.
    open_ends: Vec<(bool, bool)>,
    /// Permits that a queued waiter was given without being run, per node.
    given: Vec<u64>,
    /// Found holders of a lock for threads that have not let go.
    keepers: Vec<usize>,
    /// Per resource and [`Ended`].
    ended: Vec<[bool; 4]>,
    alive: Vec<bool>,
    any_driver: bool,
    work: Vec<NodeId>,
    by_runtime: Vec<Vec<NodeId>>,
    by_driver: Vec<NodeId>,
    by_thread: Vec<Vec<NodeId>>,
    paused: Vec<Vec<(ResourceId, usize)>>,
    paused_free: Vec<bool>,
}

impl<'g, 'a> Liveness<'g, 'a> {
    /// Computes it.
    pub(super) fn new(graph: &'g Graph<'a>, assumptions: Assumptions<'g>) -> Self {
        let nodes = graph.nodes.len();
        let mut this = Self {
            graph,
            assumptions,
            live: vec![false; nodes],
            ready: vec![false; nodes],
            released: vec![false; nodes],
            stuck_children: graph.nodes.iter().map(|node| node.children.len() as u32).collect(),
            pools: vec![Pool::default(); graph.resources.all.len()],
            open_ends: vec![(false, false); graph.resources.all.len()],
            given: vec![0; nodes],
            keepers: graph.resources.all.iter().map(|resource| resource.holders.len()).collect(),
            ended: vec![[false; 4]; graph.resources.all.len()],
            alive: vec![false; graph.runtimes.len()],
            any_driver: false,
            work: Vec::new(),
            by_runtime: vec![Vec::new(); graph.runtimes.len()],
            by_driver: Vec::new(),
            by_thread: vec![Vec::new(); graph.threads.len()],
            paused: vec![Vec::new(); graph.tasks.len()],
            paused_free: vec![false; graph.tasks.len()],
        };
        this.index();
        this.start();
        this.drain();
        this
    }

    /// Whether the node can never go on, and not because it was assumed to stand still.
    pub(super) fn is_stuck(&self, node: NodeId) -> bool {
        !self.live[node] && !self.never(node)
    }

    /// Whether the node has what it needs and only nobody will run it.
    pub(super) fn is_ready(&self, node: NodeId) -> bool {
        self.ready[node]
    }

    /// Whether what the node holds may ever be given away.
    pub(super) fn is_released(&self, node: NodeId) -> bool {
        self.released[node]
    }

    /// Permits of a resource that nobody dead has.
    pub(super) fn free_permits(&self, resource: ResourceId) -> u64 {
        self.pools[resource].free
    }

    /// Permits that a dead queued node was given.
    pub(super) fn given(&self, node: NodeId) -> u64 {
        self.given[node]
    }

    /// How many places of a resource's queue can move on; the next one blocks the rest.
    pub(super) fn passed(&self, resource: ResourceId) -> usize {
        self.pools[resource].passed
    }

    fn index(&mut self) {
        for (id, node) in self.graph.nodes.iter().enumerate() {
            match node.drive {
                Drive::Worker(runtime) => {
                    if let Some(nodes) = self.by_runtime.get_mut(runtime) {
                        nodes.push(id);
                    }
                }
                Drive::Awake(thread) | Drive::Unblocked(thread) => {
                    let first = self.graph.thread_node(0);
                    self.by_thread[thread - first].push(id);
                }
                Drive::Kernel => {}
            }
            if node.need == Need::Driver {
                self.by_driver.push(id);
            }
        }
        for (id, resource) in self.graph.resources.all.iter().enumerate() {
            for (place, slot) in resource.queue.iter().enumerate() {
                if let Waiter::Paused(task) = slot.waiter {
                    self.paused[task].push((id, place));
                }
            }
        }
    }

    fn start(&mut self) {
        let graph = self.graph;
        for (id, resource) in graph.resources.all.iter().enumerate() {
            let lenient = self.assumptions.lenient;
            let unbounded = !resource.permits().binds(lenient);
            self.open_ends[id] = (!resource.sending_ends().binds(lenient), !resource.receiving_ends().binds(lenient));
            let free = resource.spare();
            self.pools[id] = Pool { unbounded, free, gross: free, passed: 0, served: 0 };
        }
        for (id, node) in graph.nodes.iter().enumerate() {
            if node.moves || self.assumptions.broken[id] || (node.incomplete && !self.assumptions.lenient) {
                self.make_live(id);
            } else if self.has_all(id) {
                self.satisfy(id);
            }
        }
        for runtime in 0..graph.runtimes.len() {
            let awake = |&node: &NodeId| graph.drives_while_awake(node - graph.thread_node(0), runtime);
            if graph.runtimes[runtime].unknown_driver || graph.runtimes[runtime].drivers.iter().any(awake) {
                self.wake_runtime(runtime);
            }
        }
        if graph.runtimes.is_empty() {
            self.wake_drivers();
        }
        for resource in 0..graph.resources.all.len() {
            self.serve(resource);
        }
    }

    /// Whether the node needs nothing from anyone that was found.
    fn has_all(&self, id: NodeId) -> bool {
        let resources = &self.graph.resources.all;
        match self.graph.nodes[id].need {
            Need::Nothing => !self.never(id),
            Need::Release(resource) => !resources[resource].release().binds(self.assumptions.lenient),
            Need::Message(resource) => self.open_ends[resource].0,
            Need::Room(resource) => self.open_ends[resource].1,
            // Who can reach it is known, or there would be no such need.
            Need::Reached(resource) => !resources[resource].reach().binds(self.assumptions.lenient),
            Need::Permits(..) | Need::End(_) | Need::Driver | Need::Children => false,
        }
    }

    fn never(&self, id: NodeId) -> bool {
        self.assumptions.never.is_some_and(|never| never[id])
    }

    fn drain(&mut self) {
        while let Some(id) = self.work.pop() {
            self.release(id);
            self.spread_in_task(id);
            let owner = self.graph.nodes[id].owner;
            if let Owner::Thread(thread) = owner {
                self.unblock(thread);
            }
            for &resource in self.graph.reaches.get(&owner).into_iter().flatten() {
                self.end_waits(resource, Ended::Reach);
                // It may add permits to those that there were, though who only serves others has had the time to.
                let at_rest = self.assumptions.lenient && self.graph.resources.all[resource].at_rest;
                if !(at_rest && self.graph.is_idle(owner)) {
                    self.pools[resource].unbounded = true;
                    self.serve(resource);
                }
            }
            if let Some(joiners) = self.graph.joiners.get(&id) {
                for &joiner in joiners {
                    self.satisfy(joiner);
                }
            }
            if let Need::Permits(resource, _) = self.graph.nodes[id].need {
                let given = std::mem::take(&mut self.given[id]);
                self.take_back(resource, given);
                self.serve(resource);
            }
        }
    }

    /// The node has what it needs; it goes on if anyone runs it.
    fn satisfy(&mut self, id: NodeId) {
        if !self.ready[id] {
            self.ready[id] = true;
            if self.is_driven(id) {
                self.make_live(id);
            }
        }
    }

    fn make_live(&mut self, id: NodeId) {
        if !self.live[id] {
            self.live[id] = true;
            self.work.push(id);
        }
    }

    fn is_driven(&self, id: NodeId) -> bool {
        let graph = self.graph;
        let thread_of = |node: NodeId| node - graph.thread_node(0);
        match graph.nodes[id].drive {
            Drive::Kernel => true,
            Drive::Worker(runtime) => self.alive.get(runtime).copied().unwrap_or(true),
            Drive::Awake(thread) => self.live[thread] || graph.threads[thread_of(thread)].awake,
            Drive::Unblocked(thread) => self.live[thread],
        }
    }

    /// A strand that goes on may end: its parent counts it, and what it awaited is done or dropped.
    fn spread_in_task(&mut self, id: NodeId) {
        let graph = self.graph;
        for &child in &graph.nodes[id].children {
            self.make_live(child);
        }
        if let Some(parent) = graph.nodes[id].parent {
            self.stuck_children[parent] -= 1;
            if graph.nodes[parent].fork != Fork::All || self.stuck_children[parent] == 0 {
                self.satisfy(parent);
            }
        }
    }

    /// A thread goes on: it polls what it may, and the poll in which it was blocked goes on too.
    fn unblock(&mut self, thread: usize) {
        let graph = self.graph;
        for index in 0..self.by_thread[thread].len() {
            let id = self.by_thread[thread][index];
            if self.ready[id] {
                self.make_live(id);
            }
        }
        let node = graph.thread_node(thread);
        for runtime in 0..graph.runtimes.len() {
            if !self.alive[runtime] && graph.runtimes[runtime].drivers.binary_search(&node).is_ok() {
                self.wake_runtime(runtime);
            }
        }
    }

    fn wake_runtime(&mut self, runtime: usize) {
        if std::mem::replace(&mut self.alive[runtime], true) {
            return;
        }
        for id in std::mem::take(&mut self.by_runtime[runtime]) {
            if self.ready[id] {
                self.make_live(id);
            }
        }
        self.wake_drivers();
    }

    /// Some thread drives timers and sockets. Which runtime's they are is not known, so any will do.
    fn wake_drivers(&mut self) {
        if !std::mem::replace(&mut self.any_driver, true) {
            for id in std::mem::take(&mut self.by_driver) {
                if !self.never(id) {
                    self.satisfy(id);
                }
            }
        }
    }

    /// What the node holds may be given away: by itself, by a strand below it that borrows it, or by whoever drops it.
    fn release(&mut self, id: NodeId) {
        let mut next = Some(id);
        while let Some(id) = next.take() {
            if std::mem::replace(&mut self.released[id], true) {
                return;
            }
            self.give_away(id);
            next = self.graph.nodes[id].parent;
            match self.graph.nodes[id].owner {
                Owner::Task(task) if next.is_none() => {
                    self.drop_paused(task);
                    // The root of a block_on borrows from its thread's frames.
                    next = self.graph.root_threads.get(&id).copied();
                }
                Owner::Thread(thread) => self.release_around(thread),
                Owner::Task(_) => {}
            }
        }
    }

    /// A thread inside a poll borrows from that poll's task.
    fn release_around(&mut self, thread: usize) {
        let graph = self.graph;
        if let (Some(task), ThreadActivity::BlockedIn(_)) =
            (graph.threads[thread].polls, &graph.now.threads[thread].activity)
        {
            for id in graph.tasks[task].clone() {
                if !std::mem::replace(&mut self.released[id], true) {
                    self.give_away(id);
                }
            }
            self.drop_paused(task);
        }
    }

    fn give_away(&mut self, id: NodeId) {
        for hold in self.graph.nodes[id].holds {
            let Some(resource) = self.graph.resources.get(&hold.resource) else { continue };
            match hold.how {
                HoldHow::Guard | HoldHow::AssignedUnpolled | HoldHow::Reserved => {
                    self.keepers[resource] -= 1;
                    let pool = &mut self.pools[resource];
                    pool.free = pool.free.saturating_add(hold.amount);
                    pool.gross = pool.gross.saturating_add(hold.amount);
                    self.serve(resource);
                    // Reserved room may be given back as well as made by the receiver.
                    self.end_waits(resource, Ended::Room);
                    if self.graph.resources.all[resource].exclusive() || self.keepers[resource] == 0 {
                        self.end_waits(resource, Ended::Lock);
                    }
                }
                HoldHow::Sender => self.end_waits(resource, Ended::Message),
                HoldHow::Receiver => self.end_waits(resource, Ended::Room),
                HoldHow::JoinHandle => {}
            }
        }
    }

    /// Satisfies every wait of one sort at a channel or a lock for threads.
    fn end_waits(&mut self, resource: ResourceId, ended: Ended) {
        if std::mem::replace(&mut self.ended[resource][ended as usize], true) {
            return;
        }
        for &id in &self.graph.resources.all[resource].waiting {
            let ends = match self.graph.nodes[id].need {
                Need::Message(_) => ended == Ended::Message,
                Need::Room(_) => ended == Ended::Room,
                Need::Release(_) => ended == Ended::Lock,
                Need::Reached(_) => ended == Ended::Reach,
                _ => false,
            };
            if ends && !self.never(id) {
                self.satisfy(id);
            }
        }
    }

    fn drop_paused(&mut self, task: usize) {
        if std::mem::replace(&mut self.paused_free[task], true) {
            return;
        }
        let places = std::mem::take(&mut self.paused[task]);
        // First what was given while nobody polled; places that are passed from now on take nothing.
        for &(resource, place) in &places {
            if place < self.pools[resource].passed {
                let wants = self.graph.resources.all[resource].queue[place].wants;
                self.take_back(resource, wants);
            }
        }
        for (resource, _) in places {
            self.serve(resource);
        }
    }

    /// What a waiter in the queue was given is free again.
    fn take_back(&mut self, resource: ResourceId, permits: u64) {
        let pool = &mut self.pools[resource];
        pool.free = pool.free.saturating_add(permits);
    }

    /// Moves the queue of a resource on as far as its permits go.
    fn serve(&mut self, resource: ResourceId) {
        let node = &self.graph.resources.all[resource];
        while let Some(slot) = node.queue.get(self.pools[resource].passed) {
            let gone = match slot.waiter {
                Waiter::Node(id) => self.live[id],
                Waiter::Paused(task) => self.paused_free[task],
            };
            if !gone {
                let pool = &mut self.pools[resource];
                if !pool.unbounded {
                    let Some(left) = pool.free.checked_sub(slot.wants) else { break };
                    pool.free = left;
                }
                if let Waiter::Node(id) = slot.waiter {
                    self.given[id] = slot.wants;
                    self.satisfy(id);
                }
            }
            self.pools[resource].passed += 1;
        }
        while let Some(&(wants, id)) = node.unordered.get(self.pools[resource].served) {
            if !self.pools[resource].unbounded && self.pools[resource].gross < wants {
                break;
            }
            self.pools[resource].served += 1;
            self.satisfy(id);
        }
    }
}

//! The wait-for graph: every strand and thread of a snapshot, what each needs to go on, and who must poll it.

use std::{ops::Range, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    queue,
    resources::{Accounting, Family, ResourceId, ResourceNode, Resources, Waiter},
    settled::Settled,
};
use crate::model::{
    Fork, Frame, Hold, HoldHow, PartyId, ResourceKind, Snapshot, Strand, Task, TaskState, Thread, ThreadActivity,
    ThreadRole, Wait, WaitMode,
};

/// Index of a strand or thread.
pub(super) type NodeId = usize;

/// Whose node it is, by index into the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// A strand of this task.
    Task(usize),
    /// This thread.
    Thread(usize),
}

/// What must happen before a node can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Need {
    /// Nothing, or something that the outside world or an unknown party may bring.
    Nothing,
    /// Permits of this resource, from its queue or at once: how many more.
    Permits(ResourceId, u64),
    /// The release of a lock that blocks threads.
    Release(ResourceId),
    /// A message, or the end of all senders.
    Message(ResourceId),
    /// Room in a channel, or the end of all receivers.
    Room(ResourceId),
    /// That this node comes to its end.
    End(NodeId),
    /// An act of anyone who can reach this resource.
    Reached(ResourceId),
    /// A timer or socket, so a thread that drives them.
    Driver,
    /// Its children, as its fork says.
    Children,
}

/// Who must run a node once it can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drive {
    /// The kernel: a thread.
    Kernel,
    /// Some worker of this runtime (by index).
    Worker(usize),
    /// This thread, as soon as it is not blocked in a lock: the root of its `block_on`.
    Awake(NodeId),
    /// This thread, which is blocked inside the poll.
    Unblocked(NodeId),
}

/// A strand or thread.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) owner: Owner,
    pub(super) parent: Option<NodeId>,
    pub(super) children: Vec<NodeId>,
    pub(super) fork: Fork,
    pub(super) frames: &'a [Frame],
    pub(super) wait: Option<&'a Wait>,
    pub(super) holds: &'a [Hold],
    pub(super) need: Need,
    pub(super) drive: Drive,
    /// Changed between the two reads, or is at work right now: it moves.
    pub(super) moves: bool,
    /// Not all that it holds was read.
    pub(super) incomplete: bool,
}

/// What stands around a thread's node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ThreadLinks {
    /// The task (index) in whose poll it is.
    pub(super) polls: Option<usize>,
    /// The root of the `block_on` that it runs.
    pub(super) root: Option<NodeId>,
    /// It is not blocked in a lock.
    pub(super) awake: bool,
}

/// A runtime's threads.
#[derive(Debug, Default)]
pub(super) struct RuntimeNode {
    /// Threads that can poll its tasks and drive its timers and sockets.
    pub(super) drivers: Vec<NodeId>,
    /// Some of its threads are not known, so it is taken to be alive.
    pub(super) unknown_driver: bool,
}

/// The whole graph.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    pub(super) now: &'a Snapshot,
    /// Strands in the order of their tasks, parents before children; then the threads.
    pub(super) nodes: Vec<Node<'a>>,
    /// The nodes of each task, its root first.
    pub(super) tasks: Vec<Range<NodeId>>,
    /// What stands around each thread.
    pub(super) threads: Vec<ThreadLinks>,
    /// The thread's node of each `block_on` root.
    pub(super) root_threads: FxHashMap<NodeId, NodeId>,
    pub(super) resources: Resources<'a>,
    pub(super) runtimes: Vec<RuntimeNode>,
    /// Who waits for the end of a node.
    pub(super) joiners: FxHashMap<NodeId, Vec<NodeId>>,
    /// The resources that each task or thread can reach, of those of which it is known who can.
    pub(super) reaches: FxHashMap<Owner, Vec<ResourceId>>,
}

impl<'a> Graph<'a> {
    /// Builds the graph of `now`; what `settled` does not confirm is taken to move. A semaphore is at rest after `patience`.
    pub(super) fn new(now: &'a Snapshot, settled: &Settled, patience: Duration) -> Self {
        let mut graph = Self {
            now,
            nodes: Vec::new(),
            tasks: Vec::with_capacity(now.tasks.len()),
            threads: vec![ThreadLinks::default(); now.threads.len()],
            root_threads: FxHashMap::default(),
            resources: Resources::of(now),
            runtimes: Vec::new(),
            joiners: FxHashMap::default(),
            reaches: FxHashMap::default(),
        };
        for (index, task) in now.tasks.iter().enumerate() {
            graph.add_task(index, task, settled.tasks[index]);
        }
        for (index, thread) in now.threads.iter().enumerate() {
            graph.add_thread(index, thread, settled.threads[index]);
        }
        let parties = Parties::of(now);
        graph.link_threads(&parties);
        graph.link_runtimes(&parties);
        graph.drive_tasks(&parties);
        graph.place_holds();
        graph.place_reachers(&parties);
        graph.place_needs(&parties);
        queue::arrange(&mut graph, &parties);
        graph.note_rest(patience);
        graph
    }

    /// Whether those that were found are taken to be all in some place where that is not certain. Where they are not, the
    /// lenient rules say what the strict ones do.
    pub(super) fn may_lack(&self) -> bool {
        let is_likely = |accounting| matches!(accounting, Accounting::Likely(_));
        self.nodes.iter().any(|node| node.incomplete)
            || self.resources.all.iter().any(|resource| {
                resource.at_rest
                    || is_likely(resource.permits())
                    || is_likely(resource.release())
                    || is_likely(resource.sending_ends())
                    || is_likely(resource.receiving_ends())
                    || is_likely(resource.reach())
            })
    }

    /// The node of a thread.
    pub(super) fn thread_node(&self, thread: usize) -> NodeId {
        self.nodes.len() - self.threads.len() + thread
    }

    /// Who stands for a node: for a thread that waits for the root of its `block_on` that root, since to whoever reads of
    /// them the two are one.
    pub(super) fn face(&self, node: NodeId) -> NodeId {
        match (self.nodes[node].owner, self.nodes[node].need) {
            (Owner::Thread(thread), Need::End(root)) if self.threads[thread].root == Some(root) => root,
            _ => node,
        }
    }

    /// The party that a node belongs to.
    pub(super) fn party(&self, node: NodeId) -> PartyId {
        match self.nodes[self.face(node)].owner {
            Owner::Task(task) => self.now.tasks[task].party,
            Owner::Thread(thread) => PartyId::Thread { tid: self.now.threads[thread].tid },
        }
    }

    fn add_task(&mut self, index: usize, task: &'a Task, settled: bool) {
        let first = self.nodes.len();
        // One that is ready needs nothing but to be polled, whatever it awaited.
        let opaque = !task.awaits_known && task.state != TaskState::Scheduled;
        let moves = !settled || opaque || matches!(task.state, TaskState::Complete | TaskState::Unknown);
        let mut pending: Vec<(Option<NodeId>, &'a Strand)> = vec![(None, &task.root)];
        while let Some((parent, strand)) = pending.pop() {
            let id = self.nodes.len();
            if let Some(parent) = parent {
                self.nodes[parent].children.push(id);
            }
            self.nodes.push(Node {
                owner: Owner::Task(index),
                parent,
                children: Vec::new(),
                fork: strand.fork,
                frames: &strand.frames,
                wait: strand.wait.as_ref(),
                holds: &strand.holds,
                need: Need::Nothing,
                drive: Drive::Worker(task.runtime),
                moves,
                incomplete: task.incomplete.is_some(),
            });
            pending.extend(strand.children.iter().rev().map(|child| (Some(id), child)));
        }
        self.tasks.push(first..self.nodes.len());
    }

    fn add_thread(&mut self, index: usize, thread: &'a Thread, settled: bool) {
        self.nodes.push(Node {
            owner: Owner::Thread(index),
            parent: None,
            children: Vec::new(),
            fork: Fork::Unknown,
            frames: &thread.frames,
            wait: thread.wait.as_ref().filter(|_| is_blocked(thread)),
            holds: &thread.holds,
            need: Need::Nothing,
            drive: Drive::Kernel,
            moves: !settled,
            incomplete: false,
        });
    }

    fn link_threads(&mut self, parties: &Parties) {
        for (index, thread) in self.now.threads.iter().enumerate() {
            let polls = match thread.activity {
                ThreadActivity::BlockedIn(party) | ThreadActivity::Polling(party) => parties.task(party),
                _ => None,
            };
            let root = parties.task(PartyId::BlockOn { tid: thread.tid }).map(|task| self.tasks[task].start);
            let awake = self.nodes[self.thread_node(index)].wait.is_none();
            self.threads[index] = ThreadLinks { polls, root, awake };
            if let Some(root) = root {
                self.root_threads.insert(root, self.thread_node(index));
            }
        }
    }

    fn link_runtimes(&mut self, parties: &Parties) {
        self.runtimes = self.now.runtimes.iter().map(|_| RuntimeNode::default()).collect();
        for (index, runtime) in self.now.runtimes.iter().enumerate() {
            for &tid in &runtime.workers {
                match parties.threads.get(&tid) {
                    Some(&thread) => {
                        let node = self.thread_node(thread);
                        self.runtimes[index].drivers.push(node);
                    }
                    None => self.runtimes[index].unknown_driver = true,
                }
            }
        }
        for (index, thread) in self.now.threads.iter().enumerate() {
            let node = self.thread_node(index);
            if let ThreadRole::Worker(runtime) = thread.role
                && let Some(runtime) = self.runtimes.get_mut(runtime)
            {
                runtime.drivers.push(node);
            }
        }
        // One of which it is not known what it does may be a worker of any.
        let is_any_unknown = self.now.threads.iter().any(|thread| thread.role == ThreadRole::Unknown);
        for runtime in &mut self.runtimes {
            runtime.unknown_driver |= is_any_unknown;
            runtime.drivers.sort_unstable();
            runtime.drivers.dedup();
            runtime.unknown_driver |= runtime.drivers.is_empty();
        }
    }

    /// Whether thread `thread` polls tasks of `runtime` as long as it is not blocked: not from within a poll of that very
    /// runtime, where it only waits for the root of a nested `block_on`.
    pub(super) fn drives_while_awake(&self, thread: usize, runtime: usize) -> bool {
        let links = self.threads[thread];
        let inside = matches!(self.now.threads[thread].activity, ThreadActivity::BlockedIn(_));
        links.awake && !(inside && links.polls.is_none_or(|task| self.now.tasks[task].runtime == runtime))
    }

    fn drive_tasks(&mut self, parties: &Parties) {
        let mut blocked_in = FxHashMap::default();
        for (index, links) in self.threads.iter().enumerate() {
            if let (Some(task), ThreadActivity::BlockedIn(_)) = (links.polls, &self.now.threads[index].activity) {
                blocked_in.insert(task, self.thread_node(index));
            }
        }
        for (index, task) in self.now.tasks.iter().enumerate() {
            let drive = match (task.state, blocked_in.get(&index), task.party) {
                (TaskState::Running | TaskState::Blocked, Some(&thread), _) => Some(Drive::Unblocked(thread)),
                (TaskState::Scheduled | TaskState::Suspended, _, PartyId::BlockOn { tid }) => {
                    parties.threads.get(&tid).map(|&thread| Drive::Awake(self.thread_node(thread)))
                }
                (TaskState::Scheduled | TaskState::Suspended, _, _) if task.runtime < self.runtimes.len() => {
                    Some(Drive::Worker(task.runtime))
                }
                _ => None,
            };
            for node in self.tasks[index].clone() {
                match drive {
                    Some(drive) => self.nodes[node].drive = drive,
                    None => self.nodes[node].moves = true,
                }
            }
        }
    }

    fn place_holds(&mut self) {
        for (id, node) in self.nodes.iter().enumerate() {
            for hold in node.holds {
                self.resources.add_hold(id, hold);
            }
        }
    }

    fn place_reachers(&mut self, parties: &Parties) {
        for (id, resource) in self.resources.all.iter_mut().enumerate() {
            let known = resource.record.and_then(|record| record.reachable_by.as_ref());
            // One who is not among them may do anything.
            resource.reachers = known.and_then(|known| known.iter().map(|&party| parties.owner(party)).collect());
            for &owner in resource.reachers.iter().flatten() {
                self.reaches.entry(owner).or_default().push(id);
            }
        }
    }

    /// Notes which semaphores have been at rest for as long as `patience`.
    fn note_rest(&mut self, patience: Duration) {
        let stands = |node: NodeId| match self.nodes[node].owner {
            Owner::Task(task) => {
                let since = self.now.tasks[task].since;
                since.is_some_and(|since| since.at_least_s >= patience.as_secs_f64())
            }
            Owner::Thread(_) => false,
        };
        let is_at_rest = |resource: &ResourceNode<'_>| {
            let next = match resource.queue.first().map(|slot| slot.waiter) {
                Some(Waiter::Node(node)) => stands(node),
                Some(Waiter::Paused(_)) | None => false,
            };
            resource.key.kind.is_semaphore() && next && resource.holders.iter().all(|holder| stands(holder.node))
        };
        let at_rest: Vec<bool> = self.resources.all.iter().map(is_at_rest).collect();
        for (resource, at_rest) in self.resources.all.iter_mut().zip(at_rest) {
            resource.at_rest = at_rest;
        }
    }

    /// Whether it stands still until the outside world does something: a client comes, a signal, the end of a channel.
    pub(super) fn is_idle(&self, owner: Owner) -> bool {
        self.nodes_of(owner).filter(|&node| self.nodes[node].children.is_empty()).all(|node| {
            self.nodes[node].wait.is_some_and(|wait| match &wait.resource.kind {
                ResourceKind::Io => true,
                // tokio/src/signal/mod.rs, 1.38 to 1.54
                ResourceKind::Other(name) => name.starts_with("tokio::signal::"),
                kind => wait.mode == WaitMode::Notified && Family::of(kind) == Family::Channel,
            })
        })
    }

    /// The nodes of a task or thread.
    pub(super) fn nodes_of(&self, owner: Owner) -> Range<NodeId> {
        match owner {
            Owner::Task(task) => self.tasks[task].clone(),
            Owner::Thread(thread) => self.thread_node(thread)..self.thread_node(thread) + 1,
        }
    }

    /// Whether the node waits for permits of the resource.
    pub(super) fn wants_permits(&self, node: NodeId, resource: ResourceId) -> bool {
        matches!(self.nodes[node].need, Need::Permits(of, _) if of == resource)
    }

    /// Whether a strand of the task waits for an act on the resource.
    pub(super) fn waits_to_be_reached(&self, task: usize, resource: ResourceId) -> bool {
        self.tasks[task].clone().any(|node| self.nodes[node].need == Need::Reached(resource))
    }

    fn place_needs(&mut self, parties: &Parties) {
        for id in 0..self.nodes.len() {
            let need = match self.nodes[id].owner {
                Owner::Task(task) => self.need_of_strand(id, self.now.tasks[task].state, parties),
                Owner::Thread(thread) => self.need_of_thread(id, thread, parties),
            };
            self.nodes[id].need = need;
            match need {
                Need::Release(resource) | Need::Message(resource) | Need::Room(resource) | Need::Reached(resource) => {
                    self.resources.all[resource].waiting.push(id);
                }
                Need::End(target) => self.joiners.entry(target).or_default().push(id),
                Need::Nothing | Need::Permits(..) | Need::Driver | Need::Children => {}
            }
        }
    }

    fn need_of_strand(&mut self, id: NodeId, state: TaskState, parties: &Parties) -> Need {
        let node = &self.nodes[id];
        match (state, node.wait) {
            (TaskState::Suspended, Some(wait)) if node.children.is_empty() => self.need_of_wait(id, wait, parties),
            (TaskState::Suspended, None) if !node.children.is_empty() => Need::Children,
            // Scheduled or inside a poll: whatever it waited for may have come. Waits and children at once, or neither:
            // not understood.
            _ => Need::Nothing,
        }
    }

    fn need_of_thread(&mut self, id: NodeId, thread: usize, parties: &Parties) -> Need {
        if let Some(wait) = self.nodes[id].wait {
            return self.need_of_wait(id, wait, parties);
        }
        let inside = matches!(
            self.now.threads[thread].activity,
            ThreadActivity::Parked | ThreadActivity::Driving | ThreadActivity::Blocked | ThreadActivity::BlockedIn(_)
        );
        match self.threads[thread].root {
            // BlockedIn the root itself: in a system call that ends by itself.
            Some(root) if inside && self.threads[thread].polls.is_none_or(|task| self.tasks[task].start != root) => {
                Need::End(root)
            }
            _ => Need::Nothing,
        }
    }

    fn need_of_wait(&mut self, id: NodeId, wait: &Wait, parties: &Parties) -> Need {
        match (&wait.resource.kind, wait.mode) {
            (ResourceKind::Timer | ResourceKind::Io, _) => return Need::Driver,
            // Nobody has begun that work.
            (ResourceKind::BlockingPool, _) if wait.target.is_none() => {}
            (ResourceKind::JoinHandle | ResourceKind::BlockingPool, _) | (_, WaitMode::Join) => {
                return wait
                    .target
                    .and_then(|party| self.last_node_of(party, parties))
                    .map_or(Need::Nothing, Need::End);
            }
            _ => {}
        }
        let Some(resource) = self.resources.intern(&wait.resource) else { return Need::Nothing };
        let known = &self.resources.all[resource];
        let reached = known.reachers.is_some();
        match (Family::of(&wait.resource.kind), wait.mode) {
            // Where the owners of its ends are not counted, those who can reach it are all that there may be.
            (Family::Channel, WaitMode::Receive) if reached && known.sending_ends() == Accounting::Open => {
                Need::Reached(resource)
            }
            (Family::Channel, WaitMode::Send) if reached && known.receiving_ends() == Accounting::Open => {
                Need::Reached(resource)
            }
            (Family::Rest, _) if reached => Need::Reached(resource),
            _ if known.is_suspected() => Need::Release(resource),
            (Family::Permits, WaitMode::Acquire { permits }) => match self.missing_permits(id, wait, resource, permits)
            {
                0 => Need::Nothing,
                missing => Need::Permits(resource, missing),
            },
            (Family::ThreadLock, _) => Need::Release(resource),
            (Family::Channel, WaitMode::Receive) => Need::Message(resource),
            (Family::Channel, WaitMode::Send) => Need::Room(resource),
            _ => Need::Nothing,
        }
    }

    /// How many of the `permits` that a wait is for have not come: as its place in the queue says, or else what is not
    /// found with it.
    fn missing_permits(&self, id: NodeId, wait: &Wait, resource: ResourceId, permits: u64) -> u64 {
        let record = self.resources.all[resource].record.filter(|record| record.queue_known);
        let entry = record.zip(wait.position).and_then(|(record, position)| record.queue.get(position as usize));
        if let Some(wants) = entry.and_then(|entry| entry.wants) {
            return wants;
        }
        let counts = |hold: &&Hold| {
            self.resources.get(&hold.resource) == Some(resource)
                && match hold.how {
                    HoldHow::Reserved => true,
                    // Who was given all it wanted has left the queue: with a place there, that is another future's.
                    HoldHow::AssignedUnpolled => wait.position.is_none(),
                    _ => false,
                }
        };
        let has = self.nodes[id].holds.iter().filter(counts);
        permits.saturating_sub(has.fold(0, |sum, hold| sum.saturating_add(hold.amount)))
    }

    /// The node whose end is the end of `party`.
    fn last_node_of(&self, party: PartyId, parties: &Parties) -> Option<NodeId> {
        match party {
            PartyId::Thread { tid } => parties.threads.get(&tid).map(|&thread| self.thread_node(thread)),
            _ => parties.task(party).map(|task| self.tasks[task].start),
        }
    }
}

/// Whether the thread is blocked, and not in a call that ends by itself after a time.
fn is_blocked(thread: &Thread) -> bool {
    /// x86-64 number of `futex`; its fourth argument is the time limit, 0 for none.
    const FUTEX: i64 = 202;
    let timed = thread.syscall.is_some_and(|call| call.number == FUTEX && call.args[3] != 0);
    !timed && matches!(thread.activity, ThreadActivity::Blocked | ThreadActivity::BlockedIn(_))
}

/// Finds tasks and threads of a snapshot by name.
pub(super) struct Parties {
    tasks: FxHashMap<PartyId, usize>,
    threads: FxHashMap<i32, usize>,
}

impl Parties {
    /// Those of `snapshot`.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self {
            tasks: snapshot.tasks.iter().enumerate().map(|(index, task)| (task.party, index)).collect(),
            threads: snapshot.threads.iter().enumerate().map(|(index, thread)| (thread.tid, index)).collect(),
        }
    }

    /// The task or thread of this name.
    pub(super) fn owner(&self, party: PartyId) -> Option<Owner> {
        match party {
            PartyId::Thread { tid } => self.threads.get(&tid).copied().map(Owner::Thread),
            _ => self.task(party).map(Owner::Task),
        }
    }

    /// Index of the task (or `block_on` root) of this name.
    pub(super) fn task(&self, party: PartyId) -> Option<usize> {
        self.tasks.get(&party).copied()
    }
}

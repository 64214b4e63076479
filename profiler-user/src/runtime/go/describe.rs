//! From what was read of goroutines to the model: tasks, with what they wait for and who can reach that.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    code::{self, Start},
    goroutine::{Goroutine, Status},
    queue::Queues,
    reach::{self, Subject},
    read::Known,
    stack::Stack,
    waits::{self, Waiting},
};
use crate::model::{
    Buffer, Coverage, Origin, PartyId, QueueEntry, Resource, ResourceKey, ResourceKind, Since, SinceSource, Strand,
    Task, TaskState,
};

/// The id of the main goroutine.
const MAIN: u64 = 1;

impl Known {
    /// The name of its wait reason; that of its status where it does not wait.
    pub(super) fn status(&self, goroutine: &Goroutine) -> &str {
        let reason = self.layout.reasons.get(usize::from(goroutine.reason));
        let reason = reason.filter(|reason| goroutine.status.is_parked() && !reason.is_empty());
        reason.map_or(goroutine.status.word(), String::as_str)
    }

    /// Who the goroutine is.
    pub(super) fn party(&self, goroutine: &Goroutine) -> PartyId {
        PartyId::Task { runtime: self.allgs, id: goroutine.id }
    }

    /// A task for the goroutine, which `thread` runs; `runtime` is the index of its runtime.
    pub(super) fn task(
        &mut self,
        goroutine: &Goroutine,
        stack: &Stack<'_>,
        (thread, runtime): (Option<i32>, usize),
        start: Option<Start>,
        waiting: &mut Waiting,
    ) -> Task {
        let frames = self.stands.frames(stack);
        let first = frames.first().map(|frame| Arc::clone(&frame.function));
        let name = match start {
            Some(start) if !start.foreign => start.name,
            start => first.or(start.map(|start| start.name)).unwrap_or_else(|| "(function not known)".into()),
        };
        let mut root = Strand::new(frames);
        waiting.place(&mut root);
        let word = (goroutine.status, if goroutine.status.is_parked() { goroutine.reason } else { 0 });
        if !self.words.contains_key(&word) {
            let status = self.status(goroutine).into();
            self.words.insert(word, status);
        }
        let status = self.words.get(&word).cloned();
        let incomplete = match goroutine.status {
            Status::Running | Status::CopyStack if !stack.complete => {
                Some("it runs: its stack is in its thread's registers")
            }
            _ if !stack.complete => Some("its stack could not be followed to its root"),
            _ => None,
        };
        Task {
            party: self.party(goroutine),
            address: goroutine.address,
            runtime,
            name,
            state: state(goroutine.status),
            status,
            since: since(goroutine),
            origin: self.origin(goroutine).map(Box::new),
            labels: None,
            root,
            awaits_known: incomplete.is_none(),
            imprint: None,
            incomplete: incomplete.map(Into::into),
            unstable: false,
            thread,
        }
    }

    fn origin(&mut self, goroutine: &Goroutine) -> Option<Origin> {
        // The runtime itself starts the main goroutine.
        let site = self.code.caller(goroutine.creator_pc).filter(|site| code::is_shown(&site.function))?;
        let party = PartyId::Task { runtime: self.allgs, id: goroutine.creator };
        Some(Origin { party: (goroutine.creator != 0).then_some(party), site: Some(site) })
    }
}

fn state(status: Status) -> TaskState {
    match status {
        Status::Running | Status::CopyStack => TaskState::Running,
        Status::Runnable | Status::Preempted => TaskState::Scheduled,
        Status::Syscall => TaskState::Blocked,
        Status::Waiting | Status::Leaked => TaskState::Suspended,
    }
}

/// By the runtime's own note, which a collection makes.
fn since(goroutine: &Goroutine) -> Option<Since> {
    let noted = matches!(goroutine.status, Status::Waiting | Status::Syscall) && goroutine.since != 0;
    let waited = waits::now_ns()?.checked_sub(i64::try_from(goroutine.since).ok()?)?;
    let at_least_s = waited as f64 / 1e9;
    (noted && waited >= 0).then_some(Since { at_least_s, source: SinceSource::Runtime })
}

/// The channels that goroutines wait at, with their queues. A channel at which some receive and others send is full and
/// empty at once only while it is being read.
pub(super) fn channels(queues: &Queues, parties: &FxHashMap<u64, PartyId>) -> Vec<Resource> {
    let resource = |address: u64, queue: Vec<QueueEntry>, queue_known: bool, buffer: Buffer| Resource {
        queue,
        queue_known,
        // More than fit are in it only while it is being read.
        buffer: Some(buffer).filter(|buffer| buffer.length <= buffer.capacity),
        ..Resource::new(ResourceKey { kind: ResourceKind::GoChan, address })
    };
    let entry = |party: Option<PartyId>| QueueEntry { party, wants: None };
    let mut channels = Vec::with_capacity(queues.shared.len() + queues.alone.len());
    for (address, channel) in &queues.shared {
        let [receivers, senders] = &channel.waiters;
        let queue = receivers.iter().chain(senders).map(|goroutine| entry(parties.get(goroutine).copied())).collect();
        channels.push(resource(*address, queue, receivers.is_empty() || senders.is_empty(), channel.buffer));
    }
    for (address, party, buffer) in queues.alone.iter().filter(|(address, ..)| !queues.shared.contains_key(address)) {
        channels.push(resource(*address, vec![entry(*party)], true, *buffer));
    }
    channels
}

/// Says of everything that the dead wait for who can reach it.
pub(super) fn close(
    resources: &mut Vec<Resource>,
    dead: &reach::Dead,
    (subjects, tasks): (&[Subject], &[Task]),
    parties: &FxHashMap<u64, PartyId>,
) {
    if dead.all.is_empty() {
        return;
    }
    let mut places: FxHashMap<ResourceKey, usize> =
        resources.iter().enumerate().map(|(place, resource)| (resource.key.clone(), place)).collect();
    // The main goroutine in a select without cases only keeps the program alive: no trouble, and it will never act.
    let keeps_alive =
        |subject: &Subject| subject.goroutine.id == MAIN && subject.waits_for().is_some_and(<[u64]>::is_empty);
    for index in &dead.all {
        let subject = &subjects[*index];
        if keeps_alive(subject) {
            continue;
        }
        let targets = subject.waits_for().into_iter().flatten().map(Some).chain(std::iter::repeat(None));
        let waits = subject.task.and_then(|task| tasks.get(task)).into_iter().flat_map(|task| task.root.waits());
        for (wait, target) in waits.zip(targets) {
            let reachers = target.and_then(|target| dead.reached_by.get(target)).into_iter().flatten();
            let able = reachers.map(|place| &subjects[*place]).filter(|subject| !keeps_alive(subject));
            let mut known: Vec<PartyId> =
                able.filter_map(|subject| parties.get(&subject.goroutine.address).copied()).collect();
            known.sort_unstable();
            known.dedup();
            let place = *places.entry(wait.resource.clone()).or_insert_with(|| {
                resources.push(Resource::new(wait.resource.clone()));
                resources.len() - 1
            });
            resources[place].reachable_by = Some(known);
        }
    }
}

/// Says of locks that whoever took them has left.
pub(super) fn abandon(resources: &mut [Resource], locks: &[ResourceKey]) {
    for resource in resources.iter_mut().filter(|resource| locks.contains(&resource.key)) {
        resource.abandoned = true;
    }
}

/// Says of locks that one who has all of it was found.
pub(super) fn hold(resources: &mut Vec<Resource>, held: Vec<ResourceKey>) {
    for key in held {
        match resources.iter_mut().find(|resource| resource.key == key) {
            Some(known) => known.permits = Some(1),
            None => resources.push(Resource { permits: Some(1), ..Resource::new(key) }),
        }
    }
}

pub(super) fn count(tasks: &[Task], coverage: &mut Coverage) {
    for task in tasks {
        coverage.seen += 1;
        if task.unstable {
            coverage.unstable += 1;
        } else if task.is_opaque() {
            coverage.unknown += 1;
        } else {
            coverage.decoded += 1;
        }
    }
}

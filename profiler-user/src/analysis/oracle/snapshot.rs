//! A world as a reader shows it.

use super::{Holds, Missed, Owner, Runs, Waits, Who, World};
use crate::{
    analysis::tests::build,
    model::{
        Hold, HoldHow, PartyId, QueueEntry, Resource, ResourceKey, ResourceKind, Snapshot, Strand, Task, TaskState,
        Thread, ThreadActivity, ThreadRole, Wait, WaitMode,
    },
};

/// First address of the locks, of the channels and of the locks for threads.
const LOCKS: u64 = 0x100;
const CHANNELS: u64 = 0x200;
const BLOCKING: u64 = 0x300;
const THINGS: u64 = 0x500;
/// Kernel id of the first thread.
const THREADS: i32 = 100;

impl World {
    /// The party of a task.
    pub(super) fn party(&self, task: usize) -> PartyId {
        self.thread_around(task).map_or(build::party(task as u64), |thread| PartyId::BlockOn { tid: tid(thread) })
    }

    /// The whole snapshot.
    pub(super) fn snapshot(&self) -> Snapshot {
        let tasks = (0..self.tasks.len()).map(|task| self.show_task(task)).collect();
        let threads = (0..self.threads.len()).map(|thread| self.show_thread(thread)).collect();
        let locks = (0..self.locks.len()).map(|lock| self.show_lock(lock));
        let channels = (0..self.channels.len()).map(|channel| self.show_channel(channel));
        let things = (0..self.things.len()).map(|thing| self.show_thing(thing));
        build::process_with(threads, tasks, locks.chain(channels).chain(things).collect())
    }

    fn show_task(&self, task: usize) -> Task {
        let this = &self.tasks[task];
        let mut shown = build::task(task as u64, self.show_strand(this.strands[0]));
        shown.party = self.party(task);
        match this.runs {
            Runs::Suspended | Runs::Root(_) => {}
            Runs::Scheduled => shown.state = TaskState::Scheduled,
            Runs::On(thread) => (shown.state, shown.thread) = (TaskState::Blocked, Some(tid(thread))),
        }
        if this.missed != Missed::Nothing {
            shown.incomplete = Some("made up".into());
        }
        if this.missed == Missed::Strand {
            shown.awaits_known = false;
            shown.root.children.pop();
        }
        shown
    }

    fn show_strand(&self, strand: usize) -> Strand {
        let this = &self.strands[strand];
        let mut shown =
            build::fork(this.fork, Vec::new(), self.children(strand).map(|child| self.show_strand(child)).collect());
        if self.is_timeout(strand) {
            shown.frames = vec![build::frame("tokio::time::timeout::Timeout::poll")].into();
        }
        shown.wait = self.show_wait(strand);
        if self.tasks[this.task].missed == Missed::Nothing {
            shown.holds = self.show_holds(Owner::Strand(strand));
            shown.holds.extend(self.reserved(strand));
        }
        shown
    }

    fn show_wait(&self, strand: usize) -> Option<Wait> {
        Some(match self.strands[strand].waits {
            Waits::Children => return None,
            Waits::Permits { lock, wants } => {
                let mut wait = build::acquire(lock_key(lock), u64::from(wants));
                let at = self.locks[lock].queue.iter().position(|place| place.who == Who::Strand(strand));
                wait.position = at.map(|at| at as u32).filter(|_| self.locks[lock].queue_known);
                wait
            }
            Waits::Message(channel) => build::wait(channel_key(channel), WaitMode::Receive),
            Waits::Room(channel) => build::wait(channel_key(channel), WaitMode::Send),
            Waits::End(task) => Wait { target: Some(self.party(task)), ..build::join(task as u64) },
            Waits::Reached(thing) => build::wait(thing_key(thing), WaitMode::Unknown),
            Waits::Timer => build::timer(1_000),
            Waits::Outside => build::wait(build::key(ResourceKind::TokioNotify, 0x400), WaitMode::Notified),
        })
    }

    /// The first in a queue has taken what is free, and wants the rest.
    fn taken_by_first(&self, lock: usize) -> u8 {
        let this = &self.locks[lock];
        this.queue.first().map_or(0, |first| this.free.min(first.wants))
    }

    fn reserved(&self, strand: usize) -> impl Iterator<Item = Hold> {
        let is_first = move |lock: usize| match self.locks[lock].queue.first()?.who {
            Who::Strand(first) => Some(first == strand),
            Who::Paused(task) => Some(self.root(task) == strand),
        };
        let taken = move |lock: usize| self.taken_by_first(lock);
        (0..self.locks.len())
            .filter(move |&lock| is_first(lock) == Some(true) && taken(lock) > 0)
            .map(move |lock| build::hold(lock_key(lock), HoldHow::Reserved, u64::from(taken(lock))))
    }

    fn show_holds(&self, owner: Owner) -> Vec<Hold> {
        let held = self.holds.iter().filter(|hold| hold.0 == owner);
        held.map(|hold| match hold.1 {
            Holds::Permits { lock, amount, paused } => {
                let how = if paused { HoldHow::AssignedUnpolled } else { HoldHow::Guard };
                build::hold(lock_key(lock), how, u64::from(amount))
            }
            Holds::Sender(channel) => build::hold(channel_key(channel), HoldHow::Sender, 1),
            Holds::Receiver(channel) => build::hold(channel_key(channel), HoldHow::Receiver, 1),
            Holds::Blocking(lock) => build::guard(blocking_key(lock)),
        })
        .collect()
    }

    fn show_thread(&self, thread: usize) -> Thread {
        let this = &self.threads[thread];
        let polls = (0..self.tasks.len()).find(|&task| self.tasks[task].runs == Runs::On(thread));
        let activity = match (this.blocked, polls) {
            (_, Some(task)) => ThreadActivity::BlockedIn(self.party(task)),
            (Some(_), None) => ThreadActivity::Blocked,
            (None, None) => ThreadActivity::Parked,
        };
        let mut shown = build::worker(tid(thread), activity);
        if !this.worker {
            shown.role = if self.root_on(thread).is_some() { ThreadRole::BlockOn } else { ThreadRole::Plain };
        }
        shown.wait = this.blocked.map(|lock| build::wait(blocking_key(lock), WaitMode::Unknown));
        shown.holds = self.show_holds(Owner::Thread(thread));
        shown
    }

    fn show_lock(&self, lock: usize) -> Resource {
        let this = &self.locks[lock];
        let held: u8 = self
            .holds
            .iter()
            .map(|hold| match hold.1 {
                Holds::Permits { lock: of, amount, .. } if of == lock => amount,
                _ => 0,
            })
            .sum();
        let taken = self.taken_by_first(lock);
        let queue = this.queue.iter().enumerate().map(|(at, place)| QueueEntry {
            party: Some(match place.who {
                Who::Strand(strand) => self.party(self.strands[strand].task),
                Who::Paused(task) => self.party(task),
            }),
            wants: Some(u64::from(if at == 0 { place.wants - taken } else { place.wants })),
        });
        Resource {
            permits: this.total_known.then(|| u64::from(held + this.free + this.hidden)),
            reachable_by: (this.total_known && !this.adders.is_empty())
                .then(|| this.adders.iter().map(|&task| self.party(task)).collect()),
            available: Some(u64::from(this.free - taken)),
            queue: if this.queue_known { queue.collect() } else { Vec::new() },
            queue_known: this.queue_known,
            ..Resource::new(lock_key(lock))
        }
    }

    fn show_thing(&self, thing: usize) -> Resource {
        let (reachers, known) = &self.things[thing];
        let reachers = reachers.iter().map(|&task| self.party(task)).collect();
        Resource { reachable_by: known.then_some(reachers), ..Resource::new(thing_key(thing)) }
    }

    fn show_channel(&self, channel: usize) -> Resource {
        let this = &self.channels[channel];
        let count = |what: Holds, hidden: bool| {
            let seen = self.holds.iter().filter(|hold| hold.1 == what).count() as u64;
            this.counted.then_some(seen + u64::from(hidden))
        };
        Resource {
            senders: count(Holds::Sender(channel), this.hidden_sender),
            receivers: count(Holds::Receiver(channel), this.hidden_receiver),
            ..Resource::new(channel_key(channel))
        }
    }
}

fn thing_key(thing: usize) -> ResourceKey {
    build::key(ResourceKind::Other("thing".into()), THINGS + thing as u64)
}

/// Kernel id of a thread.
pub(super) fn tid(thread: usize) -> i32 {
    THREADS + thread as i32
}

fn lock_key(lock: usize) -> ResourceKey {
    build::key(ResourceKind::TokioSemaphore, LOCKS + lock as u64)
}

fn channel_key(channel: usize) -> ResourceKey {
    build::key(ResourceKind::TokioBroadcast, CHANNELS + channel as u64)
}

fn blocking_key(lock: usize) -> ResourceKey {
    build::key(ResourceKind::StdMutex, BLOCKING + lock as u64)
}

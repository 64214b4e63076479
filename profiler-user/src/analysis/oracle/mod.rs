//! The semantics of `docs/verdicts.md` by brute force: tiny worlds, every sequence of moves, and the analysis beside it.
//!
//! A [`World`] is what is true. `snapshot` shows it as a reader would have seen it, with whatever the reader missed left
//! out; `garble` spoils what is shown; `search` tries every sequence of counted moves; `generate` makes worlds up;
//! `properties` compares.

mod garble;
mod generate;
mod properties;
mod search;
mod snapshot;

use crate::model::Fork;

/// What a strand waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// Its children.
    Children,
    /// Permits of a lock: its place stands in the lock's queue.
    Permits { lock: usize, wants: u8 },
    /// A message.
    Message(usize),
    /// Room.
    Room(usize),
    /// A task's end.
    End(usize),
    /// An act of anyone who can reach this thing.
    Reached(usize),
    /// A timer.
    Timer,
    /// Something that the outside brings.
    Outside,
}

/// Something held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Permits of a lock; `paused` where a future that nobody polls was given them.
    Permits { lock: usize, amount: u8, paused: bool },
    /// A sending end.
    Sender(usize),
    /// A receiving end.
    Receiver(usize),
    /// A lock for threads.
    Blocking(usize),
}

/// Who holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Strand(usize),
    Thread(usize),
}

/// How a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// Suspended; a worker polls it when it is woken.
    Suspended,
    /// Woken already.
    Scheduled,
    /// In a poll that blocks this thread.
    On(usize),
    /// The root of this thread's `block_on`.
    Root(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Strand {
    task: usize,
    parent: Option<usize>,
    fork: Fork,
    waits: Waits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    Nothing,
    /// Everything it holds.
    Holds,
    /// Everything it holds, and its last strand.
    Strand,
}

#[derive(Clone, Debug)]
pub(super) struct Task {
    runs: Runs,
    /// Its strands, the root first.
    strands: Vec<usize>,
    /// What the reader missed of it.
    missed: Missed,
}

#[derive(Clone, Debug)]
pub(super) struct Thread {
    /// The lock it blocks in.
    blocked: Option<usize>,
    worker: bool,
}

/// A place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    who: Who,
    wants: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Strand(usize),
    /// A future of this task that nobody polls.
    Paused(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Lock {
    free: u8,
    /// Permits with a party that no reader sees.
    hidden: u8,
    queue: Vec<Place>,
    /// Tasks that may add permits.
    adders: Vec<usize>,
    /// The reader knows how many permits there are, and who may add some.
    total_known: bool,
    /// The reader knows the queue.
    queue_known: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Channel {
    hidden_sender: bool,
    hidden_receiver: bool,
    /// The reader knows how many ends there are.
    counted: bool,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    tasks: Vec<Task>,
    strands: Vec<Strand>,
    threads: Vec<Thread>,
    locks: Vec<Lock>,
    channels: Vec<Channel>,
    /// For each lock for threads, whether a party that no reader sees holds it.
    blocking: Vec<bool>,
    /// Things that whoever can reach them may act on: the tasks that can, and whether the reader knows who they are.
    things: Vec<(Vec<usize>, bool)>,
    holds: Vec<(Owner, Holds)>,
}

impl World {
    fn children(&self, strand: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.strands.len()).filter(move |&child| self.strands[child].parent == Some(strand))
    }

    fn root(&self, task: usize) -> usize {
        self.tasks[task].strands[0]
    }

    /// The thread whose `block_on` the task is the root of.
    fn thread_around(&self, task: usize) -> Option<usize> {
        match self.tasks[task].runs {
            Runs::Root(thread) => Some(thread),
            _ => None,
        }
    }

    /// The root that the thread is blocked on.
    fn root_on(&self, thread: usize) -> Option<usize> {
        (0..self.tasks.len()).find(|&task| self.tasks[task].runs == Runs::Root(thread))
    }

    /// Whether a strand that forks is called a timeout: some are.
    fn is_timeout(&self, strand: usize) -> bool {
        self.strands[strand].fork == Fork::Any && strand.is_multiple_of(2)
    }

    /// Whether the strand is a timer beside something that waits for what another has.
    fn is_escape(&self, strand: usize) -> bool {
        let this = &self.strands[strand];
        let beside = |parent| self.children(parent).filter(|&other| other != strand);
        this.waits == Waits::Timer
            && this.parent.is_some_and(|parent| {
                self.strands[parent].fork == Fork::Any
                    && beside(parent).any(|other| match self.strands[other].waits {
                        Waits::Permits { .. } => true,
                        Waits::Room(_) => self.is_timeout(parent),
                        _ => false,
                    })
            })
    }

    /// Nothing was hidden from the reader that it does not know to be missing.
    fn seen_whole(&self) -> bool {
        self.tasks.iter().all(|task| task.missed == Missed::Nothing)
            && self.locks.iter().all(|lock| lock.total_known && lock.queue_known)
            && self.channels.iter().all(|channel| channel.counted)
            && self.things.iter().all(|(_, known)| *known)
    }
}

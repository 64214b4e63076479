//! Worlds made up from a tape of random bytes; an exhausted tape yields zeros, so a shrunk tape is a simple world.

use super::{Channel, Holds, Lock, Missed, Owner, Place, Runs, Strand, Task, Thread, Waits, Who, World};
use crate::model::Fork;

/// What may be in a world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipe {
    /// Parties that no reader sees.
    pub(super) strangers: bool,
    /// Things that the reader does not know to be missing.
    pub(super) gaps: bool,
    /// Timers.
    pub(super) timers: bool,
}

/// Random choices.
pub(super) struct Tape<'t> {
    bytes: std::slice::Iter<'t, u8>,
}

impl<'t> Tape<'t> {
    /// Begins to read `bytes`.
    pub(super) fn new(bytes: &'t [u8]) -> Self {
        Self { bytes: bytes.iter() }
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.bytes.next().copied().unwrap_or(0)) % limit.max(1)
    }

    /// Yes once in `times`, and never on an empty tape.
    pub(super) fn rarely(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }
}

/// The world that a tape describes.
pub(super) fn world(bytes: &[u8], recipe: Recipe) -> World {
    let mut tape = Tape::new(bytes);
    let mut world = World {
        tasks: Vec::new(),
        strands: Vec::new(),
        threads: Vec::new(),
        locks: Vec::new(),
        channels: Vec::new(),
        blocking: Vec::new(),
        things: Vec::new(),
        holds: Vec::new(),
    };
    let tasks = 1 + tape.below(3);
    let workers = 1 + tape.below(2);
    let plain = tape.below(2);
    let counts =
        Counts { tasks, locks: 1 + tape.below(2), channels: tape.below(3), blocking: tape.below(3), things: 0 };
    world.locks = (0..counts.locks)
        .map(|_| Lock {
            free: u8::from(tape.rarely(4)),
            hidden: u8::from(recipe.strangers && tape.rarely(4)),
            queue: Vec::new(),
            adders: if tape.rarely(4) { (0..tasks).filter(|_| tape.rarely(2)).collect() } else { Vec::new() },
            total_known: !(recipe.gaps && tape.rarely(3)),
            queue_known: !(recipe.gaps && tape.rarely(3)),
        })
        .collect();
    world.channels = (0..counts.channels)
        .map(|_| Channel {
            hidden_sender: recipe.strangers && tape.rarely(5),
            hidden_receiver: recipe.strangers && tape.rarely(5),
            counted: !(recipe.gaps && tape.rarely(3)),
        })
        .collect();
    world.blocking = (0..counts.blocking).map(|_| recipe.strangers && tape.rarely(6)).collect();
    world.things = (0..tape.below(3))
        .map(|_| {
            let reachers = (0..tasks).filter(|_| tape.rarely(2)).collect();
            (reachers, !(recipe.gaps && tape.rarely(3)))
        })
        .collect();
    let counts = Counts { things: world.things.len(), ..counts };
    world.threads = (0..workers + plain)
        .map(|thread| Thread {
            blocked: (counts.blocking > 0 && tape.rarely(2)).then(|| tape.below(counts.blocking)),
            worker: thread < workers,
        })
        .collect();
    for task in 0..tasks {
        add_task(&mut world, &mut tape, task, counts, recipe);
    }
    for thread in 0..world.threads.len() {
        if tape.rarely(3) {
            add_hold(&mut world, &mut tape, Owner::Thread(thread), counts);
        }
    }
    shuffle_queues(&mut world, &mut tape);
    world
}

#[derive(Clone, Copy)]
struct Counts {
    tasks: usize,
    locks: usize,
    channels: usize,
    blocking: usize,
    things: usize,
}

fn add_task(world: &mut World, tape: &mut Tape<'_>, task: usize, counts: Counts, recipe: Recipe) {
    let runs = place(world, tape);
    let forks = matches!(runs, Runs::Suspended | Runs::Root(_)) && tape.rarely(3);
    let fork = if tape.rarely(2) { Fork::All } else { Fork::Any };
    let root = world.strands.len();
    let waits = if forks { Waits::Children } else { leaf(tape, counts, recipe) };
    world.strands.push(Strand { task, parent: None, fork, waits });
    let mut strands = vec![root];
    if forks {
        for _ in 0..2 {
            strands.push(world.strands.len());
            world.strands.push(Strand { task, parent: Some(root), fork: Fork::Any, waits: leaf(tape, counts, recipe) });
        }
    }
    for &strand in &strands {
        if let Waits::Permits { lock, wants } = world.strands[strand].waits {
            world.locks[lock].queue.push(Place { who: Who::Strand(strand), wants });
        }
        for _ in 0..[1, 0, 2][tape.below(3)] {
            add_hold(world, tape, Owner::Strand(strand), counts);
        }
    }
    if tape.rarely(8) {
        let lock = tape.below(counts.locks);
        world.locks[lock].queue.push(Place { who: Who::Paused(task), wants: 1 });
    }
    let missed = match tape.below(12) {
        10 if recipe.gaps => Missed::Holds,
        11 if recipe.gaps => Missed::Strand,
        _ => Missed::Nothing,
    };
    world.tasks.push(Task { runs, strands, missed });
}

/// Where a task runs: at most one in each blocked worker's poll, at most one root on each other thread.
fn place(world: &World, tape: &mut Tape<'_>) -> Runs {
    let busy = |thread: usize| {
        world.tasks.iter().any(|task| matches!(task.runs, Runs::On(on) | Runs::Root(on) if on == thread))
    };
    let idle_where = |blocked: bool, worker: bool| {
        (0..world.threads.len()).find(|&thread| {
            let this = &world.threads[thread];
            !busy(thread) && this.blocked.is_some() == blocked && this.worker == worker
        })
    };
    match tape.below(8) {
        5 => Runs::Scheduled,
        6 => idle_where(true, true).map_or(Runs::Suspended, Runs::On),
        7 => idle_where(false, false).or(idle_where(true, false)).map_or(Runs::Suspended, Runs::Root),
        _ => Runs::Suspended,
    }
}

fn leaf(tape: &mut Tape<'_>, counts: Counts, recipe: Recipe) -> Waits {
    match tape.below(18) {
        9..=10 if counts.channels > 0 => Waits::Message(tape.below(counts.channels)),
        11 if counts.channels > 0 => Waits::Room(tape.below(counts.channels)),
        12..=13 => Waits::End(tape.below(counts.tasks)),
        14 if recipe.timers => Waits::Timer,
        16..=17 if counts.things > 0 => Waits::Reached(tape.below(counts.things)),
        15 if recipe.strangers => Waits::Outside,
        _ => Waits::Permits { lock: tape.below(counts.locks), wants: 1 + u8::from(tape.rarely(4)) },
    }
}

fn add_hold(world: &mut World, tape: &mut Tape<'_>, owner: Owner, counts: Counts) {
    let hold = match tape.below(8) {
        5 if counts.channels > 0 => Holds::Sender(tape.below(counts.channels)),
        6 if counts.channels > 0 => Holds::Receiver(tape.below(counts.channels)),
        7 if counts.blocking > 0 => {
            let hold = Holds::Blocking(tape.below(counts.blocking));
            // One holder at a time.
            if world.holds.iter().any(|held| held.1 == hold) {
                return;
            }
            hold
        }
        _ => Holds::Permits { lock: tape.below(counts.locks), amount: 1, paused: tape.rarely(6) },
    };
    world.holds.push((owner, hold));
}

fn shuffle_queues(world: &mut World, tape: &mut Tape<'_>) {
    for lock in &mut world.locks {
        for place in (1..lock.queue.len()).rev() {
            let other = tape.below(place + 1);
            lock.queue.swap(place, other);
        }
    }
}

//! Reading all goroutines, some thousand at a time: while some are described, the records and stacks of the next are fetched.

use std::ops::Range;

use super::{
    goroutine::{Goroutine, Park, Status},
    holders::{self, Deferred},
    labels,
    layout::Layout,
    pointers, pools,
    queue::Queues,
    queued::{self, Waiter},
    reach::{Subject, Subjects},
    read::Known,
    stack::{self, Point, Stack},
    threads,
    waits::{self, Waiting},
};
use crate::{
    model::{PartyId, Task},
    runtime::World,
    target::{AddressSpace, Ahead, ThreadFacts},
};

/// Goroutines for which there is room from the beginning, at most.
const MOST_RESERVED: usize = 1 << 22;
/// Goroutines that are read together.
const TOGETHER: usize = 2048;

/// All that one read gives.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) tasks: Vec<Task>,
    /// None where nothing was read before: then nobody can be told to have stood still.
    pub(super) subjects: Subjects,
    pub(super) queues: Queues,
    /// In which park each goroutine was, by its number in the list of all.
    pub(super) parked: Vec<Option<Park>>,
    /// Deferred unlocks, with the task's place.
    pub(super) deferred: Vec<(usize, Deferred)>,
    labels: labels::Known,
    /// Those who wait for a lock.
    pub(super) at_locks: Vec<Waiter>,
    /// Those who wait for a connection of a pool.
    pub(super) at_pools: Vec<pools::Waiter>,
}

/// One whose record was read.
struct Found {
    /// Its number in the list of all goroutines.
    place: usize,
    goroutine: Goroutine,
    /// Where its stack is to be followed from.
    at: Option<Point>,
    /// The thread that it is on.
    thread: Option<i32>,
    /// Which of [`Records::pointers`] its record keeps.
    pointers: Range<usize>,
}

/// Some that were read together, whose stacks have been asked for.
#[derive(Default)]
struct Records {
    found: Vec<Found>,
    pointers: Vec<u64>,
}

/// Goroutines with their tasks' places, whose records have been asked for once more.
type Again = Vec<(usize, Goroutine)>;

impl Known {
    /// Reads the goroutines whose records are at `addresses`; `parked` says in which park each was when it was read last.
    /// `runtime` is the index of the runtime in the snapshot.
    pub(super) fn read(
        &mut self,
        world: &World<'_>,
        runtime: usize,
        addresses: &[u64],
        parked: &[Option<Park>],
    ) -> Reading {
        let mut reading = Reading { parked: vec![None; addresses.len()], ..Reading::default() };
        reading.tasks = Vec::with_capacity(addresses.len().min(MOST_RESERVED));
        if !parked.is_empty() {
            reading.subjects.all = Vec::with_capacity(addresses.len().min(MOST_RESERVED));
        }
        let (mut records, mut stacks) = (Ahead::new(world.memory), Ahead::new(world.memory));
        let mut chunks = addresses.chunks(TOGETHER).enumerate();
        let ask = |records: &mut Ahead<'_>, chunk: &[u64], size: u64| {
            records.ask(chunk.iter().map(|address| *address..address.saturating_add(size)).collect());
        };
        let size = self.layout.g_size;
        let mut asked = chunks.next();
        if let Some((_, chunk)) = asked {
            ask(&mut records, chunk, size);
        }
        let (mut followed, mut again): (Option<Records>, Option<Again>) = (None, None);
        while asked.is_some() || followed.is_some() || again.is_some() {
            let mut parsed = None;
            if let Some((number, chunk)) = asked.take() {
                let mut some = Records::default();
                records.take(|place, record| {
                    let goroutine = (number * TOGETHER + place, chunk[place]);
                    some.add(&self.layout, world, goroutine, record, !parked.is_empty());
                });
                asked = chunks.next();
                if let Some((_, chunk)) = asked {
                    ask(&mut records, chunk, size);
                }
                let pieces = some.found.iter();
                stacks
                    .ask(pieces.map(|found| found.at.map_or(0..0, |at| stack::piece(&found.goroutine, at))).collect());
                parsed = Some(some);
            }
            if let Some(again) = again.take() {
                records.take(|index, record| {
                    let (task, goroutine) = &again[index];
                    // Only what still stands as it did had that stack at that moment.
                    let now = record.and_then(|record| Goroutine::parse(record, &self.layout, goroutine.address));
                    let at_rest = !matches!(goroutine.status, Status::Running | Status::CopyStack);
                    reading.tasks[*task].unstable = at_rest && !now.is_some_and(|now| now.stands_as(goroutine));
                });
            }
            if let Some(Records { found, pointers }) = followed.take() {
                let mut described = Again::with_capacity(found.len());
                let mut found = found.into_iter();
                stacks.take(|_, bytes| {
                    let Some(found) = found.next() else { return };
                    let of_record = &pointers[found.pointers.clone()];
                    let before = parked.get(found.place).and_then(Option::as_ref);
                    let kept = (!parked.is_empty()).then_some((before, of_record));
                    described.extend(self.describe(world, runtime, found, bytes, kept, &mut reading));
                });
                let addresses: Vec<u64> = described.iter().map(|(_, goroutine)| goroutine.address).collect();
                ask(&mut records, &addresses, size);
                again = Some(described);
            }
            followed = parsed;
        }
        reading
    }

    /// Describes one whose stack's bytes are `bytes`. Where something was read before, `kept` is in which park it was then, and
    /// what its record points to. Returns its task's place; `None` for one of the runtime's own.
    fn describe(
        &mut self,
        world: &World<'_>,
        runtime: usize,
        Found { place, goroutine, at, thread, .. }: Found,
        bytes: Option<&[u8]>,
        kept: Option<(Option<&Park>, &[u64])>,
        reading: &mut Reading,
    ) -> Option<(usize, Goroutine)> {
        let memory = world.memory;
        let stack = at.map(|at| stack::unwind(&mut self.code, memory, at, bytes.unwrap_or_default()));
        let stack = stack.unwrap_or_default();
        let start = self.code.start(goroutine.start_pc);
        let own = !start.as_ref().is_some_and(|start| start.system);
        let party = own.then(|| self.party(&goroutine));
        let mut waiting = self.waiting(memory, (&goroutine, party), &stack, &mut reading.queues);
        let subject = reading.subjects.all.len();
        let task = own.then(|| {
            let unlocks = holders::of((&mut self.code, &mut self.unlocks), memory, &self.layout, &goroutine, &stack);
            let task = reading.tasks.len();
            reading.deferred.extend(unlocks.into_iter().map(|unlock| (task, unlock)));
            let mut described = self.task(&goroutine, &stack, (thread, runtime), start, &mut waiting);
            described.labels = reading.labels.at(memory, self.minor, goroutine.labels);
            queued::keep(&mut reading.at_locks, (task, &described), (place, || goroutine.park()), &stack);
            if kept.is_some() {
                pools::keep(&mut reading.at_pools, task, subject, &waiting, &stack);
            }
            reading.tasks.push(described);
            task
        });
        if goroutine.status.is_parked() {
            reading.parked[place] = Some(goroutine.park());
        }
        if let Some((before, of_record)) = kept {
            let pointers = &mut reading.subjects.pointers;
            let from = pointers.len();
            pointers.extend_from_slice(of_record);
            if goroutine.status.is_parked() && stack.complete {
                pointers::of(&stack, pointers);
            }
            reading.subjects.all.push(Subject {
                place,
                task,
                pointers: from..pointers.len(),
                waiting,
                stood: before.is_some_and(|park| *park == goroutine.park()),
                followed: stack.complete,
                goroutine: goroutine.clone(),
            });
        }
        Some((task?, goroutine))
    }

    fn waiting(
        &self,
        memory: &AddressSpace,
        (goroutine, party): (&Goroutine, Option<PartyId>),
        stack: &Stack<'_>,
        queues: &mut Queues,
    ) -> Waiting {
        if !goroutine.status.is_parked() {
            return Waiting::default();
        }
        waits::read(memory, &self.layout, queues, (goroutine, party), stack, self.status(goroutine))
    }
}

impl Records {
    /// Adds the goroutine whose number and address these are, if it is one; where its pointers are `wanted`, with those.
    fn add(
        &mut self,
        layout: &Layout,
        world: &World<'_>,
        (place, address): (usize, u64),
        record: Option<&[u8]>,
        wanted: bool,
    ) {
        let goroutine = record.and_then(|record| Goroutine::parse(record, layout, address));
        let Some((goroutine, record)) = goroutine.zip(record) else { return };
        let thread = threads::of(world, layout, &goroutine);
        let at = match goroutine.status {
            // What it was at when it ran last is past; where its thread is blocked, the kernel knows.
            Status::Running => thread.and_then(ThreadFacts::stack).map(|(sp, pc)| (sp, pc, true)),
            Status::CopyStack => None,
            _ => Some((goroutine.sp, goroutine.pc, false)),
        };
        let from = self.pointers.len();
        if wanted {
            pointers::of_record(world.memory, layout, record, &mut self.pointers);
        }
        let thread = thread.map(|facts| facts.tid);
        self.found.push(Found { place, goroutine, at, thread, pointers: from..self.pointers.len() });
    }
}

//! Which parked goroutines can never run again: those whose channels and locks nothing can reach that may still run.
//!
//! This is the argument of Go's own collector about leaked goroutines, made from outside and without a collection in the
//! target: roots are the globals, finalizers, and the stacks of all goroutines that may run. What they reach is marked; a
//! parked goroutine whose channel or lock has been reached may run, and its stack is a root too; to the fixed point.
//!
//! A heap that is read while the program runs is torn: a pointer may move from what is read late to what was read early.
//! So it is read several times, each time following anew all that was ever reached, and the stacks of what moves before
//! and after. What any of that reaches counts, and only those that stood in the same park all the time are anything but
//! roots. Of a process that stands still one read is enough, with the registers of its threads.

use std::ops::Range;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    allgs,
    code::Code,
    goroutine::{Goroutine, Status},
    heap::Heap,
    instant,
    layout::Layout,
    mark::Marks,
    roots,
    spans::{self, Object, Spans},
    waits::Waiting,
};
use crate::{runtime::Reads, target::AddressSpace};

/// How many times the heap is read before anyone is accused.
const PASSES: usize = 4;
/// Bytes of spans with pointers that are read at most.
const LARGEST_HEAP: u64 = 64 << 30;
/// Objects that are visited at most to tell who of the dead can reach what.
const BUDGET: u64 = 50_000_000;

/// A goroutine as the marking sees it.
pub(super) struct Subject {
    pub(super) goroutine: Goroutine,
    /// Its number in the list of all goroutines.
    pub(super) place: usize,
    /// Its place among the tasks; `None` for one of the runtime's own.
    pub(super) task: Option<usize>,
    /// Which of [`Subjects::pointers`] are its own. Meaningful only while it is parked.
    pub(super) pointers: Range<usize>,
    /// What it waits for.
    pub(super) waiting: Waiting,
    /// It stood in the same park in an earlier read.
    pub(super) stood: bool,
    /// Its stack was followed to the root. If not, every word on it counts as a pointer.
    pub(super) followed: bool,
}

impl Subject {
    /// The addresses of what it waits for, any of which lets it go on; `None` where the world outside may do so too, or
    /// where it did not stand in the same park in an earlier read.
    pub(super) fn waits_for(&self) -> Option<&[u64]> {
        let eligible = self.stood && self.followed && self.goroutine.status.is_parked();
        self.waiting.targets.as_deref().filter(|_| eligible)
    }
}

/// All goroutines.
#[derive(Default)]
pub(super) struct Subjects {
    /// In the order of the runtime's list.
    pub(super) all: Vec<Subject>,
    /// Pointers on their stacks and in their records.
    pub(super) pointers: Vec<u64>,
}

/// Where the runtime keeps what the marking starts from.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) layout: &'a Layout,
    pub(super) allgs: u64,
    pub(super) allspans: u64,
    pub(super) reads: Reads<'a>,
}

/// Who can never run again.
#[derive(Debug, Default)]
pub(super) struct Dead {
    /// By the address of what they wait for: places among the subjects of all dead that can reach it.
    pub(super) reached_by: FxHashMap<u64, Vec<usize>>,
    /// Places of the dead among the subjects.
    pub(super) all: Vec<usize>,
}

/// Finds the dead among `subjects`; an error says in one sentence why that is not possible.
pub(super) fn find(
    memory: &AddressSpace,
    code: &mut Code,
    places: Places<'_>,
    subjects: &Subjects,
) -> Result<Dead, String> {
    let candidates: Vec<usize> =
        (0..subjects.all.len()).filter(|index| subjects.all[*index].waits_for().is_some()).collect();
    if candidates.is_empty() {
        return Ok(Dead::default());
    }
    if let Reads::Torn = places.reads {
        return Err("its heap was not kept; a core file has it, and so does `gordian capture --freeze`".into());
    }
    let mut marking = Marking::new(places.layout, subjects, candidates);
    marking.read(memory, code, places)?;
    Ok(marking.who_reaches_what())
}

/// For each of some objects which goroutines can reach it, by their places among the subjects: `None` where anything can
/// that is no goroutine which stood still. What lies in `closed` leads nowhere, nor does to them what `leads` says no to.
pub(super) fn owners(
    memory: &AddressSpace,
    code: &mut Code,
    places: Places<'_>,
    subjects: &Subjects,
    (closed, objects): (&[u64], &[u64]),
    leads: impl Fn(&Heap<'_>, Object) -> bool,
) -> Result<Vec<Option<Vec<usize>>>, String> {
    let still = |index: &usize| {
        let subject = &subjects.all[*index];
        subject.stood && subject.followed && subject.goroutine.status.is_parked()
    };
    let candidates = (0..subjects.all.len()).filter(still).collect();
    let mut marking =
        Marking { closed: closed.to_vec(), asleep: true, ..Marking::new(places.layout, subjects, candidates) };
    marking.read(memory, code, places)?;
    marking.who_alone_reaches(objects, leads)
}

pub(super) fn read_heap<'m>(memory: &'m AddressSpace, places: Places<'_>) -> Result<Heap<'m>, String> {
    let spans = spans::read(memory, places.layout, places.allspans).ok_or("the heap's spans cannot be read")?;
    let with_pointers = spans.iter().filter(|span| !span.no_pointers);
    if with_pointers.map(|span| span.range.end - span.range.start).sum::<u64>() > LARGEST_HEAP {
        return Err(format!("more than {} GB of the heap hold pointers", LARGEST_HEAP >> 30));
    }
    Ok(Heap::new(memory, Spans::new(spans), places.layout.span_inline_marks.unwrap_or(0)))
}

struct Marking<'a, 'm> {
    layout: &'a Layout,
    subjects: &'a Subjects,
    /// By the number in the list of all goroutines.
    by_place: Vec<Option<usize>>,
    /// Stacks by address, with the subject's place.
    stacks: Vec<(Range<u64>, usize)>,
    marks: Option<Marks<'m>>,
    /// Those that have not been found to be able to go on, and those that have.
    candidates: Vec<usize>,
    live: Vec<bool>,
    /// Objects that lead nowhere, besides the records by which the runtime finds waiting goroutines.
    closed: Vec<u64>,
    /// Nobody is woken by what is reached.
    asleep: bool,
}

impl<'a, 'm> Marking<'a, 'm> {
    fn new(layout: &'a Layout, subjects: &'a Subjects, candidates: Vec<usize>) -> Self {
        let all = &subjects.all;
        let mut by_place = vec![None; all.last().map_or(0, |last| last.place + 1)];
        for (index, subject) in all.iter().enumerate() {
            by_place[subject.place] = Some(index);
        }
        let mut stacks: Vec<_> =
            all.iter().enumerate().map(|(index, subject)| (subject.goroutine.stack.clone(), index)).collect();
        stacks.sort_unstable_by_key(|(range, _)| range.start);
        let mut live = vec![true; all.len()];
        for index in &candidates {
            live[*index] = false;
        }
        Self { layout, subjects, by_place, stacks, marks: None, candidates, live, closed: Vec::new(), asleep: false }
    }

    /// Marks as often as it takes, or until nobody is left who could be accused.
    fn read(&mut self, memory: &'m AddressSpace, code: &mut Code, places: Places<'_>) -> Result<(), String> {
        // Of one moment there is only one to be read.
        let passes = if let Reads::Still(_) = places.reads { 1 } else { PASSES };
        for _ in 0..passes {
            // Afresh.
            memory.refresh();
            self.begin(read_heap(memory, places)?);
            self.roots(memory, code, places)?;
            self.run()?;
            if self.candidates.is_empty() {
                return Ok(());
            }
        }
        memory.refresh();
        self.moving(memory, code, places)?;
        self.run()
    }

    /// Begins to mark the heap as it is now, from what was reached before.
    fn begin(&mut self, heap: Heap<'m>) {
        let all = self.subjects.all.iter();
        let closed = all.flat_map(|subject| {
            let sudogs = subject.waiting.places.iter().map(|place| place.sudog);
            std::iter::once(subject.goroutine.address).chain(sudogs)
        });
        let closed = closed.chain(self.closed.iter().copied());
        self.marks = Some(match self.marks.take() {
            Some(marks) => marks.again(heap, closed),
            None => Marks::new(heap, closed),
        });
    }

    /// Reaches what the globals, finalizers and stacks lead to.
    fn roots(&mut self, memory: &AddressSpace, code: &mut Code, places: Places<'_>) -> Result<(), String> {
        let mut found = Vec::new();
        roots::globals(memory, &code.modules, self.layout, &mut found)?;
        if let Some(marks) = &self.marks {
            roots::specials(self.layout, marks.heap(), &mut found)
                .map_err(|error| format!("finalizers cannot be read: {error}"))?;
        }
        if let Reads::Still(threads) = places.reads {
            let in_heap = |address| self.marks.as_ref().is_some_and(|marks| marks.number_at(address).is_some());
            for registers in threads {
                let is_searched = |address| self.stack_at(address).is_some() || in_heap(address);
                instant::roots(memory, code, registers, is_searched, &mut found)?;
            }
        }
        self.reach(&found);
        self.moving(memory, code, places)?;
        for index in 0..self.live.len() {
            if self.live[index] {
                self.reach_from_stack(index);
            }
        }
        Ok(())
    }

    /// Reads all goroutines as they are now. Whatever does not stand as it did may run, and so may its stack's pointers
    /// be used.
    fn moving(&mut self, memory: &AddressSpace, code: &mut Code, places: Places<'_>) -> Result<(), String> {
        let all = allgs::read(memory, places.allgs).ok_or("the list of all goroutines cannot be read again")?;
        let records: Vec<Range<u64>> =
            all.iter().map(|address| *address..address.saturating_add(self.layout.g_size)).collect();
        let mut still = vec![false; self.subjects.all.len()];
        let (mut found, mut failed) = (Vec::new(), None);
        memory.scattered(&records, |place, record| {
            let Some(record) = record else {
                failed = Some("a goroutine cannot be read".to_owned());
                return;
            };
            let Some(now) = Goroutine::parse(record, self.layout, all[place]) else { return };
            let index = self.by_place.get(place).copied().flatten();
            let known = index.map(|index| &self.subjects.all[index].goroutine);
            if let Some((index, known)) = index.zip(known)
                && self.subjects.all[index].followed
                && now.status.is_parked()
                && known.address == now.address
                && now.stands_as(known)
            {
                still[index] = true;
            } else if matches!(now.status, Status::Running | Status::CopyStack)
                || !roots::at_rest(memory, code, self.layout, &now, record, &mut found)
            {
                failed = roots::whole_stack(memory, self.layout, &now, record, &mut found).err().or(failed.take());
            }
        });
        if let Some(why) = failed {
            return Err(why);
        }
        self.reach(&found);
        for (index, still) in still.into_iter().enumerate() {
            if !still && !self.live[index] {
                self.live[index] = true;
                self.reach_from_stack(index);
            }
        }
        let live = &self.live;
        self.candidates.retain(|index| !live[*index]);
        Ok(())
    }

    fn reach(&mut self, pointers: &[u64]) {
        if let Some(marks) = &mut self.marks {
            for pointer in pointers {
                marks.reach(*pointer);
            }
        }
    }

    fn reach_from_stack(&mut self, index: usize) {
        let subjects = self.subjects;
        self.reach(&subjects.pointers[subjects.all[index].pointers.clone()]);
    }

    /// Marks until nobody more is found to be able to go on.
    fn run(&mut self) -> Result<(), String> {
        loop {
            if let Some(marks) = &mut self.marks {
                marks.drain().map_err(|error| format!("the heap cannot be read: {error}"))?;
            }
            if self.asleep {
                return Ok(());
            }
            let woken: Vec<usize> = self.candidates.iter().copied().filter(|index| self.may_be_woken(*index)).collect();
            if woken.is_empty() {
                return Ok(());
            }
            for index in woken {
                self.live[index] = true;
                self.reach_from_stack(index);
            }
            let live = &self.live;
            self.candidates.retain(|index| !live[*index]);
        }
    }

    fn may_be_woken(&self, index: usize) -> bool {
        let Some(marks) = &self.marks else { return true };
        let targets = self.subjects.all[index].waits_for().unwrap_or_default();
        targets.iter().any(|target| match marks.is_reached(*target) {
            Some(true) => true,
            reached => match self.stack_at(*target) {
                // On a stack: whoever runs on it can reach it. Stacks lie in the heap's spans or not, by size.
                Some(owner) => self.live[owner],
                // A global, or memory that the collector does not know: anybody may reach it.
                None => reached.is_none(),
            },
        })
    }

    /// See [`owners`].
    fn who_alone_reaches(
        self,
        objects: &[u64],
        leads: impl Fn(&Heap<'_>, Object) -> bool,
    ) -> Result<Vec<Option<Vec<usize>>>, String> {
        let Some(marks) = &self.marks else { return Ok(vec![None; objects.len()]) };
        let mut who: Vec<Option<Vec<usize>>> = Vec::with_capacity(objects.len());
        let mut places: FxHashMap<usize, usize> = FxHashMap::default();
        for (place, object) in objects.iter().enumerate() {
            let alone = marks.number_at(*object).filter(|_| marks.is_reached(*object) == Some(false));
            who.push(alone.map(|_| Vec::new()));
            places.extend(alone.map(|number| (number, place)));
        }
        let mut budget = BUDGET;
        for index in &self.candidates {
            let roots = &self.subjects.pointers[self.subjects.all[*index].pointers.clone()];
            let walked = marks.walk_rest(roots, &mut budget, |object, number| {
                if let Some(who) = places.get(&number).and_then(|place| who[*place].as_mut()) {
                    who.push(*index);
                }
                leads(marks.heap(), object)
            });
            walked.ok_or("too much is to be visited")?;
        }
        Ok(who)
    }

    fn stack_at(&self, address: u64) -> Option<usize> {
        let next = self.stacks.partition_point(|(range, _)| range.start <= address);
        self.stacks[..next].last().filter(|(range, _)| range.contains(&address)).map(|(_, index)| *index)
    }

    /// For each thing that the dead wait for, who among them can reach it. Where that takes too long to tell, nobody: they
    /// can never run again all the same.
    fn who_reaches_what(self) -> Dead {
        let Some(marks) = &self.marks else { return Dead::default() };
        let waited_for = |index: &usize| self.subjects.all[*index].waits_for().unwrap_or_default().iter().copied();
        let targets: FxHashSet<u64> = self.candidates.iter().flat_map(waited_for).collect();
        let mut by_object: FxHashMap<usize, Vec<u64>> = FxHashMap::default();
        let mut reached_by: FxHashMap<u64, Vec<usize>> = FxHashMap::default();
        for target in targets {
            match (self.stack_at(target), marks.number_at(target)) {
                (Some(owner), _) => reached_by.entry(target).or_default().push(owner),
                (None, Some(number)) => by_object.entry(number).or_default().push(target),
                (None, None) => {}
            }
        }
        let mut budget = BUDGET;
        for index in &self.candidates {
            let roots = &self.subjects.pointers[self.subjects.all[*index].pointers.clone()];
            let walked = marks.walk_rest(roots, &mut budget, |_, number| {
                for target in by_object.get(&number).into_iter().flatten() {
                    reached_by.entry(*target).or_default().push(*index);
                }
                true
            });
            if walked.is_none() {
                tracing::warn!(dead = self.candidates.len(), "too much to visit to tell who reaches what");
                reached_by.clear();
                break;
            }
        }
        Dead { reached_by, all: self.candidates }
    }
}

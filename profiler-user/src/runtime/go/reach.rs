//! Which parked goroutines can never run again: those whose channels and locks nothing can reach that may still run.
//!
//! This is the argument of Go's own collector about leaked goroutines, made from outside and without a collection in the
//! target: roots are the globals, finalizers, and the stacks of all goroutines that may run. What they reach is marked; a
//! parked goroutine whose channel or lock has been reached may run, and its stack is a root too; to the fixed point.
//!
//! A heap that is read while the program runs is torn: a pointer may move from what is read late to what was read early.
//! So the heap is read twice and the stacks of what moves three times, what counts is the union, and only those that
//! stood in the same park all the time are anything but roots.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    bytes::{read_vec, u32_at, u64_at},
    code::Code,
    goroutine::{Goroutine, Status},
    heap::{Contents, Heap},
    layout::Layout,
    mark::Marks,
    moduledata::ModuleData,
    pointers,
    spans::{self, Spans},
    stack,
};
use crate::target::{AddressSpace, Memory, MemoryError};

/// Objects that are visited at most to tell who of the dead can reach what.
const BUDGET: u64 = 50_000_000;
/// Bytes of one stack that are searched at most.
const LARGEST_STACK: u64 = 256 << 20;
/// Special records of one span that are followed at most.
const MOST_SPECIALS: usize = 1 << 20;
/// Kinds of special records (runtime/mheap.go): a finalizer, and all that came after 1.23 and may hold functions.
const SPECIAL_FINALIZER: u8 = 2;
/// Bytes of a special record that are taken for pointers, behind what all have in common.
const SPECIAL_WORDS: u64 = 64;

/// A goroutine as the marking sees it.
pub(super) struct Subject {
    pub(super) goroutine: Goroutine,
    /// Pointers on its stack. Meaningful only while it is parked.
    pub(super) pointers: Vec<u64>,
    /// Records by which channels and locks find it.
    pub(super) sudogs: Vec<u64>,
    /// The addresses of what it waits for, any of which lets it go on; `None` where the world outside may do so too, or
    /// where it did not stand in the same park in an earlier read.
    pub(super) waits_for: Option<Vec<u64>>,
    /// Its stack was followed to the root. If not, every word on it counts as a pointer.
    pub(super) followed: bool,
}

/// Where the runtime keeps what the marking starts from.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) layout: &'a Layout,
    pub(super) allgs: u64,
    pub(super) allspans: u64,
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
    subjects: &[Subject],
) -> Result<Dead, String> {
    if subjects.iter().all(|subject| subject.waits_for.is_none()) {
        return Ok(Dead::default());
    }
    let unread = |what: &'static str| move || format!("{what} cannot be read");
    let read_spans = || spans::read(memory, places.layout, places.allspans).ok_or_else(unread("the heap's spans"));
    let first = Spans::new(read_spans()?);
    let (mut roots, mut parked) = (Vec::new(), vec![true; subjects.len()]);
    globals(memory, &code.modules, places.layout, &mut roots)?;
    moving(memory, code, places, subjects, &mut parked, &mut roots)?;
    let contents = Contents::read(memory, &first).map_err(|error| format!("the heap cannot be read: {error}"))?;
    // Once more, afresh.
    memory.refresh();
    moving(memory, code, places, subjects, &mut parked, &mut roots)?;
    let spans = Spans::new(read_spans()?);
    let before = contents.for_spans(&first, &spans);
    let after = Contents::read(memory, &spans).map_err(|error| format!("the heap cannot be read: {error}"))?;
    globals(memory, &code.modules, places.layout, &mut roots)?;
    let marks_at_end = places.layout.span_inline_marks.unwrap_or(0);
    let heap = Heap::new(memory, spans, vec![before, after], marks_at_end);
    specials(places.layout, &heap, &mut roots).map_err(|error| format!("finalizers cannot be read: {error}"))?;
    memory.refresh();
    moving(memory, code, places, subjects, &mut parked, &mut roots)?;
    Ok(Marking::new(&heap, places.layout, subjects, &parked).run(roots))
}

/// The pointers in the globals.
fn globals(memory: &AddressSpace, modules: &[ModuleData], layout: &Layout, roots: &mut Vec<u64>) -> Result<(), String> {
    for globals in modules.iter().flat_map(|module| &module.globals) {
        let Some(mask) = &globals.pointers else { continue };
        let mut bytes = vec![0; (globals.range.end - globals.range.start) as usize];
        let mut read = memory.read_bulk(globals.range.start, &mut bytes);
        if read.is_err() {
            // What was never written since the program was mapped stands in its file.
            read = memory.read(globals.range.start, &mut bytes);
        }
        read.map_err(|error| format!("the globals cannot be read: {error}"))?;
        for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            let is_pointer = mask.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
            if is_pointer {
                roots.push(u64::from_le_bytes(*word));
            }
        }
    }
    let last = modules.last().ok_or("no module of the program is known")?;
    if last.next_now(memory, layout) != Some(0) {
        return Err("a plugin was loaded after gordian came".into());
    }
    Ok(())
}

/// Reads all goroutines as they are now, and takes those for roots that do not stand as they did. Clears the flag in
/// `parked` of each subject that does not.
fn moving(
    memory: &AddressSpace,
    code: &mut Code,
    places: Places<'_>,
    subjects: &[Subject],
    parked: &mut [bool],
    roots: &mut Vec<u64>,
) -> Result<(), String> {
    let known: FxHashMap<u64, usize> =
        subjects.iter().enumerate().map(|(index, subject)| (subject.goroutine.address, index)).collect();
    let mut still = vec![false; subjects.len()];
    let all = super::allgs::read(memory, places.allgs).ok_or("the list of all goroutines cannot be read again")?;
    let mut record = vec![0; places.layout.g_size as usize];
    for address in all {
        memory.read_now(address, &mut record).map_err(|error| format!("a goroutine cannot be read: {error}"))?;
        let Some(now) = Goroutine::parse(&record, places.layout, address) else { continue };
        let subject = known.get(&address).map(|index| (*index, &subjects[*index]));
        match subject {
            Some((index, subject))
                if subject.followed && now.status.is_parked() && now.stands_as(&subject.goroutine) =>
            {
                still[index] = true;
            }
            _ if now.status == Status::Syscall && in_syscall(memory, code, places.layout, &now, &record, roots) => {}
            _ => whole_stack(memory, places.layout, &now, &record, roots)?,
        }
    }
    for (parked, still) in parked.iter_mut().zip(still) {
        *parked &= still;
    }
    Ok(())
}

/// The pointers on the stack of a goroutine in a system call, where it stood still while they were read.
fn in_syscall(
    memory: &AddressSpace,
    code: &mut Code,
    layout: &Layout,
    goroutine: &Goroutine,
    record: &[u8],
    roots: &mut Vec<u64>,
) -> bool {
    let stack = stack::unwind(code, memory, goroutine, (goroutine.sp, goroutine.pc, false));
    let mut after = vec![0; record.len()];
    let stood = stack.complete && memory.read_now(goroutine.address, &mut after).is_ok() && after == record;
    if stood {
        roots.extend(pointers::of(code, memory, &stack));
        roots.extend(pointers::of_record(memory, layout, record));
    }
    stood
}

/// Every word on a stack that is in use.
fn whole_stack(
    memory: &AddressSpace,
    layout: &Layout,
    goroutine: &Goroutine,
    record: &[u8],
    roots: &mut Vec<u64>,
) -> Result<(), String> {
    let mut range = goroutine.stack.clone();
    // Where it runs is not known; where it has left off is.
    if !matches!(goroutine.status, Status::Running | Status::CopyStack) && range.contains(&goroutine.sp) {
        range.start = goroutine.sp & !7;
    }
    if range.end - range.start > LARGEST_STACK {
        return Err(format!("the stack of goroutine {} is too large to be searched", goroutine.id));
    }
    let mut bytes = vec![0; (range.end - range.start) as usize];
    // A stack that was given back meanwhile is no goroutine's: what was on it has been moved or is gone.
    if memory.read_bulk(range.start, &mut bytes).is_ok() {
        roots.extend(pointers::words(&bytes));
    }
    roots.extend(pointers::of_record(memory, layout, record));
    Ok(())
}

fn of_record(memory: &AddressSpace, layout: &Layout, goroutine: &Goroutine) -> Vec<u64> {
    let record = read_vec(memory, goroutine.address, layout.g_size, 1 << 16).unwrap_or_default();
    pointers::of_record(memory, layout, &record)
}

/// What finalizers and clean-ups will be called with. What a finalizer's object holds is in use, the object itself not.
fn specials(layout: &Layout, heap: &Heap<'_>, roots: &mut Vec<u64>) -> Result<(), MemoryError> {
    // The offset is 8 bytes wide from 1.23 on, 2 before.
    let offset_mask = if layout.special_kind - layout.special_offset < 4 { 0xffff } else { u32::MAX };
    for span in &heap.spans.all {
        let mut next = span.specials;
        for _ in 0..MOST_SPECIALS {
            if next == 0 {
                break;
            }
            let record = read_vec(heap.memory, next, layout.special_size + SPECIAL_WORDS, 1 << 12)?;
            let kind = record.get(layout.special_kind as usize).copied().unwrap_or(0);
            let words = record.get(layout.special_size as usize..).unwrap_or_default();
            // Whatever its kind: words that are no pointers reach nothing.
            roots.extend(pointers::words(words));
            if kind == SPECIAL_FINALIZER {
                let offset = u32_at(&record, layout.special_offset).unwrap_or(0) & offset_mask;
                if let Some(object) = heap.spans.object(span.range.start + u64::from(offset)) {
                    heap.pointers(object, |pointer| roots.push(pointer));
                }
            }
            next = u64_at(&record, layout.special_next).unwrap_or(0);
        }
    }
    Ok(())
}

struct Marking<'a, 'm> {
    marks: Marks<'a, 'm>,
    layout: &'a Layout,
    subjects: &'a [Subject],
    memory: &'m AddressSpace,
    /// May run.
    live: Vec<bool>,
    /// Stacks by address, with the subject's place.
    stacks: Vec<(std::ops::Range<u64>, usize)>,
}

impl<'a, 'm> Marking<'a, 'm> {
    fn new(heap: &'a Heap<'m>, layout: &'a Layout, subjects: &'a [Subject], parked: &[bool]) -> Self {
        let mut marks = Marks::new(heap);
        for subject in subjects {
            marks.close(subject.goroutine.address);
            for sudog in &subject.sudogs {
                marks.close(*sudog);
            }
        }
        let live: Vec<bool> =
            subjects.iter().zip(parked).map(|(subject, parked)| !parked || subject.waits_for.is_none()).collect();
        let mut stacks: Vec<_> =
            subjects.iter().enumerate().map(|(index, subject)| (subject.goroutine.stack.clone(), index)).collect();
        stacks.sort_by_key(|(range, _)| range.start);
        Self { marks, layout, subjects, memory: heap.memory, live, stacks }
    }

    fn run(mut self, roots: Vec<u64>) -> Dead {
        for root in roots {
            self.marks.reach(root);
        }
        for index in 0..self.subjects.len() {
            if self.live[index] {
                self.reach_from_stack(index);
            }
        }
        let mut candidates: Vec<usize> = (0..self.subjects.len()).filter(|index| !self.live[*index]).collect();
        loop {
            self.marks.drain();
            let woken: Vec<usize> = candidates.iter().copied().filter(|index| self.may_be_woken(*index)).collect();
            if woken.is_empty() {
                break;
            }
            for index in woken {
                self.live[index] = true;
                self.reach_from_stack(index);
            }
            candidates.retain(|index| !self.live[*index]);
        }
        self.who_reaches_what(candidates)
    }

    fn reach_from_stack(&mut self, index: usize) {
        let subject = &self.subjects[index];
        for pointer in &subject.pointers {
            self.marks.reach(*pointer);
        }
        for pointer in of_record(self.memory, self.layout, &subject.goroutine) {
            self.marks.reach(pointer);
        }
    }

    fn may_be_woken(&self, index: usize) -> bool {
        let targets = self.subjects[index].waits_for.as_deref().unwrap_or_default();
        targets.iter().any(|target| match (self.marks.is_reached(*target), self.stack_at(*target)) {
            (Some(reached), None) => reached,
            // On a stack: whoever runs on it can reach it. Stacks lie in the heap's spans or not, by size.
            (_, Some(owner)) => self.live[owner],
            // A global, or memory that the collector does not know: anybody may reach it.
            (None, None) => true,
        })
    }

    fn stack_at(&self, address: u64) -> Option<usize> {
        let next = self.stacks.partition_point(|(range, _)| range.start <= address);
        self.stacks[..next].last().filter(|(range, _)| range.contains(&address)).map(|(_, index)| *index)
    }

    /// For each thing that the dead wait for, who among them can reach it. Where that takes too long, nobody is dead.
    fn who_reaches_what(&self, dead: Vec<usize>) -> Dead {
        let targets: FxHashSet<u64> =
            dead.iter().flat_map(|index| self.subjects[*index].waits_for.iter().flatten()).copied().collect();
        let mut by_object: FxHashMap<usize, Vec<u64>> = FxHashMap::default();
        let mut reached_by: FxHashMap<u64, Vec<usize>> = FxHashMap::default();
        for target in targets {
            let known = reached_by.entry(target).or_default();
            match (self.stack_at(target), self.marks.number_at(target)) {
                (Some(owner), _) => known.push(owner),
                (None, Some(number)) => by_object.entry(number).or_default().push(target),
                (None, None) => {}
            }
        }
        let mut budget = BUDGET;
        for index in &dead {
            let subject = &self.subjects[*index];
            let mut roots = subject.pointers.clone();
            roots.extend(of_record(self.memory, self.layout, &subject.goroutine));
            let walked = self.marks.walk_rest(&roots, &mut budget, |number| {
                for target in by_object.get(&number).into_iter().flatten() {
                    reached_by.entry(*target).or_default().push(*index);
                }
            });
            if walked.is_err() {
                tracing::warn!(dead = dead.len(), "too much to visit to tell who reaches what");
                return Dead::default();
            }
        }
        Dead { reached_by, all: dead }
    }
}

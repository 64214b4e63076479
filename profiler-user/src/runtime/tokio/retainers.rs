//! Who can reach a thing that nobody's destructor frees, since a box was leaked or references go round in a circle: all memory
//! is searched for what points at it, then for what points at that, and so on, as a collector of garbage would.
//!
//! What ends the search is memory that somebody uses: of a suspended task, of the stack of a root, or of anybody else; then
//! nothing is known. What lies on the heap keeps what it points at only as long as something leads to it in its turn. For that
//! it must be known where each piece of the heap begins and ends, which only [`Chunks`] tells; all other memory is anybody's.
//!
//! What the kernel keeps for the process counts too, as a library's loop may have its records in an epoll instance alone. A core file
//! tells nothing of that, so it is not searched.
//!
//! Any bytes count that could be a pointer into a piece ([`Addresses`]). Left out is what the runtime's threads have on their stacks while
//! they wait for work: what was polled there leaves its traces.
//!
//! That there is no pointer shows only while none can be on its way from one place to another. So what is found counts only where
//! no thread of the process has run since the look began.

use std::{cell::Cell, ops::Range};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{borrowed, heap::Header, read::Tokio, roots::Root, strays::RED_ZONE};
use crate::{
    debuginfo::FrameRegisters,
    model::{PartyId, Snapshot, TaskState},
    runtime::{Reads, World},
    target::{self, AddressSpace, Addresses, Chunks, Memory, RunState, addresses, handed, ranges, standstill},
};

/// Pieces that lead to a thing, at most; more are a part of what the program lives by.
const MOST_PIECES: usize = 1 << 10;
/// Bytes that are searched in one look, at most: more would take seconds.
const MOST_BYTES: u64 = 1 << 29;
/// Whoever points at the beginning of something that contains a word, points at most so many bytes before it.
const LARGEST: u64 = 16 << 10;
/// Bytes of a task's header, by which the runtime and its handles know it (`Header` in tokio/src/runtime/task/core.rs, 1.38 to 1.54).
const HEADER: u64 = 32;
/// Bytes of what stands behind a task's future, at most: its list, its waker, its hooks (`Trailer`, there too).
const TRAILER: u64 = 48;

/// Whether no thread has run since they were listed.
fn stands_still(world: &World<'_>) -> bool {
    let now = match (world.reads, world.memory.pid()) {
        (Reads::Still(_), _) => return true,
        (Reads::Passing, Some(pid)) => standstill(pid),
        (Reads::Passing | Reads::Torn, _) => None,
    };
    let listed = world.threads.iter().map(|(facts, ..)| {
        let slept = facts.state == RunState::Sleeping;
        Some((facts.tid, facts.switches.filter(|_| slept)?))
    });
    let listed: Option<Vec<(i32, u64)>> = listed.collect();
    listed.zip(now).is_some_and(|(mut listed, mut now)| {
        listed.sort_unstable();
        now.sort_unstable();
        listed == now
    })
}

/// Whose memory there is at an address.
#[derive(Clone, PartialEq, Eq)]
enum Whose {
    /// Nobody's.
    Nobody,
    /// A party's.
    Party(PartyId),
    /// A piece of the heap: whose it is, is to be found out.
    Piece(Range<u64>),
    /// That of others, or it is not known whose.
    Others,
}

/// The cell of a task.
struct TaskCell {
    /// Where what is behind it begins: padding, with whatever was there before.
    end: u64,
    whose: Whose,
}

/// The stack of a thread, from below what it uses to the end of its mapping.
struct Stack {
    mapping: Range<u64>,
    /// What it uses, without the thread's own variables above.
    used: Range<u64>,
    /// Nobody's where there are traces alone.
    whose: Whose,
}

/// The process at one moment, in which no thread runs.
pub(super) struct Search<'w> {
    world: &'w World<'w>,
    memory: AddressSpace,
    /// Bytes that may still be searched.
    left: Cell<u64>,
    chunks: Chunks,
    /// The cells of tasks, by where their pieces of the heap begin.
    cells: FxHashMap<u64, TaskCell>,
    stacks: Vec<Stack>,
    /// What threads have in registers, and the kernel keeps for the process, and whose it is.
    beside: Vec<(u64, Whose)>,
    /// Threads in `block_on` from whose stacks others borrow.
    lend: FxHashSet<i32>,
}

impl<'w> Search<'w> {
    /// `None` where a thread has run since they were listed, and where their registers are not known.
    pub(super) fn new(tokio: &Tokio, world: &'w World<'w>, roots: &[Root<'_>], snapshot: &Snapshot) -> Option<Self> {
        if !stands_still(world) {
            return None;
        }
        let memory = world.memory.afresh()?;
        let handed = handed::words(memory.pid()?)?;
        let chunks = Chunks::of(&memory);
        let cells = snapshot.tasks.iter().filter(|task| task.address != 0).filter_map(|task| {
            let at_rest = matches!(task.state, TaskState::Suspended | TaskState::Scheduled) && !task.unstable;
            let whose = if at_rest { Whose::Party(task.party) } else { Whose::Others };
            let header = Header::read(&memory, task.address, &tokio.vtables)?;
            let end = task.address + tokio.vtables.get(&header.vtable)?.trailer_offset + TRAILER;
            Some((chunks.at(task.address)?.range.start, TaskCell { end, whose }))
        });
        let cells = cells.collect();
        let lend = borrowed::from(world, roots, &snapshot.threads);
        let roots: FxHashSet<i32> = roots.iter().map(|root| root.facts.tid).collect();
        let mut stacks = Vec::new();
        let mut beside: Vec<(u64, Whose)> = handed.iter().map(|word| (*word, Whose::Others)).collect();
        for (facts, known, _) in world.threads {
            let thread = snapshot.threads.iter().find(|thread| thread.tid == facts.tid)?;
            let (sp, _) = facts.stack()?;
            let party = PartyId::BlockOn { tid: facts.tid };
            let whose = match (roots.contains(&facts.tid), borrowed::waits_for_work(thread)) {
                (true, _) if snapshot.tasks.iter().any(|task| task.party == party) => Whose::Party(party),
                (false, true) => Whose::Nobody,
                _ => Whose::Others,
            };
            let mapping = memory.mappings().at(sp)?.range.clone();
            let mut read = |address| memory.read_u64(address).ok();
            let frames = known.map(|known| tokio.unwinder.unwind(world.modules, known.frame, &mut read));
            let outermost = frames.iter().flatten().filter_map(FrameRegisters::sp).max().unwrap_or(sp);
            // The thread's own variables lie above; those of the first one elsewhere.
            let is_first = memory.mappings().at(sp)?.label.as_deref() == Some("stack");
            let end = if is_first { mapping.end } else { outermost.clamp(sp, mapping.end) };
            if whose != Whose::Nobody {
                let preserved = borrowed::preserved(known.as_ref()?)?;
                beside.extend(preserved.map(|word| (word, whose.clone())));
            }
            stacks.push(Stack { used: sp.saturating_sub(RED_ZONE)..end, mapping, whose });
        }
        stacks.extend(of_ended_threads(world, &memory));
        Some(Self { world, memory, left: Cell::new(MOST_BYTES), chunks, cells, stacks, beside, lend })
    }

    /// All parties that lead to what lies at `thing`; `None` where others do, or may, and where a thread has run meanwhile.
    pub(super) fn who_leads_to(&self, thing: u64) -> Option<Vec<PartyId>> {
        let mut pieces = vec![self.chunks.at(thing)?.range.start];
        loop {
            let mut targets: Vec<Range<u64>> = Vec::new();
            for piece in &pieces {
                let piece = self.chunks.at(*piece).filter(|piece| piece.in_use)?.range;
                if self.cells.contains_key(&piece.start) {
                    return None;
                }
                // At the last word an allocator points too.
                targets.push(piece.start..piece.end - 8);
            }
            targets.sort_unstable_by_key(|target| target.start);
            targets.dedup();
            let (known, mut owned) = (pieces.len(), FxHashMap::default());
            for (_, whose) in self.beside.iter().filter(|(word, _)| points_into(&targets, *word).is_some()) {
                let Whose::Party(party) = whose else { return None };
                owned.entry(*party).or_insert_with(Vec::new);
            }
            self.each_pointer(&targets, &mut |at, _| {
                match self.whose(at) {
                    Whose::Nobody => {}
                    Whose::Others => return None,
                    Whose::Party(party) => owned.entry(party).or_insert_with(Vec::new).push(at),
                    Whose::Piece(piece) if ranges::contains(&targets, piece.start) => {}
                    Whose::Piece(piece) => pieces.push(piece.start),
                }
                (pieces.len() <= MOST_PIECES).then_some(())
            })?;
            pieces.sort_unstable();
            pieces.dedup();
            if pieces.len() == known {
                return self.are_alone(owned, &targets).filter(|_| stands_still(self.world));
            }
        }
    }

    /// The parties, and those who point at what they have by a word at one of those addresses, and so on; `None` where others do.
    fn are_alone(&self, mut owned: FxHashMap<PartyId, Vec<u64>>, pieces: &[Range<u64>]) -> Option<Vec<PartyId>> {
        loop {
            let around = self.around(owned.values().flatten());
            let is_theirs = |whose: &Whose, word: u64| match (whose, self.whose(word)) {
                (Whose::Nobody, _) => true,
                (Whose::Party(one), Whose::Party(other)) => *one == other,
                // What borrows from a stack is on another.
                (Whose::Piece(_), Whose::Party(PartyId::BlockOn { tid })) if !self.lend.contains(&tid) => true,
                // Whoever waits for the thing stands in its queue.
                (Whose::Piece(piece), _) => ranges::contains(pieces, piece.start),
                _ => false,
            };
            let is_others =
                |(word, whose): &(u64, Whose)| points_into(&around, *word).is_some_and(|word| !is_theirs(whose, word));
            if self.beside.iter().any(is_others) {
                return None;
            }
            let mut more = false;
            self.each_pointer(&around, &mut |at, word| {
                let whose = self.whose(at);
                if is_theirs(&whose, word) {
                    return Some(());
                }
                // What a task has of another's it may be left with from when it was made; it may also come to the thing by it.
                let Whose::Party(party) = whose else { return None };
                let places = owned.entry(party).or_default();
                if !places.contains(&at) {
                    places.push(at);
                    more = true;
                }
                Some(())
            })?;
            if !more {
                let mut parties: Vec<PartyId> = owned.keys().copied().collect();
                parties.sort_unstable();
                return Some(parties);
            }
        }
    }

    /// Where code may point to mean what lies at one of these places, in tasks and on stacks.
    fn around<'a>(&self, places: impl Iterator<Item = &'a u64>) -> Vec<Range<u64>> {
        let around = places.map(|at| {
            let stack = self.stacks.iter().find(|stack| stack.used.contains(at)).map(|stack| stack.used.start);
            let cell = self.chunks.at(*at).map(|cell| cell.range.start + HEADER);
            let from = stack.or(cell).unwrap_or(0);
            at.saturating_sub(LARGEST).max(from)..*at + 1
        });
        ranges::merged(around.collect())
    }

    /// Calls `visit` with the place of all that could point into one of `targets`, and where it points; `None` where it says so, or
    /// where not everything could be searched.
    fn each_pointer(&self, targets: &[Range<u64>], visit: &mut dyn FnMut(u64, u64) -> Option<()>) -> Option<()> {
        let mut addresses = Addresses::new(targets.first()?.start..targets.last()?.end);
        let mut going = Some(());
        for mapping in self.memory.mappings().iter() {
            // What cannot be written any more may have been, if it is nobody's file.
            if !mapping.read || !(mapping.write || mapping.is_anonymous()) {
                continue;
            }
            if self.memory.is_swapped(mapping.range.clone()) {
                return None;
            }
            let whole = self.memory.scan(mapping.range.clone(), |start, bytes| {
                if going.is_none() || self.left.replace(self.left.get().saturating_sub(bytes.len() as u64)) == 0 {
                    return;
                }
                addresses.each(start, bytes, |at, word| {
                    if ranges::contains(targets, word) {
                        going = going.and_then(|()| visit(at, word));
                    }
                });
            });
            if !whole || self.left.get() == 0 {
                return None;
            }
            going?;
        }
        going
    }

    fn whose(&self, at: u64) -> Whose {
        if let Some(stack) = self.stacks.iter().find(|stack| stack.mapping.contains(&at)) {
            return match &stack.whose {
                _ if at < stack.used.start => Whose::Nobody,
                _ if at >= stack.used.end => Whose::Others,
                whose => whose.clone(),
            };
        }
        let Some(chunk) = self.chunks.at(at) else { return Whose::Others };
        match self.cells.get(&chunk.range.start) {
            Some(cell) if at >= cell.end => Whose::Nobody,
            Some(cell) => cell.whose.clone(),
            None if chunk.in_use => Whose::Piece(chunk.range),
            None => Whose::Nobody,
        }
    }
}

/// What is left of the stacks of threads that have ended, which the C library keeps for others.
fn of_ended_threads(world: &World<'_>, memory: &AddressSpace) -> Vec<Stack> {
    let pointers: Option<Vec<u64>> = world.threads.iter().map(|(_, known, _)| known.as_ref()?.fs_base).collect();
    let Some(pointers) = pointers else { return Vec::new() };
    let ended = target::stacks(memory, memory.mappings()).filter(|(_, pointer)| !pointers.contains(pointer));
    let traces = |range: &Range<u64>| Stack { mapping: range.clone(), used: range.clone(), whose: Whose::Nobody };
    ended.map(|(mapping, _)| traces(&mapping.range)).collect()
}

/// The address in one of `targets`, which are in order and do not overlap, that a word may stand for.
fn points_into(targets: &[Range<u64>], word: u64) -> Option<u64> {
    addresses::of_word(word).into_iter().find(|address| ranges::contains(targets, *address))
}

//! The words outside of a task's own cell that its reading rests on, and whether they are still what they were.

use std::{
    hash::Hash,
    ops::{Range, RangeInclusive},
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::target::{AddressSpace, HIGHEST_COUNT, LOWEST, Memory, PAGE, Trail};

/// No process has memory from here on, with five levels of page tables either.
const HIGHEST: u64 = 1 << 57;
/// Bytes of a word.
const WORD: u64 = 8;

/// What is asked of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asked {
    /// To be what it was.
    Same(u64),
    /// To be a count, of so much at the least.
    Count(u64),
}

impl Asked {
    fn is_met(self, value: u64) -> bool {
        const fn counts(lowest: u64) -> RangeInclusive<u64> {
            lowest..=HIGHEST_COUNT
        }
        match self {
            Self::Same(same) => value == same,
            Self::Count(lowest) => counts(lowest).contains(&value),
        }
    }
}

/// Words of one page, none of them a constant.
#[derive(Debug)]
struct Words {
    /// Address of each, and what is asked of it, by address; of a page that cannot be read the values mean nothing.
    asked: Box<[(u64, Asked)]>,
    readable: bool,
    /// They were so at the last look too.
    stand: AtomicBool,
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        self.readable == other.readable && self.asked == other.asked
    }
}

impl Eq for Words {}

impl Hash for Words {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.asked, self.readable).hash(state);
    }
}

impl Words {
    /// From the first to the last of them.
    fn range(&self) -> Range<u64> {
        match (self.asked.first(), self.asked.last()) {
            (Some((first, _)), Some((last, _))) => *first..last + WORD,
            _ => 0..0,
        }
    }

    /// Whether they are in `bytes`, which begin with the first.
    fn are_in(&self, bytes: Option<&[u8]>) -> bool {
        let Some(bytes) = bytes.filter(|_| self.readable) else { return bytes.is_none() && !self.readable };
        let start = self.range().start;
        self.asked.iter().all(|(address, asked)| {
            let word = bytes.get((address - start) as usize..).and_then(<[u8]>::first_chunk);
            word.is_some_and(|word| asked.is_met(u64::from_le_bytes(*word)))
        })
    }
}

/// All words outside of a cell that the reading of some task has looked at.
pub(super) struct Elsewhere {
    parts: Box<[Arc<Words>]>,
    stand: AtomicBool,
}

impl Elsewhere {
    /// Whether they were found to be what they were when this was last asked of all ([`Everywhere::ask`]).
    pub(super) fn stands(&self) -> bool {
        self.stand.load(Ordering::Relaxed)
    }
}

impl PartialEq for Elsewhere {
    fn eq(&self, other: &Self) -> bool {
        self.parts.iter().map(Arc::as_ptr).eq(other.parts.iter().map(Arc::as_ptr))
    }
}

impl Eq for Elsewhere {}

impl Hash for Elsewhere {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.parts.iter().for_each(|part| Arc::as_ptr(part).hash(state));
    }
}

/// What all tasks together rest on: tasks that are alike share it.
#[derive(Default)]
pub(super) struct Everywhere {
    words: FxHashSet<Arc<Words>>,
    elsewhere: FxHashSet<Arc<Elsewhere>>,
    /// By address of a page, whether it can be written.
    variable: FxHashMap<u64, bool>,
}

impl Everywhere {
    /// Asks of all words whether they are what they were.
    pub(super) fn ask(&mut self, memory: &AddressSpace) {
        self.variable.clear();
        let mut words: Vec<&Arc<Words>> = self.words.iter().collect();
        words.sort_unstable_by_key(|words| words.range().start);
        let pieces: Vec<Range<u64>> = words.iter().map(|words| words.range()).collect();
        memory.scattered(&pieces, |place, bytes| {
            words[place].stand.store(words[place].are_in(bytes), Ordering::Relaxed);
        });
        for elsewhere in &self.elsewhere {
            let stand = elsewhere.parts.iter().all(|words| words.stand.load(Ordering::Relaxed));
            elsewhere.stand.store(stand, Ordering::Relaxed);
        }
    }

    /// The words outside of `cell` that a reading has looked at, as they are.
    pub(super) fn of(&mut self, memory: &AddressSpace, trail: &Trail<'_>, cell: &Range<u64>) -> Arc<Elsewhere> {
        let counts = trail.counts();
        let mut parts = Vec::new();
        trail.visit(|page, bits| {
            let word = |(index, bits): (u64, &u64)| ones(*bits).map(move |bit| page + (index * 64 + bit) * WORD);
            let looked = (0..).zip(bits).flat_map(word);
            let from = counts.partition_point(|(address, _)| *address < page);
            let counted = counts[from..].iter().copied().take_while(|(address, _)| *address < page + PAGE);
            parts.extend(self.page(memory, page, cell, looked, counted));
        });
        parts.sort_unstable_by_key(|part| part.range().start);
        one_of(&mut self.elsewhere, Arc::new(Elsewhere { parts: parts.into(), stand: AtomicBool::new(true) }))
    }

    /// The words of one page.
    fn page(
        &mut self,
        memory: &AddressSpace,
        page: u64,
        cell: &Range<u64>,
        looked: impl Iterator<Item = u64>,
        counted: impl Iterator<Item = (u64, u64)>,
    ) -> Option<Arc<Words>> {
        let variable =
            |page| (LOWEST..HIGHEST).contains(&page) && memory.mappings().at(page).is_none_or(|mapping| mapping.write);
        if !*self.variable.entry(page).or_insert_with(|| variable(page)) {
            return None;
        }
        let outside = |address: u64| !cell.contains(&address) || !cell.contains(&(address + WORD - 1));
        let mut readable = true;
        let looked = looked.filter(|address| outside(*address)).map(|address| {
            let value = memory.read_u64(address);
            readable &= value.is_ok();
            (address, Asked::Same(value.unwrap_or(0)))
        });
        let mut asked: Vec<(u64, Asked)> = looked.collect();
        let counted = counted.filter(|(address, _)| outside(*address));
        asked.extend(counted.map(|(address, lowest)| (address, Asked::Count(lowest))));
        asked.sort_unstable_by_key(|(address, _)| *address);
        let words = Words { asked: asked.into(), readable, stand: AtomicBool::new(true) };
        (!words.asked.is_empty()).then(|| one_of(&mut self.words, Arc::new(words)))
    }

    /// Takes in what another has; `known` are those of its that were taken in before.
    pub(super) fn adopt(
        &mut self,
        theirs: &Arc<Elsewhere>,
        known: &mut FxHashMap<*const Elsewhere, Arc<Elsewhere>>,
    ) -> Arc<Elsewhere> {
        let ours = known.entry(Arc::as_ptr(theirs)).or_insert_with(|| {
            let parts = theirs.parts.iter().map(|part| one_of(&mut self.words, Arc::clone(part)));
            let parts = Elsewhere { parts: parts.collect(), stand: AtomicBool::new(true) };
            one_of(&mut self.elsewhere, Arc::new(parts))
        });
        Arc::clone(ours)
    }

    /// Forgets what nobody rests on any more.
    pub(super) fn forget(&mut self) {
        self.elsewhere.retain(|elsewhere| Arc::strong_count(elsewhere) > 1);
        self.words.retain(|words| Arc::strong_count(words) > 1);
    }

    /// Whether every word of this is kept here.
    #[cfg(test)]
    pub(super) fn has(&self, elsewhere: &Elsewhere) -> bool {
        !elsewhere.parts.is_empty() && elsewhere.parts.iter().all(|part| self.words.contains(part))
    }
}

/// The places of the bits that are set.
fn ones(mut bits: u64) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        let (place, below) = (bits.trailing_zeros(), bits.checked_sub(1)?);
        bits &= below;
        Some(place.into())
    })
}

/// One and the same for all that are equal.
fn one_of<T: Hash + Eq>(known: &mut FxHashSet<Arc<T>>, new: Arc<T>) -> Arc<T> {
    if let Some(known) = known.get(&new) {
        return Arc::clone(known);
    }
    known.insert(Arc::clone(&new));
    new
}

//! What tasks were found to be, and what that rests on: nobody has to ask again as long as nothing of it has changed.
//!
//! A dry run is a function of what it looks at. So is all that is read of one task: of its cell, which is compared as a whole,
//! by a digest; of words elsewhere, which are compared one by one; and of a few things that are the same for all
//! ([`Circumstances`]). Only tasks at rest are kept, and of those only who were read whole and did not change meanwhile.
//!
//! Tasks that are alike share what was found: it is kept with their own addresses, points in time and ids taken out, and two are
//! alike if that is equal.

use std::{
    hash::{Hash, Hasher},
    mem,
    ops::Range,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
};

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::{
    heap::Header,
    imprint::digest,
    moment::Moment,
    resources::waits_mut,
    task::{ReadTask, Told},
};
use crate::{
    locks::Contended,
    model::{PartyId, Strand, WaitMode},
    target::{AddressSpace, LOWEST, Mappings, Memory, Trail},
};

/// What the reading of every task rests on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Circumstances {
    /// The thread that tasks are polled on.
    pub(super) fs_base: u64,
    /// Locks that threads wait for.
    pub(super) contended: Arc<Contended>,
    /// Where the functions of tasks' wakers stand, and whether they are known without a name.
    pub(super) wakers: (Option<u64>, bool),
    /// A digest of what is mapped and cannot be written: code and constants.
    pub(super) constants: u64,
}

/// See [`Circumstances::constants`].
pub(super) fn constants(mappings: &Mappings) -> u64 {
    let mut digest = FxHasher::default();
    for mapping in mappings.iter().filter(|mapping| !mapping.write) {
        (mapping.range.start, mapping.range.end, mapping.inode, mapping.offset).hash(&mut digest);
    }
    digest.finish()
}

/// What the reading of one task rests on.
pub(super) struct Basis<'m> {
    /// All that was looked at.
    pub(super) trail: Trail<'m>,
    /// The part of memory that `digest` is of.
    pub(super) cell: Range<u64>,
    pub(super) digest: u64,
}

/// Words of one page, none of them a constant.
struct Words {
    /// Address and value of each, by address; of a page that cannot be read the values mean nothing.
    values: Box<[(u64, u64)]>,
    readable: bool,
    /// They were so at the last look too.
    stand: AtomicBool,
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        self.readable == other.readable && self.values == other.values
    }
}

impl Eq for Words {}

impl Hash for Words {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.values, self.readable).hash(state);
    }
}

impl Words {
    /// From the first to the last of them.
    fn range(&self) -> Range<u64> {
        match (self.values.first(), self.values.last()) {
            (Some((first, _)), Some((last, _))) => *first..last + 8,
            _ => 0..0,
        }
    }

    /// Whether they are in `bytes`, which begin with the first.
    fn are_in(&self, bytes: Option<&[u8]>) -> bool {
        let Some(bytes) = bytes.filter(|_| self.readable) else { return bytes.is_none() && !self.readable };
        let start = self.range().start;
        self.values.iter().all(|(address, value)| {
            let at = (address - start) as usize;
            bytes.get(at..at + 8) == Some(&value.to_le_bytes())
        })
    }
}

/// All words outside of a cell that the reading of some task has looked at.
struct Elsewhere {
    parts: Box<[Arc<Words>]>,
    stand: AtomicBool,
}

impl PartialEq for Elsewhere {
    fn eq(&self, other: &Self) -> bool {
        self.parts.iter().map(Arc::as_ptr).eq(other.parts.iter().map(Arc::as_ptr))
    }
}

impl Eq for Elsewhere {}

impl Hash for Elsewhere {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts.iter().for_each(|part| Arc::as_ptr(part).hash(state));
    }
}

/// A task that was read.
struct Known {
    /// Of its header.
    address: u64,
    id: u64,
    /// Bytes of its cell that `digest` is of.
    length: u32,
    /// Nothing that it rests on has changed.
    stands: bool,
    digest: u64,
    elsewhere: Arc<Elsewhere>,
    /// What was read, as all that are alike have it.
    alike: Arc<ReadTask>,
    /// The points in time that it waits for, in milliseconds of the clock.
    times: Box<[i64]>,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Kept {
    circumstances: Circumstances,
    /// By address.
    tasks: Vec<Known>,
    /// Those that the present look has read.
    fresh: Vec<Known>,
    /// The first of `tasks` that has not been passed by in this look.
    next: usize,
    words: FxHashSet<Arc<Words>>,
    elsewhere: FxHashSet<Arc<Elsewhere>>,
    /// By vtable, those found last.
    alike: FxHashMap<u64, Vec<Arc<ReadTask>>>,
    /// By address of a page, whether it can be written.
    variable: FxHashMap<u64, bool>,
}

/// Cells that are compared in one go.
const TOGETHER: usize = 1 << 14;
/// Ways to be of one type of task that are told apart.
const MOST_ALIKE: usize = 16;
/// No process has memory from here on, with five levels of page tables either.
const HIGHEST: u64 = 1 << 57;
/// Marks an address as one in the task's own cell, counted from its start. No process has addresses so high.
const OWN: u64 = 1 << 63;

impl Kept {
    /// See [`Circumstances::constants`].
    pub(super) fn constants(&self) -> u64 {
        self.circumstances.constants
    }

    /// Begins a look: finds out which of the tasks with these headers, by address, are what they were.
    pub(super) fn begin(&mut self, circumstances: &Circumstances, memory: &AddressSpace, headers: &[Header]) {
        self.next = 0;
        self.variable.clear();
        if self.circumstances != *circumstances {
            *self = Self { circumstances: circumstances.clone(), ..Self::default() };
            return;
        }
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
        let mut headers = headers.iter().peekable();
        for tasks in self.tasks.chunks_mut(TOGETHER) {
            let mut there = Vec::new();
            for (place, known) in tasks.iter_mut().enumerate() {
                known.stands = false;
                while headers.next_if(|header| header.address < known.address).is_some() {}
                let listed = headers.peek().is_some_and(|header| header.address == known.address);
                if listed && known.elsewhere.stand.load(Ordering::Relaxed) {
                    there.push(place);
                }
            }
            let cell = |place: &usize| tasks[*place].address..tasks[*place].address + u64::from(tasks[*place].length);
            let pieces: Vec<Range<u64>> = there.iter().map(cell).collect();
            memory.scattered(&pieces, |piece, bytes| {
                let known = &mut tasks[there[piece]];
                known.stands = bytes.is_some_and(|bytes| digest(bytes) == known.digest);
            });
        }
    }

    /// What was found of the task with this header, if it is still so. Asked by address, lower ones first.
    pub(super) fn take(&mut self, header: u64, pid: Option<i32>, moment: &Moment) -> Option<ReadTask> {
        while self.tasks.get(self.next).is_some_and(|known| known.address < header) {
            self.next += 1;
        }
        let known = self.tasks.get_mut(self.next).filter(|known| known.address == header && known.stands)?;
        known.stands = false;
        let descriptors = &known.alike.told().descriptors;
        let same = |(word, fd): &(u64, i32)| pid.and_then(|pid| moment.descriptor(pid, [*word])) == Some((*word, *fd));
        let now = now_ms(moment);
        // What has passed its time will be woken, or its clock stands still: either is news.
        if !descriptors.iter().all(same) || known.times.iter().any(|at| *at < now) {
            return None;
        }
        let mut read = ReadTask::clone(&known.alike);
        if let PartyId::Task { id, .. } = &mut read.task.party {
            *id = known.id;
        }
        addresses(&mut read, &mut |address| {
            if *address & OWN != 0 {
                *address = known.address + (*address & !OWN);
            }
        });
        let mut times = known.times.iter();
        deadlines(&mut read.task.root, &mut |in_ms| *in_ms = times.next().map_or(*in_ms, |at| at - now));
        known.stands = true;
        Some(read)
    }

    /// Keeps what was read of a task of this type.
    pub(super) fn add(
        &mut self,
        circumstances: &Circumstances,
        vtable: u64,
        read: &ReadTask,
        basis: &Basis<'_>,
        world: (&AddressSpace, &Moment),
    ) {
        let (memory, moment) = world;
        if self.circumstances != *circumstances {
            // Something was learned only now, which those before might have been read otherwise with.
            *self = Self { circumstances: circumstances.clone(), ..Self::default() };
        }
        let PartyId::Task { id, .. } = read.task.party else { return };
        let (address, now) = (read.task.address, now_ms(moment));
        let mut alike = read.clone();
        let mut times = Vec::new();
        if !generalise(&mut alike, &basis.cell) {
            return;
        }
        deadlines(&mut alike.task.root, &mut |in_ms| times.push(now + mem::take(in_ms)));
        let alike = share(self.alike.entry(vtable).or_default(), alike);
        let elsewhere = self.elsewhere(memory, basis);
        let length = (basis.cell.end - basis.cell.start) as u32;
        let (digest, times) = (basis.digest, times.into());
        self.fresh.push(Known { address, id, length, stands: true, digest, elsewhere, alike, times });
    }

    /// How many tasks stand as they did.
    pub(super) fn standing(&self) -> usize {
        self.tasks.iter().filter(|known| known.stands).count()
    }

    /// Takes out the tasks from `address` on, for another thread to go on with.
    pub(super) fn split_off(&mut self, address: u64) -> Self {
        let at = self.tasks.partition_point(|known| known.address < address);
        let tasks = self.tasks.split_off(at);
        Self { circumstances: self.circumstances.clone(), tasks, ..Self::default() }
    }

    /// Takes in again what was taken out, with what has been added to it, unless the two have come apart.
    pub(super) fn join(&mut self, mut other: Self) {
        if other.circumstances != self.circumstances {
            return;
        }
        self.tasks.append(&mut other.tasks);
        // What is one and the same for all is so for the tasks of both.
        let mut elsewhere: FxHashMap<*const Elsewhere, Arc<Elsewhere>> = FxHashMap::default();
        for mut known in other.fresh {
            let ours = elsewhere.entry(Arc::as_ptr(&known.elsewhere)).or_insert_with(|| {
                let parts = known.elsewhere.parts.iter().map(|part| one_of(&mut self.words, Arc::clone(part)));
                let parts = Elsewhere { parts: parts.collect(), stand: AtomicBool::new(true) };
                one_of(&mut self.elsewhere, Arc::new(parts))
            });
            known.elsewhere = Arc::clone(ours);
            self.fresh.push(known);
        }
    }

    /// Ends a look: forgets what is no more.
    pub(super) fn end(&mut self) {
        self.tasks.retain(|known| known.stands);
        if !self.fresh.is_empty() {
            self.tasks.append(&mut self.fresh);
            self.fresh = Vec::new();
            self.tasks.sort_by_key(|known| known.address);
        }
        self.tasks.shrink_to_fit();
        self.elsewhere.retain(|elsewhere| Arc::strong_count(elsewhere) > 1);
        self.words.retain(|words| Arc::strong_count(words) > 1);
    }

    /// The words that a reading has looked at outside of the cell, as they are.
    fn elsewhere(&mut self, memory: &AddressSpace, basis: &Basis<'_>) -> Arc<Elsewhere> {
        let mut parts = Vec::new();
        basis.trail.visit(|page, bits| {
            let variable = |page| {
                (LOWEST..HIGHEST).contains(&page) && memory.mappings().at(page).is_none_or(|mapping| mapping.write)
            };
            if !*self.variable.entry(page).or_insert_with(|| variable(page)) {
                return;
            }
            let (mut words, mut readable) = (Vec::new(), true);
            for (index, set) in bits.iter().enumerate() {
                let mut set = *set;
                while set != 0 {
                    let address = page + (index as u64 * 64 + u64::from(set.trailing_zeros())) * 8;
                    set &= set - 1;
                    if !basis.cell.contains(&address) || !basis.cell.contains(&(address + 7)) {
                        let value = memory.read_u64(address);
                        readable &= value.is_ok();
                        words.push((address, value.unwrap_or(0)));
                    }
                }
            }
            if words.is_empty() {
                return;
            }
            let words = Words { values: words.into(), readable, stand: AtomicBool::new(true) };
            parts.push(one_of(&mut self.words, Arc::new(words)));
        });
        parts.sort_unstable_by_key(|part| part.range().start);
        let elsewhere = Elsewhere { parts: parts.into(), stand: AtomicBool::new(true) };
        one_of(&mut self.elsewhere, Arc::new(elsewhere))
    }
}

/// One and the same for all that are equal.
fn one_of<T: Hash + Eq>(known: &mut FxHashSet<Arc<T>>, new: Arc<T>) -> Arc<T> {
    if let Some(known) = known.get(&new) {
        return Arc::clone(known);
    }
    known.insert(Arc::clone(&new));
    new
}

/// One and the same for those that are equal, among the last.
fn share(known: &mut Vec<Arc<ReadTask>>, new: ReadTask) -> Arc<ReadTask> {
    if let Some(known) = known.iter().find(|known| ***known == new) {
        return Arc::clone(known);
    }
    if known.len() == MOST_ALIKE {
        known.pop();
    }
    known.insert(0, Arc::new(new));
    Arc::clone(&known[0])
}

/// Takes out what is the task's own and no other's: its id, and where it lies. Whether nothing was in the way.
fn generalise(read: &mut ReadTask, cell: &Range<u64>) -> bool {
    if let PartyId::Task { id, .. } = &mut read.task.party {
        *id = 0;
    }
    let mut possible = true;
    addresses(read, &mut |address| {
        possible &= *address & OWN == 0;
        if cell.contains(address) {
            *address = OWN | (*address - cell.start);
        }
    });
    possible
}

fn now_ms(moment: &Moment) -> i64 {
    (moment.now_ns() / 1_000_000) as i64
}

/// Calls `visit` with the milliseconds that are left of every wait for a point in time.
fn deadlines(strand: &mut Strand, visit: &mut impl FnMut(&mut i64)) {
    waits_mut(strand, &mut |wait| {
        if let WaitMode::Deadline { in_ms: Some(in_ms) } = &mut wait.mode {
            visit(in_ms);
        }
    });
}

/// Calls `visit` with every address of data that was found.
fn addresses(read: &mut ReadTask, visit: &mut impl FnMut(&mut u64)) {
    visit(&mut read.task.address);
    of_strand(&mut read.task.root, visit);
    let Some(told) = read.told_mut() else { return };
    let Told { acquires, shares, rooms, missing, counters, waiters, released, descriptors: _ } = told;
    acquires.iter_mut().for_each(&mut *visit);
    for share in shares {
        share.addresses(visit);
    }
    rooms.iter_mut().chain(counters).for_each(|(one, other)| {
        visit(one);
        visit(other);
    });
    for missing in missing {
        visit(&mut missing.address);
    }
    for waiter in waiters {
        let places = [&mut waiter.acquire, &mut waiter.semaphore, &mut waiter.lock, &mut waiter.count];
        places.into_iter().for_each(&mut *visit);
    }
    for released in released {
        visit(&mut released.release.lock);
        released.within.iter_mut().for_each(&mut *visit);
    }
}

fn of_strand(strand: &mut Strand, visit: &mut impl FnMut(&mut u64)) {
    strand.wait.iter_mut().for_each(|wait| visit(&mut wait.resource.address));
    strand.holds.iter_mut().for_each(|hold| visit(&mut hold.resource.address));
    strand.children.iter_mut().for_each(|child| of_strand(child, visit));
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;

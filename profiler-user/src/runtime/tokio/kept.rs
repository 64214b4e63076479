//! What tasks were found to be, and what that rests on: nobody has to ask again as long as nothing of it has changed.
//!
//! A dry run is a function of what it looks at. So is all that is read of one task: of its cell, which is compared as a whole,
//! by a digest; of words elsewhere ([`super::elsewhere`]), which are compared one by one; and of a few things that are the same for all
//! ([`Circumstances`]). Only tasks at rest are kept, and of those only who were read whole and did not change meanwhile.
//!
//! Tasks that are alike share what was found: it is kept with their own addresses, points in time and ids taken out, and two are
//! alike if that is equal.

use std::{
    hash::{Hash, Hasher},
    mem,
    ops::Range,
    sync::Arc,
};

use rustc_hash::{FxHashMap, FxHasher};

use super::{
    elsewhere::{Elsewhere, Everywhere},
    heap::Header,
    imprint::digest,
    moment::Moment,
    resources::waits_mut,
    task::{ReadTask, Told},
};
use crate::{
    locks::Contended,
    model::{PartyId, Strand, WaitMode},
    target::{AddressSpace, Mappings, Trail},
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
    everywhere: Everywhere,
    /// By vtable, those found last.
    alike: FxHashMap<u64, Vec<Arc<ReadTask>>>,
}

/// Cells that are compared in one go.
const TOGETHER: usize = 1 << 14;
/// Ways to be of one type of task that are told apart.
const MOST_ALIKE: usize = 16;
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
        if self.circumstances != *circumstances {
            *self = Self { circumstances: circumstances.clone(), ..Self::default() };
            return;
        }
        self.everywhere.ask(memory);
        let mut headers = headers.iter().peekable();
        for tasks in self.tasks.chunks_mut(TOGETHER) {
            let mut there = Vec::new();
            for (place, known) in tasks.iter_mut().enumerate() {
                known.stands = false;
                while headers.next_if(|header| header.address < known.address).is_some() {}
                let listed = headers.peek().is_some_and(|header| header.address == known.address);
                if listed && known.elsewhere.stands() {
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
        let elsewhere = self.everywhere.of(memory, &basis.trail, &basis.cell);
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
        let mut adopted = FxHashMap::default();
        for mut known in other.fresh {
            known.elsewhere = self.everywhere.adopt(&known.elsewhere, &mut adopted);
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
        self.everywhere.forget();
    }
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

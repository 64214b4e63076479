//! Who can reach what tasks wait for: everyone is dropped in one dry run, and what that frees nobody else can reach.
//!
//! What lies on the heap stays there as long as anybody has a handle on it: a static, a leaked box, a thread, foreign memory
//! or a message in a queue keeps it as well as a task does. So where the destructors of some tasks, one after the other over
//! one view, free the memory of a thing, nobody but these tasks has a handle on it, and only they can make others.
//!
//! Which of them have one shows on the way: the counts of an `Arc` are the first two words of its memory
//! (library/alloc/src/sync.rs), a drop lowers one of them by 1, and who lowers it to 0 drops what is inside. That is a
//! guess, since not all that owns memory counts so. It is checked by another run: dropping those alone must free it too.
//!
//! Counts tell of all handles only in safe code, so memory is searched for other pointers too ([`super::strays`]).
//!
//! All this holds of one moment if what was freed, and the stacks that handles were found on, still has the bytes then that
//! the runs have seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use rustc_hash::FxHashMap;

use super::{
    classify::{Role, Sink},
    heap::Header,
    holds::{self, DropHooks, Dropping, Pads},
    queue::SEMAPHORE_SPAN,
    read::Tokio,
    resources::waits_mut,
    roots::Root,
    strays::{self, Suspect, Whose},
    task::ReadTask,
    vtables::TaskVtable,
    waits,
};
use crate::{
    dryrun::{Action, Atomic, CallFrame, Hooks, Limits, Machine, Reg, Transfer},
    locks::Unwinding,
    model::{PartyId, Resource, ResourceKey, ResourceKind, TaskState},
    runtime::World,
    target::Memory,
};

/// Tasks that are dropped, at most: the price is that of reading them once more.
pub(super) const MOST: usize = 1000;
/// Things that are asked about, at most: each costs another run, and a comparison for each pointer in memory.
const MOST_THINGS: usize = 64;
/// Instructions for each of them.
const STEPS: u64 = 50_000;
/// Bytes that are compared for each thing, at most.
const COMPARED: u64 = 1 << 20;

/// One that can be dropped.
enum Owner<'r> {
    /// A suspended task.
    Task(Header, &'r TaskVtable),
    /// What a thread waits for in `block_on`.
    Root(&'r Root<'r>),
}

/// Who can reach a thing.
struct Reach {
    /// By index.
    who: BTreeSet<usize>,
    /// Where the memory begins that it lies in.
    object: u64,
    /// Permits that are free or theirs, where it is a semaphore and all that they hold was seen.
    permits: Option<u64>,
}

/// Notes who can reach what `tasks` wait for, wherever they are all known, and how many permits a semaphore has then.
pub(super) fn note(
    tokio: &Tokio,
    world: &World<'_>,
    fs_base: u64,
    roots: &[Root<'_>],
    tasks: &mut [ReadTask],
    resources: &mut Vec<Resource>,
) {
    let waits = tasks.iter().filter(|read| is_settled(read)).flat_map(|read| read.task.root.waits());
    let mut wanted: Vec<ResourceKey> =
        waits.map(|wait| &wait.resource).filter(|key| is_ownerless(key)).cloned().collect();
    wanted.sort_unstable();
    wanted.dedup();
    // Of a thousand clients each may wait for a thing of its own; pools are few.
    wanted.sort_by_key(|key| !key.kind.is_semaphore());
    wanted.truncate(MOST_THINGS);
    if wanted.is_empty() || tasks.len() > MOST {
        return;
    }
    let counters: FxHashMap<u64, u64> = tasks.iter().flat_map(|read| read.told().counters.iter().copied()).collect();
    let mut cells: Vec<Range<u64>> = tasks.iter().filter_map(|read| cell(tokio, world, read)).collect();
    cells.sort_unstable_by_key(|cell| cell.start);
    let everyone = Everyone {
        dropping: tokio.dropping(world.memory, fs_base),
        tokio,
        world,
        all: owners(tokio, world, roots, tasks),
        cells,
        counters,
    };
    let addresses: Vec<u64> = wanted.iter().map(|key| key.address).collect();
    let known = everyone.who_reach(&addresses);
    // What is rung in several places, as a barrier is, is one thing all the same.
    let mut rung: BTreeMap<u64, usize> = BTreeMap::new();
    for key in wanted.iter().filter(|key| !key.kind.is_semaphore()) {
        if let Some(reach) = known.get(&key.address) {
            *rung.entry(reach.object).or_default() += 1;
        }
    }
    let named = |key: &ResourceKey| {
        let object = known.get(&key.address)?.object;
        let several = key.kind != ResourceKind::TokioNotify || rung.get(&object).is_some_and(|places| *places > 1);
        Some(object).filter(|_| several && is_ownerless(key) && !key.kind.is_semaphore())
    };
    for mut key in wanted {
        let Some(reach) = known.get(&key.address) else { continue };
        key.address = named(&key).unwrap_or(key.address);
        let at = resources.iter().position(|resource| resource.key.address == key.address).unwrap_or_else(|| {
            resources.push(Resource::new(key));
            resources.len() - 1
        });
        resources[at].permits = resources[at].permits.or(reach.permits);
        resources[at].reachable_by = Some(reach.who.iter().map(|&index| everyone.all[index].0).collect());
    }
    for read in tasks.iter_mut() {
        waits_mut(&mut read.task.root, &mut |wait| {
            let key = &mut wait.resource;
            key.address = named(key).unwrap_or(key.address);
        });
    }
}

/// Whether it has been read as it stands still.
fn is_settled(read: &ReadTask) -> bool {
    matches!(read.task.state, TaskState::Suspended | TaskState::Scheduled) && !read.task.unstable
}

/// Whether nothing records who can act on it: neither a holder nor a count of owners.
fn is_ownerless(key: &ResourceKey) -> bool {
    use ResourceKind::{TokioBarrier, TokioNotify, TokioWatch};
    key.address != 0 && (key.kind.is_semaphore() || matches!(key.kind, TokioNotify | TokioBarrier | TokioWatch))
}

/// Everyone that can be dropped.
fn owners<'r>(
    tokio: &'r Tokio,
    world: &World<'_>,
    roots: &'r [Root<'r>],
    tasks: &[ReadTask],
) -> Vec<(PartyId, Owner<'r>)> {
    let owner = |read: &ReadTask| {
        if let PartyId::BlockOn { tid } = read.task.party {
            return roots.iter().find(|root| root.facts.tid == tid).map(Owner::Root);
        }
        let header = Header::read(world.memory, read.task.address, &tokio.vtables)?;
        Some(Owner::Task(header, tokio.vtables.get(&header.vtable)?))
    };
    let settled = tasks.iter().filter(|read| is_settled(read));
    settled.filter_map(|read| Some((read.task.party, owner(read)?))).collect()
}

/// The cell of a task.
fn cell(tokio: &Tokio, world: &World<'_>, read: &ReadTask) -> Option<Range<u64>> {
    let header = Header::read(world.memory, read.task.address, &tokio.vtables)?;
    Some(header.address..header.address.saturating_add(tokio.vtables.get(&header.vtable)?.trailer_offset))
}

/// Everyone that can be dropped, and how.
struct Everyone<'r> {
    dropping: Dropping<'r>,
    tokio: &'r Tokio,
    world: &'r World<'r>,
    all: Vec<(PartyId, Owner<'r>)>,
    /// The cells of all tasks, of those too that cannot be dropped, by address.
    cells: Vec<Range<u64>>,
    /// Where each semaphore counts its free permits.
    counters: FxHashMap<u64, u64>,
}

impl Everyone<'_> {
    /// For each of `addresses` that none but some of `all` can reach: those.
    fn who_reach(&self, addresses: &[u64]) -> FxHashMap<u64, Reach> {
        let mut known = FxHashMap::default();
        let everyone: BTreeSet<usize> = (0..self.all.len()).collect();
        let seen = self.drop(&everyone);
        let mut by_guess: BTreeMap<&BTreeSet<usize>, Vec<u64>> = BTreeMap::new();
        for &address in addresses {
            if let Some((_, guess)) = seen.keepers(address) {
                by_guess.entry(guess).or_default().push(address);
            }
        }
        for (guess, addresses) in by_guess {
            let checked = self.drop(guess);
            for address in addresses {
                let sure = checked.keepers(address).is_some();
                let (who, seen) = if sure { (guess, &checked) } else { (&everyone, &seen) };
                if self.are_unchanged(who, seen) {
                    let permits = seen.permits.get(&address).copied().filter(|_| seen.whole);
                    let object = seen.keepers(address).map_or(address, |(start, _)| start);
                    known.insert(address, Reach { who: who.clone(), object, permits });
                }
            }
        }
        self.without_strays(known, &seen)
    }

    /// Takes out what is pointed at by more than its owners; `seen` is what dropping everyone has shown.
    fn without_strays(&self, known: FxHashMap<u64, Reach>, seen: &Seen) -> FxHashMap<u64, Reach> {
        let suspect = |(address, reach): &(u64, Reach)| {
            let mut futures: Vec<Range<u64>> = reach.who.iter().filter_map(|&index| self.future(index)).collect();
            futures.sort_unstable_by_key(|future| future.start);
            match seen.counted(*address) {
                // Into the last word an allocator points, which notes there how long the next piece is; nothing that can be
                // waited for is so small.
                Some(range) => Suspect { thing: range.start..range.end - 8, uncounted: false, futures },
                None => Suspect { thing: *address..address.saturating_add(SEMAPHORE_SPAN), uncounted: true, futures },
            }
        };
        let known: Vec<(u64, Reach)> = known.into_iter().collect();
        let suspects: Vec<Suspect> = known.iter().map(suspect).collect();
        let stacks: Vec<(usize, Range<u64>)> =
            (0..self.all.len()).filter_map(|index| Some((index, self.stack(index)?))).collect();
        let place = |at: u64| match stacks.iter().find(|(_, stack)| stack.contains(&at)) {
            Some((index, _)) => Place::Stack(*index),
            None => match seen.keepers(at) {
                Some((_, keepers)) => Place::Freed(keepers),
                None if strays::contains(&self.cells, at) => Place::Cell,
                None => Place::Elsewhere,
            },
        };
        let strayed = strays::strayed(self.world, &suspects, place, |place, number| {
            let who = &known[number].1.who;
            let theirs = match place {
                Place::Freed(keepers) => keepers.is_subset(who),
                Place::Stack(index) => who.contains(index),
                Place::Cell => return Whose::Untold,
                Place::Elsewhere => return Whose::Unknown,
            };
            if theirs { Whose::Theirs } else { Whose::Told }
        });
        known.into_iter().zip(strayed).filter(|(_, strayed)| !strayed).map(|(known, _)| known).collect()
    }

    /// What may be borrowed from a task: its cell, but for the beginning, by which the runtime knows it.
    fn future(&self, index: usize) -> Option<Range<u64>> {
        match &self.all[index].1 {
            Owner::Task(header, vtable) => Some(header.address + 1..header.address + vtable.trailer_offset),
            Owner::Root(_) => None,
        }
    }

    /// The stack of one that a thread waits for.
    fn stack(&self, index: usize) -> Option<Range<u64>> {
        match &self.all[index].1 {
            Owner::Root(root) => Some(root.stack()),
            Owner::Task(..) => None,
        }
    }

    /// Drops those, in their order.
    fn drop(&self, who: &BTreeSet<usize>) -> Seen {
        let limits = Limits { steps: STEPS * (who.len() as u64 + 4), overlay_bytes: 64 << 20, ..Limits::default() };
        let mut machine = Machine::with_code_cache(self.world.memory, limits, &self.dropping.code.cache);
        let mut seen = Seen { whole: true, ..Seen::default() };
        for &index in who {
            seen.who = index;
            seen.emptied.clear();
            let mut hooks = Watch { inner: self.dropping.hooks(), seen: &mut seen };
            let incomplete = match &self.all[index].1 {
                Owner::Task(header, vtable) => {
                    machine.set_fs_base(self.dropping.fs_base);
                    let outcome = machine.call(vtable.dealloc, &[header.address], &mut hooks);
                    holds::incomplete(&outcome)
                }
                Owner::Root(root) => {
                    match root.drop_in(&mut machine, &self.tokio.unwinder, self.world.modules, &mut hooks) {
                        Pads::Run => None,
                        Pads::Stuck(why) => Some(why),
                        Pads::None => Some("no landing pad drops it".into()),
                    }
                }
            };
            let dropped = hooks.inner.finish(incomplete);
            // Nothing is said here of permits that are given back without a name.
            seen.whole &= dropped.incomplete.is_none() && dropped.released.is_empty();
            // What is given back step by step is counted where the semaphore counts; a release is not stepped into.
            for given in dropped.given.iter().filter(|given| given.sink == Sink::Release) {
                let permits = seen.permits.entry(given.address).or_default();
                *permits = permits.saturating_add(given.amount);
            }
        }
        for (semaphore, counter) in &self.counters {
            let counted = waits::available(&|address| machine.read_u64(address).ok(), *counter);
            let permits = seen.permits.remove(semaphore).unwrap_or(0);
            seen.permits.extend(counted.and_then(|counted| Some((*semaphore, counted.checked_add(permits)?))));
        }
        seen
    }

    /// Whether what was freed by dropping `who`, and the stacks among them, is in the target now as the runs have seen it.
    fn are_unchanged(&self, who: &BTreeSet<usize>, seen: &Seen) -> bool {
        let stacks = who.iter().filter_map(|&index| self.stack(index));
        let freed = seen.freed.iter().map(|(&start, (end, _))| start..*end);
        let ranges: Vec<Range<u64>> = freed.chain(stacks).collect();
        let bytes = ranges.iter().fold(0_u64, |sum, range| sum.saturating_add(range.end - range.start));
        // One that came back to what it was in between would have to do so for both.
        bytes <= COMPARED && (0..2).all(|_| ranges.iter().all(|range| self.is_unchanged(range)))
    }

    fn is_unchanged(&self, range: &Range<u64>) -> bool {
        let length = (range.end - range.start) as usize;
        let (mut then, mut now) = (vec![0; length], vec![0; length]);
        let memory = self.world.memory;
        memory.read(range.start, &mut then).is_ok() && memory.read_now(range.start, &mut now).is_ok() && then == now
    }
}

/// Whose memory there is at an address.
enum Place<'s> {
    /// It was freed, and these have kept it.
    Freed(&'s BTreeSet<usize>),
    /// The stack of this one.
    Stack(usize),
    /// A task that was not dropped.
    Cell,
    /// Anybody's.
    Elsewhere,
}

/// What drops have shown.
#[derive(Default)]
struct Seen {
    /// Who is being dropped.
    who: usize,
    /// Who has lowered the count at an address, by a handle of its own or by freeing what had one.
    lowered: FxHashMap<u64, BTreeSet<usize>>,
    /// Counts that have come to 0, each with the depth of the function in which they did: what that function and those that
    /// it calls do from there on may be done by the last handle.
    emptied: Vec<(usize, u64)>,
    /// Memory that was freed, by its start: its end, and who has kept it.
    freed: BTreeMap<u64, (u64, BTreeSet<usize>)>,
    /// Permits that each semaphore has now: those that were free, and those that were given back.
    permits: FxHashMap<u64, u64>,
    /// Everyone was dropped to the end, and what was given back has a name.
    whole: bool,
}

impl Seen {
    /// Where the memory at `address` begins, and who has kept it; `None` where it was not freed.
    fn keepers(&self, address: u64) -> Option<(u64, &BTreeSet<usize>)> {
        let (start, (end, who)) = self.freed.range(..=address).next_back()?;
        (address < *end).then_some((*start, who))
    }

    /// The memory around `address`, if it was freed and counts its handles.
    fn counted(&self, address: u64) -> Option<Range<u64>> {
        let (start, _) = self.keepers(address)?;
        let (end, _) = self.freed.get(&start)?;
        let counts = [start, start.wrapping_add(8)];
        (counts.iter().any(|count| self.lowered.contains_key(count)) && end - start > 16).then_some(start..*end)
    }

    /// Everyone for whom the present drop may be done.
    fn for_whom(&self) -> BTreeSet<usize> {
        let emptied = self.emptied.iter().filter_map(|(_, count)| self.lowered.get(count));
        emptied.flatten().copied().chain([self.who]).collect()
    }

    fn lower(&mut self, count: u64, left: u64, depth: usize) {
        let whom = self.for_whom();
        self.lowered.entry(count).or_default().extend(whom);
        if left == 0 {
            self.emptied.push((depth, count));
        }
    }

    fn free(&mut self, start: u64, size: u64) {
        let mut whom = self.for_whom();
        for count in [start, start.wrapping_add(8)] {
            whom.extend(self.lowered.get(&count).into_iter().flatten());
        }
        self.freed.insert(start, (start.saturating_add(size), whom));
    }
}

/// The hooks of every drop, with an eye on counts and on what is freed.
struct Watch<'c, 's> {
    inner: DropHooks<'c>,
    seen: &'s mut Seen,
}

impl Hooks for Watch<'_, '_> {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, how: Transfer) -> Action {
        if self.inner.role(target) == Some(Role::Deallocate)
            && let (Some(start), Some(size)) = (m.reg(Reg::Rdi), m.reg(Reg::Rsi))
        {
            self.seen.free(start, size);
        }
        self.inner.on_call(m, target, how)
    }

    fn is_function(&self, address: u64) -> bool {
        self.inner.is_function(address)
    }

    fn on_return(&mut self, m: &mut Machine<'_>, frame: &CallFrame) -> Action {
        let depth = m.frames().len();
        while self.seen.emptied.pop_if(|(within, _)| *within >= depth).is_some() {}
        self.inner.on_return(m, frame)
    }

    fn on_atomic(&mut self, m: &mut Machine<'_>, access: &Atomic) {
        if let (8, Some(old), Some(new)) = (access.size, access.old, access.new)
            && old.checked_sub(1) == Some(new)
        {
            self.seen.lower(access.address, new, m.frames().len());
        }
        self.inner.on_atomic(m, access);
    }
}

impl Unwinding for Watch<'_, '_> {
    fn begin_onward(&mut self, m: &Machine<'_>) {
        self.inner.begin_onward(m);
    }

    fn end_onward(&mut self, m: &mut Machine<'_>) {
        self.inner.end_onward(m);
    }

    fn begin(&mut self) {
        self.inner.begin();
    }

    fn is_through(&self) -> bool {
        self.inner.is_through()
    }
}

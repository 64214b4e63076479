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

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    around::{self, Around},
    borrowed, channels,
    classify::Sink,
    freed::{Seen, Watch},
    heap::Header,
    holds::{self, Dropping, Pads},
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
    dryrun::{Limits, Machine},
    model::{PartyId, Resource, ResourceKey, ResourceKind, TaskState, Thread},
    runtime::World,
    target::{Memory, Trail, ranges},
};

/// Tasks that are dropped, at most: the price is that of reading them once more.
pub(super) const MOST: usize = 1000;
/// The same where it is for channels: of these any service has some whose ends are found with nobody.
const MOST_FOR_CHANNELS: usize = 200;
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
    /// It is a channel.
    is_channel: bool,
    /// Permits that are free or theirs, where it is a semaphore and all that they hold was seen.
    permits: Option<u64>,
}

/// Notes who can reach what `tasks` wait for, wherever they are all known, and how many permits a semaphore has then.
pub(super) fn note(
    tokio: &Tokio,
    world: &World<'_>,
    fs_base: u64,
    roots: &[Root<'_>],
    threads: &[Thread],
    tasks: &mut [ReadTask],
    resources: &mut Vec<Resource>,
) {
    let waits = tasks.iter().filter(|read| is_settled(read)).flat_map(|read| read.task.root.waits());
    let few = tasks.len() <= MOST_FOR_CHANNELS;
    let open = if few { channels::open(tasks, resources) } else { FxHashSet::default() };
    let mut wanted: Vec<ResourceKey> = waits
        .filter(|wait| is_ownerless(&wait.resource) || open.contains(&(wait.resource.address, wait.mode)))
        .map(|wait| wait.resource.clone())
        .collect();
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
    let all = owners(tokio, world, roots, tasks);
    let asleep: FxHashSet<PartyId> = tasks.iter().filter(|read| sleeps(read)).map(|read| read.task.party).collect();
    let everyone = Everyone {
        dropping: tokio.dropping(world.memory, fs_base),
        tokio,
        world,
        sleeping: (0..all.len()).filter(|&index| asleep.contains(&all[index].0)).collect(),
        all,
        cells,
        counters,
    };
    let addresses: Vec<u64> = wanted.iter().map(|key| key.address).collect();
    let channels: FxHashSet<u64> = open.into_iter().map(|(address, _)| address).collect();
    let mut known = everyone.who_reach(&addresses, &channels);
    if !known.is_empty() {
        let lend = borrowed::from(world, roots, threads);
        let lends = |party: PartyId| matches!(party, PartyId::BlockOn { tid } if lend.contains(&tid));
        known.retain(|_, reach| !reach.who.iter().any(|&index| lends(everyone.all[index].0)));
    }
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

/// Whether it waits for nothing but timers and descriptors.
fn sleeps(read: &ReadTask) -> bool {
    let mut waits = read.task.root.waits().peekable();
    waits.peek().is_some() && waits.all(|wait| matches!(wait.resource.kind, ResourceKind::Timer | ResourceKind::Io))
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
    /// Those of them that wait for timers and descriptors alone.
    sleeping: BTreeSet<usize>,
    /// The cells of all tasks, of those too that cannot be dropped, by address.
    cells: Vec<Range<u64>>,
    /// Where each semaphore counts its free permits.
    counters: FxHashMap<u64, u64>,
}

impl Everyone<'_> {
    /// For each of `addresses` that none but some of `all` can reach: those.
    fn who_reach(&self, addresses: &[u64], channels: &FxHashSet<u64>) -> FxHashMap<u64, Reach> {
        let mut known = FxHashMap::default();
        let everyone: BTreeSet<usize> = (0..self.all.len()).collect();
        let mut seen = self.drop(&everyone, Vec::new());
        let mut by_guess: BTreeMap<&BTreeSet<usize>, Vec<u64>> = BTreeMap::new();
        for &address in addresses {
            // Who sleeps comes back, and may do anything with a channel: it need not be known who else may.
            let in_vain = |guess: &BTreeSet<usize>| channels.contains(&address) && !guess.is_disjoint(&self.sleeping);
            if let Some((_, guess)) = seen.keepers(address).filter(|(_, guess)| !in_vain(guess)) {
                by_guess.entry(guess).or_default().push(address);
            }
        }
        for (guess, addresses) in by_guess {
            let checked = self.drop(guess, Vec::new());
            for address in addresses {
                let sure = checked.keepers(address).is_some();
                let (who, seen) = if sure { (guess, &checked) } else { (&everyone, &seen) };
                if self.are_unchanged(who, seen) {
                    let permits = seen.permits(address);
                    let object = seen.keepers(address).map_or(address, |(start, _)| start);
                    let is_channel = channels.contains(&address);
                    known.insert(address, Reach { who: who.clone(), object, is_channel, permits });
                }
            }
        }
        if known.is_empty() {
            return known;
        }
        let again = self.drop(&everyone, seen.freed().collect());
        seen.keep_own(&again.loads, |at| self.is_own(at));
        known.retain(|address, _| seen.keepers(*address).is_some());
        self.without_strays(known, &seen)
    }

    /// Whether what lies at `address` in the target is of one of those that are dropped.
    fn is_own(&self, address: u64) -> Option<bool> {
        let mappings = self.world.memory.mappings();
        mappings.at(address)?;
        let on_stack = |(_, owner): &(PartyId, Owner<'_>)| match owner {
            Owner::Root(root) => root.own(mappings).contains(&address),
            Owner::Task(..) => false,
        };
        Some(ranges::contains(&self.cells, address) || self.all.iter().any(on_stack))
    }

    /// Takes out what is pointed at by more than its owners; `seen` is what dropping everyone has shown.
    fn without_strays(&self, known: FxHashMap<u64, Reach>, seen: &Seen) -> FxHashMap<u64, Reach> {
        let around = Around::of(self.world.memory, seen, &self.cells);
        let suspect = |(address, reach): &(u64, Reach)| {
            let mut futures: Vec<Range<u64>> = reach.who.iter().filter_map(|&index| self.future(index)).collect();
            futures.sort_unstable_by_key(|future| future.start);
            let (ways, around) = if reach.is_channel { around.ways(reach.object) } else { (Vec::new(), Vec::new()) };
            // What lies in a task's own future is looked for there.
            let piece = seen.piece(*address).filter(|piece| !ranges::contains(&self.cells, piece.start));
            let thing = piece.as_ref().map_or(*address..address.saturating_add(SEMAPHORE_SPAN), around::inside);
            let counted = piece.filter(|piece| seen.is_counted(piece)).map(|piece| piece.start);
            let handle = counted.filter(|start| seen.is_arc(*start));
            Suspect { thing, uncounted: counted.is_none(), handle, futures, ways, around }
        };
        let known: Vec<(u64, Reach)> = known.into_iter().collect();
        let suspects: Vec<Suspect> = known.iter().map(suspect).collect();
        let stacks: Vec<(usize, Range<u64>)> =
            (0..self.all.len()).filter_map(|index| Some((index, self.stack(index)?))).collect();
        let place = |at: u64| match stacks.iter().find(|(_, stack)| stack.contains(&at)) {
            Some((index, _)) => Place::Stack(*index),
            None => match seen.keepers(at) {
                Some((_, keepers)) => Place::Freed(keepers),
                None if ranges::contains(&self.cells, at) => Place::Cell,
                None => Place::Elsewhere { kept: seen.has_looked_at(at) },
            },
        };
        let strayed = strays::strayed(self.world, &suspects, place, |place, number| {
            let who = &known[number].1.who;
            let theirs = match place {
                Place::Freed(keepers) => keepers.is_subset(who),
                Place::Stack(index) => who.contains(index),
                Place::Cell => return Whose::Untold,
                Place::Elsewhere { kept: false } => return Whose::Unknown,
                Place::Elsewhere { kept: true } => return Whose::Kept,
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

    /// Drops those, in their order, with an eye on loads of words that point into `tracked`.
    fn drop(&self, who: &BTreeSet<usize>, tracked: Vec<Range<u64>>) -> Seen {
        let limits = Limits { steps: STEPS * (who.len() as u64 + 4), overlay_bytes: 64 << 20, ..Limits::default() };
        let trail = Trail::new(self.world.memory);
        let mut machine = Machine::with_code_cache(&trail, limits, &self.dropping.code.cache);
        machine.track(tracked);
        let mut seen = Seen::default();
        seen.whole = true;
        for &index in who {
            seen.begin(index);
            let mut hooks = Watch { inner: self.dropping.thorough(), seen: &mut seen };
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
            seen.whole &= dropped.incomplete.is_none();
            seen.unnamed.extend(dropped.released.iter().map(|released| released.release.lock));
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
        seen.loads = machine.tracks();
        drop(machine);
        seen.finish(trail.into_looked());
        seen
    }

    /// Whether what was freed by dropping `who`, and the stacks among them, is in the target now as the runs have seen it.
    fn are_unchanged(&self, who: &BTreeSet<usize>, seen: &Seen) -> bool {
        let stacks = who.iter().filter_map(|&index| self.stack(index));
        let ranges: Vec<Range<u64>> = seen.freed().chain(stacks).collect();
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
    Elsewhere {
        /// It was looked at by the drops.
        kept: bool,
    },
}

//! Holds and resources: what destructors gave back, whose it is, and how the queues stand.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    classify::{self, Sink},
    code::Code,
    heap::Header,
    holds::{Dropped, Released},
    names, queue,
    task::ReadTask,
    vtables::TaskVtable,
    waits,
};
use crate::{
    debuginfo::{Module, name},
    model::{Frame, Hold, HoldHow, PartyId, QueueEntry, Resource, ResourceKey, ResourceKind, Strand, Wait},
    target::Memory,
};

/// Permits of a lock for readers and one writer, unless it was made with fewer: `MAX_READS` in
/// tokio/src/sync/rwlock.rs, 1.28 to 1.54.
const RWLOCK_PERMITS: u64 = (u32::MAX >> 3) as u64;

/// The holds that a destructor has shown. `awaited` are the queued acquires that the task's poll reaches.
pub(super) fn holds(
    code: &Code,
    modules: &[Module],
    dropped: &Dropped,
    awaited: &[u64],
    root: &Strand,
    vtables: &FxHashMap<u64, TaskVtable>,
    memory: &dyn Memory,
) -> Vec<Hold> {
    let locks = dropped.locks.iter().map(|release| {
        let site = owner(code, modules, &release.path).map(|function| site(function, root));
        Hold { resource: release.lock.clone(), how: HoldHow::Guard, amount: 1, site }
    });
    let given = dropped.given.iter().filter_map(|given| {
        let around = around(code, modules, &given.path);
        let primitive = classify::primitive(&around.functions.iter().rev().map(|function| &**function));
        let (kind, how) = match given.sink {
            Sink::Release | Sink::AddPermits => {
                let kind = primitive.map_or(ResourceKind::TokioBatchSemaphore, |(kind, _)| kind);
                let how = match given.within {
                    None => HoldHow::Guard,
                    Some(acquire) if awaited.contains(&acquire) => HoldHow::Reserved,
                    Some(_) => HoldHow::AssignedUnpolled,
                };
                (kind, how)
            }
            Sink::Sender(channel) => (channel.kind(), HoldHow::Sender),
            Sink::Receiver(channel) => (channel.kind(), HoldHow::Receiver),
            Sink::JoinHandle => {
                // The handle of blocking work gives no power over a task.
                Header::read(memory, given.address, vtables).filter(|header| header.owner != 0)?;
                (ResourceKind::JoinHandle, HoldHow::JoinHandle)
            }
            Sink::AcquireDrop | Sink::Deregister => return None,
        };
        let site = around.owner().cloned().map(|function| site(function, root));
        Some(Hold { resource: key(kind, given.address), how, amount: given.amount, site })
    });
    given.chain(locks).collect()
}

/// What a destructor's call was made in.
pub(super) struct Around {
    /// Functions, outermost first, each behind the type that it drops, if it drops one.
    functions: Vec<Arc<str>>,
    /// The async functions whose states are dropped, outermost first, up to one that shares its code with another.
    pub(super) asyncs: Vec<Async>,
}

/// An async function whose state is dropped.
pub(super) struct Async {
    pub(super) name: Arc<str>,
    /// What its code is called where it is a trait's method and its symbol does not tell for which type.
    by_trait: Option<String>,
}

impl Async {
    /// Whether a function of this name is its code.
    pub(super) fn is_called(&self, function: &str) -> bool {
        function == &*self.name || self.by_trait.as_deref() == Some(function)
    }
}

impl Around {
    /// The innermost async function.
    fn owner(&self) -> Option<&Arc<str>> {
        self.asyncs.last().map(|function| &function.name)
    }
}

/// Paths of calls that are remembered; beyond, all are forgotten.
const MOST_PATHS: usize = 1 << 14;

/// What is around the last call of `path`, outermost first. The destructors of equal tasks take equal paths.
pub(super) fn around(code: &Code, modules: &[Module], path: &[u64]) -> Arc<Around> {
    if let Some(known) = code.drops.borrow().get(path) {
        return Arc::clone(known);
    }
    let mut around = Around { functions: Vec::new(), asyncs: Vec::new() };
    let mut folded = false;
    for call in path {
        folded = folded || names::is_folded(modules, *call);
        for frame in code.frames(modules, *call).iter() {
            if let Some(dropped) = names::dropped_type(&frame.raw) {
                let dropped_name: Arc<str> = name::type_name(dropped).into();
                if !folded && names::is_coroutine(dropped) && classify::shown(&dropped_name) {
                    let by_trait = names::by_trait(dropped);
                    around.asyncs.push(Async { name: Arc::clone(&dropped_name), by_trait });
                }
                // The guard's own type tells the primitive where its drop was inlined.
                around.functions.push(dropped_name);
            }
            around.functions.push(Arc::clone(&frame.frame.function));
        }
    }
    let around = Arc::new(around);
    let mut known = code.drops.borrow_mut();
    if known.len() >= MOST_PATHS {
        known.clear();
    }
    known.insert(path.into(), Arc::clone(&around));
    around
}

/// The innermost async function whose state a destructor's call drops.
pub(super) fn owner(code: &Code, modules: &[Module], path: &[u64]) -> Option<Arc<str>> {
    around(code, modules, path).owner().cloned()
}

/// The function that owns a hold, with the await point that it stands at now.
pub(super) fn site(function: Arc<str>, root: &Strand) -> Frame {
    root.walk()
        .flat_map(|strand| strand.frames.iter())
        .find(|frame| frame.function == function)
        .cloned()
        .unwrap_or(Frame { function, file: None, line: None })
}

/// Turns what destructors gave back without a name into holds: whoever waits for a semaphore has shown whose a lock is.
fn name_released(tasks: &mut [ReadTask]) {
    let waiters = tasks.iter().flat_map(|read| &read.told().waiters);
    let semaphores: FxHashMap<u64, u64> = waiters.map(|waiter| (waiter.lock, waiter.semaphore)).collect();
    for read in tasks {
        let released = read.told_mut().map(|told| std::mem::take(&mut told.released));
        for Released { release, within } in released.unwrap_or_default() {
            let Some(semaphore) = semaphores.get(&release.lock) else { continue };
            let how = if within.is_some() { HoldHow::Reserved } else { HoldHow::Guard };
            let resource = key(ResourceKind::TokioBatchSemaphore, *semaphore);
            read.task.root.holds.push(Hold { resource, how, amount: release.permits, site: None });
        }
    }
}

/// Reads the queue of every semaphore that is waited for, settles each address on one kind, and places the waits.
pub(super) fn read(code: &Code, memory: &dyn Memory, tasks: &mut [ReadTask], fs_base: u64) -> Vec<Resource> {
    name_released(tasks);
    let kinds = settle_kinds(tasks);
    let mut counters = FxHashMap::default();
    let mut waiter = FxHashMap::default();
    let mut headers = FxHashMap::default();
    let semaphores = semaphores(tasks);
    if !semaphores.is_empty() {
        headers.extend(tasks.iter().map(|read| (read.task.address, read.task.party)));
    }
    for read in tasks.iter() {
        counters.extend(read.told().counters.iter().copied());
        for missing in &read.told().missing {
            waiter.insert(missing.address, read.task.party);
        }
    }
    let mut resources: FxHashMap<u64, Resource> = FxHashMap::default();
    let mut places: FxHashMap<u64, u32> = FxHashMap::default();
    let queued = Queued::of(tasks);
    for address in semaphores {
        let queue = queue::run(code, memory, address, fs_base);
        let paired = queue.waiters.len() == queue.wakers.len();
        let entries = queue.waiters.iter().enumerate().map(|(place, (count, wants))| {
            places.insert(*count, place as u32);
            let by_waker = || paired.then(|| headers.get(&queue.wakers[place]).copied()).flatten();
            let party = waiter.get(count).copied().or_else(by_waker).or_else(|| queued.owner(*count));
            QueueEntry { party, wants: Some(*wants) }
        });
        let queue_entries = entries.collect();
        let kind = kinds.get(&address).cloned().unwrap_or(ResourceKind::TokioBatchSemaphore);
        resources.insert(
            address,
            Resource {
                permits: match kind {
                    ResourceKind::TokioMutex | ResourceKind::TokioOnceCell => Some(1),
                    ResourceKind::TokioRwLock => Some(RWLOCK_PERMITS),
                    _ => None,
                },
                available: counters
                    .get(&address)
                    .and_then(|counter| waits::available(&|at| memory.read_u64(at).ok(), *counter)),
                queue: queue_entries,
                queue_known: queue.complete,
                ..Resource::new(key(kind, address))
            },
        );
    }
    for read in tasks {
        let (task, told) = read.parts();
        let mut missing = told.missing.iter();
        waits_mut(&mut task.root, &mut |wait| {
            if resources.contains_key(&wait.resource.address) && wait.resource.kind != ResourceKind::JoinHandle {
                wait.position = missing.next().and_then(|missing| places.get(&missing.address).copied());
            }
        });
    }
    let mut resources: Vec<Resource> = resources.into_values().collect();
    resources.sort_by_key(|resource| resource.key.address);
    resources
}

/// Addresses of the semaphores that strands wait for, each once.
fn semaphores(tasks: &[ReadTask]) -> Vec<u64> {
    let mut addresses: Vec<u64> = tasks
        .iter()
        .filter(|read| !read.told().missing.is_empty())
        .flat_map(|read| read.task.root.waits())
        .filter(|wait| is_semaphore(&wait.resource))
        .map(|wait| wait.resource.address)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

pub(super) fn is_semaphore(resource: &ResourceKey) -> bool {
    resource.address != 0
        && (resource.kind.is_permits()
            || matches!(resource.kind, ResourceKind::TokioOnceCell | ResourceKind::TokioMpsc))
}

/// One address, one kind: a mutex seen through its bare semaphore is the mutex still.
fn settle_kinds(tasks: &mut [ReadTask]) -> FxHashMap<u64, ResourceKind> {
    let mut kinds: FxHashMap<u64, ResourceKind> = FxHashMap::default();
    let mut offer = |resource: &ResourceKey| {
        if is_semaphore(resource) {
            let known = kinds.entry(resource.address).or_insert_with(|| resource.kind.clone());
            if classify::specificity(&resource.kind) > classify::specificity(known) {
                known.clone_from(&resource.kind);
            }
        }
    };
    for read in tasks.iter() {
        read.task.root.waits().for_each(|wait| offer(&wait.resource));
        read.task.root.all_holds().for_each(|hold| offer(&hold.resource));
    }
    let settle = |resource: &mut ResourceKey| {
        if is_semaphore(resource)
            && let Some(kind) = kinds.get(&resource.address)
        {
            resource.kind.clone_from(kind);
        }
    };
    for read in tasks {
        waits_mut(&mut read.task.root, &mut |wait| settle(&mut wait.resource));
        read.task.root.holds.iter_mut().for_each(|hold| settle(&mut hold.resource));
    }
    kinds
}

/// Bytes of a queued acquire, at most: its count of missing permits lies within.
const ACQUIRE_SPAN: u64 = 128;

/// Futures that stand in a queue, wherever they lie, each with the task whose destructor drops it.
struct Queued(Vec<(u64, PartyId)>);

impl Queued {
    fn of(tasks: &[ReadTask]) -> Self {
        let mut queued: Vec<_> = tasks
            .iter()
            .flat_map(|read| read.told().acquires.iter().map(|acquire| (*acquire, read.task.party)))
            .collect();
        queued.sort_unstable();
        Self(queued)
    }

    /// The task that the count of missing permits at `count` belongs to.
    fn owner(&self, count: u64) -> Option<PartyId> {
        let at = self.0.partition_point(|(acquire, _)| *acquire <= count).checked_sub(1)?;
        let (acquire, party) = self.0[at];
        (count - acquire < ACQUIRE_SPAN).then_some(party)
    }
}

/// The key that a wait or hold on `kind` at `address` is known by.
pub(super) fn key(kind: ResourceKind, address: u64) -> ResourceKey {
    ResourceKey { kind, address }
}

/// All waits of a strand and those below, to be changed.
pub(super) fn waits_mut(strand: &mut Strand, visit: &mut dyn FnMut(&mut Wait)) {
    if let Some(wait) = &mut strand.wait {
        visit(wait);
    }
    for child in &mut strand.children {
        waits_mut(child, visit);
    }
}

//! What a leaf future waits for, read from its first words and from what its poll touched.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    classify::{self, Leaf},
    heap::Header,
    poll::Hit,
    queue::SEMAPHORE_SPAN,
    shape::Waiter,
    vtables::TaskVtable,
};
use crate::{
    model::{PartyId, ResourceKey, ResourceKind, Wait, WaitMode},
    target::Memory,
};

/// A semaphore wait's place: the count of permits that it still misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Missing {
    /// Address of the count: what tells one waiter from another in the queue.
    pub(super) address: u64,
    /// The count.
    pub(super) permits: u64,
}

/// What `hit` waits for. `functions` are those around it, root first.
pub(super) fn read(
    hit: &Hit,
    functions: &[Arc<str>],
    memory: &dyn Memory,
    vtables: &FxHashMap<u64, TaskVtable>,
    leaf_name: impl FnOnce() -> String,
) -> Wait {
    let first = hit.words.first().copied().unwrap_or(0);
    let primitive = classify::primitive(&functions.iter().rev().map(|function| &**function));
    let (kind, address, mode, target) = match hit.leaf {
        Some(Leaf::Acquire) => {
            let (kind, mode) = primitive.unwrap_or((ResourceKind::TokioBatchSemaphore, None));
            let permits = missing(hit).map_or(1, |missing| missing.permits.max(1));
            (kind, touched(hit).unwrap_or(0), mode.unwrap_or(WaitMode::Acquire { permits }), None)
        }
        Some(Leaf::Notified) => {
            let (kind, mode) = primitive.unwrap_or((ResourceKind::TokioNotify, None));
            (kind, touched(hit).unwrap_or(0), mode.unwrap_or(WaitMode::Notified), None)
        }
        Some(Leaf::ChannelReceive(channel)) => (channel.kind(), first, WaitMode::Receive, None),
        Some(Leaf::Join) => join(first, memory, vtables),
        Some(Leaf::JoinOutput) => join(hit.this, memory, vtables),
        Some(Leaf::Sleep) => (ResourceKind::Timer, hit.this, WaitMode::Deadline { in_ms: None }, None),
        Some(Leaf::Io) => (ResourceKind::Io, hit.this, WaitMode::Ready { fd: None }, None),
        Some(Leaf::Yield) => (ResourceKind::Yield, 0, WaitMode::Unknown, None),
        Some(Leaf::JoinSet) => (ResourceKind::Other("tokio::task::JoinSet".into()), hit.this, WaitMode::Join, None),
        None => (ResourceKind::Other(leaf_name()), hit.this, WaitMode::Unknown, None),
    };
    Wait { resource: ResourceKey { kind, address }, mode, position: None, target }
}

/// A wait for the task at `address`.
fn join(
    address: u64,
    memory: &dyn Memory,
    vtables: &FxHashMap<u64, TaskVtable>,
) -> (ResourceKind, u64, WaitMode, Option<PartyId>) {
    match Header::read(memory, address, vtables) {
        Some(header) if header.owner == 0 => (ResourceKind::BlockingPool, address, WaitMode::Join, None),
        header => {
            let target = header.and_then(|header| party(&header, &vtables[&header.vtable], memory));
            (ResourceKind::JoinHandle, address, WaitMode::Join, target)
        }
    }
}

/// The party that a task's header stands for.
pub(super) fn party(header: &Header, vtable: &TaskVtable, memory: &dyn Memory) -> Option<PartyId> {
    let runtime = memory.read_u64(header.address + vtable.scheduler_offset).ok()?;
    let id = memory.read_u64(header.address + vtable.id_offset).ok()?;
    Some(PartyId::Task { runtime, id })
}

/// The shared object that a leaf points at: the word of the future that lies just below the first atomic access outside
/// of the future itself. This is how the layout is read from the code: no offset of `Acquire` or `Notified` is assumed.
fn touched(hit: &Hit) -> Option<u64> {
    let outside = |address: u64| address.wrapping_sub(hit.this) >= hit.words.len() as u64 * 8;
    let access = hit.atomics.iter().find(|atomic| outside(atomic.address))?;
    hit.words.iter().copied().filter(|word| access.address.wrapping_sub(*word) < SEMAPHORE_SPAN).max()
}

/// The count of permits that a queued acquire still misses: the one word of its own that its poll changes atomically.
pub(super) fn missing(hit: &Hit) -> Option<Missing> {
    let inside = |address: u64| address.wrapping_sub(hit.this) < hit.words.len() as u64 * 8;
    hit.atomics
        .iter()
        .find(|atomic| atomic.size == 8 && inside(atomic.address))
        .and_then(|atomic| Some(Missing { address: atomic.address, permits: atomic.old? }))
}

/// The waiter of a queued acquire in the queue of `semaphore`: its lock is the first thing that the poll changes there.
pub(super) fn waiter(hit: &Hit, semaphore: u64) -> Option<Waiter> {
    let own = |address: u64| address.wrapping_sub(semaphore) < SEMAPHORE_SPAN;
    let lock = hit.atomics.iter().find(|atomic| atomic.size < 8 && own(atomic.address) && atomic.new == Some(1))?;
    Some(Waiter { acquire: hit.this, semaphore, lock: lock.address, count: missing(hit)?.address })
}

/// Address and number of the free permits of the semaphore at `semaphore`, as the poll of an acquire saw them.
///
/// Source: `permits` in tokio/src/sync/batch_semaphore.rs, 1.28 to 1.54: the count stands one bit up, above a closed flag.
pub(super) fn available(hit: &Hit, semaphore: u64) -> Option<(u64, u64)> {
    let own = |address: u64| address.wrapping_sub(semaphore) < SEMAPHORE_SPAN;
    let access = hit.atomics.iter().find(|atomic| atomic.size == 8 && own(atomic.address))?;
    Some((semaphore, access.old? >> 1))
}

//! What a leaf future waits for, read from its first words and from what its poll touched.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    classify::{self, Channel, Leaf},
    heap::Header,
    moment::Moment,
    poll::{Hit, LEAF_SPAN},
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

/// What of the present moment waits have asked for.
pub(super) struct Watched<'m> {
    pub(super) moment: &'m Moment,
    /// The process, where it runs: how long ago a kept one was kept is not known.
    pub(super) pid: Option<i32>,
    /// Descriptors that were found, each with the word that told.
    pub(super) descriptors: Vec<(u64, i32)>,
}

impl Watched<'_> {
    fn descriptor(&mut self, words: impl IntoIterator<Item = u64>) -> Option<i32> {
        let (word, fd) = self.moment.descriptor(self.pid?, words)?;
        self.descriptors.push((word, fd));
        Some(fd)
    }
}

/// What `hit` waits for. `kept` are the wakers that the poll has looked at and somebody keeps, `functions` those around it, root first.
pub(super) fn read(
    hit: &Hit,
    kept: &[u64],
    functions: &[Arc<str>],
    memory: &dyn Memory,
    vtables: &FxHashMap<u64, TaskVtable>,
    moment: &mut Watched<'_>,
    leaf_name: impl FnOnce() -> String,
) -> Wait {
    let first = hit.words.first().copied().unwrap_or(0);
    let primitive = classify::primitive(&functions.iter().rev().map(|function| &**function));
    let receives = |function: &Arc<str>| function.starts_with("tokio::sync::broadcast::Rec");
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
        // Its receiver is borrowed: what its poll touches lies in the channel, whose beginning only the receiver knows.
        Some(Leaf::ChannelReceive(Channel::Broadcast)) => {
            (ResourceKind::TokioBroadcast, tail(hit).unwrap_or(0), WaitMode::Receive, None)
        }
        Some(Leaf::ChannelReceive(channel)) => (channel.kind(), first, WaitMode::Receive, None),
        Some(Leaf::ChannelClosed(channel)) => (channel.kind(), first, WaitMode::Notified, None),
        Some(Leaf::Join) => join(first, memory, vtables),
        Some(Leaf::JoinOutput) => join(hit.this, memory, vtables),
        Some(Leaf::Sleep) => {
            let in_ms = moment.pid.and_then(|_| deadline(&hit.words, moment.moment.now_ns()));
            (ResourceKind::Timer, hit.this, WaitMode::Deadline { in_ms }, None)
        }
        Some(Leaf::Io) => {
            let words = [hit.this].into_iter().chain(hit.words.iter().copied());
            let fd = moment.descriptor(words);
            (ResourceKind::Io, hit.this, WaitMode::Ready { fd }, None)
        }
        Some(Leaf::Yield) => (ResourceKind::Yield, 0, WaitMode::Unknown, None),
        Some(Leaf::JoinSet | Leaf::JoinSetList) => {
            (ResourceKind::Other("tokio::task::JoinSet".into()), hit.this, WaitMode::Join, None)
        }
        // Which of its receivers shows in what it owns.
        None if hit.looked && functions.iter().any(receives) => {
            (ResourceKind::TokioBroadcast, 0, WaitMode::Receive, None)
        }
        None => {
            let copy = hit.copies.place();
            // Whoever can get at the one waker that it has left may wake it, and nobody else.
            let is_left = copy.is_some_and(|copy| kept.contains(&copy));
            let mode = if is_left { WaitMode::Notified } else { WaitMode::Unknown };
            (ResourceKind::Other(leaf_name()), copy.unwrap_or(hit.this), mode, None)
        }
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

/// More tasks of a set than are shown one by one.
const MOST_JOINED: usize = 64;

/// What a wait for any of a set of tasks is for, task by task. `aborted` are the tasks that dropping the set would abort, and
/// those of any other set beside it; `None` where they are not all that are waited for.
///
/// Source: `JoinSet` in tokio/src/task/join_set.rs, 1.28 to 1.54: a pointer and a length, and its drop aborts its tasks.
pub(super) fn joined(
    hit: &Hit,
    aborted: &[u64],
    memory: &dyn Memory,
    vtables: &FxHashMap<u64, TaskVtable>,
) -> Option<Vec<Wait>> {
    let length = hit.words.iter().take(2).min()?;
    let mut headers = aborted.to_vec();
    headers.sort_unstable();
    headers.dedup();
    if headers.len() > MOST_JOINED || (headers.len() as u64) < (*length).max(1) {
        return None;
    }
    let waits = headers.into_iter().map(|address| {
        let (kind, address, mode, target) = join(address, memory, vtables);
        target.map(|target| Wait {
            resource: ResourceKey { kind, address },
            mode,
            position: None,
            target: Some(target),
        })
    });
    waits.collect()
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
    /// Such objects begin with a word, or hold one: what is left of a pointer where a flag was written over it is none.
    const ALIGNMENT: u64 = 8;
    let access = outside(hit)?;
    let words = hit.words.iter().take(LEAF_SPAN as usize / 8).copied();
    let may_be = |word: &u64| word.is_multiple_of(ALIGNMENT) && access.wrapping_sub(*word) < SEMAPHORE_SPAN;
    words.filter(may_be).max()
}

/// Milliseconds from `now_ns` until the one point in time that `words` hold; `None` where they hold none or several.
///
/// Source: `Instant` in library/std/src/sys/pal/unix/time.rs: seconds, then 32 bits of nanoseconds. `Sleep` holds its
/// deadline (tokio/src/time/sleep.rs, 1.28 to 1.54), in older versions twice.
fn deadline(words: &[u64], now_ns: u64) -> Option<i64> {
    /// `Instant::far_future` in tokio/src/time/instant.rs is 30 years away.
    const FAR: u64 = 31 * 365 * 86_400;
    /// A deadline that has passed is met within a moment, unless nobody drives the timers: what is older is some other number.
    const PAST: u64 = 10;
    let now = now_ns / 1_000_000_000;
    let instants = words.windows(2).filter_map(|pair| {
        let nanoseconds = pair[1] & u64::from(u32::MAX);
        let near = (now.saturating_sub(PAST).max(1)..now + FAR).contains(&pair[0]);
        (near && nanoseconds < 1_000_000_000).then_some((pair[0], nanoseconds))
    });
    let instants: Vec<(u64, u64)> = instants.collect();
    // The timer keeps the same moment twice, in milliseconds since its runtime began, and what stands behind a sleep may be
    // anything.
    let begun =
        |seconds: u64, ticks: u64| (seconds * 1000).checked_sub(ticks).is_some_and(|at| at <= now_ns / 1_000_000);
    let twice = |word: &u64| words.iter().filter(|other| *other == word).count() > 1;
    let confirmed =
        |(seconds, _): &(u64, u64)| words.iter().any(|word| *word > 0 && begun(*seconds, *word) && twice(word));
    let deadline = instants.iter().find(|instant| confirmed(instant)).or(match &instants[..] {
        [only] => Some(only),
        _ => None,
    })?;
    let left = i128::from(deadline.0) * 1_000_000_000 + i128::from(deadline.1) - i128::from(now_ns);
    i64::try_from(left / 1_000_000).ok()
}

/// The first address outside of the future itself that its poll changed atomically.
fn outside(hit: &Hit) -> Option<u64> {
    all_outside(hit).next()
}

fn all_outside(hit: &Hit) -> impl Iterator<Item = u64> {
    let outside = |address: &u64| address.wrapping_sub(hit.this) >= LEAF_SPAN;
    hit.atomics.iter().map(|atomic| atomic.address).filter(outside)
}

/// The lock of a broadcast channel's tail, which is taken after that of a slot, elsewhere on the heap, has been tried.
///
/// Source: `Receiver::recv_ref` in tokio/src/sync/broadcast.rs, 1.38 to 1.54.
fn tail(hit: &Hit) -> Option<u64> {
    let slot = outside(hit)?;
    all_outside(hit).find(|address| *address != slot).or(Some(slot))
}

/// The count of permits that a queued acquire still misses: the one word of its own that its poll changes atomically.
pub(super) fn missing(hit: &Hit) -> Option<Missing> {
    let inside = |address: u64| address.wrapping_sub(hit.this) < LEAF_SPAN;
    hit.atomics
        .iter()
        .find(|atomic| atomic.size == 8 && inside(atomic.address))
        .and_then(|atomic| Some(Missing { address: atomic.address, permits: atomic.old? }))
}

/// The waiter of a queued acquire in the queue of its semaphore: its lock is the first thing that the poll changes there.
pub(super) fn waiter(hit: &Hit) -> Option<Waiter> {
    let semaphore = touched(hit).filter(|_| hit.leaf == Some(Leaf::Acquire))?;
    let own = |address: u64| address.wrapping_sub(semaphore) < SEMAPHORE_SPAN;
    let lock = hit.atomics.iter().find(|atomic| atomic.size < 8 && own(atomic.address) && atomic.new == Some(1))?;
    Some(Waiter { acquire: hit.this, semaphore, lock: lock.address, count: missing(hit)?.address })
}

/// The semaphore at `semaphore`, and where it counts its free permits: the word of it that the poll of an acquire changes.
pub(super) fn counter(hit: &Hit, semaphore: u64) -> Option<(u64, u64)> {
    Some((semaphore, count(hit, semaphore)?.0))
}

/// Address and value of a semaphore's count of free permits, with the flag below it.
pub(super) fn count(hit: &Hit, semaphore: u64) -> Option<(u64, u64)> {
    let own = |address: u64| address.wrapping_sub(semaphore) < SEMAPHORE_SPAN;
    let access = hit.atomics.iter().find(|atomic| atomic.size == 8 && own(atomic.address))?;
    Some((access.address, access.old?))
}

/// The free permits that `counter` tells of; `read` reads a word.
///
/// Source: `permits` in tokio/src/sync/batch_semaphore.rs, 1.28 to 1.54: the count stands one bit up, above a closed flag.
pub(super) fn available(read: &dyn Fn(u64) -> Option<u64>, counter: u64) -> Option<u64> {
    read(counter).map(|word| word >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dryrun::{Atomic, Looked};

    #[test]
    fn what_is_left_of_a_pointer_under_a_flag_is_no_resource() {
        let lock = Atomic { address: 0x7f00_0000_0d08, size: 4, old: Some(0), new: Some(1), ip: 0 };
        let hit = |words: &[u64]| Hit {
            path: Vec::new(),
            leaf: Some(Leaf::Notified),
            function: 0,
            looked: false,
            copies: Looked::Own,
            this: 0x1000,
            words: words.to_vec(),
            atomics: vec![lock],
            child: None,
        };
        assert_eq!(touched(&hit(&[0x7f00_0000_0d00, 1, 0x7f00_0000_0d01])), Some(0x7f00_0000_0d00));
        assert_eq!(touched(&hit(&[0x7f00_0000_0d01, 1])), None);
    }

    const NOW: u64 = 5_000_000_000_000;

    #[test]
    fn a_deadline_is_told_from_pointers_and_small_numbers() {
        let words = [1, 0x7f00_1234_5678, 5003, 0xdead_1dcd_6500, 0, 2];
        assert_eq!(deadline(&words, NOW), Some(3500));
        assert_eq!(deadline(&[4999, 0], NOW), Some(-1000));
        assert_eq!(deadline(&[1, 0x7f00_1234_5678, 3, 4], NOW), None);
        assert_eq!(deadline(&[4000, 0], NOW), None, "it would have been met long ago");
    }

    #[test]
    fn of_two_points_in_time_neither_is_the_deadline() {
        assert_eq!(deadline(&[5003, 0, 5004, 0], NOW), None);
    }

    #[test]
    fn a_deadline_is_told_from_the_timers_own_count() {
        let words = [3_600_024, 3_600_024, 0x5574_0250_e270, 0, 8600, 0x5574_076a_770a, 7777, 1];
        assert_eq!(deadline(&words, NOW), Some(3_600_124));
    }
}

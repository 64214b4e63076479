//! Queued acquires of a semaphore, and permits that are given back, known by what is done to memory: for builds in which the
//! functions that do it were inlined or have no name.
//!
//! Source: `Semaphore::poll_acquire` and `Waiter` in tokio/src/sync/batch_semaphore.rs, 1.28 to 1.54. Holding the lock of the
//! queue, the poll of a waiter that stays in it compares and exchanges the semaphore's count of permits, which lies beside
//! the lock, and then the waiter's own count of missing permits. The waiter stands in a doubly linked list whose ends lie
//! beside the lock too. What shows all of this is taken for one; no offset is assumed, each is found by what it links.
//!
//! `Semaphore::add_permits_locked` takes from the waiters' counts what it assigns to them, and adds what is left to the
//! semaphore's, holding the lock as well.

use super::queue::SEMAPHORE_SPAN;
use crate::dryrun::{Atomic, Machine};

/// Bytes of a waiter: a waker, two links, a count.
const WAITER_SPAN: u64 = 40;
/// The reference to the semaphore stands within so many bytes of its waiter's count.
const NEAR: u64 = 64;
/// Words of a future that are kept, as of other leaves.
const WORDS: u64 = 12;

/// Watches a run for the accesses of a queued acquire.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    /// The lock that was taken last, and what was accessed since.
    section: Vec<Atomic>,
}

/// A queued acquire that was polled.
#[derive(Debug)]
pub(super) struct QueuedAcquire {
    /// Lowest address of what is known of the future.
    pub(super) this: u64,
    /// The words from there on.
    pub(super) words: Vec<u64>,
    /// The accesses by which it was known: lock, permits, missing permits.
    pub(super) atomics: Vec<Atomic>,
}

impl Watcher {
    /// Takes note of an access. When it gives the lock of a queue back, the acquire that was polled under it.
    pub(super) fn on_atomic(&mut self, m: &Machine<'_>, access: &Atomic) -> Option<QueuedAcquire> {
        let change = (access.old?, access.new?);
        let is_lock = access.size == 1 || access.size == 4;
        match self.section.first() {
            _ if is_lock && change == (0, 1) => self.section = vec![*access],
            Some(lock) if is_lock && lock.address == access.address && change == (1, 0) => {
                return queued(m, &std::mem::take(&mut self.section));
            }
            // More than the two that are looked for is something else.
            Some(_) if self.section.len() <= 3 => self.section.push(*access),
            _ => self.section.clear(),
        }
        None
    }
}

/// Watches a run for permits that are given back.
#[derive(Debug, Default)]
pub(super) struct PermitWatch {
    section: Vec<Atomic>,
}

/// What was given back while a lock was held: of a semaphore, if the lock is one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PermitsBack {
    /// Address of the lock.
    pub(super) lock: u64,
    /// Permits; 0 where none were.
    pub(super) permits: u64,
}

/// Accesses under one lock that are kept; a release serves 32 waiters in one go.
const SECTION: usize = 64;

impl PermitWatch {
    /// Takes note of an access; what was done under the lock when it is given back.
    pub(super) fn on_atomic(&mut self, access: &Atomic) -> Option<PermitsBack> {
        let change = (access.old?, access.new?);
        let is_lock = access.size == 1 || access.size == 4;
        match self.section.first() {
            _ if is_lock && change == (0, 1) => self.section = vec![*access],
            Some(lock) if is_lock && lock.address == access.address && change == (1, 0) => {
                let section = std::mem::take(&mut self.section);
                let permits = section[1..].iter().map(|access| given_back(access, section[0].address));
                return Some(PermitsBack { lock: section[0].address, permits: permits.sum() });
            }
            Some(_) if self.section.len() < SECTION => self.section.push(*access),
            _ => self.section.clear(),
        }
        None
    }
}

/// Permits that an access gives back to the semaphore with this lock, or to one of its waiters.
fn given_back(access: &Atomic, lock: u64) -> u64 {
    let (8, Some(old), Some(new)) = (access.size, access.old, access.new) else { return 0 };
    if access.address.abs_diff(lock) < SEMAPHORE_SPAN { new.saturating_sub(old) >> 1 } else { old.saturating_sub(new) }
}

/// A waiter of the task that is looked at, in the queue of a semaphore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    /// The acquire's address, as hits have it.
    pub(super) acquire: u64,
    /// The semaphore.
    pub(super) semaphore: u64,
    /// The lock of its queue.
    pub(super) lock: u64,
    /// Address of the waiter's count of missing permits.
    pub(super) count: u64,
}

impl Waiter {
    /// Whether it stands in the queue now, as the machine sees it.
    pub(super) fn stands(&self, m: &Machine<'_>) -> bool {
        find_waiter(m, self.semaphore, self.count).is_some()
    }
}

fn queued(m: &Machine<'_>, section: &[Atomic]) -> Option<QueuedAcquire> {
    let [lock, permits, missing] = section else { return None };
    let beside = lock.address.abs_diff(permits.address) < SEMAPHORE_SPAN;
    if permits.size != 8 || missing.size != 8 || !beside || missing.old? == 0 {
        return None;
    }
    let word = |address: u64| m.read_u64(address).ok();
    let (low, high) = (lock.address.min(permits.address), lock.address.max(permits.address));
    let slots = (missing.address.checked_sub(NEAR)?..=missing.address.checked_add(NEAR)?).step_by(8);
    let covers = |semaphore: u64| semaphore <= low && high - semaphore < SEMAPHORE_SPAN;
    let (semaphore, slot) =
        slots.filter_map(|slot| Some((word(slot)?, slot))).filter(|(semaphore, _)| covers(*semaphore)).max()?;
    let waiter = find_waiter(m, semaphore, missing.address)?;
    let this = slot.min(waiter);
    if slot.max(missing.address) >= this + WORDS * 8 {
        return None;
    }
    let words = (0..WORDS).map_while(|index| word(this + index * 8)).collect();
    Some(QueuedAcquire { this, words, atomics: section.to_vec() })
}

/// The waiter with its count at `count`, if it stands in the queue of `semaphore`.
fn find_waiter(m: &Machine<'_>, semaphore: u64, count: u64) -> Option<u64> {
    let word = |address: u64| m.read_u64(address).ok();
    let ends: Vec<u64> = (semaphore..semaphore.checked_add(SEMAPHORE_SPAN)?).step_by(8).filter_map(word).collect();
    let mut starts = (count.checked_sub(WAITER_SPAN - 8)?..=count).step_by(8);
    starts.find(|waiter| is_linked(&word, *waiter, count, &ends))
}

/// Whether a waiter at `waiter`, with its count at `count`, stands in the list that has `ends` among its ends.
fn is_linked(word: &impl Fn(u64) -> Option<u64>, waiter: u64, count: u64, ends: &[u64]) -> bool {
    let at_end = ends.iter().filter(|end| **end == waiter).count();
    (waiter..waiter + WAITER_SPAN - 8).step_by(8).any(|links| {
        let (Some(one), Some(other)) = (word(links), word(links + 8)) else { return false };
        let back = |neighbour: u64, link: u64| neighbour != 0 && word(neighbour.wrapping_add(link)) == Some(waiter);
        let link = links - waiter;
        let loose = [one, other].into_iter().filter(|neighbour| *neighbour == 0).count();
        count != links
            && count != links + 8
            && (one == 0 || back(one, link + 8))
            && (other == 0 || back(other, link))
            && at_end == loose
    })
}

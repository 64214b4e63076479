//! What a dry drop shows of channels: which of the references that it gives back are to channels, and which end each is.
//!
//! See [`super::channels`] for what is made of it.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::{
    classify::{Channel, Sink},
    holds::{Dropped, Given, path},
};
use crate::{
    dryrun::{Atomic, Looked, Machine, Reg},
    target::Memory,
};

/// A reference given back to an object that was changed in more than its count of references: an end of a channel, perhaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Address of the count, which is that of the object: an `ArcInner` begins with it.
    pub(super) base: u64,
    /// Call sites that led there, outermost first.
    pub(super) path: Vec<u64>,
    /// Where the word lies that was lowered by one right before.
    pub(super) before: Option<u64>,
    /// The copy of a task's waker that was looked at since the atomic access before: the drop wakes that task by it.
    pub(super) woke: Option<u64>,
}

impl Share {
    /// Calls `visit` with every address of data in it.
    pub(super) fn addresses(&mut self, visit: &mut impl FnMut(&mut u64)) {
        visit(&mut self.base);
        self.before.iter_mut().chain(&mut self.woke).for_each(visit);
    }

    /// Whether, if this is a channel of messages, it is the sender's end: that lowers the channel's count of senders and
    /// then that of references, and no receiver lowers a word of the channel by one.
    ///
    /// Source: `Chan` and `Tx::drop` in tokio/src/sync/mpsc/chan.rs, 1.28 to 1.54. The parts of a channel that are padded to
    /// a cache line, with the counts of the `ArcInner` before them, take as much as is looked at, and nothing else lies there.
    pub(super) fn is_counted_as_sender(&self) -> bool {
        let inside = |word: u64| (INSIDE..PADDED_SPAN).contains(&word.wrapping_sub(self.base));
        self.base.is_multiple_of(PADDED) && self.before.is_some_and(inside)
    }
}

/// Bytes that a part of a channel is padded to: `CachePadded` in tokio/src/util/cacheline.rs, on `x86_64`.
const PADDED: u64 = 128;
/// Bytes of a channel's shared part, at least: the counts, the senders' and the receiver's padded part, and the rest.
const PADDED_SPAN: u64 = 4 * PADDED;

/// Bytes of a channel's shared part in which its counts, locks and semaphore lie, at most.
pub(super) const CHANNEL_SPAN: u64 = 1024;
/// Bytes from one count of references of an `ArcInner` to the other: strong, then weak (library/alloc/src/sync.rs).
pub(super) const COUNTS: u64 = 8;
/// Bytes from the start of an `ArcInner` to what is inside: the two counts (library/alloc/src/sync.rs).
pub(super) const INSIDE: u64 = 2 * COUNTS;
/// More weak references than any channel has: above it the word is something else's.
const WEAK_SANE: u64 = 1 << 32;

/// Watches a drop.
#[derive(Default)]
pub(super) struct Ends {
    /// Receivers whose drop is being run: depth of its frame, address of the channel.
    receivers: Vec<(usize, u64)>,
    /// Oneshot senders whose drop is being run: depth of the frame.
    senders: Vec<usize>,
    /// Counts that were lowered by one, with the calls that led there.
    lowered: Vec<Share>,
    /// Counts that were raised by one and not lowered since, each as often: a reference that the drop makes for its own use.
    raised: FxHashMap<u64, u32>,
    /// Everything that was changed atomically.
    touched: Vec<u64>,
    /// Semaphores of channels whose receiver's drop has closed them.
    closed: Vec<u64>,
    /// Sinks that were inlined: what is left of them, and where in the channel it was called.
    parts: Vec<Given>,
    /// Semaphores inside of channels, each with its channel.
    rooms: Vec<(u64, u64)>,
    /// Depths of the frames in which the drop of a receiver has begun that was inlined there.
    draining: Vec<usize>,
    /// Counts that were lowered while a receiver dropped what it had not received.
    queued: Vec<u64>,
}

impl Ends {
    /// The drop of a receiver begins, in a frame at `depth`.
    pub(super) fn begin_receiver(&mut self, depth: usize, channel: u64) {
        self.receivers.push((depth, channel));
    }

    /// The drop of a oneshot's sender begins, in a frame at `depth`.
    pub(super) fn begin_sender(&mut self, depth: usize) {
        self.senders.push(depth);
    }

    /// Whether the drop of a oneshot's sender is being run.
    pub(super) fn is_in_sender(&self) -> bool {
        !self.senders.is_empty()
    }

    /// A frame at `depth` has returned.
    pub(super) fn end(&mut self, depth: usize) {
        while self.draining.pop_if(|open| *open >= depth).is_some() {}
        while self.senders.pop_if(|open| *open >= depth).is_some() {}
        while self.receivers.pop_if(|(open, _)| *open >= depth).is_some() {}
    }

    /// Part of a sink is called; that of a receiver whose own drop is being run tells only where its channel's semaphore is,
    /// that of a sender nothing.
    pub(super) fn part(&mut self, m: &Machine<'_>, sink: Sink) {
        let Some(address) = m.reg(Reg::Rdi).filter(|_| !self.is_in_sender()) else { return };
        if sink == Sink::Receiver(Channel::Mpsc) {
            self.closed.push(address);
            self.draining.push(m.frames().len().saturating_sub(1));
        }
        match self.receivers.last() {
            Some((_, channel)) if matches!(sink, Sink::Receiver(_)) => {
                if sink == Sink::Receiver(Channel::Mpsc) {
                    self.rooms.push((address, *channel));
                }
            }
            _ => self.parts.push(Given { path: path(m), sink, address, amount: 1, within: None }),
        }
    }

    /// Whether what is given back to this semaphore is the room of messages that a receiver drops.
    pub(super) fn is_closed(&self, semaphore: u64) -> bool {
        self.closed.contains(&semaphore)
    }

    /// How many counts were lowered so far.
    pub(super) fn seen(&self) -> usize {
        self.lowered.len()
    }

    /// An end of a channel was given back, or a reference to what may be one.
    pub(super) fn given(&mut self, channel: u64) {
        if self.receivers.last().map_or(!self.draining.is_empty(), |(_, own)| *own != channel) {
            self.queued.push(channel);
        }
    }

    /// Leaves those out.
    pub(super) fn forget(&mut self, lowered: Range<usize>) {
        self.lowered.drain(lowered);
    }

    /// Something was changed atomically.
    pub(super) fn atomic(&mut self, m: &Machine<'_>, access: &Atomic) {
        self.touched.push(access.address);
        let looked = m.looked_at();
        let (8, Some(old), Some(new)) = (access.size, access.old, access.new) else { return };
        if old.checked_add(1) == Some(new) {
            *self.raised.entry(access.address).or_default() += 1;
        } else if new.checked_add(1) == Some(old) {
            if let Some(own) = self.raised.get_mut(&access.address).filter(|own| **own > 0) {
                *own -= 1;
            } else {
                let before = self.lowered.last().map(|share| share.base);
                let woke = looked.and_then(Looked::place);
                self.lowered.push(Share { base: access.address, path: path(m), before, woke });
                self.given(access.address);
            }
        }
    }

    /// Adds what was seen to what the drop has shown.
    pub(super) fn finish(mut self, memory: &dyn Memory, dropped: &mut Dropped) {
        for part in std::mem::take(&mut self.parts) {
            if let Some(base) = self.base_of(part.address, memory) {
                if part.sink == Sink::Receiver(Channel::Mpsc) {
                    self.rooms.push((part.address, base));
                }
                dropped.given.push(Given { address: base, ..part });
            }
        }
        self.touched.sort_unstable();
        // Between the two counts of references, which stand first, and the end of what a channel may take.
        let is_touched_inside = |base: u64| {
            let first = self.touched.partition_point(|address| *address <= base.saturating_add(COUNTS));
            self.touched.get(first).is_some_and(|address| *address - base < CHANNEL_SPAN)
        };
        self.lowered.retain(|share| is_touched_inside(share.base));
        (dropped.shares, dropped.rooms, dropped.queued) = (self.lowered, self.rooms, self.queued);
    }

    /// The object that `part` lies in: nothing else can begin between its counts and what is inside of it.
    fn base_of(&self, part: u64, memory: &dyn Memory) -> Option<u64> {
        let is_object =
            |base: u64| memory.read_u64(base.saturating_add(COUNTS)).is_ok_and(|weak| (1..WEAK_SANE).contains(&weak));
        let bases = self.lowered.iter().map(|share| share.base);
        // The other count of an object whose last reference this was.
        let is_second = |base: &u64| self.lowered.iter().any(|first| first.base + COUNTS == *base);
        let bases = bases.filter(|base| !is_second(base));
        bases.filter(|base| part.wrapping_sub(*base) < CHANNEL_SPAN && is_object(*base)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(base: u64, before: Option<u64>) -> Share {
        Share { base, path: Vec::new(), before, woke: None }
    }

    #[test]
    fn a_sender_is_known_by_the_count_that_it_lowers_first() {
        let base = 0x7f00_1234_5680;
        assert!(share(base, Some(base + 0x1c8)).is_counted_as_sender());
        assert!(!share(base, None).is_counted_as_sender());
        for other in [base, base + 8, base - 0x1c8, base + 0x200] {
            assert!(!share(base, Some(other)).is_counted_as_sender(), "{other:#x} is no word of the channel's own");
        }
        assert!(!share(base + 16, Some(base + 0x1c8)).is_counted_as_sender(), "no channel begins there");
    }
}

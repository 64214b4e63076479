//! The queues in which goroutines stand: `sudog`, `hchan` and semaphores (runtime/runtime2.go, chan.go, sema.go).

use rustc_hash::FxHashMap;

use super::{goroutine::Goroutine, layout::Layout, stack::Stack};
use crate::target::Memory;

/// Places of one goroutine that are followed: a select has at most so many cases.
const MOST_CASES: usize = 1 << 16;
/// Places of one queue that are followed at most.
const LONGEST_QUEUE: usize = 1 << 22;

/// A place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Address of its record, a `sudog`.
    pub(super) sudog: u64,
    /// The channel; 0 for a place at a semaphore.
    pub(super) channel: u64,
    /// The semaphore, or what is sent or received into.
    pub(super) element: u64,
}

/// Which way a goroutine waits at a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Receive,
    Send,
}

/// The queues of channels that were looked at.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// By channel at which more than one waits: way and place in its queue of every record there.
    channels: FxHashMap<u64, FxHashMap<u64, (Direction, u32)>>,
    /// By channel at which more than one waits: who receives and who sends, addresses of their records, oldest first.
    pub(super) waiters: FxHashMap<u64, [Vec<u64>; 2]>,
    /// Channels at which only one waits, with the address of its record.
    pub(super) alone: Vec<(u64, u64)>,
}

impl Queues {
    /// Which way the record waits at its channel, and its place there; `None` where it is in no queue by now.
    pub(super) fn place(&mut self, memory: &dyn Memory, layout: &Layout, place: Place) -> Option<(Direction, u32)> {
        if !self.channels.contains_key(&place.channel)
            && let Some((direction, goroutine)) = waits_alone(memory, layout, place)
        {
            self.alone.push((place.channel, goroutine));
            return Some((direction, 0));
        }
        let waiters = &mut self.waiters;
        let places = self.channels.entry(place.channel).or_insert_with(|| {
            let mut places = FxHashMap::default();
            let ways = [(Direction::Receive, layout.hchan_recvq), (Direction::Send, layout.hchan_sendq)];
            let lists = ways.map(|(direction, offset)| {
                let mut goroutines = Vec::new();
                let mut next = word(memory, place.channel, offset);
                while let Some(sudog) = next.filter(|sudog| *sudog != 0 && goroutines.len() < LONGEST_QUEUE) {
                    // A queue that is changing right now may run in a circle.
                    if places.insert(sudog, (direction, goroutines.len() as u32)).is_some() {
                        break;
                    }
                    goroutines.extend(word(memory, sudog, layout.sudog_g));
                    next = word(memory, sudog, layout.sudog_next);
                }
                goroutines
            });
            waiters.insert(place.channel, lists);
            places
        });
        places.get(&place.sudog).copied()
    }
}

/// Which way the record waits at its channel, where it is the only one there, and whose it is.
fn waits_alone(memory: &dyn Memory, layout: &Layout, place: Place) -> Option<(Direction, u64)> {
    let first = |queue| word(memory, place.channel, queue);
    let direction = match (first(layout.hchan_recvq)?, first(layout.hchan_sendq)?) {
        (sudog, 0) if sudog == place.sudog => Direction::Receive,
        (0, sudog) if sudog == place.sudog => Direction::Send,
        _ => return None,
    };
    let alone = word(memory, place.sudog, layout.sudog_next)? == 0;
    Some((direction, word(memory, place.sudog, layout.sudog_g)?)).filter(|_| alone)
}

/// The places of a goroutine at channels, or at the one semaphore it waits for. `None` where they contradict what a
/// waiting goroutine has.
pub(super) fn places(memory: &dyn Memory, layout: &Layout, goroutine: &Goroutine) -> Option<Vec<Place>> {
    let mut places = Vec::new();
    let mut next = goroutine.waiting;
    while next != 0 {
        if places.len() >= MOST_CASES || word(memory, next, layout.sudog_g)? != goroutine.address {
            return None;
        }
        let place = read_place(memory, layout, next)?;
        places.push(place);
        // At a semaphore the same link leads to others who wait there.
        if place.channel == 0 {
            break;
        }
        next = word(memory, next, layout.sudog_waitlink)?;
    }
    Some(places)
}

/// The record of a wait that `g.waiting` does not show (semaphores and conditions before 1.26): it is on the stack of the
/// function that waits.
pub(super) fn place_on_stack(
    memory: &dyn Memory,
    layout: &Layout,
    goroutine: &Goroutine,
    stack: &Stack<'_>,
    function: &str,
) -> Option<Place> {
    let own = |sudog: &u64| sudog.is_multiple_of(8) && word(memory, *sudog, layout.sudog_g) == Some(goroutine.address);
    let sudog = stack.words_of(|name| name == function).find(own)?;
    read_place(memory, layout, sudog)
}

/// The list that `sync.Cond` waits in, where the record does not name it: a word on the stack of the wait that leads to a
/// list with this record (`notifyList`: two counters, a lock, head and tail).
pub(super) fn notify_list(memory: &dyn Memory, layout: &Layout, stack: &Stack<'_>, sudog: u64) -> Option<u64> {
    const HEAD: u64 = 16;
    const MOST_WAITERS: usize = 1 << 16;
    let leads_there = |list: u64| {
        let mut next = word(memory, list, HEAD);
        for _ in 0..MOST_WAITERS {
            match next {
                Some(found) if found == sudog => return true,
                Some(found) if found != 0 && found.is_multiple_of(8) => next = word(memory, found, layout.sudog_next),
                _ => return false,
            }
        }
        false
    };
    let words = stack.words_of(|name| name == "sync.runtime_notifyListWait" || name == "sync.(*Cond).Wait");
    words
        .filter(|word| word.is_multiple_of(8) && *word != 0)
        .flat_map(|word| [Some(word), word.checked_add(COND_NOTIFY)])
        .flatten()
        .find(|list| leads_there(*list))
}

/// Offset of `notify` in `sync.Cond`, after its `Locker`.
pub(super) const COND_NOTIFY: u64 = 16;

/// The descriptor that a goroutine waits for in the network poller: its record names the goroutine.
pub(super) fn polled_descriptor(
    memory: &dyn Memory,
    layout: &Layout,
    goroutine: &Goroutine,
    stack: &Stack<'_>,
) -> Option<i32> {
    // What the second was called with lies in the frame of the third.
    const POLLS: [&str; 3] =
        ["runtime.netpollblock", "internal/poll.runtime_pollWait", "internal/poll.(*pollDesc).wait"];
    let polls = |name: &str| POLLS.contains(&name);
    let record = stack.words_of(polls).filter(|address| address.is_multiple_of(8)).find(|address| {
        [layout.poll_desc_rg, layout.poll_desc_wg]
            .iter()
            .any(|field| word(memory, *address, *field) == Some(goroutine.address))
    })?;
    i32::try_from(word(memory, record, layout.poll_desc_fd)?).ok()
}

fn read_place(memory: &dyn Memory, layout: &Layout, sudog: u64) -> Option<Place> {
    Some(Place {
        sudog,
        channel: word(memory, sudog, layout.sudog_c)?,
        element: word(memory, sudog, layout.sudog_elem)?,
    })
}

fn word(memory: &dyn Memory, base: u64, offset: u64) -> Option<u64> {
    memory.read_u64(base.checked_add(offset)?).ok()
}

//! The queues in which goroutines stand: `sudog`, `hchan` and semaphores (runtime/runtime2.go, chan.go, sema.go).

use rustc_hash::FxHashMap;

use super::{bytes::u64_at, goroutine::Goroutine, layout::Layout, stack::Stack};
use crate::{
    model::{Buffer, PartyId},
    target::Memory,
};

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
    /// The place behind it in the same queue; 0 for none.
    pub(super) next: u64,
}

/// Which way a goroutine waits at a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Receive,
    Send,
}

/// Who waits at a channel, and how full it is.
#[derive(Debug)]
pub(super) struct Channel {
    /// Who receives and who sends: addresses of their records, oldest first.
    pub(super) waiters: [Vec<u64>; 2],
    pub(super) buffer: Buffer,
}

/// The queues of channels that were looked at.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// By channel at which more than one waits: way and place in its queue of every record there.
    places: FxHashMap<u64, FxHashMap<u64, (Direction, u32)>>,
    /// By address: the channels at which more than one waits.
    pub(super) shared: FxHashMap<u64, Channel>,
    /// Channels at which only one waits, with who that is.
    pub(super) alone: Vec<(u64, Option<PartyId>, Buffer)>,
}

impl Queues {
    /// Which way the record of `party` waits at its channel, and its place there; `None` where it is in no queue by now.
    pub(super) fn place(
        &mut self,
        memory: &dyn Memory,
        layout: &Layout,
        place: Place,
        party: Option<PartyId>,
    ) -> Option<(Direction, u32)> {
        if !self.places.contains_key(&place.channel)
            && let Some((direction, buffer)) = waits_alone(memory, layout, place)
        {
            self.alone.push((place.channel, party, buffer));
            return Some((direction, 0));
        }
        let shared = &mut self.shared;
        let places = self.places.entry(place.channel).or_insert_with(|| {
            let mut places = FxHashMap::default();
            let header = Header::read(memory, layout, place.channel);
            let first = header.as_ref().map_or([0; 2], |header| header.first);
            let ways = [(Direction::Receive, first[0]), (Direction::Send, first[1])];
            let waiters = ways.map(|(direction, first)| {
                let (mut goroutines, mut next) = (Vec::new(), first);
                while next != 0 && goroutines.len() < LONGEST_QUEUE {
                    // A queue that is changing right now may run in a circle.
                    if places.insert(next, (direction, goroutines.len() as u32)).is_some() {
                        break;
                    }
                    let Some(sudog) = Sudog::read(memory, layout, next) else { break };
                    goroutines.push(sudog.goroutine);
                    next = sudog.place.next;
                }
                goroutines
            });
            if let Some(header) = header {
                shared.insert(place.channel, Channel { waiters, buffer: header.buffer });
            }
            places
        });
        places.get(&place.sudog).copied()
    }
}

/// What a channel's own record says.
struct Header {
    buffer: Buffer,
    /// The first who receives and the first who sends; 0 for none.
    first: [u64; 2],
}

impl Header {
    fn read(memory: &dyn Memory, layout: &Layout, channel: u64) -> Option<Self> {
        let fields = [layout.hchan_qcount, layout.hchan_dataqsiz, layout.hchan_recvq, layout.hchan_sendq];
        let [length, capacity, receiver, sender] = words(memory, channel, fields)?;
        Some(Self { buffer: Buffer { length, capacity }, first: [receiver, sender] })
    }
}

/// What a place in a queue says.
struct Sudog {
    goroutine: u64,
    /// The next place of the same goroutine.
    link: u64,
    place: Place,
}

impl Sudog {
    fn read(memory: &dyn Memory, layout: &Layout, sudog: u64) -> Option<Self> {
        let fields = [layout.sudog_g, layout.sudog_next, layout.sudog_waitlink, layout.sudog_c, layout.sudog_elem];
        let [goroutine, next, link, channel, element] = words(memory, sudog, fields)?;
        Some(Self { goroutine, link, place: Place { sudog, channel, element, next } })
    }
}

/// The words at some offsets of a structure, which are read together.
fn words<const N: usize>(memory: &dyn Memory, base: u64, offsets: [u64; N]) -> Option<[u64; N]> {
    /// Structures whose layout says more are not believed.
    const LONGEST: usize = 512;
    let mut bytes = [0; LONGEST];
    let end = offsets.iter().max()?.checked_add(8)?;
    let bytes = bytes.get_mut(..usize::try_from(end).ok()?)?;
    memory.read(base, bytes).ok()?;
    let mut words = [0; N];
    for (word, offset) in words.iter_mut().zip(offsets) {
        *word = u64_at(bytes, offset)?;
    }
    Some(words)
}

/// Which way the record waits at its channel, where it is the only one there, and how full the channel is.
fn waits_alone(memory: &dyn Memory, layout: &Layout, place: Place) -> Option<(Direction, Buffer)> {
    let header = Header::read(memory, layout, place.channel).filter(|_| place.next == 0)?;
    let direction = match header.first {
        [sudog, 0] if sudog == place.sudog => Direction::Receive,
        [0, sudog] if sudog == place.sudog => Direction::Send,
        _ => return None,
    };
    Some((direction, header.buffer))
}

/// The places of a goroutine at channels, or at the one semaphore it waits for. `None` where they contradict what a
/// waiting goroutine has.
pub(super) fn places(memory: &dyn Memory, layout: &Layout, goroutine: &Goroutine) -> Option<Vec<Place>> {
    let mut places = Vec::new();
    let mut next = goroutine.waiting;
    while next != 0 {
        let sudog = Sudog::read(memory, layout, next)?;
        if places.len() >= MOST_CASES || sudog.goroutine != goroutine.address {
            return None;
        }
        places.push(sudog.place);
        // At a semaphore the same link leads to others who wait there.
        if sudog.place.channel == 0 {
            break;
        }
        next = sudog.link;
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
    Some(Sudog::read(memory, layout, sudog)?.place)
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

fn word(memory: &dyn Memory, base: u64, offset: u64) -> Option<u64> {
    memory.read_u64(base.checked_add(offset)?).ok()
}

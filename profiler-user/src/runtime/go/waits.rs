//! From the wait of a goroutine to the model: what it waits for, which way, and its place in the queue.

use nix::time::ClockId;

use super::{
    goroutine::Goroutine,
    layout::Layout,
    queue::{self, Direction, Place, Queues},
    stack::Stack,
};
use crate::{
    model::{Fork, PartyId, ResourceKey, ResourceKind, Strand, Wait, WaitMode},
    target::Memory,
};

/// Offsets of the semaphores in what is built around them (package sync, 1.22 to 1.27).
const MUTEX_SEMA: u64 = 4;
const RWMUTEX_WRITER_SEMA: u64 = 8;
const RWMUTEX_READER_SEMA: u64 = 12;
const WAITGROUP_SEMA: u64 = 8;

/// Functions in which a goroutine waits at a semaphore: the innermost of them on its stack tells of which primitive.
/// A writer that waits for the lock inside a `RWMutex` is in `RWMutex.Lock` further out.
const PRIMITIVES: &[(&str, ResourceKind, u64)] = &[
    ("sync.(*RWMutex).RLock", ResourceKind::GoRwMutex, RWMUTEX_READER_SEMA),
    ("sync.(*Mutex).Lock", ResourceKind::GoMutex, MUTEX_SEMA),
    ("internal/sync.(*Mutex).lockSlow", ResourceKind::GoMutex, MUTEX_SEMA),
    ("sync.(*Mutex).lockSlow", ResourceKind::GoMutex, MUTEX_SEMA),
    ("sync.(*RWMutex).Lock", ResourceKind::GoRwMutex, RWMUTEX_WRITER_SEMA),
    ("sync.(*WaitGroup).Wait", ResourceKind::GoWaitGroup, WAITGROUP_SEMA),
];

/// What a goroutine waits for.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Its places in queues.
    pub(super) places: Vec<Place>,
    /// The waits: several for a select. The task has them once it is made.
    pub(super) waits: Vec<Wait>,
    /// It can go on when any of several waits ends.
    pub(super) select: bool,
    /// For each wait the address by which it can be ended; `None` where the world outside may end it, or where an address
    /// is not known.
    pub(super) targets: Option<Vec<u64>>,
}

impl Waiting {
    /// Puts the waits onto the strand of the goroutine.
    pub(super) fn place(&mut self, root: &mut Strand) {
        let mut waits = std::mem::take(&mut self.waits).into_iter();
        if self.select {
            root.fork = Fork::Any;
            root.children = waits.map(|wait| Strand { wait: Some(wait), ..Strand::unknown() }).collect();
        } else {
            root.wait = waits.next();
        }
    }
}

/// Reads what a parked goroutine, which is `party`, waits for; `reason` is the name of its wait reason.
pub(super) fn read(
    memory: &dyn Memory,
    layout: &Layout,
    queues: &mut Queues,
    (goroutine, party): (&Goroutine, Option<PartyId>),
    stack: &Stack<'_>,
    reason: &str,
) -> Waiting {
    let reason = plain(reason);
    let places = queue::places(memory, layout, goroutine).unwrap_or_default();
    match reason {
        "chan receive" | "chan send" | "select" => {
            let waits = places.iter().map(|place| channel(memory, layout, queues, *place, party)).collect();
            let targets = Some(places.iter().map(|place| place.channel).collect::<Vec<_>>());
            let targets = targets.filter(|targets| !targets.is_empty() && !targets.contains(&0));
            Waiting { places, waits, select: reason == "select", targets }
        }
        "chan receive (nil chan)" => never(goroutine, WaitMode::Receive),
        "chan send (nil chan)" => never(goroutine, WaitMode::Send),
        "select (no cases)" => never(goroutine, WaitMode::Unknown),
        "sync.Cond.Wait" => {
            let place = places
                .first()
                .copied()
                .or_else(|| queue::place_on_stack(memory, layout, goroutine, stack, "sync.runtime_notifyListWait"));
            let list = place.and_then(|place| match place.element {
                0 => queue::notify_list(memory, layout, stack, place.sudog),
                list => Some(list),
            });
            let condition = list.and_then(|list| list.checked_sub(queue::COND_NOTIFY)).unwrap_or(0);
            let waits = vec![wait(ResourceKind::GoCond, condition, WaitMode::Notified)];
            let targets = (condition != 0).then_some(list).flatten().map(|list| vec![list]);
            Waiting { places: place.into_iter().collect(), waits, select: false, targets }
        }
        "sleep" => alone(ResourceKind::Timer, 0, WaitMode::Deadline { in_ms: goroutine.wakes_at.and_then(until) }),
        "IO wait" => {
            let fd = queue::polled_descriptor(memory, layout, goroutine, stack);
            alone(ResourceKind::Io, fd.map_or(0, |fd| u64::from(fd.cast_unsigned())), WaitMode::Ready { fd })
        }
        _ if reason == "semacquire" || reason.starts_with("sync.") => {
            let place = places
                .first()
                .copied()
                .or_else(|| queue::place_on_stack(memory, layout, goroutine, stack, "runtime.semacquire1"));
            let semaphore = place.map_or(0, |place| place.element);
            let waits = vec![at_semaphore(stack, semaphore)];
            let targets = (semaphore != 0).then(|| vec![semaphore]);
            Waiting { places: place.into_iter().collect(), waits, select: false, targets }
        }
        other => alone(ResourceKind::Other(other.to_owned()), 0, WaitMode::Unknown),
    }
}

/// A goroutine of testing/synctest waits for the same things under names that say so.
fn plain(reason: &str) -> &str {
    if !reason.ends_with(')') {
        return reason;
    }
    let marked = reason.split_once(" (synctest").or_else(|| reason.split_once(" (durable"));
    marked.map_or(reason, |(plain, _)| plain)
}

fn wait(kind: ResourceKind, address: u64, mode: WaitMode) -> Wait {
    Wait { resource: ResourceKey { kind, address }, mode, position: None, target: None }
}

/// Nothing can end it. The goroutine's own record stands for what it waits for, and nobody else can reach that wait.
fn never(goroutine: &Goroutine, mode: WaitMode) -> Waiting {
    Waiting { targets: Some(Vec::new()), ..alone(ResourceKind::GoNilChan, goroutine.address, mode) }
}

fn alone(kind: ResourceKind, address: u64, mode: WaitMode) -> Waiting {
    Waiting { waits: vec![wait(kind, address, mode)], ..Waiting::default() }
}

fn channel(memory: &dyn Memory, layout: &Layout, queues: &mut Queues, place: Place, party: Option<PartyId>) -> Wait {
    let (mode, position) = match queues.place(memory, layout, place, party) {
        Some((Direction::Receive, position)) => (WaitMode::Receive, Some(position)),
        Some((Direction::Send, position)) => (WaitMode::Send, Some(position)),
        None => (WaitMode::Unknown, None),
    };
    Wait { position, ..wait(ResourceKind::GoChan, place.channel, mode) }
}

/// The primitive that the innermost function of package sync is a method of.
fn at_semaphore(stack: &Stack<'_>, semaphore: u64) -> Wait {
    let mut calls = stack.frames.iter().flat_map(|frame| &frame.site.calls);
    let found = calls.find_map(|call| PRIMITIVES.iter().find(|(function, ..)| *function == &*call.frame.function));
    let (kind, offset) = match found {
        Some((_, ResourceKind::GoMutex, offset)) if stack.has("sync.(*RWMutex).Lock") => {
            (ResourceKind::GoRwMutex, *offset)
        }
        Some((_, kind, offset)) => (kind.clone(), *offset),
        None => (ResourceKind::GoSemaphore, 0),
    };
    let mode = match kind {
        ResourceKind::GoWaitGroup => WaitMode::Notified,
        _ => WaitMode::Acquire { permits: 1 },
    };
    let address = if semaphore == 0 { 0 } else { semaphore.saturating_sub(offset) };
    wait(kind, address, mode)
}

/// Milliseconds from now to a moment of the monotonic clock.
fn until(moment_ns: u64) -> Option<i64> {
    Some((i64::try_from(moment_ns).ok()? - now_ns()?) / 1_000_000)
}

/// `CLOCK_MONOTONIC`, the clock of Go's runtime.
pub(super) fn now_ns() -> Option<i64> {
    let now = ClockId::CLOCK_MONOTONIC.now().ok()?;
    now.tv_sec().checked_mul(1_000_000_000)?.checked_add(now.tv_nsec())
}

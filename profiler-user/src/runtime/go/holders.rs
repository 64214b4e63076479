//! Who holds a lock. Go's locks do not say, but a deferred unlock does: it stands in the frame that locked, with the lock's
//! address. No verdict rests on this: it names those whom reachability has found.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{code::Code, goroutine::Goroutine, layout::Layout, stack::Stack};
use crate::{
    model::{Frame, Hold, HoldHow, ResourceKey, ResourceKind},
    target::Memory,
};

/// Calls that one function defers without a record, at most.
const MOST_OPEN: u64 = 8;
/// Deferred calls with a record that are followed at most.
const MOST_RECORDS: usize = 1 << 12;
/// Words of a closure that are looked at.
const CAPTURED: u64 = 4;

/// What calls of these functions release.
const UNLOCKS: [(&str, ResourceKind); 4] = [
    ("sync.(*RWMutex).Unlock", ResourceKind::GoRwMutex),
    ("sync.(*RWMutex).RUnlock", ResourceKind::GoRwMutex),
    ("sync.(*Mutex).Unlock", ResourceKind::GoMutex),
    ("internal/sync.(*Mutex).Unlock", ResourceKind::GoMutex),
];

/// What deferred functions release, by the address of their code.
#[derive(Debug, Default)]
pub(super) struct Unlocks(FxHashMap<u64, Option<ResourceKind>>);

/// An unlock that a goroutine has deferred.
#[derive(Debug)]
pub(super) struct Deferred {
    /// The place on the stack of the function that did.
    pub(super) place: usize,
    kind: ResourceKind,
    /// What the deferred function was given: the lock is among it.
    captured: Vec<u64>,
    site: Option<Frame>,
    /// The function that deferred it waits for a lock itself.
    locks: bool,
}

impl Deferred {
    /// What it may unlock: one of these.
    pub(super) fn locks(&self) -> impl Iterator<Item = ResourceKey> {
        self.captured.iter().map(|address| ResourceKey { kind: self.kind.clone(), address: *address })
    }

    /// The lock that this says is held, among those that anyone waits for; `own` is what its own goroutine waits for.
    pub(super) fn hold(&self, awaited: &FxHashSet<ResourceKey>, own: Option<&ResourceKey>) -> Option<Hold> {
        let resource = self.locks().find(|key| awaited.contains(key))?;
        // A function may defer the unlock before it locks.
        if self.locks && own == Some(&resource) {
            return None;
        }
        Some(Hold { resource, how: HoldHow::Guard, amount: 1, site: self.site.clone() })
    }
}

/// The unlocks that a goroutine has deferred.
pub(super) fn of(
    (code, unlocks): (&mut Code, &mut Unlocks),
    memory: &dyn Memory,
    layout: &Layout,
    goroutine: &Goroutine,
    stack: &Stack<'_>,
) -> Vec<Deferred> {
    let mut closures = open(stack);
    closures.extend(recorded(memory, layout, goroutine, stack));
    if closures.is_empty() {
        return Vec::new();
    }
    let (own, mut deferred) = (stack.own_frame(), Vec::new());
    for (place, closure) in closures {
        let frame = &stack.frames[place];
        let Ok(function) = memory.read_u64(closure) else { continue };
        let released = unlocks.0.entry(function).or_insert_with(|| released_by(code, memory, function));
        let Some(kind) = released.clone() else { continue };
        let words = (1..=CAPTURED).filter_map(|index| memory.read_u64(closure.checked_add(index * 8)?).ok());
        let site = frame.site.calls.last().map(|call| call.frame.clone());
        deferred.push(Deferred { place, kind, captured: words.collect(), site, locks: place == own });
    }
    deferred
}

/// Closures that functions on the stack have deferred without a record: a byte in the frame says which, and each has its
/// slot (cmd/compile, open-coded defers). With the place of their frame.
fn open(stack: &Stack<'_>) -> Vec<(usize, u64)> {
    let mut closures = Vec::new();
    for (place, frame) in stack.frames.iter().enumerate() {
        let slots = || {
            let (bits, slots) = frame.site.open_defers?;
            let locals_end = frame.locals_end();
            let bits = stack.word(locals_end.checked_sub(bits)?)? & 0xff;
            Some((bits, locals_end.checked_sub(slots)?))
        };
        let Some((bits, slots)) = slots() else { continue };
        let set = (0..MOST_OPEN).filter(|index| bits >> index & 1 == 1);
        closures.extend(set.filter_map(|index| Some((place, stack.word(slots.checked_add(index * 8)?)?))));
    }
    closures
}

/// Closures that were deferred with a record. With the place of the frame that did.
fn recorded(memory: &dyn Memory, layout: &Layout, goroutine: &Goroutine, stack: &Stack<'_>) -> Vec<(usize, u64)> {
    let mut closures = Vec::new();
    let mut next = goroutine.deferred;
    for _ in 0..MOST_RECORDS {
        if next == 0 {
            break;
        }
        let word = |at: u64| memory.read_u64(next.wrapping_add(at)).ok();
        let (Some(closure), Some(sp), Some(link)) =
            (word(layout.defer_fn), word(layout.defer_sp), word(layout.defer_link))
        else {
            break;
        };
        let place = stack.frames.iter().position(|frame| frame.sp == sp);
        closures.extend(place.filter(|_| closure != 0).map(|place| (place, closure)));
        next = link;
    }
    closures
}

/// What a deferred function unlocks: by what it calls, inlined or not.
fn released_by(code: &mut Code, memory: &dyn Memory, function: u64) -> Option<ResourceKind> {
    let called = code.called_by(memory, function);
    UNLOCKS.into_iter().find(|(name, _)| called.iter().any(|called| called == name)).map(|(_, kind)| kind)
}

//! Who holds a lock. Go's locks do not say, but a deferred unlock does: it stands in the frame that locked, with the lock's
//! address. No verdict rests on this: it names those whom reachability has found.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    bytes::read_vec,
    code::Code,
    goroutine::Goroutine,
    layout::Layout,
    pclntab::{FuncData, varint},
    stack::{Stack, StackFrame},
};
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
    kind: ResourceKind,
    /// What the deferred function was given: the lock is among it.
    captured: Vec<u64>,
    site: Option<Frame>,
    /// The function that deferred it waits for a lock itself.
    locks: bool,
}

impl Deferred {
    /// The lock that this says is held, among those that anyone waits for; `own` is what its own goroutine waits for.
    pub(super) fn hold(&self, awaited: &FxHashSet<ResourceKey>, own: Option<&ResourceKey>) -> Option<Hold> {
        let mut keys = self.captured.iter().map(|address| ResourceKey { kind: self.kind.clone(), address: *address });
        let resource = keys.find(|key| awaited.contains(key))?;
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
    stack: &Stack,
) -> Vec<Deferred> {
    let mut closures = open(code, memory, stack);
    closures.extend(recorded(memory, layout, goroutine, stack));
    let mut deferred = Vec::new();
    for (place, closure) in closures {
        let frame = &stack.frames[place];
        let Ok(function) = memory.read_u64(closure) else { continue };
        let released = unlocks.0.entry(function).or_insert_with(|| released_by(code, memory, function));
        let Some(kind) = released.clone() else { continue };
        let words = (1..=CAPTURED).filter_map(|index| memory.read_u64(closure.checked_add(index * 8)?).ok());
        let site = frame.site.calls.last().map(|call| call.frame.clone());
        deferred.push(Deferred { kind, captured: words.collect(), site, locks: locks_here(stack, frame) });
    }
    deferred
}

/// Whether the frame's own function is what waits for a lock.
fn locks_here(stack: &Stack, frame: &StackFrame) -> bool {
    let sync =
        |name: &str| name.starts_with("sync.") || name.starts_with("internal/sync.") || name.starts_with("runtime.");
    let own = stack.frames.iter().find(|frame| !sync(&frame.site.name));
    own.is_some_and(|own| own.sp == frame.sp)
}

/// Closures that functions on the stack have deferred without a record: a byte in the frame says which, and each has its
/// slot (cmd/compile, open-coded defers). With the place of their frame.
fn open(code: &Code, memory: &dyn Memory, stack: &Stack) -> Vec<(usize, u64)> {
    let mut closures = Vec::new();
    for (place, frame) in stack.frames.iter().enumerate() {
        let slots = || {
            let data =
                code.modules.get(frame.site.module)?.code.func_data(frame.site.function, FuncData::OpenDefers)?;
            let bytes = read_vec(memory, data, 10, 10).ok()?;
            let mut rest = bytes.as_slice();
            let (bits, slots) = (u64::from(varint(&mut rest)?), u64::from(varint(&mut rest)?));
            let locals_end = frame.locals_end();
            let bits = stack.word(locals_end.checked_sub(bits)?)? & 0xff;
            Some((bits, locals_end.checked_sub(slots)?))
        };
        let Some((bits, slots)) = slots() else { continue };
        let set = (0..MOST_OPEN).filter(|index| bits >> index & 1 == 1);
        closures.extend(set.filter_map(|index| Some((place, stack.word(slots + index * 8)?))));
    }
    closures
}

/// Closures that were deferred with a record. With the place of the frame that did.
fn recorded(memory: &dyn Memory, layout: &Layout, goroutine: &Goroutine, stack: &Stack) -> Vec<(usize, u64)> {
    let mut closures = Vec::new();
    let mut next = memory.read_u64(goroutine.address.wrapping_add(layout.g_defer)).unwrap_or(0);
    for _ in 0..MOST_RECORDS {
        let word = |at: u64| memory.read_u64(next.wrapping_add(at)).ok();
        let (Some(closure), Some(sp), Some(link)) =
            (word(layout.defer_fn), word(layout.defer_sp), word(layout.defer_link))
        else {
            break;
        };
        let place = stack.frames.iter().position(|frame| frame.sp == sp);
        closures.extend(place.filter(|_| closure != 0).map(|place| (place, closure)));
        if link == 0 {
            break;
        }
        next = link;
    }
    closures
}

/// What a deferred function unlocks: by what it calls, inlined or not.
fn released_by(code: &mut Code, memory: &dyn Memory, function: u64) -> Option<ResourceKind> {
    let called = code.called_by(memory, function);
    UNLOCKS.into_iter().find(|(name, _)| called.iter().any(|called| called == name)).map(|(_, kind)| kind)
}

//! Which primitive a notification or a semaphore is part of, also where the functions around it were inlined and no line table
//! names them. The code is asked ([`super::probe`]), each place of it once; where it does not say, it stays what it is.
//!
//! Sources: tokio/src/sync/{watch,barrier,once_cell,semaphore}.rs, 1.38 to 1.54.

use std::cell::RefCell;

use rustc_hash::FxHashMap;

use super::{
    classify::{Leaf, is_of_tokio},
    poll::Hit,
    probe::{Awaited, Enclosing, Probe},
};
use crate::{
    model::{ResourceKind, Wait, WaitMode},
    target::Memory,
};

/// What is waited for by these calls, if it is more than it shows.
#[derive(Clone, Default)]
pub(super) struct Known(RefCell<FxHashMap<Calls, Option<Primitive>>>);

/// Call sites that led to a leaf, outermost first.
type Calls = Box<[u64]>;

/// Calls that are remembered; beyond, all are forgotten.
const MOST_KNOWN: usize = 1 << 14;

/// What a leaf is part of.
#[derive(Clone)]
struct Primitive {
    kind: ResourceKind,
    /// Its mode, if that is another than the leaf's own.
    mode: Option<WaitMode>,
    /// The async functions around the leaf: where each keeps its state, counted from the leaf, and that state. The compiler may have
    /// folded calls from several places into one.
    states: Vec<(u64, u8)>,
}

impl Primitive {
    fn new(kind: ResourceKind, mode: Option<WaitMode>, leaf: Awaited, enclosing: &[Enclosing]) -> Self {
        let state = |around: &Enclosing| (around.at.wrapping_sub(leaf.this), around.state);
        Self { kind, mode, states: enclosing.iter().map(state).collect() }
    }

    /// Whether the leaf at `this` is in the very place that was asked about.
    fn is_around(&self, memory: &dyn Memory, this: u64) -> bool {
        self.states.iter().all(|(offset, state)| {
            let mut now = [0];
            memory.read(this.wrapping_add(*offset), &mut now).is_ok() && now == [*state]
        })
    }
}

/// Notifications that a watch has for those who receive, and the bytes of each: `BigNotify` in tokio/src/sync/watch.rs, and
/// `Notify`, which has a word and, with a lock of `std` or of `parking_lot`, three more.
const NOTIFICATIONS: u64 = 8;
const NOTIFICATION: u64 = 32;

/// Calls what `hit` waits for by the primitive that it is part of. Only what is known already where there is nobody to ask.
pub(super) fn name(known: &Known, memory: &dyn Memory, probe: Option<&Probe<'_>>, hit: &Hit, wait: &mut Wait) {
    use ResourceKind::{TokioBatchSemaphore, TokioNotify, TokioOnceCell, TokioSemaphore, TokioWatch};
    let may_be_part = match (hit.leaf, &wait.resource.kind) {
        (Some(Leaf::Notified), TokioNotify) => true,
        (Some(Leaf::Notified), TokioWatch) => wait.mode == WaitMode::Receive,
        // Names tell of a cell also where it is made of a semaphore that is waited for.
        (Some(Leaf::Acquire), TokioBatchSemaphore | TokioSemaphore | TokioOnceCell) => {
            matches!(wait.mode, WaitMode::Acquire { .. })
        }
        _ => false,
    };
    let Some(site) = hit.path.last().map(|step| step.site).filter(|_| may_be_part && wait.resource.address != 0) else {
        return;
    };
    let calls: Calls = hit.path.iter().map(|step| step.site).collect();
    let found = known.0.borrow().get(&calls).cloned();
    let found = match (found, probe) {
        (Some(found), _) => found,
        (None, None) => return,
        (None, Some(probe)) => {
            let leaf = Awaited { site, this: hit.this };
            let found = match hit.leaf {
                Some(Leaf::Notified) => around_notification(probe, leaf, wait.resource.address),
                _ => around_semaphore(probe, leaf),
            };
            let mut known = known.0.borrow_mut();
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(calls, found.clone());
            found
        }
    };
    if let Some(primitive) = found.filter(|primitive| primitive.is_around(memory, hit.this)) {
        wait.resource.kind = primitive.kind;
        wait.mode = primitive.mode.unwrap_or(wait.mode);
    }
}

/// A barrier is a watch whose receivers wait in its own code.
fn around_notification(probe: &Probe<'_>, leaf: Awaited, notify: u64) -> Option<Primitive> {
    let among = notify.checked_sub(probe.asks_again(leaf)?)?;
    if among >= NOTIFICATIONS * NOTIFICATION || !among.is_multiple_of(NOTIFICATION) {
        return None;
    }
    let enclosing = probe.enclosing(leaf);
    of_file(&enclosing, "src/sync/watch.rs")?;
    let (kind, mode) = match of_file(&enclosing, "src/sync/barrier.rs") {
        Some(_) => (ResourceKind::TokioBarrier, WaitMode::Notified),
        None => (ResourceKind::TokioWatch, WaitMode::Receive),
    };
    Some(Primitive::new(kind, Some(mode), leaf, &enclosing))
}

/// A cell waits for its own semaphore, and, as soon as it has that, for what it is made of, which may be any other: it gives up
/// at once only where its own is closed.
fn around_semaphore(probe: &Probe<'_>, leaf: Awaited) -> Option<Primitive> {
    let enclosing = probe.enclosing(leaf);
    of_file(&enclosing, "src/sync/semaphore.rs")?;
    let cell = of_file(&enclosing, "src/sync/once_cell.rs").filter(|cell| probe.gives_up_when_closed(leaf, cell));
    let kind = if cell.is_some() { ResourceKind::TokioOnceCell } else { ResourceKind::TokioSemaphore };
    Some(Primitive::new(kind, None, leaf, &enclosing))
}

fn of_file<'e>(enclosing: &'e [Enclosing], name: &str) -> Option<&'e Enclosing> {
    enclosing.iter().find(|function| is_of_tokio(&function.file, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::MemoryError;

    /// These bytes, from 0x1000 on.
    struct Bytes(&'static [u8]);

    impl Memory for Bytes {
        fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
            let from = address.checked_sub(0x1000).and_then(|offset| self.0.get(offset as usize..));
            let bytes = from.and_then(|from| from.get(..buf.len())).ok_or(MemoryError::Unmapped(address))?;
            buf.copy_from_slice(bytes);
            Ok(())
        }
    }

    /// A leaf with the state of one async function behind it, and that of another before it.
    #[test]
    fn an_answer_is_for_those_who_have_come_as_far() {
        let states = [(0x1006, 4), (0x1001, 3)];
        let enclosing = states.map(|(at, state)| Enclosing { file: "tokio/src/sync/watch.rs".into(), at, state });
        let leaf = Awaited { site: 1, this: 0x1002 };
        let watch = Primitive::new(ResourceKind::TokioWatch, Some(WaitMode::Receive), leaf, &enclosing);
        assert!(watch.is_around(&Bytes(&[0, 3, 0, 0, 0, 0, 4, 0]), 0x1002));
        assert!(!watch.is_around(&Bytes(&[0, 3, 0, 0, 0, 0, 3, 0]), 0x1002), "it waits elsewhere");
        assert!(!watch.is_around(&Bytes(&[0, 3, 0, 0, 0, 0, 4, 0]), 0x1003), "it is another leaf");
        assert!(!watch.is_around(&Bytes(&[0, 3, 0, 0]), 0x1002), "nothing can be read there");
    }
}

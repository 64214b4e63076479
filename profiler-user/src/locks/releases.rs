//! What a dry run of destructors gives back, as far as it is locks that threads wait for.

use rustc_hash::FxHashSet;

use super::{Contended, Role};
use crate::{
    dryrun::{Action, Atomic, Machine, Reg},
    model::{ResourceKey, ResourceKind},
};

/// A lock that was released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Which.
    pub lock: ResourceKey,
    /// Call sites that led there, outermost first, and the place of the release itself.
    pub path: Vec<u64>,
}

/// Watches a dry run. Its hooks pass on what they are told.
#[derive(Debug)]
pub struct Releases<'c> {
    contended: &'c Contended,
    /// Locks that the run has taken itself: giving those back says nothing.
    taken: FxHashSet<u64>,
    /// The lock that the thread waits for.
    awaited: Option<u64>,
    /// The word of that lock while the thread goes on as if it had it.
    word: Option<u32>,
    released: Vec<Release>,
    /// Go on where a lock is not free, as if it had become free.
    patient: bool,
    waited: bool,
}

impl<'c> Releases<'c> {
    /// Looks for releases of the locks in `contended`. Where the run would wait for a lock it ends, unless it is
    /// `patient`.
    pub fn of(contended: &'c Contended, patient: bool) -> Self {
        Self {
            contended,
            taken: FxHashSet::default(),
            awaited: None,
            word: None,
            released: Vec::new(),
            patient,
            waited: false,
        }
    }

    /// The same for a thread that waits for the lock `awaited`.
    #[must_use]
    pub fn awaiting(self, awaited: Option<u64>) -> Self {
        Self { awaited, ..self }
    }

    /// From now on the thread has the lock that it waits for.
    pub fn begin_onward(&mut self, m: &Machine<'_>) {
        self.taken.extend(self.awaited);
        self.word = self.awaited.and_then(|lock| m.read_u32(lock).ok());
    }

    /// From now on it waits again, and nobody has given the lock back.
    pub fn end_onward(&mut self, m: &mut Machine<'_>) {
        let Some(lock) = self.awaited else { return };
        self.taken.remove(&lock);
        if let Some(word) = self.word.take() {
            m.write(lock, &word.to_le_bytes());
        }
    }

    /// What was released, each once a release.
    pub fn into_released(self) -> Vec<Release> {
        self.released
    }

    /// Whether the run would have waited for a lock: what follows is what would follow if nothing had changed until then.
    pub fn waited(&self) -> bool {
        self.waited
    }

    /// What to do at a call of a function with this role.
    pub fn on_call(&mut self, m: &mut Machine<'_>, role: Role) -> Action {
        let Some(lock) = m.reg(Reg::Rdi) else {
            return Action::Unknown("which lock is meant here is not known".into());
        };
        match role {
            Role::Acquire { answer } if self.patient => {
                self.waited = true;
                self.taken.insert(lock);
                Action::Return(Some(answer))
            }
            Role::Acquire { .. } => Action::Unknown("it would wait for a lock here".into()),
            Role::Release { held } => {
                self.release(lock, m, m.ip());
                if let Ok(state) = m.read_u8(lock) {
                    m.write(lock, &[state & !held]);
                }
                Action::Return(Some(0))
            }
            Role::Wake => Action::Return(Some(0)),
        }
    }

    /// An atomic access has been made.
    pub fn on_atomic(&mut self, m: &Machine<'_>, access: &Atomic) {
        let (Some(old), Some(new), Some(kind)) = (access.old, access.new, self.contended.kind(access.address)) else {
            return;
        };
        match change(kind, access.size, old, new) {
            Some(Change::Taken) => {
                self.taken.insert(access.address);
            }
            Some(Change::Released) => self.release(access.address, m, access.ip),
            None => {}
        }
    }

    fn release(&mut self, address: u64, m: &Machine<'_>, ip: u64) {
        if self.taken.remove(&address) {
            return;
        }
        if let Some(kind) = self.contended.kind(address) {
            let lock = ResourceKey { kind: kind.clone(), address };
            let path = m.frames().iter().filter_map(|frame| frame.call_site).chain([ip]).collect();
            self.released.push(Release { lock, path });
        }
    }
}

/// What an atomic access does to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Taken,
    Released,
}

/// What it means that the word of a lock of this kind changes so; `size` in bytes.
///
/// Sources: library/std/src/sys/sync/{mutex,rwlock,once}/futex.rs of Rust 1.62 to 1.95; src/raw_mutex.rs and raw_rwlock.rs of
/// parking_lot 0.12.
fn change(kind: &ResourceKind, size: u8, old: u64, new: u64) -> Option<Change> {
    if old == new {
        return None;
    }
    let by = |taken: bool, released: bool| match (taken, released) {
        (true, false) => Some(Change::Taken),
        (false, true) => Some(Change::Released),
        _ => None,
    };
    match (kind, size) {
        // 0 free, 1 locked, 2 locked and waited for.
        (ResourceKind::StdMutex, 4) => by(old == 0 && new <= 2, new == 0 && old <= 2),
        (ResourceKind::StdRwLock, 4) => {
            // The number of readers; all ones for a writer.
            const HELD: u64 = (1 << 30) - 1;
            let (was, is) = (old & HELD, new & HELD);
            let (one_in, one_out) = (is == was + 1 && is != HELD, was == is + 1 && was != HELD);
            by(one_in || (was, is) == (0, HELD), one_out || (was, is) == (HELD, 0))
        }
        // Waited for, so it is being initialised; whoever does that ends it.
        (ResourceKind::StdOnce, 4) => Some(Change::Released),
        (ResourceKind::ParkingLot, 1) => by(new & !old & 1 != 0, old & !new & 1 != 0),
        (ResourceKind::ParkingLotRwLock, 8) => {
            const UPGRADABLE: u64 = 4;
            const WRITER: u64 = 8;
            const READER: u64 = 16;
            let steps = [WRITER, READER, READER | UPGRADABLE];
            by(steps.contains(&new.wrapping_sub(old)), steps.contains(&old.wrapping_sub(new)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_locks_change_hands() {
        use Change::{Released, Taken};
        use ResourceKind::{ParkingLot, ParkingLotRwLock, StdMutex, StdRwLock};
        let waiting = 3_u64 << 30;
        for (kind, size, old, new, expected) in [
            (StdMutex, 4, 2, 0, Some(Released)),
            (StdMutex, 4, 0, 1, Some(Taken)),
            (StdMutex, 4, 2, 2, None),
            (StdMutex, 4, 2, 1, None),
            (StdMutex, 8, 2, 0, None),
            (StdRwLock, 4, waiting | 2, waiting | 1, Some(Released)),
            (StdRwLock, 4, waiting | 1, waiting, Some(Released)),
            (StdRwLock, 4, waiting | 0x3fff_ffff, waiting, Some(Released)),
            (StdRwLock, 4, 0, 0x3fff_ffff, Some(Taken)),
            (StdRwLock, 4, 1, 2, Some(Taken)),
            (StdRwLock, 4, waiting, 1 << 30, None),
            (ParkingLot, 1, 3, 2, Some(Released)),
            (ParkingLot, 1, 2, 3, Some(Taken)),
            (ParkingLot, 1, 1, 3, None),
            (ParkingLotRwLock, 8, 0x23, 0x13, Some(Released)),
            (ParkingLotRwLock, 8, 0xb, 0x3, Some(Released)),
            (ParkingLotRwLock, 8, 0x13, 0x11, None),
        ] {
            assert_eq!(change(&kind, size, old, new), expected, "{kind} {old:#x} {new:#x}");
        }
    }
}

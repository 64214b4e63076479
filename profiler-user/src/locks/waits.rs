//! What a blocked thread waits for, by the function on its stack and the futex in its system call.

use rustc_hash::FxHashMap;

use super::table::{self, Waits};
use crate::{
    debuginfo::FrameRegisters,
    model::{Frame, ResourceKey, ResourceKind},
    target::{Memory, SyscallState, ThreadFacts},
};

/// What a thread does, as far as locks go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Waits for this lock.
    Lock(ResourceKey),
    /// Waits for the end of the thread with this id, in the target's own pid namespace.
    Join {
        /// The thread.
        tid: i32,
        /// The word that the kernel clears at its end.
        word: u64,
    },
    /// Waits for a condition: one of the locks that its frames seem to hold was given back meanwhile.
    Condition {
        /// The futex.
        word: u64,
    },
    /// Waits in some other way that gives no lock back: what its frames seem to hold they hold.
    Elsewhere,
    /// Waits at a futex that is not understood, or does not wait: what its frames hold cannot be told.
    Unknown,
}

/// The locks that threads wait for.
#[derive(Debug, Default, PartialEq)]
pub struct Contended {
    by_address: FxHashMap<u64, ResourceKind>,
}

impl Contended {
    /// The locks among what threads wait for. An address that two of them name differently is left out.
    pub fn among<'b>(blocked: impl IntoIterator<Item = &'b Blocked>) -> Self {
        let mut by_address: FxHashMap<u64, Option<ResourceKind>> = FxHashMap::default();
        for blocked in blocked {
            if let Blocked::Lock(key) = blocked {
                let known = by_address.entry(key.address).or_insert_with(|| Some(key.kind.clone()));
                if known.as_ref() != Some(&key.kind) {
                    *known = None;
                }
            }
        }
        let by_address = by_address.into_iter().filter_map(|(address, kind)| Some((address, kind?))).collect();
        Self { by_address }
    }

    /// The kind of the lock at `address`, where a thread waits for one.
    pub fn kind(&self, address: u64) -> Option<&ResourceKind> {
        self.by_address.get(&address)
    }

    /// The mutexes of the C library among them.
    pub fn pthread_mutexes(&self) -> impl Iterator<Item = ResourceKey> {
        let mutexes = self.by_address.iter().filter(|(_, kind)| **kind == ResourceKind::PthreadMutex);
        mutexes.map(|(address, kind)| key(kind.clone(), *address))
    }
}

/// `futex(word, operation, value)` as a blocked thread has it.
struct Futex {
    word: u64,
    private: bool,
    value: u32,
}

/// x86-64 number of `futex`.
const FUTEX: i64 = libc::SYS_futex;

/// What a thread with this `stack` (root first) waits for. `frames` are the registers of its frames, innermost first; they
/// are asked for where nothing else knows the lock.
pub fn read(
    facts: &ThreadFacts,
    stack: &[Frame],
    frames: &dyn Fn() -> Vec<FrameRegisters>,
    memory: &dyn Memory,
) -> Blocked {
    let SyscallState::InSyscall { number, args, .. } = facts.syscall else { return Blocked::Unknown };
    if number != FUTEX {
        return Blocked::Elsewhere;
    }
    let operation = args[1] as i32;
    if !matches!(operation & 0x7f, libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET) {
        return Blocked::Unknown;
    }
    let futex = Futex { word: args[0], private: operation & libc::FUTEX_PRIVATE_FLAG != 0, value: args[2] as u32 };
    let mut functions = stack.iter().rev().map(|frame| &*frame.function);
    let Some(waits) = functions.find(|function| !table::is_plumbing(function)).and_then(table::waits) else {
        return Blocked::Unknown;
    };
    let lock = match waits {
        Waits::Condition => return Blocked::Condition { word: futex.word },
        Waits::Park => return Blocked::Elsewhere,
        Waits::Join => return joined(&futex, memory).unwrap_or(Blocked::Unknown),
        Waits::Mutex => Some(key(ResourceKind::StdMutex, futex.word)),
        Waits::Once => Some(key(ResourceKind::StdOnce, futex.word)),
        Waits::Read => Some(key(ResourceKind::StdRwLock, futex.word)),
        Waits::Write => rwlock_of_writer(&futex, memory).map(|lock| key(ResourceKind::StdRwLock, lock)),
        Waits::Pthread => is_normal_pthread_mutex(&futex, memory).then(|| key(ResourceKind::PthreadMutex, futex.word)),
        Waits::ParkingLot | Waits::ParkingLotRead | Waits::ParkingLotWrite => {
            parking_lot(waits, &futex, &frames(), memory)
        }
    };
    lock.map_or(Blocked::Unknown, Blocked::Lock)
}

fn key(kind: ResourceKind, address: u64) -> ResourceKey {
    ResourceKey { kind, address }
}

/// A join waits until the kernel clears the thread's id in its descriptor, and is woken as if from another process: see
/// `CLONE_CHILD_CLEARTID` in clone(2), which glibc and musl both use.
fn joined(futex: &Futex, memory: &dyn Memory) -> Option<Blocked> {
    let tid = i32::try_from(futex.value).ok().filter(|tid| *tid > 0)?;
    let still = memory.read_u32(futex.word) == Ok(futex.value);
    (!futex.private && still).then_some(Blocked::Join { tid, word: futex.word })
}

/// The state of the `RwLock` whose writers wait at `futex`: the word before or behind it, which says that writers wait.
///
/// Source: `RwLock { state, writer_notify }` and `WRITERS_WAITING` in library/std/src/sys/sync/rwlock/futex.rs, Rust 1.62
/// to 1.95. The order of two words of one size is the compiler's choice.
fn rwlock_of_writer(futex: &Futex, memory: &dyn Memory) -> Option<u64> {
    const WRITERS_WAITING: u32 = 1 << 31;
    const HELD: u32 = (1 << 30) - 1;
    let is_state =
        |address: &u64| memory.read_u32(*address).is_ok_and(|state| state & WRITERS_WAITING != 0 && state & HELD != 0);
    let mut states = [futex.word.wrapping_sub(4), futex.word.wrapping_add(4)].into_iter().filter(is_state);
    states.next().filter(|_| states.next().is_none())
}

/// `pthread_mutex_t` as glibc has it: `lock, count, owner, nusers, kind`, 4 bytes each (sysdeps/nptl/bits/struct_mutex.h,
/// since 2.0 on x86-64).
const PTHREAD_OWNER: u64 = 8;
const PTHREAD_KIND: u64 = 16;

/// Whether a mutex stands at `futex` that says who owns it: not robust, not shared with other processes, without
/// inheritance of priorities. (Kinds: `PTHREAD_MUTEX_*_NP` in nptl/pthreadP.h, with 0x300 for lock elision.)
fn is_normal_pthread_mutex(futex: &Futex, memory: &dyn Memory) -> bool {
    const CONTENDED: u32 = 2;
    let kind = memory.read_u32(futex.word.wrapping_add(PTHREAD_KIND));
    futex.private
        && futex.value == CONTENDED
        && memory.read_u32(futex.word) == Ok(CONTENDED)
        && kind.is_ok_and(|kind| kind & !0x303 == 0)
}

/// The thread that owns the mutex at `address`, in the target's own pid namespace. `address` is one that [`read`] found.
pub fn pthread_owner(address: u64, memory: &dyn Memory) -> Option<i32> {
    let owner = memory.read_u32(address.wrapping_add(PTHREAD_OWNER)).ok()?;
    i32::try_from(owner).ok().filter(|owner| *owner > 0)
}

/// The lock that a thread of `parking_lot` waits for.
///
/// Source: `ThreadData { parker, key, .. }` in parking_lot_core/src/parking_lot.rs 0.9: the futex is the parker's, and the key
/// is the address of the lock, for writers that wait until readers are gone one more. Which word of it is the key is the
/// compiler's choice: it is the one whose lock says that threads wait there, and that a frame has at hand.
fn parking_lot(waits: Waits, futex: &Futex, frames: &[FrameRegisters], memory: &dyn Memory) -> Option<ResourceKey> {
    /// Bytes around the futex in which the rest of the struct lies.
    const SPAN: u64 = 40;
    /// Frames of `parking_lot` and what lies below.
    const INNER_FRAMES: usize = 6;
    let start = (futex.word & !7).saturating_sub(SPAN);
    let words = (0..=2 * SPAN).step_by(8).filter_map(|at| memory.read_u64(start + at).ok());
    let mut locks: Vec<ResourceKey> = words
        .flat_map(|key| [Some(key), key.checked_sub(1).filter(|_| waits == Waits::ParkingLotWrite)])
        .flatten()
        .filter_map(|lock| held_parking_lot(waits, lock, memory))
        .filter(|lock| frames.iter().take(INNER_FRAMES).any(|frame| has_at_hand(frame, lock.address, frames, memory)))
        .collect();
    locks.dedup();
    match locks.as_slice() {
        [_] => locks.pop(),
        _ => None,
    }
}

/// The lock at `address`, where one stands that is held and waited for.
///
/// Source: state bits in parking_lot/src/raw_mutex.rs and raw_rwlock.rs 0.12.
fn held_parking_lot(waits: Waits, address: u64, memory: &dyn Memory) -> Option<ResourceKey> {
    const LOCKED_AND_PARKED: u8 = 1 | 2;
    const PARKED: u64 = 1;
    const WRITER_PARKED: u64 = 2;
    const UPGRADABLE: u64 = 4;
    const WRITER: u64 = 8;
    const READERS: u64 = !15;
    if waits == Waits::ParkingLot {
        return (memory.read_u8(address) == Ok(LOCKED_AND_PARKED)).then(|| key(ResourceKind::ParkingLot, address));
    }
    let state = memory.read_u64(address).ok().filter(|_| address.is_multiple_of(8))?;
    let held = match waits {
        // Between readers a writer may stand, and go when its patience ends: only a writer that is inside counts.
        Waits::ParkingLotRead => state & WRITER != 0 && state & READERS == 0,
        _ => state & (WRITER | UPGRADABLE | READERS) != 0,
    };
    (held && state & (PARKED | WRITER_PARKED) != 0).then(|| key(ResourceKind::ParkingLotRwLock, address))
}

/// Whether a frame has `value` in a register or in its part of the stack.
fn has_at_hand(frame: &FrameRegisters, value: u64, frames: &[FrameRegisters], memory: &dyn Memory) -> bool {
    /// Bytes of a frame that are looked at.
    const FRAME: u64 = 1024;
    if frame.values.contains(&Some(value)) {
        return true;
    }
    let Some(start) = frame.sp() else { return false };
    let outer = frames.iter().filter_map(FrameRegisters::sp).find(|sp| *sp > start);
    let end = outer.map_or(start + FRAME, |outer| outer.min(start + FRAME));
    (start..end).step_by(8).any(|at| memory.read_u64(at).is_ok_and(|word| word == value))
}

//! What a blocked thread waits for, read from made-up memory.

use std::collections::BTreeMap;

use super::{Blocked, Contended, pthread_owner, read};
use crate::{
    debuginfo::FrameRegisters,
    model::{Frame, ResourceKey, ResourceKind},
    target::{Memory, MemoryError, RunState, SyscallState, ThreadFacts},
};

/// Memory that has these words of 4 bytes and nothing else.
struct Words(BTreeMap<u64, u32>);

impl Memory for Words {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        for (at, byte) in (address..).zip(buf) {
            let word = self.0.get(&(at & !3)).ok_or(MemoryError::Unmapped(at))?;
            *byte = word.to_le_bytes()[(at & 3) as usize];
        }
        Ok(())
    }
}

const FUTEX: i64 = 202;
const WAIT_PRIVATE: u64 = 128;
const WAIT: u64 = 0;
const WORD: u64 = 0x1000;

/// A thread in `futex(WORD, operation, value)` below `function`.
fn waiting_in(function: &str, operation: u64, value: u64, frames: &[FrameRegisters], words: &[(u64, u32)]) -> Blocked {
    let syscall = SyscallState::InSyscall { number: FUTEX, args: [WORD, operation, value, 0, 0, 0], sp: 0x7000, pc: 1 };
    let facts = ThreadFacts {
        tid: 7,
        own_tid: Some(7),
        name: "test".into(),
        state: RunState::Sleeping,
        syscall,
        switches: Some(1),
        registers: None,
    };
    let stack: Vec<Frame> = ["app::main", function, "std::sys::pal::unix::futex::futex_wait", "syscall"]
        .into_iter()
        .map(|function| Frame { function: function.into(), file: None, line: None })
        .collect();
    read(&facts, &stack, &|| frames.to_vec(), &Words(words.iter().copied().collect()))
}

fn lock(kind: ResourceKind, address: u64) -> Blocked {
    Blocked::Lock(ResourceKey { kind, address })
}

#[test]
fn a_mutex_is_where_its_futex_is() {
    let found = waiting_in("std::sys::sync::mutex::futex::Mutex::lock_contended", WAIT_PRIVATE, 2, &[], &[]);
    assert_eq!(found, lock(ResourceKind::StdMutex, WORD));
}

#[test]
fn a_writer_waits_beside_the_state_of_its_lock() {
    const WAITED_FOR: u32 = 1 << 31 | 1;
    let found =
        |words| waiting_in("std::sys::sync::rwlock::futex::RwLock::write_contended", WAIT_PRIVATE, 9, &[], words);
    assert_eq!(found(&[(WORD - 4, WAITED_FOR), (WORD, 9), (WORD + 4, 5)]), lock(ResourceKind::StdRwLock, WORD - 4));
    assert_eq!(found(&[(WORD - 4, 5), (WORD, 9), (WORD + 4, WAITED_FOR)]), lock(ResourceKind::StdRwLock, WORD + 4));
    let both = [(WORD - 4, WAITED_FOR), (WORD, 9), (WORD + 4, WAITED_FOR)];
    assert_eq!(found(&both), Blocked::Unknown, "one of them is something else");
    assert_eq!(found(&[(WORD - 4, 1), (WORD, 9), (WORD + 4, 0)]), Blocked::Unknown);
}

#[test]
fn only_ordinary_mutexes_of_the_c_library_name_their_owner() {
    let mutex = |kind: u32| [(WORD, 2), (WORD + 4, 0), (WORD + 8, 42), (WORD + 12, 1), (WORD + 16, kind)];
    let found = |kind| waiting_in("pthread_mutex_lock", WAIT_PRIVATE, 2, &[], &mutex(kind));
    for ordinary in [0, 1, 2, 3, 0x100] {
        assert_eq!(found(ordinary), lock(ResourceKind::PthreadMutex, WORD));
    }
    for (other, kind) in [("robust", 16), ("inherits priorities", 32), ("protects priorities", 64), ("shared", 128)] {
        assert_eq!(found(kind), Blocked::Unknown, "{other}");
    }
    assert_eq!(pthread_owner(WORD, &Words(mutex(0).into_iter().collect())), Some(42));
    assert_eq!(pthread_owner(WORD, &Words([(WORD + 8, 0)].into())), None, "nobody, or not yet");
}

#[test]
fn a_join_waits_for_the_thread_whose_id_is_cleared() {
    let joined = Blocked::Join { tid: 42, word: WORD };
    assert_eq!(waiting_in("pthread_join", WAIT, 42, &[], &[(WORD, 42)]), joined);
    assert_eq!(waiting_in("pthread_join", WAIT, 42, &[], &[(WORD, 0)]), Blocked::Unknown, "it has ended");
    assert_eq!(waiting_in("pthread_join", WAIT_PRIVATE, 42, &[], &[(WORD, 42)]), Blocked::Unknown, "not the kernel's");
}

#[test]
fn the_lock_of_parking_lot_is_the_one_that_the_frame_has_at_hand() {
    const HELD: u64 = 0x5000;
    let mut frame = FrameRegisters::at(1, 0x7000);
    frame.values[3] = Some(HELD);
    let near = |key: u64| vec![(WORD + 8, key as u32), (WORD + 12, 0), (HELD, 3)];
    let found = |frames: &[FrameRegisters], words: &[(u64, u32)]| {
        waiting_in("parking_lot::raw_mutex::RawMutex::lock_slow", WAIT_PRIVATE, 1, frames, words)
    };
    assert_eq!(found(&[frame], &near(HELD)), lock(ResourceKind::ParkingLot, HELD));
    assert_eq!(found(&[FrameRegisters::at(1, 0x7000)], &near(HELD)), Blocked::Unknown, "no frame knows it");
    assert_eq!(found(&[frame], &near(0x6000)), Blocked::Unknown, "no lock stands there");
}

#[test]
fn what_is_not_understood_is_unknown() {
    let found = |function| waiting_in(function, WAIT_PRIVATE, 1, &[], &[]);
    assert_eq!(found("app::MyLock::lock"), Blocked::Unknown);
    assert_eq!(found("std::sys::sync::condvar::futex::Condvar::wait"), Blocked::Condition { word: WORD });
    assert_eq!(found("std::thread::thread::Thread::park"), Blocked::Elsewhere);
}

#[test]
fn a_lock_of_two_kinds_is_none() {
    let one = lock(ResourceKind::StdMutex, WORD);
    let other = lock(ResourceKind::StdRwLock, WORD);
    assert_eq!(Contended::among([&one, &one]).kind(WORD), Some(&ResourceKind::StdMutex));
    assert_eq!(Contended::among([&one, &other, &one]).kind(WORD), None);
}

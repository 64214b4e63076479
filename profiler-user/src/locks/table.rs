//! Which functions mean what: declared tables, each line with the source it rests on.
//!
//! Names are contract names (`crate::debuginfo::name::function`). Modules of `std` have moved over time while types and
//! functions kept their names, so lines of `std` say the type's path by its end.

use rustc_hash::FxHashMap;

use crate::debuginfo::{Module, SymbolKind, name};

/// What a call means to a dry run. The lock is the first argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Waits until it has the lock, which was not free at first.
    Acquire {
        /// What it returns then.
        answer: u64,
    },
    /// Gives the lock back to those who wait.
    Release {
        /// Bits of the lock's first byte that say it is held.
        held: u8,
    },
    /// Wakes those who wait for a lock that has been given back already.
    Wake,
}

/// Where the return value is a `bool` or nothing.
const ACQUIRE: Role = Role::Acquire { answer: 1 };
/// Where it is an error number.
const ACQUIRE_IN_C: Role = Role::Acquire { answer: 0 };

/// A wait by the function that it is made in, innermost on the stack but for what [`is_plumbing`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// `std::sync::Mutex`.
    Mutex,
    /// `std::sync::RwLock`, to read.
    Read,
    /// The same, to write.
    Write,
    /// `std::sync::Once`, and what is made of it: `OnceLock`, `LazyLock`.
    Once,
    /// `parking_lot::Mutex`.
    ParkingLot,
    /// `parking_lot::RwLock`, to read.
    ParkingLotRead,
    /// The same, to write or to upgrade.
    ParkingLotWrite,
    /// `pthread_mutex_t`.
    Pthread,
    /// The end of a thread.
    Join,
    /// A condition: gives a lock back while it waits.
    Condition,
    /// Until another thread says so; no lock has to do with it.
    Park,
}

/// Of a crate or the C library: the whole name.
#[rustfmt::skip]
const WAITS: &[(&str, Waits)] = &[
    // parking_lot 0.12: src/raw_mutex.rs, raw_rwlock.rs, condvar.rs
    ("parking_lot::raw_mutex::RawMutex::lock_slow", Waits::ParkingLot),
    ("parking_lot::raw_rwlock::RawRwLock::lock_shared_slow", Waits::ParkingLotRead),
    ("parking_lot::raw_rwlock::RawRwLock::lock_exclusive_slow", Waits::ParkingLotWrite),
    ("parking_lot::raw_rwlock::RawRwLock::lock_upgradable_slow", Waits::ParkingLotWrite),
    ("parking_lot::raw_rwlock::RawRwLock::wait_for_readers", Waits::ParkingLotWrite),
    ("parking_lot::condvar::Condvar::wait_until_internal", Waits::Condition),
    // library/std/src/thread, where its parker is inlined
    ("std::thread::thread::Thread::park", Waits::Park),
    ("std::thread::thread::Thread::park_timeout", Waits::Park),
    ("std::thread::Thread::park", Waits::Park),
    ("std::thread::park", Waits::Park),
    ("std::thread::park_timeout", Waits::Park),
];

/// Of POSIX, under the name that programs call it by: see [`posix`].
const POSIX_WAITS: &[(&str, Waits)] =
    &[("pthread_mutex_lock", Waits::Pthread), ("pthread_join", Waits::Join), ("pthread_cond_wait", Waits::Condition)];

/// Of `std`: the name's end, behind `std::sys`. library/std/src/sys/sync/{mutex,rwlock,once,condvar,thread_parking}/futex.rs
/// of Rust 1.95; sys/unix/locks/futex_*.rs and others before.
#[rustfmt::skip]
const STD_WAITS: &[(&str, Waits)] = &[
    ("::Mutex::lock_contended", Waits::Mutex),
    ("::RwLock::read_contended", Waits::Read),
    ("::RwLock::write_contended", Waits::Write),
    ("::Once::call", Waits::Once),
    ("::Once::wait", Waits::Once),
    ("::Condvar::wait", Waits::Condition),
    ("::Condvar::wait_optional_timeout", Waits::Condition),
    ("::Condvar::wait_timeout", Waits::Condition),
    ("::Parker::park", Waits::Park),
    ("::Thread::join", Waits::Join),
];

/// Whole names.
#[rustfmt::skip]
const ROLES: &[(&str, Role)] = &[
    ("parking_lot::raw_mutex::RawMutex::lock_slow", ACQUIRE),
    ("parking_lot::raw_mutex::RawMutex::unlock_slow", Role::Release { held: 1 }),
    ("parking_lot::raw_rwlock::RawRwLock::lock_shared_slow", ACQUIRE),
    ("parking_lot::raw_rwlock::RawRwLock::lock_exclusive_slow", ACQUIRE),
    ("parking_lot::raw_rwlock::RawRwLock::lock_upgradable_slow", ACQUIRE),
    ("parking_lot::raw_rwlock::RawRwLock::unlock_shared_slow", Role::Wake),
    ("parking_lot::raw_rwlock::RawRwLock::unlock_exclusive_slow", Role::Release { held: 8 }),
    ("parking_lot::raw_rwlock::RawRwLock::unlock_upgradable_slow", Role::Release { held: 4 }),
    ("pthread_mutex_lock", ACQUIRE_IN_C),
    ("pthread_mutex_unlock", Role::Release { held: 0xff }),
];

/// Ends of names behind `std::sys`. What releases is seen by what it does to the lock's word.
const STD_ACQUIRES: &[&str] = &["::Mutex::lock_contended", "::RwLock::read_contended", "::RwLock::write_contended"];

/// What the function of this contract name waits for when it is blocked.
pub(super) fn waits(function: &str) -> Option<Waits> {
    let whole = WAITS.iter().find(|(name, _)| *name == function);
    let of_posix = || POSIX_WAITS.iter().find(|(name, _)| *name == posix(function));
    let of_std = || STD_WAITS.iter().find(|(end, _)| function.starts_with("std::sys") && function.ends_with(end));
    whole.or_else(of_posix).or_else(of_std).map(|(_, waits)| *waits)
}

/// Whether a function only carries others to the kernel.
pub(super) fn is_plumbing(function: &str) -> bool {
    let Some((path, last)) = function.rsplit_once("::") else {
        // glibc's nptl/{lowlevellock.c,futex-internal.c,pthread_join_common.c}, with what its debuginfo shows as inlined
        let name = posix(function);
        return matches!(name, "syscall" | "pthread_clockjoin_ex")
            || name.starts_with("lll_")
            || name.starts_with("futex_");
    };
    // parking_lot_core/src/parking_lot.rs, thread_parker/linux.rs; what parking_lot's own slow paths share, where line
    // tables name it; std's futex_wait
    path.starts_with("parking_lot_core::parking_lot")
        || path.starts_with("parking_lot_core::thread_parker")
        || function == "parking_lot::raw_rwlock::RawRwLock::lock_common"
        || path.starts_with("std::sys") && last == "futex_wait"
        || path.starts_with("std::thread::local")
}

/// A C library's function by the name that others call it by. Inside glibc it has names with underscores before it, and `GI` for
/// calls from within (include/libc-symbols.h, `hidden_proto`); which of them a symbol table or debuginfo gives is its
/// build's choice.
fn posix(function: &str) -> &str {
    let name = function.trim_start_matches('_');
    name.strip_prefix("GI_").map_or(name, |own| own.trim_start_matches('_'))
}

/// What a call of the function of this contract name means.
fn role(function: &str) -> Option<Role> {
    let acquires = || function.starts_with("std::sys") && STD_ACQUIRES.iter().any(|end| function.ends_with(end));
    let whole = ROLES.iter().find(|(name, _)| *name == function).map(|(_, role)| *role);
    whole.or_else(|| acquires().then_some(ACQUIRE))
}

/// Whether a symbol of this (mangled) name can have a role: spares the demangling of most.
fn may_have_role(mangled: &str) -> bool {
    mangled.contains("lock") && (mangled.contains("_slow") || mangled.contains("contended"))
}

/// The functions of a process that have a role.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    roles: FxHashMap<u64, Role>,
}

impl Functions {
    /// Takes what `module` has.
    pub fn learn(&mut self, module: &Module) {
        for symbol in module.symbols().filter(|symbol| symbol.kind == SymbolKind::Text && may_have_role(symbol.name)) {
            if let Some(role) = role(&name::function(symbol.name)) {
                self.roles.insert(symbol.address, role);
            }
        }
    }

    /// What a call to `address` means; `external` is the name that the program imports it by, if it does.
    pub fn role(&self, address: u64, external: Option<&str>) -> Option<Role> {
        self.roles.get(&address).copied().or_else(|| role(external?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn std_is_known_wherever_its_modules_stand() {
        for path in ["std::sys::sync::mutex::futex", "std::sys::unix::locks::futex_mutex", "std::sys::locks::mutex"] {
            assert_eq!(waits(&format!("{path}::Mutex::lock_contended")), Some(Waits::Mutex));
            assert_eq!(role(&format!("{path}::Mutex::lock_contended")), Some(ACQUIRE));
        }
        assert_eq!(waits("app::sys::Mutex::lock_contended"), None, "somebody else's");
        assert_eq!(waits("std::sync::poison::once::Once::call_once"), None, "may run the program's own code");
    }

    /// glibc 2.36 as its symbols name it, and as its debuginfo does; root first.
    #[test]
    fn the_c_library_is_known_by_any_of_its_names() {
        let stacks: [(&[&str], Waits); 6] = [
            (&["pthread_mutex_lock", "__lll_lock_wait"], Waits::Pthread),
            (
                &["__GI___pthread_mutex_lock", "lll_mutex_lock_optimized", "__GI___lll_lock_wait", "futex_wait"],
                Waits::Pthread,
            ),
            (&["___pthread_mutex_lock", "__lll_lock_wait", "futex_wait"], Waits::Pthread),
            (&["___pthread_join", "__pthread_clockjoin_ex", "__futex_abstimed_wait_common64"], Waits::Join),
            (
                &[
                    "std::sys::thread::unix::Thread::join",
                    "__pthread_clockjoin_ex",
                    "__futex_abstimed_wait_common",
                    "__futex_abstimed_wait_common64",
                ],
                Waits::Join,
            ),
            (&["___pthread_cond_wait", "__GI___futex_abstimed_wait_cancelable64"], Waits::Condition),
        ];
        for (stack, expected) in stacks {
            let innermost = stack.iter().rev().find(|function| !is_plumbing(function)).expect("somebody waits");
            assert_eq!(waits(innermost), Some(expected), "{stack:?}");
        }
        assert!(waits("lock").is_none() && !is_plumbing("lock"), "somebody else's");
    }

    #[test]
    fn the_cheap_filter_passes_every_name_that_a_symbol_can_have() {
        let imported = |name: &str| name.starts_with("pthread");
        for (name, expected) in ROLES {
            assert_eq!(role(name), Some(*expected));
            assert!(may_have_role(name) || imported(name), "{name}");
        }
        assert!(STD_ACQUIRES.iter().all(|end| may_have_role(&format!("RwLock{end}").to_lowercase())));
    }
}

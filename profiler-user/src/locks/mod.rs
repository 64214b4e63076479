//! Locks made for threads: those of `std` and `parking_lot`, and the C library's mutexes. Who waits for one, and who holds it.
//!
//! A waiting thread says what it waits for: the lock's function on its stack, and the futex in its system call. A holder
//! says nothing while it holds. But its frames own a guard, and the code that would drop it stands in the binary: the
//! frame's landing pad, or the destructor of a suspended future. Run dry, that code releases the lock ([`Releases`]).
//!
//! Only locks that some thread waits for are looked at. That makes a healthy snapshot cheap, and it makes the evidence
//! exact: that an address is a lock, and of which kind, is known from who waits there before any release is looked for.

mod condition;
mod pads;
mod releases;
mod stand;
mod table;
#[cfg(test)]
mod tests;
mod waits;

pub use condition::relocked;
pub use pads::{Landed, Unwinding, frames as unwind, unwinds};
pub use releases::{Release, Releases};
pub use stand::{machine_at, stand_at};
pub use table::{Functions, Role};
pub use waits::{Blocked, Contended, pthread_owner, read};

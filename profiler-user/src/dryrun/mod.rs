//! An interpreter of target code over a copy-on-write view of its memory. Nothing in the target runs or is written.
//!
//! [`Machine`] knows the CPU (x86-64), the overlay that takes every write, poison and limits, and nothing else. *Poison* is
//! what cannot be known: bytes and registers nobody gave a value. It spreads byte by byte through what is computed from it,
//! and where it would decide something (a branch, an address) the run ends as [`Unknown`]. All meaning comes from
//! [`Hooks`]: what a call does, whether it is entered, when to stop.
//!
//! Every instruction that is interpreted is compared with the processor itself in `tests/differential`, which finds the
//! forms by enumerating encodings: an instruction cannot be added without being compared.

mod arithmetic;
mod atomics;
mod bits;
mod code;
mod control;
mod cpu;
mod decode;
mod flags;
mod hooks;
mod integer;
pub mod library;
mod machine;
mod moves;
mod multiply;
mod overlay;
mod run;
mod scalar;
mod shift;
mod string;
mod table;
mod unknown;
mod value;
mod vector;
mod vector_float;
mod vector_integer;
mod vector_move;
mod vector_shuffle;

#[cfg(test)]
mod tests;

pub use code::CodeCache;
pub use cpu::Reg;
pub use hooks::{Action, Atomic, CallFrame, Hooks, Special, Transfer};
pub use machine::{Limits, Machine, Outcome};
pub use overlay::{Looked, is_private};
pub use unknown::{Trap, Unknown, Why};

//! Go, read from outside: every goroutine with its stack and what it waits for, by the tables that each Go program carries
//! for its own tracebacks and collector. Neither symbols nor debuginfo are needed.
//!
//! What is assumed of the runtime's structures stands in `layout`; `docs/go.md` has the facts and their limits.

mod abandoned;
mod allgs;
mod bits;
mod buildinfo;
mod bytes;
mod code;
mod critical;
mod describe;
mod goroutine;
mod goroutines;
mod heap;
mod holders;
#[cfg(test)]
mod hostile_tests;
mod instant;
mod labels;
mod layout;
mod mark;
mod moduledata;
mod pclntab;
mod pointers;
mod pools;
mod queue;
mod queued;
mod reach;
mod read;
mod roots;
mod spans;
mod stack;
mod stands;
mod threads;
mod type_mask;
mod waits;

pub use layout::table;
pub use read::Go;

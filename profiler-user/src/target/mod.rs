//! A process to look at: its memory, registers, modules, threads and namespaces. Knows nothing of any async runtime.

mod memory;

pub use memory::{Memory, MemoryError};

//! A process to look at: its memory, modules, threads and namespaces. Knows nothing of any async runtime.

mod error;
mod files;
mod mappings;
mod memory;
mod process;
mod residency;
mod space;
mod sudo;
mod threads;

pub use error::TargetError;
pub use files::ModuleFile;
pub use mappings::{Mapping, Mappings};
pub use memory::{Memory, MemoryError};
pub use process::Process;
pub use space::AddressSpace;
pub use sudo::sudo_line;
pub use threads::{RunState, SyscallState, ThreadFacts, any_thread_pointer, thread_pointer};

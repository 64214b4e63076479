//! A process to look at, live or kept in a file: its memory, modules, threads and namespaces. Knows nothing of any async runtime.

pub mod addresses;
mod ahead;
mod build_id;
mod capture;
mod core_file;
mod descriptors;
mod epoll;
mod error;
mod files;
mod freeze;
pub mod handed;
mod image;
mod joined;
mod malloc;
mod mappings;
mod memory;
mod privileges;
mod process;
pub mod ranges;
mod registers;
mod residency;
mod space;
mod stored;
mod subject;
mod threads;
mod trail;

pub use addresses::Addresses;
pub use ahead::Ahead;
pub use epoll::{Interest, interests};
pub use error::TargetError;
pub use files::{ModuleFile, Root, read_file};
pub use freeze::Frozen;
pub use malloc::{Chunk, Chunks};
pub use mappings::{Mapping, Mappings};
pub use memory::{HIGHEST_COUNT, LOWEST, Memory, MemoryError};
pub use privileges::{Capability, lacking, remedy};
pub use process::Process;
pub use registers::UserRegisters;
pub(crate) use residency::PAGE;
pub use space::AddressSpace;
pub use stored::Stored;
pub use subject::{Place, Recorder, Subject};
pub use threads::{
    RunState, SyscallState, ThreadFacts, any_thread_pointer, stacks, standstill, thread_pointer, thread_pointers,
};
pub use trail::{Looked, Trail};

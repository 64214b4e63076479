//! Reading async runtimes out of target memory, behind one trait.

mod world;

pub mod tokio;

pub use world::{ThreadContext, ThreadRegisters, World};

use crate::model::Snapshot;

/// One async runtime library, as it was found in a process. It keeps what it learned of the code, never of the data.
pub trait Runtime {
    /// Adds the library's runtimes, tasks, threads and resources as they are now to `snapshot`. What could not be read
    /// is said in its `missing`, its coverage and its tasks.
    fn read(&mut self, world: &World<'_>, snapshot: &mut Snapshot);

    /// Library and version, as users name it: `tokio 1.54.1`.
    fn describe(&self) -> String;

    /// Where its threads keep what they are at; `None` until a read has found out.
    fn thread_context(&self) -> Option<ThreadContext>;

    /// Functions whose entry means that a task begins or ends a wait, by address in the target: for *trace waits*.
    fn wait_functions(&self) -> Vec<u64>;
}

//! Reading async runtimes out of target memory, behind one trait.

mod world;

pub mod go;
pub mod tokio;

pub use world::{Reads, ThreadContext, ThreadRegisters, World};

use std::{sync::Arc, time::Duration};

use crate::{
    debuginfo::Module,
    model::{Frame, PartyId, Snapshot},
    target::Memory,
};

/// The runtimes that are found in the code of a process.
pub fn find(modules: &[Module], memory: &dyn Memory) -> Vec<Box<dyn Runtime>> {
    let tokio = tokio::Tokio::find(modules, memory).map(|tokio| Box::new(tokio) as Box<dyn Runtime>);
    let go = go::Go::find(modules, memory).map(|go| Box::new(go) as Box<dyn Runtime>);
    tokio.into_iter().chain(go).collect()
}

/// One async runtime library, as it was found in a process. It keeps what it learned of the code; of the
/// data at most what tells whether a task still stands as it did, and what it was found to be.
pub trait Runtime {
    /// Adds the library's runtimes, tasks, threads and resources as they are now to `snapshot`. What could not be read
    /// is said in its `missing`, its coverage and its tasks.
    fn read(&mut self, world: &World<'_>, snapshot: &mut Snapshot);

    /// Looks again at those parties who would be accused of never moving, if any, and notes in `snapshot` what may move them after
    /// all and shows only where all memory is searched for it; takes back what was supposed and did not turn out to be so.
    /// Whether there was anything that changes what is to be said of them.
    fn doubt(&mut self, _world: &World<'_>, _snapshot: &mut Snapshot, _accused: &[PartyId]) -> bool {
        false
    }

    /// Library and version, as users name it: `tokio 1.54.1`.
    fn describe(&self) -> String;

    /// Where its threads keep what they are at; `None` until a read has found out.
    fn thread_context(&self) -> Option<ThreadContext>;

    /// The type of the task whose poll is on a stack of code addresses, innermost first.
    fn polled_type(&self, modules: &[Module], addresses: &[u64]) -> Option<Arc<str>>;

    /// How many frames of a stack, root first, lie outside of the innermost poll; `None` where there is no poll.
    fn inside_poll(&self, frames: &[Frame]) -> Option<usize>;

    /// A stack by the tables that a runtime carries for its own code, from a program counter and a stack pointer on: addresses
    /// for lookup, innermost first, and whether the root is among them. `None` where the code there is not its own.
    fn unwind(&self, _ip: u64, _sp: u64, _read: &mut dyn FnMut(u64) -> Option<u64>) -> Option<(Vec<u64>, bool)> {
        None
    }

    /// The functions at an address, outermost first, by such tables. `None` where the code there is not its own.
    fn functions_at(&mut self, _memory: &dyn Memory, _address: u64) -> Option<Vec<Frame>> {
        None
    }

    /// How far two looks must be apart for everything to be told that is told by what has not moved between them.
    fn apart(&self) -> Duration {
        Duration::from_millis(300)
    }

    /// Whether its threads poll tasks, so that one which blocks in the kernel keeps others from being polled.
    fn polls(&self) -> bool;

    /// Functions whose entry means that a task begins or ends a wait, by address in the target: for *trace waits*.
    fn wait_functions(&self) -> Vec<u64>;
}

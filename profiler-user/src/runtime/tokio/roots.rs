//! Root futures of `block_on`: they are in no list and no cell, they lie on the stack of the thread that polls them.
//!
//! A thread that waits in `block_on` stands in its park function. From the frame that parked it the code goes on to poll the
//! root again: continuing there, over a copy-on-write view, gives the await stack; the landing pad of the same call drops
//! the root, and so gives what it holds. Both need the registers of that frame.
//!
//! Source: `CachedParkThread::block_on` in tokio/src/runtime/park.rs, 1.38 to 1.54: poll, park, again.

use super::{classify, code::Code, holds, poll};
use crate::{
    debuginfo::{FrameRegisters, Module, RegisterUnwinder, name},
    runtime::World,
    target::{Memory, ThreadFacts, thread_pointer},
};

/// The function that polls the root and parks in between.
const LOOP: &str = "tokio::runtime::park::CachedParkThread::block_on";

/// A thread that waits in `block_on`.
pub(super) struct Root<'w> {
    /// The thread.
    pub(super) facts: &'w ThreadFacts,
    pub(super) frame: FrameRegisters,
    fs_base: u64,
}

/// The threads that wait in the `block_on` of a runtime.
pub(super) fn find<'w>(world: &'w World<'_>, unwinder: &RegisterUnwinder) -> Vec<Root<'w>> {
    world
        .threads
        .iter()
        .filter_map(|(facts, registers, stack)| {
            let registers = registers.as_ref()?;
            let at = stack.iter().rposition(|frame| &*frame.function == LOOP)?;
            // With a frame of the program inside the loop the root is being polled: it does not wait.
            if stack[at + 1..].iter().any(|frame| is_program(&frame.function)) {
                return None;
            }
            let sp = registers.frame.sp()?;
            let fs_base = registers.fs_base.or_else(|| thread_pointer(world.memory, world.memory.mappings(), sp))?;
            let mut read = |address: u64| world.memory.read_u64(address).ok();
            let frames = unwinder.unwind(world.modules, registers.frame, &mut read);
            // The innermost frame of the loop: the one whose call parked the thread.
            let frame = frames.into_iter().skip(1).find(|frame| polls_root(world.modules, frame.ip - 1))?;
            Some(Root { facts, frame, fs_base })
        })
        .collect()
}

/// Whether a frame belongs to the program, not to the machinery that parks a thread.
fn is_program(function: &str) -> bool {
    // C functions have no path; parking_lot parks threads for tokio where that feature is on.
    function.contains("::") && classify::shown(function) && !function.starts_with("parking_lot")
}

fn polls_root(modules: &[Module], address: u64) -> bool {
    let Some(module) = modules.iter().find(|module| module.contains(address)) else { return false };
    module.symbol_at(address).is_some_and(|symbol| name::function(symbol.name) == LOOP)
        || module.source_frames(address).iter().any(|frame| frame.function == LOOP)
}

impl Root<'_> {
    /// The leaves that its poll reaches.
    pub(super) fn poll(&self, code: &Code, memory: &dyn Memory) -> poll::Polled {
        poll::resume(code, memory, &self.frame, self.fs_base)
    }

    /// What dropping it gives back; `None` where no landing pad says so (panic=abort).
    pub(super) fn drop(
        &self,
        code: &Code,
        world: &World<'_>,
        unwinder: &RegisterUnwinder,
        is_dealloc: &dyn Fn(u64) -> bool,
    ) -> Option<holds::Dropped> {
        let pad = unwinder.landing_pad(world.modules, self.frame.ip)?;
        let frame = FrameRegisters { ip: pad, ..self.frame };
        Some(holds::resume(code, world.memory, &frame, self.fs_base, is_dealloc))
    }
}

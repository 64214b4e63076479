//! Root futures of `block_on`: they are in no list and no cell, they lie on the stack of the thread that polls them.
//!
//! A thread that waits in `block_on` stands in its park function. Going on from there, over a copy-on-write view, polls the
//! root again and so gives its await stack; the landing pads of the frames that own it drop it, and so give what it holds.
//! Both need the registers of those frames.
//!
//! Sources, tokio 1.38 to 1.54: `CachedParkThread::block_on` in tokio/src/runtime/park.rs polls, parks, and polls again
//! whatever woke it; `CoreGuard::block_on` in tokio/src/runtime/scheduler/current_thread/mod.rs gets its scheduler back
//! from the park function, and polls the root only when its `woken` flag was set.

use std::{ops::Range, sync::Arc};

use super::{
    classify,
    code::Code,
    holds::{self, Dropping},
    poll,
};
use crate::{
    debuginfo::{FrameRegisters, Module, RegisterUnwinder, name},
    dryrun::Machine,
    locks::Unwinding,
    runtime::World,
    target::{Memory, ThreadFacts, thread_pointer},
};

/// The functions that poll a root and park in between.
const PARKER: &str = "tokio::runtime::park::CachedParkThread::block_on";
const SCHEDULER: &str = "tokio::runtime::scheduler::current_thread::CoreGuard::block_on";

/// How a root is polled again.
enum Again {
    /// Go on where the park function returns to.
    Parker,
    /// Go on where the thread entered the kernel, through the whole driver, with the root's flag set.
    Scheduler,
}

/// A thread that waits in `block_on`.
pub(super) struct Root<'w> {
    /// The thread.
    pub(super) facts: &'w ThreadFacts,
    /// The function of the program that called `block_on`.
    pub(super) caller: Option<Arc<str>>,
    /// Its frames, innermost first, from the kernel's door.
    frames: Vec<FrameRegisters>,
    /// Which of `frames` polls the root.
    at: usize,
    /// How many of `frames` there are up to the last one that is tokio's.
    end: usize,
    again: Again,
    fs_base: u64,
}

/// The threads that wait in the `block_on` of a runtime.
pub(super) fn find<'w>(world: &'w World<'_>, unwinder: &RegisterUnwinder) -> Vec<Root<'w>> {
    world
        .threads
        .iter()
        .filter_map(|(facts, registers, stack)| {
            let registers = registers.as_ref()?;
            let (at, again) = stack.iter().enumerate().rev().find_map(|(at, frame)| match &*frame.function {
                PARKER => Some((at, Again::Parker)),
                SCHEDULER => Some((at, Again::Scheduler)),
                _ => None,
            })?;
            // With a frame of the program inside the loop something is being polled: the root does not wait.
            if stack[at + 1..].iter().any(|frame| is_program(&frame.function)) {
                return None;
            }
            let sp = registers.frame.sp()?;
            let fs_base = registers.fs_base.or_else(|| thread_pointer(world.memory, world.memory.mappings(), sp))?;
            let mut read = |address: u64| world.memory.read_u64(address).ok();
            let frames = unwinder.unwind(world.modules, registers.frame, &mut read);
            let polls = |frame: &FrameRegisters| functions(world.modules, frame).iter().any(|name| is_loop(name));
            let at = frames.iter().skip(1).position(polls)? + 1;
            let outside = frames.iter().skip(at).position(|frame| !is_tokio(world.modules, frame));
            let end = outside.map_or(frames.len(), |outside| at + outside);
            let outside = stack.iter().rev().skip_while(|frame| !is_loop(&frame.function));
            let caller = outside.map(|frame| &frame.function).find(|function| is_program(function)).cloned();
            Some(Root { facts, caller, frames, at, end, again, fs_base })
        })
        .collect()
}

/// Whether a frame belongs to the program, not to the machinery that parks a thread.
fn is_program(function: &str) -> bool {
    // C functions have no path; parking_lot and mio park threads for tokio.
    function.contains("::")
        && classify::shown(function)
        && !["parking_lot", "mio::"].iter().any(|library| function.starts_with(library))
}

fn is_loop(function: &str) -> bool {
    function == PARKER || function == SCHEDULER
}

/// Whether everything that the code of a frame was made from is tokio's.
fn is_tokio(modules: &[Module], frame: &FrameRegisters) -> bool {
    functions(modules, frame).iter().any(|function| function.starts_with("tokio::runtime::"))
}

/// The functions that the call of a frame lies in.
fn functions(modules: &[Module], frame: &FrameRegisters) -> Vec<String> {
    let address = frame.ip - 1;
    let Some(module) = modules.iter().find(|module| module.contains(address)) else { return Vec::new() };
    let symbol = module.symbol_at(address).map(|symbol| name::function(symbol.name));
    symbol.into_iter().chain(module.source_frames(address).into_iter().map(|frame| frame.function)).collect()
}

impl Root<'_> {
    /// The stack pointer at the kernel's door.
    pub(super) fn sp(&self) -> Option<u64> {
        self.frames.first()?.sp()
    }

    /// The frames around those that own it: what they own is their thread's.
    pub(super) fn around(&self) -> &[FrameRegisters] {
        &self.frames[self.owners().end..]
    }

    /// Which frames may own it.
    fn owners(&self) -> Range<usize> {
        match self.again {
            Again::Parker => self.at..self.at + 1,
            // Which of the frames that entered the runtime owns the root is the optimiser's choice.
            Again::Scheduler => self.at..self.end,
        }
    }

    /// The leaves that its poll reaches.
    pub(super) fn poll(&self, code: &Code, memory: &dyn Memory) -> poll::Polled {
        match self.again {
            Again::Parker => poll::resume(code, memory, &self.frames[self.at..=self.at], self.fs_base, &[]).0,
            Again::Scheduler => {
                let frames = &self.frames[..self.end];
                let (polled, flags) = poll::resume(code, memory, frames, self.fs_base, &[]);
                if !polled.hits.is_empty() || flags.is_empty() {
                    return polled;
                }
                // The flags that the scheduler took back and found clear: with them set it polls the root.
                poll::resume(code, memory, frames, self.fs_base, &flags).0
            }
        }
    }

    /// What dropping it gives back; `None` where no landing pad says so (panic=abort).
    pub(super) fn drop(
        &self,
        dropping: Dropping<'_>,
        modules: &[Module],
        unwinder: &RegisterUnwinder,
    ) -> Option<holds::Dropped> {
        Dropping { fs_base: self.fs_base, ..dropping }.frames(unwinder, modules, &self.frames[self.owners()])
    }

    /// Drops it in a machine that has run before.
    pub(super) fn drop_in(
        &self,
        machine: &mut Machine<'_>,
        unwinder: &RegisterUnwinder,
        modules: &[Module],
        hooks: &mut dyn Unwinding,
    ) -> holds::Pads {
        machine.set_fs_base(self.fs_base);
        holds::land_all(machine, unwinder, modules, &self.frames[self.owners()], hooks)
    }

    /// The stack that its handles are found on.
    pub(super) fn stack(&self) -> Range<u64> {
        let outermost = self.frames.get(self.owners().end).or(self.frames.last());
        let (start, end) = (self.sp().unwrap_or(0), outermost.and_then(FrameRegisters::sp).unwrap_or(0));
        start..end.max(start)
    }
}

//! Root futures of `block_on`: they are in no list and no cell, they lie on the stack of the thread that polls them.
//!
//! A thread that waits in `block_on` stands in its park function. Going on from there, over a copy-on-write view, polls the
//! root again and so gives its await stack; the landing pads of the frames that own it drop it, and so give what it holds.
//! Both need the registers of those frames.
//!
//! Sources, tokio 1.38 to 1.54: `CachedParkThread::block_on` in tokio/src/runtime/park.rs polls, parks, and polls again
//! whatever woke it; `CoreGuard::block_on` in tokio/src/runtime/scheduler/current_thread/mod.rs gets its scheduler back
//! from the park function, and polls the root only when its `woken` flag was set.

use std::ops::Range;

use super::{
    children::Woken,
    classify,
    code::Code,
    holds::{self, Dropping},
    poll, threads,
};
use crate::{
    debuginfo::{FrameRegisters, Module, RegisterUnwinder, name},
    dryrun::Machine,
    locks::Unwinding,
    model::Frame,
    runtime::World,
    target::{Mappings, Memory, ThreadFacts, thread_pointer},
};

/// The functions that poll a root and park in between.
const PARKER: &str = "tokio::runtime::park::CachedParkThread::block_on";
const SCHEDULER: &str = "tokio::runtime::scheduler::current_thread::CoreGuard::block_on";
/// The functions in which the former parks, also where it was inlined itself; only it calls them.
const PARK: &[&str] = &["tokio::runtime::park::CachedParkThread::park", "tokio::runtime::park::Inner::park"];

/// The function in which the executors of others park: `block_on` of `futures` and of many a program.
const THREAD_PARK: &[&str] = &["std::thread::functions::park", "std::thread::park"];

/// How a root is polled again.
enum Again {
    /// Go on where the park function returns to.
    Parker,
    /// The same, of somebody else's executor: if it is one.
    Foreign,
    /// Go on where the thread entered the kernel, through the whole driver, with the root's flag set.
    Scheduler,
}

/// A thread that waits in `block_on`.
pub(super) struct Root<'w> {
    /// The thread.
    pub(super) facts: &'w ThreadFacts,
    /// The function of the program that waits here, and what it has called to do so, `block_on` left out.
    pub(super) callers: Vec<Frame>,
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
            let named = stack.iter().enumerate().rev().find_map(|(at, frame)| match &*frame.function {
                PARKER => Some((at, Again::Parker)),
                SCHEDULER => Some((at, Again::Scheduler)),
                _ => None,
            });
            let is_named = named.is_some();
            let parker = || Some((around(stack, PARK)?, Again::Parker));
            let foreign = || Some((around(stack, THREAD_PARK)?, Again::Foreign));
            let (at, again) = named.or_else(parker).or_else(foreign)?;
            let park = if matches!(again, Again::Foreign) { THREAD_PARK } else { PARK };
            // With a frame of the program inside the loop something is being polled: the root does not wait.
            if stack[at + 1..].iter().any(|frame| is_program(&frame.function)) {
                return None;
            }
            let sp = registers.frame.sp()?;
            let fs_base = registers.fs_base.or_else(|| thread_pointer(world.memory, world.memory.mappings(), sp))?;
            let mut read = |address: u64| world.memory.read_u64(address).ok();
            let frames = unwinder.unwind(world.modules, registers.frame, &mut read);
            let calls = |frame: &FrameRegisters, found: &dyn Fn(&str) -> bool| {
                functions(world.modules, frame).iter().any(|name| found(name))
            };
            // Inside of a poll all that lies between the two waits with it.
            let outer = threads::inside_poll(stack).unwrap_or(0);
            let callers = if outer > 0 && outer <= at { shown(&stack[outer..=at]) } else { callers(&stack[..=at]) };
            let at = if is_named {
                frames.iter().skip(1).position(|frame| calls(frame, &is_loop))? + 1
            } else {
                frames
                    .iter()
                    .rposition(|frame| calls(frame, &|name| park.contains(&name)))
                    .filter(|park| park + 1 < frames.len())?
                    + 1
            };
            let outside = frames.iter().skip(at).position(|frame| !is_tokio(world.modules, frame));
            let end = outside.map_or(frames.len(), |outside| at + outside);
            Some(Root { facts, callers, frames, at, end, again, fs_base })
        })
        .collect()
}

/// The frame of a stack, root first, that calls the first of the functions `park`; `None` where none does.
fn around(stack: &[Frame], park: &[&str]) -> Option<usize> {
    stack.iter().position(|frame| park.contains(&&*frame.function))?.checked_sub(1)
}

/// The functions of the program in a part of a stack.
fn shown(stack: &[Frame]) -> Vec<Frame> {
    stack.iter().filter(|frame| is_program(&frame.function)).cloned().collect()
}

/// The innermost function of the program in the part of a stack, root first, that lies around the loop of a `block_on`, and
/// those between the two.
fn callers(around: &[Frame]) -> Vec<Frame> {
    let caller = around.iter().rposition(|frame| is_program(&frame.function) && !frame.is_library());
    let called = caller.map_or(&[][..], |caller| &around[caller..]);
    shown(called)
}

/// Whether a frame belongs to the program, not to the machinery that parks a thread.
pub(super) fn is_program(function: &str) -> bool {
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
            Again::Parker | Again::Foreign => self.at..self.at + 1,
            // Which of the frames that entered the runtime owns the root is the optimiser's choice.
            Again::Scheduler => self.at..self.end,
        }
    }

    /// The leaves that its poll reaches.
    pub(super) fn poll(&self, code: &Code, memory: &dyn Memory) -> poll::Polled {
        match self.again {
            Again::Parker => poll::resume(code, memory, &self.frames[self.at..=self.at], self.fs_base, &[]).0,
            Again::Foreign => self.poll_with_flags(code, memory, &self.frames[self.at..=self.at]),
            Again::Scheduler => self.poll_with_flags(code, memory, &self.frames[..self.end]),
        }
    }

    /// The same with a future in a set woken.
    pub(super) fn poll_woken(&self, code: &Code, memory: &dyn Memory, woken: &Woken) -> (poll::Polled, poll::Turn) {
        poll::resume_woken(code, memory, &self.frames[self.at..=self.at], self.fs_base, woken)
    }

    /// The thread pointer of its thread.
    pub(super) fn fs_base(&self) -> u64 {
        self.fs_base
    }

    /// Goes on in `frames`; where that polls nothing, once more with the flags set that were taken back and found clear: who
    /// wakes the root sets them.
    fn poll_with_flags(&self, code: &Code, memory: &dyn Memory, frames: &[FrameRegisters]) -> poll::Polled {
        let (polled, flags) = poll::resume(code, memory, frames, self.fs_base, &[]);
        if !polled.hits.is_empty() || flags.is_empty() {
            return polled;
        }
        poll::resume(code, memory, frames, self.fs_base, &flags).0
    }

    /// Whether it is a root: a thread may park for other reasons.
    pub(super) fn is_one(&self, code: &Code, memory: &dyn Memory) -> bool {
        !matches!(self.again, Again::Foreign) || !self.poll(code, memory).hits.is_empty()
    }

    /// Whether going on from where its thread waits is enough to have it polled again.
    pub(super) fn can_be_asked(&self) -> bool {
        matches!(self.again, Again::Parker)
    }

    /// A machine that goes on from there.
    pub(super) fn machine<'m>(&self, code: &'m Code, memory: &'m dyn Memory) -> Machine<'m> {
        poll::machine_in(code, memory, &self.frames[self.at..=self.at], self.fs_base)
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

    /// What is its own alone: the stack that its handles are found on, and what lies below, where its drop calls functions.
    pub(super) fn own(&self, mappings: &Mappings) -> Range<u64> {
        let stack = self.stack();
        mappings.at(stack.start).map_or(stack.start, |mapping| mapping.range.start)..stack.end
    }

    /// All that its thread has on its stack.
    pub(super) fn whole_stack(&self) -> Range<u64> {
        let outermost = self.frames.iter().filter_map(FrameRegisters::sp).max().unwrap_or(0);
        let start = self.sp().unwrap_or(0);
        start..outermost.max(start)
    }

    /// The stack that its handles are found on.
    pub(super) fn stack(&self) -> Range<u64> {
        let outermost = self.frames.get(self.owners().end).or(self.frames.last());
        let (start, end) = (self.sp().unwrap_or(0), outermost.and_then(FrameRegisters::sp).unwrap_or(0));
        start..end.max(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(functions: &[&str]) -> Vec<Frame> {
        functions.iter().map(|name| Frame { function: (*name).into(), file: None, line: None }).collect()
    }

    #[test]
    fn a_loop_that_was_inlined_is_around_what_parks() {
        let parked = ["tokio::runtime::park::CachedParkThread::park", "tokio::runtime::park::Inner::park", "syscall"];
        let inside = |caller| stack(&[&["std::rt::lang_start", "app::serve", caller], &parked[..]].concat());
        let (named, inlined) = (inside("tokio::runtime::runtime::Runtime::block_on"), inside("app::main"));
        assert_eq!((around(&named, PARK), around(&inlined, PARK)), (Some(2), Some(2)));
        assert_eq!(callers(&named[..=2]), stack(&["app::serve"]));
        assert_eq!(callers(&inlined[..=2]), stack(&["app::main"]));
        assert_eq!(around(&stack(&["app::main", "syscall"]), PARK), None);
    }

    #[test]
    fn what_the_program_has_called_to_wait_is_shown() {
        let lock =
            ["app::settle", "tokio::sync::mutex::Mutex::blocking_lock", "tokio::future::block_on::block_on", PARKER];
        assert_eq!(callers(&stack(&lock)), stack(&lock[..2]));
    }
}

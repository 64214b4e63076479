//! Unwinding a goroutine's stack by the frame sizes that the program's own tables give.

use std::{ops::Range, rc::Rc};

use super::{
    bytes::u64_at,
    code::{Code, Site},
    goroutine::Goroutine,
};
use crate::target::Memory;

/// Frames of one stack that are followed at most.
const MOST_FRAMES: usize = 100_000;
/// Bytes of one stack that are read at most.
const LARGEST_STACK: u64 = 64 << 20;

/// One frame.
#[derive(Clone, Debug)]
pub(super) struct StackFrame {
    /// Stack pointer.
    pub(super) sp: u64,
    /// One past the return address: the caller's stack pointer.
    pub(super) end: u64,
    /// Program counter: for all but the innermost a return address.
    pub(super) pc: u64,
    /// That is of an instruction which has yet to run, and not where a call returns to.
    pub(super) exact: bool,
    pub(super) site: Rc<Site>,
}

impl StackFrame {
    /// Where the function's variables end: below the saved frame pointer, which a function without any does not have.
    pub(super) fn locals_end(&self) -> u64 {
        let below_return = self.end - 8;
        if below_return > self.sp { below_return - 8 } else { below_return }
    }
}

/// A goroutine's stack.
#[derive(Clone, Debug, Default)]
pub(super) struct Stack<'b> {
    /// Innermost first.
    pub(super) frames: Vec<StackFrame>,
    /// Whether the outermost frame is among them.
    pub(super) complete: bool,
    /// The bytes from the stack pointer on.
    pub(super) bytes: &'b [u8],
    /// Address of the first of them.
    pub(super) start: u64,
}

impl Stack<'_> {
    /// The word at an address of the stack.
    pub(super) fn word(&self, address: u64) -> Option<u64> {
        u64_at(self.bytes, address.checked_sub(self.start)?)
    }

    /// The words of the frames of functions that `wanted` accepts, innermost first.
    pub(super) fn words_of<'s>(&'s self, wanted: impl Fn(&str) -> bool + 's) -> impl Iterator<Item = u64> + 's {
        let frames = self.frames.iter().filter(move |frame| wanted(&frame.site.name));
        frames.flat_map(|frame| (frame.sp..frame.end).step_by(8)).filter_map(|address| self.word(address))
    }

    /// The place of the innermost frame that is neither package sync's nor the runtime's.
    pub(super) fn own_frame(&self) -> usize {
        const OTHERS: [&str; 3] = ["sync.", "internal/sync.", "runtime."];
        let own = |frame: &StackFrame| !OTHERS.iter().any(|package| frame.site.name.starts_with(package));
        self.frames.iter().position(own).unwrap_or(self.frames.len())
    }

    /// Whether a source function of that name is on it.
    pub(super) fn has(&self, name: &str) -> bool {
        let mut calls = self.frames.iter().flat_map(|frame| &frame.site.calls);
        calls.any(|call| &*call.frame.function == name)
    }
}

/// Where a goroutine's stack is to be followed from: stack pointer, program counter, and whether that is of an instruction
/// that has yet to run.
pub(super) type Point = (u64, u64, bool);

/// The piece of memory that a stack which is followed from `at` takes; empty where there is none.
pub(super) fn piece(goroutine: &Goroutine, (sp, ..): Point) -> Range<u64> {
    let fits = goroutine.stack.contains(&sp) && sp.is_multiple_of(8) && goroutine.stack.end - sp <= LARGEST_STACK;
    if fits { sp..goroutine.stack.end } else { sp..sp }
}

/// Follows a stack whose bytes from the stack pointer on are `bytes`.
pub(super) fn unwind<'b>(code: &mut Code, memory: &dyn Memory, at: Point, bytes: &'b [u8]) -> Stack<'b> {
    let (mut sp, mut pc, mut exact) = at;
    let mut stack = Stack { start: sp, bytes, ..Stack::default() };
    while !bytes.is_empty() && stack.frames.len() < MOST_FRAMES {
        let Some(site) = code.site(memory, pc, exact) else { break };
        let Some(size) = site.frame_size else { break };
        let Some(end) = sp.checked_add(size).and_then(|end| end.checked_add(8)) else { break };
        let (top, injected) = (site.top, site.injected);
        stack.frames.push(StackFrame { sp, end, pc, exact, site });
        if top {
            stack.complete = true;
            break;
        }
        let Some(caller) = stack.word(end - 8) else { break };
        (sp, pc, exact) = (end, caller, injected);
    }
    stack
}

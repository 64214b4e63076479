//! Unwinding a goroutine's stack by the frame sizes that the program's own tables give.

use std::sync::Arc;

use super::{
    bytes::{read_vec, u64_at},
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
    pub(super) pc: u64,
    pub(super) site: Arc<Site>,
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
pub(super) struct Stack {
    /// Innermost first.
    pub(super) frames: Vec<StackFrame>,
    /// Whether the outermost frame is among them.
    pub(super) complete: bool,
    /// The bytes from the stack pointer on.
    pub(super) bytes: Vec<u8>,
    /// Address of the first of them.
    pub(super) start: u64,
}

impl Stack {
    /// The word at an address of the stack.
    pub(super) fn word(&self, address: u64) -> Option<u64> {
        u64_at(&self.bytes, address.checked_sub(self.start)?)
    }

    /// The words of the frames of functions that `wanted` accepts, innermost first.
    pub(super) fn words_of<'s>(&'s self, wanted: impl Fn(&str) -> bool + 's) -> impl Iterator<Item = u64> + 's {
        let frames = self.frames.iter().filter(move |frame| wanted(&frame.site.name));
        frames.flat_map(|frame| (frame.sp..frame.end).step_by(8)).filter_map(|address| self.word(address))
    }

    /// Whether a source function of that name is on it.
    pub(super) fn has(&self, name: &str) -> bool {
        let mut calls = self.frames.iter().flat_map(|frame| &frame.site.calls);
        calls.any(|call| &*call.frame.function == name)
    }
}

/// Unwinds from `sp` and `pc` of `goroutine`. `exact` says that `pc` is of an instruction that has yet to run.
pub(super) fn unwind(
    code: &mut Code,
    memory: &dyn Memory,
    goroutine: &Goroutine,
    (sp, pc, exact): (u64, u64, bool),
) -> Stack {
    let mut stack = Stack { start: sp, ..Stack::default() };
    if !goroutine.stack.contains(&sp) || !sp.is_multiple_of(8) {
        return stack;
    }
    let Ok(bytes) = read_vec(memory, sp, goroutine.stack.end - sp, LARGEST_STACK) else { return stack };
    stack.bytes = bytes;
    let (mut sp, mut pc, mut exact) = (sp, pc, exact);
    while stack.frames.len() < MOST_FRAMES {
        let Some(site) = code.site(memory, pc, exact) else { break };
        let Some(size) = site.frame_size else { break };
        let Some(end) = sp.checked_add(size).and_then(|end| end.checked_add(8)) else { break };
        stack.frames.push(StackFrame { sp, end, pc, site: Arc::clone(&site) });
        if site.top {
            stack.complete = true;
            break;
        }
        let Some(caller) = stack.word(end - 8) else { break };
        (sp, pc, exact) = (end, caller, site.injected);
    }
    stack
}

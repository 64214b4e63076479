//! Stacks that are alike: goroutines that stand in the same places share one list of functions.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::stack::Stack;
use crate::model::Frame;

/// Lists that are kept: a program has no more places than this where it waits.
const MOST: usize = 1 << 16;

/// What is shown of stacks, by the program counters on them.
#[derive(Debug, Default)]
pub(super) struct Stands {
    known: FxHashMap<Box<[u64]>, Arc<[Frame]>>,
    /// The counters of the stack that was asked for last.
    counters: Vec<u64>,
}

impl Stands {
    /// The functions on a stack that Go's own tracebacks show, root first.
    pub(super) fn frames(&mut self, stack: &Stack<'_>) -> Arc<[Frame]> {
        self.counters.clear();
        self.counters.extend(stack.frames.iter().map(|frame| frame.pc));
        // The same counter stands for another place where it is that of an instruction which has yet to run.
        self.counters.push(u64::from(stack.frames.first().is_some_and(|frame| frame.exact)));
        if let Some(known) = self.known.get(self.counters.as_slice()) {
            return Arc::clone(known);
        }
        let calls = stack.frames.iter().rev().flat_map(|frame| frame.site.calls.iter().rev());
        let frames: Arc<[Frame]> = calls.filter(|call| call.shown).map(|call| call.frame.clone()).collect();
        if self.known.len() < MOST {
            self.known.insert(self.counters.as_slice().into(), Arc::clone(&frames));
        }
        frames
    }
}

//! Walking a thread's stack by the unwind tables of its modules, without frame pointers.
//!
//! framehop does the steps. What it does where a table has no rule, guessing by frame pointers, is not wanted here: a
//! guessed frame looks like a true one. So every program counter is looked up in the tables first ([`rules`]), and the
//! walk ends where they end, saying why.

mod rules;
#[cfg(test)]
mod tests;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Unwinder as _};
use rustc_hash::FxHashMap;

use super::{Bytes, Module};
use rules::{Rule, Tables};

/// Frames of one stack. A recursion deeper than this is cut at its outer end.
const MOST_FRAMES: usize = 2048;
/// Program counters whose rule is remembered; beyond, all are forgotten.
const MOST_REMEMBERED: usize = 1 << 16;

/// Whether a stack was walked to its outermost frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Completeness {
    /// Down to the function that the thread began in.
    #[error("complete")]
    Complete,
    /// Stack memory could not be read; the address.
    #[error("stack memory at {0:#x} could not be read")]
    Unreadable(u64),
    /// A frame's code is in none of the modules, or where they have no code; its address.
    #[error("{0:#x} is in no known code")]
    UnknownCode(u64),
    /// The module has no rule for the code at the address, or one that needs more than this unwinder knows.
    #[error("no rule to unwind from {0:#x}")]
    NoRule(u64),
    /// Deeper than this unwinder goes.
    #[error("deeper than {MOST_FRAMES} frames")]
    TooDeep,
    /// The steps did not lead on: a damaged stack.
    #[error("the stack makes no sense at {0:#x}")]
    Damaged(u64),
}

/// Unwinds stacks of one process, x86-64.
pub struct Unwinder {
    inner: UnwinderX86_64<Bytes>,
    cache: CacheX86_64,
    tables: Vec<Tables>,
    known: FxHashMap<u64, Option<Rule>>,
}

impl std::fmt::Debug for Unwinder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unwinder").field("modules", &self.tables.len()).finish_non_exhaustive()
    }
}

impl Unwinder {
    /// An unwinder for the code of `modules`. The kernel's `[vdso]` can be one of them.
    pub fn new<'m>(modules: impl IntoIterator<Item = &'m Module>) -> Self {
        let (inner, cache) = (UnwinderX86_64::new(), CacheX86_64::new());
        let mut unwinder = Self { inner, cache, tables: Vec::new(), known: FxHashMap::default() };
        modules.into_iter().for_each(|module| unwinder.add(module));
        unwinder
    }

    /// Learns a module's code. It keeps a share of the module's bytes, not the module.
    pub fn add(&mut self, module: &Module) {
        self.known.clear();
        let tables = Tables::of(module);
        let svma = |name| {
            let section = module.section(name)?;
            let start = module.to_file(section.address);
            Some(start..start.saturating_add(section.size))
        };
        let sections = ExplicitModuleSectionInfo {
            text_svma: svma(".text"),
            got_svma: svma(".got"),
            eh_frame_svma: svma(".eh_frame"),
            eh_frame: tables.eh_frame.clone(),
            eh_frame_hdr_svma: svma(".eh_frame_hdr"),
            eh_frame_hdr: tables.eh_frame_hdr.clone(),
            ..ExplicitModuleSectionInfo::default()
        };
        let name = module.path().display().to_string();
        self.inner.add_module(framehop::Module::new(name, module.range(), module.bias(), sections));
        self.tables.push(tables);
    }

    /// Walks a stack from its registers: program counter, stack pointer, frame pointer.
    ///
    /// `read` gives the eight bytes at an address, of the target's memory or of a copy of its stack. What comes back
    /// are addresses to look up, innermost first: the program counter itself, then of every return address the byte
    /// before it, which is part of the call. The frames are true as far as they go, whatever ended the walk.
    pub fn unwind(
        &mut self,
        pc: u64,
        sp: u64,
        bp: u64,
        read: &mut dyn FnMut(u64) -> Result<u64, ()>,
    ) -> (Vec<u64>, Completeness) {
        let mut registers = UnwindRegsX86_64::new(pc, sp, bp);
        let mut frame = FrameAddress::InstructionPointer(pc);
        let mut addresses = vec![pc];
        loop {
            let address = frame.address_for_lookup();
            let end = match self.rule(address) {
                None => Completeness::UnknownCode(address),
                Some(Rule::None) => Completeness::NoRule(address),
                Some(Rule::Outermost) => Completeness::Complete,
                Some(Rule::Known) if addresses.len() == MOST_FRAMES => Completeness::TooDeep,
                Some(Rule::Known) => match self.step(frame, &mut registers, read) {
                    Ok(caller) => {
                        frame = caller;
                        addresses.push(caller.address_for_lookup());
                        continue;
                    }
                    Err(end) => end,
                },
            };
            if matches!(end, Completeness::UnknownCode(_)) && addresses.len() > 1 {
                // A word that is no code was no return address.
                addresses.pop();
            }
            return (addresses, end);
        }
    }

    fn step(
        &mut self,
        frame: FrameAddress,
        registers: &mut UnwindRegsX86_64,
        read: &mut dyn FnMut(u64) -> Result<u64, ()>,
    ) -> Result<FrameAddress, Completeness> {
        let (address, sp) = (frame.address_for_lookup(), registers.sp());
        // framehop computes with addresses just below the stack pointer.
        if !(1 << 12..u64::MAX >> 1).contains(&sp) {
            return Err(Completeness::Damaged(address));
        }
        let mut unreadable = None;
        let mut read = |at: u64| {
            let word = read(at);
            // Just below the stack pointer of the innermost frame nothing needs to be there, and framehop knows.
            if word.is_err() && at >= sp {
                unreadable.get_or_insert(at);
            }
            word
        };
        let caller = self.inner.unwind_frame(frame, registers, &mut self.cache, &mut read);
        if let Some(at) = unreadable {
            return Err(Completeness::Unreadable(at));
        }
        let caller = caller.map_err(|_| Completeness::Damaged(address))?.and_then(FrameAddress::from_return_address);
        caller.ok_or(Completeness::Damaged(address))
    }

    /// What the tables say of the code at an address; `None` for what is no code.
    fn rule(&mut self, address: u64) -> Option<Rule> {
        if let Some(rule) = self.known.get(&address) {
            return *rule;
        }
        let tables = self.tables.iter().find(|tables| tables.has_code_at(address));
        let rule = tables.map(|tables| tables.rule(address));
        if self.known.len() >= MOST_REMEMBERED {
            self.known.clear();
        }
        self.known.insert(address, rule);
        rule
    }
}

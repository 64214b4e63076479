//! Threads' stacks: unwound from outside, without frame pointers, and named.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::{
    debuginfo::{Completeness, Module, Unwinder},
    model::Frame,
    probe::Sample,
    runtime::{Runtime, ThreadRegisters},
    target::{AddressSpace, Memory},
};

/// Unwinds and names; remembers the names of addresses.
pub(super) struct Stacks {
    unwinder: Unwinder,
    named: FxHashMap<u64, Arc<[Frame]>>,
}

impl Stacks {
    pub(super) fn new(modules: &[Module]) -> Self {
        Self { unwinder: Unwinder::new(modules), named: FxHashMap::default() }
    }

    /// The user stack of a thread that is blocked, root first; empty where it could not be unwound at all.
    pub(super) fn frames(&mut self, modules: &[Module], memory: &AddressSpace, at: &ThreadRegisters) -> Vec<Frame> {
        let mut read = |address: u64| memory.read_u64(address).map_err(|_| ());
        let Some(sp) = at.frame.sp() else { return Vec::new() };
        let (addresses, _) = self.unwinder.unwind(at.frame.ip, sp, at.frame.bp().unwrap_or(0), &mut read);
        self.name(modules, &addresses)
    }

    /// Unwinds a sample through the copy of the stack that came with it: addresses, innermost first, and whether the
    /// root of the stack is among them.
    pub(super) fn unwind_sample(&mut self, runtimes: &[Box<dyn Runtime>], sample: &Sample) -> (Vec<u64>, bool) {
        let registers = &sample.registers;
        let mut word = |address: u64| {
            let at = usize::try_from(address.wrapping_sub(registers.rsp)).ok()?;
            let bytes = sample.stack.get(at..at.checked_add(8)?)?;
            Some(u64::from_le_bytes(std::array::from_fn(|index| bytes[index])))
        };
        let own = runtimes.iter().find_map(|runtime| runtime.unwind(registers.rip, registers.rsp, &mut word));
        if let Some(own) = own {
            return own;
        }
        let mut read = |address: u64| word(address).ok_or(());
        let (addresses, end) = self.unwinder.unwind(registers.rip, registers.rsp, registers.rbp, &mut read);
        (addresses, matches!(end, Completeness::Complete))
    }

    /// Lets runtimes name those of `addresses` that have no name yet, by tables of their own; `memory` is only asked for
    /// where there are any.
    pub(super) fn name_own(
        &mut self,
        runtimes: &mut [Box<dyn Runtime>],
        memory: impl FnOnce() -> Option<AddressSpace>,
        addresses: &[u64],
    ) {
        let new: Vec<u64> = addresses.iter().copied().filter(|address| !self.named.contains_key(address)).collect();
        let Some(memory) = (!new.is_empty()).then(memory).flatten() else { return };
        for address in new {
            let own = runtimes.iter_mut().find_map(|runtime| runtime.functions_at(&memory, address));
            if let Some(frames) = own {
                self.named.insert(address, frames.into());
            }
        }
    }

    /// Frames of `addresses` (innermost first, as unwound; for lookup, so return addresses less one), root first.
    pub(super) fn name(&mut self, modules: &[Module], addresses: &[u64]) -> Vec<Frame> {
        let mut frames = Vec::new();
        for address in addresses.iter().rev() {
            let named = self.named.entry(*address).or_insert_with(|| name_one(modules, *address));
            frames.extend(named.iter().cloned());
        }
        frames
    }
}

/// The frames at one address, outermost first: several where calls were inlined.
fn name_one(modules: &[Module], address: u64) -> Arc<[Frame]> {
    modules
        .iter()
        .find(|module| module.contains(address))
        .map(|module| module.source_frames(address))
        .unwrap_or_default()
        .into_iter()
        .rev()
        .map(|frame| Frame { function: frame.function.into(), file: frame.file.map(Into::into), line: frame.line })
        .collect()
}

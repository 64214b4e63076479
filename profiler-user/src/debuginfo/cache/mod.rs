//! What was worked out of a module's debuginfo, kept on disk for the next time.
//!
//! Debuginfo answers slowly because an answer takes whole units: their abbreviations, their functions, their lines. And what
//! is asked of a program is nearly the same each time: where its tasks wait, where its threads are. So it is the answers
//! that are kept, each by its address in the file. A program whose answers are all there needs none of its debuginfo read.
//!
//! An entry counts only for the very file that it was made of, by the very gordian that made it: see `stamp`. Whatever
//! goes wrong here costs time and nothing else: an entry that cannot be read is as good as none.

mod entry;
mod folder;
mod stamp;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::elf::Elf;
use super::{SourceFrame, Subprogram};
pub use entry::{open, seal, wrap};
use folder::Folder;
pub(super) use stamp::Stamp;

/// Answers in one entry; a program of which more is asked has the others worked out anew.
const MOST: usize = 1 << 14;

/// Answers by address in the file.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Whether there are line tables.
    has_lines: Option<bool>,
    frames: FxHashMap<u64, Vec<SourceFrame>>,
    subprograms: FxHashMap<u64, Option<Subprogram>>,
}

/// The answers of one module: those that were kept, and those that have been asked for since.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    stamp: Stamp,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    answers: Answers,
    /// There are answers that are not on disk.
    is_new: bool,
}

impl Cache {
    /// The answers kept in `folder` of the file `elf`, whose debuginfo and symbols stand in `sources`; `None` where it has none of
    /// these, or nothing identifies it.
    pub(super) fn of(elf: &Elf, sources: [&Elf; 2], folder: PathBuf) -> Option<Self> {
        let stamp = Stamp::of(elf, sources)?;
        let kept = Folder::open(&folder).and_then(|folder| folder.read(&stamp.name()));
        let answers = kept.inspect_err(|error| tracing::debug!("nothing was kept: {error}")).ok();
        let answers = answers.and_then(|bytes| open(&bytes, &stamp.bytes())).unwrap_or_default();
        Some(Self { folder, stamp, known: Mutex::new(Known { answers, is_new: false }) })
    }

    /// Whether anything is known.
    pub(super) fn has_answers(&self) -> bool {
        self.known().answers != Answers::default()
    }

    /// Whether there are line tables, by `work` where that is not known.
    pub(super) fn has_lines(&self, work: impl FnOnce() -> bool) -> bool {
        if let Some(known) = self.known().answers.has_lines {
            return known;
        }
        let answer = work();
        let mut known = self.known();
        (known.answers.has_lines, known.is_new) = (Some(answer), true);
        answer
    }

    /// The source functions at an address of the file, by `work` where they are not known.
    pub(super) fn frames(&self, address: u64, work: impl FnOnce() -> Vec<SourceFrame>) -> Vec<SourceFrame> {
        self.answer(|answers| &mut answers.frames, address, work)
    }

    /// The function with code of its own at an address of the file, by `work` where it is not known.
    pub(super) fn subprogram(&self, address: u64, work: impl FnOnce() -> Option<Subprogram>) -> Option<Subprogram> {
        self.answer(|answers| &mut answers.subprograms, address, work)
    }

    fn answer<A: Clone>(
        &self,
        of: impl Fn(&mut Answers) -> &mut FxHashMap<u64, A>,
        address: u64,
        work: impl FnOnce() -> A,
    ) -> A {
        if let Some(known) = of(&mut self.known().answers).get(&address) {
            return known.clone();
        }
        // Others may ask meanwhile; whoever works out the same comes to the same.
        let answer = work();
        let mut known = self.known();
        let answers = of(&mut known.answers);
        if answers.len() < MOST {
            answers.insert(address, answer.clone());
            known.is_new = true;
        }
        answer
    }

    /// Writes what is not on disk.
    pub(super) fn keep(&self) {
        let mut known = self.known();
        if !std::mem::take(&mut known.is_new) {
            return;
        }
        let bytes = seal(&known.answers, &self.stamp.bytes());
        let kept = bytes.and_then(|bytes| Folder::make(&self.folder)?.write(&self.stamp.name(), &bytes));
        if let Err(error) = kept {
            tracing::debug!("cannot keep what was worked out, in {}: {error}", self.folder.display());
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A panic while the lock was held leaves whole answers behind.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

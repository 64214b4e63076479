//! The waker that a poll hands down: who looks at it, and which argument of a poll function leads to it.
//!
//! A waker is two words: data, and a pointer to four functions (library/core/src/task/wake.rs). Whoever is to be woken keeps
//! a copy. To make one it needs the functions, and to see that it has one already it compares both words with those of its
//! copy. So who is to be woken loads the pointer: from the waker itself, or, where the optimiser knows what stands in that,
//! from its copy.

use super::code::Code;
use crate::{
    dryrun::{Machine, Reg},
    target::Memory,
};

/// Looks for the functions of the waker that a poll hands down.
#[derive(Debug)]
pub(super) struct WakerSearch {
    /// The task that is polled, unless it is a root: its waker's data.
    header: Option<u64>,
    /// Where the functions stand.
    functions: Option<u64>,
}

impl WakerSearch {
    /// For the poll of the task at `header`, or of a root.
    pub(super) fn new(header: Option<u64>) -> Self {
        Self { header, functions: None }
    }

    /// Where the functions of the waker stand, once they were found.
    pub(super) fn found(&self) -> Option<u64> {
        self.functions
    }

    /// Begins with what is known: looks are noticed from the start.
    pub(super) fn begin(&mut self, m: &mut Machine<'_>, code: &Code, functions: Option<u64>) {
        self.functions = functions;
        // Who makes the waker takes the pointer from the constants.
        functions.inspect(|functions| m.watch(*functions, code.constants_around(*functions)));
    }

    /// Looks for the waker at a call, and has looks at it noticed once it is found.
    pub(super) fn find(&mut self, m: &mut Machine<'_>, code: &Code) {
        if self.functions.is_some() {
            return;
        }
        let found = match self.header {
            Some(header) => on_stack(m, code, header).or_else(|| handed_down(m, code, Some(header))),
            None => handed_down(m, code, None),
        };
        if found.is_some() {
            self.begin(m, code, found);
        }
    }
}

/// Those of `places`, from which a poll has loaded the word `functions`, that are wakers which somebody keeps: they stand in
/// the target's own memory, with the task beside them. Each has a reference to the task, counted in its state.
pub(super) fn kept(places: &[u64], memory: &dyn Memory, functions: u64, header: u64) -> Vec<u64> {
    let holds = |address: u64, word: u64| memory.read_u64(address).is_ok_and(|found| found == word);
    let is_waker = |place: &&u64| {
        holds(**place, functions)
            && [place.wrapping_sub(8), place.wrapping_add(8)].into_iter().any(|beside| holds(beside, header))
    };
    places.iter().filter(is_waker).copied().collect()
}

/// Words of the stack in which a task's waker is looked for: it is made just above the future's poll.
const WITHIN: u64 = 32;

/// The functions of the waker of the task at `header`, if it stands on the machine's stack.
fn on_stack(m: &Machine<'_>, code: &Code, header: u64) -> Option<u64> {
    let sp = m.reg(Reg::Rsp)?;
    (0..WITHIN).find_map(|index| functions(m, code, sp.wrapping_add(index * 8), Some(header)))
}

/// The functions of the waker that the function which is being called is handed in a `Context`.
fn handed_down(m: &Machine<'_>, code: &Code, data: Option<u64>) -> Option<u64> {
    [Reg::Rsi, Reg::Rdx].into_iter().find_map(|reg| context_waker(m, code, m.reg(reg)?, data))
}

/// `self` of a poll function that is being called: its first argument, or its second where the first is the place for a
/// result too large for registers. The argument behind it tells: it is the `Context`.
pub(super) fn receiver(m: &Machine<'_>, code: &Code) -> u64 {
    let argument = |reg| m.reg(reg).unwrap_or(0);
    if !is_context(m, code, argument(Reg::Rsi)) && is_context(m, code, argument(Reg::Rdx)) {
        argument(Reg::Rsi)
    } else {
        argument(Reg::Rdi)
    }
}

/// Whether the function that is being called is given a `Context`, as a poll function is.
pub(super) fn takes_context(m: &Machine<'_>, code: &Code) -> bool {
    handed_down(m, code, None).is_some()
}

fn is_context(m: &Machine<'_>, code: &Code, address: u64) -> bool {
    context_waker(m, code, address, None).is_some()
}

/// The functions of the waker of the `Context` at `address`, if one stands there: it begins with a reference to its waker.
fn context_waker(m: &Machine<'_>, code: &Code, address: u64, data: Option<u64>) -> Option<u64> {
    functions(m, code, m.read_u64(address).ok()?, data)
}

/// The functions of the waker at `waker`, if one stands there, with this data if that is known: clone, wake, wake by
/// reference, drop. Which word comes first is the compiler's choice.
fn functions(m: &Machine<'_>, code: &Code, waker: u64, data: Option<u64>) -> Option<u64> {
    let words = (m.read_u64(waker).ok()?, m.read_u64(waker.wrapping_add(8)).ok()?);
    [words, (words.1, words.0)]
        .into_iter()
        .find(|(table, other)| data.is_none_or(|data| data == *other) && is_table(m, code, *table))
        .map(|(table, _)| table)
}

/// Whether four functions stand at `table`.
fn is_table(m: &Machine<'_>, code: &Code, table: u64) -> bool {
    (0..4).all(|entry| m.read_u64(table.wrapping_add(entry * 8)).is_ok_and(|function| code.is_function(function)))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Words, *};

    const FUNCTIONS: u64 = 0x5555_0000_1000;
    const HEADER: u64 = 0x7f00_0000_2000;

    #[test]
    fn a_waker_is_kept_where_both_its_words_stand() {
        let memory = Words(&[FUNCTIONS, HEADER, 7, HEADER, FUNCTIONS, 7, FUNCTIONS, 0x7f00_0000_9999]);
        let kept = |places: &[u64]| kept(places, &memory, FUNCTIONS, HEADER).len();
        assert_eq!(kept(&[0x1000, 0x1020]), 2);
        assert_eq!(kept(&[0x1030]), 0, "another task's");
        assert_eq!(kept(&[0x1010]), 0, "it was taken out");
        assert_eq!(kept(&[0x0100_0000_1000_0000]), 0, "the machine's own stack");
    }
}

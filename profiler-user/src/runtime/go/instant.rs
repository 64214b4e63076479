//! What else the marking starts from where all that is read is of one moment: what threads have in registers and on the stacks
//! on which they run the runtime's own code.
//!
//! Of a process that runs on, several reads tell: what leads somewhere does not stay in a register through all of them. At
//! one moment it may be nowhere else.

use crate::target::{AddressSpace, Memory, UserRegisters};

/// Bytes of one such stack that are searched at most.
const DEEPEST: u64 = 256 << 10;
/// Bytes that are read together.
const PART: u64 = 4096;
/// Stacks of one thread: where it is, and what a signal interrupted, once or several times.
const MOST_STACKS: usize = 8;
/// The stack pointer's number among the general registers.
const SP: usize = 7;

/// The words of a frame that the kernel leaves for a signal's handler, from the record of the alternative stack on
/// (`struct ucontext`): where that stack is, how large, and what the stack pointer was.
const SIGNAL_STACK: usize = 0;
const SIGNAL_SIZE: usize = 2;
const SIGNAL_SP: usize = 18;
/// Sizes of an alternative stack that are believed.
const SIGNAL_SIZES: std::ops::RangeInclusive<u64> = 2048..=8 << 20;

/// Adds all words that may be pointers of a thread with these registers. `is_searched` says of
/// an address whether it is searched by others or belongs to no such stack: a goroutine's stack, the heap.
pub(super) fn roots(
    memory: &AddressSpace,
    registers: &UserRegisters,
    is_searched: impl Fn(u64) -> bool,
    found: &mut Vec<u64>,
) {
    found.extend(registers.general.iter().chain([&registers.ip]).filter(|word| **word != 0));
    let mut stacks = vec![registers.general[SP]];
    let mut next = 0;
    while let Some(sp) = stacks.get(next).copied().filter(|_| next < MOST_STACKS) {
        next += 1;
        let start = sp & !7;
        let words = words_from(memory, start, &is_searched);
        for (index, frame) in words.windows(SIGNAL_SP + 1).enumerate() {
            let at = start.wrapping_add(index as u64 * 8);
            let (stack, size) = (frame[SIGNAL_STACK], frame[SIGNAL_SIZE]);
            let lies_on_it = at.checked_sub(stack).is_some_and(|offset| offset < size);
            if lies_on_it && SIGNAL_SIZES.contains(&size) && !stacks.contains(&frame[SIGNAL_SP]) {
                stacks.push(frame[SIGNAL_SP]);
            }
        }
        found.extend(words.into_iter().filter(|word| *word != 0));
    }
}

/// The words from an address on, as far as there are any.
fn words_from(memory: &AddressSpace, start: u64, is_searched: impl Fn(u64) -> bool) -> Vec<u64> {
    let mut words = Vec::new();
    let mut at = start;
    while at.wrapping_sub(start) < DEEPEST && !is_searched(at) {
        let Some(end) = (at / PART + 1).checked_mul(PART) else { break };
        let mut part = vec![0; (end - at) as usize];
        if memory.read(at, &mut part).is_err() {
            break;
        }
        words.extend(part.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)));
        at = end;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Process;

    /// What is found from a stack pointer on, in `mapped` alone.
    fn found_from(sp: u64, mapped: &[&[u64]]) -> Vec<u64> {
        let process = Process::open(std::process::id().cast_signed()).expect("own process");
        let mappings = process.mappings().expect("own mappings");
        let memory = process.memory(mappings, Vec::new()).expect("own memory");
        let mut general = [0; 16];
        (general[0], general[SP]) = (0xabcd, sp);
        let mut found = Vec::new();
        roots(
            &memory,
            &UserRegisters { ip: 1, general, fs_base: 0 },
            |address| !mapped.iter().any(|words| in_words(words, address)),
            &mut found,
        );
        found
    }

    fn in_words(words: &[u64], address: u64) -> bool {
        words.as_ptr_range().contains(&(address as *const u64))
    }

    #[test]
    fn what_a_signal_interrupted_is_searched_too() {
        let mut interrupted = vec![0_u64; 1 << 16];
        interrupted[(1 << 16) - 1] = 0x5eed_0001;
        let begin = interrupted.as_ptr() as u64;
        // It ends where a part does: what lies behind it, such as what was found before, is not read with it.
        let mut around = vec![0_u64; 1 << 12];
        let skipped = around.as_ptr().align_offset(PART as usize);
        let handler = &mut around[skipped..][..1 << 10];
        let (at, length) = (handler.as_ptr() as u64, 8 << 10);
        assert!(at.is_multiple_of(PART) && length % PART == 0);
        handler[20] = 0x5eed_0002;
        handler[100 + SIGNAL_STACK] = at;
        handler[100 + SIGNAL_SIZE] = length;
        handler[100 + SIGNAL_SP] = begin + (1 << 19) - 64;
        let found = found_from(at, &[&interrupted, handler]);
        assert!([0xabcd, 0x5eed_0001, 0x5eed_0002].iter().all(|word| found.contains(word)));
        // A frame that speaks of another stack is none.
        handler[100 + SIGNAL_STACK] = at + (1 << 20);
        assert!(!found_from(at, &[&interrupted, handler]).contains(&0x5eed_0001));
    }

    #[test]
    fn a_stack_that_is_not_there_ends_the_search() {
        assert_eq!(found_from(8, &[]), [0xabcd, 8, 1]);
    }
}

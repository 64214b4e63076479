//! What else the marking starts from where all that is read is of one moment: what threads have in registers and on the stacks
//! on which they run the runtime's own code.
//!
//! Of a process that runs on, several reads tell: what leads somewhere does not stay in a register through all of them. At
//! one moment it may be nowhere else.

use super::{code::Code, stack};
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
/// (`struct ucontext`): where that stack is, how large, and what was interrupted: its general registers, the last
/// of them its stack pointer, the place in its code, its flags and code segment, and where its vector registers were kept.
const SIGNAL_STACK: usize = 0;
const SIGNAL_SIZE: usize = 2;
const SIGNAL_REGISTERS: std::ops::RangeInclusive<usize> = 3..=17;
const SIGNAL_SP: usize = 18;
const SIGNAL_IP: usize = 19;
const SIGNAL_FLAGS: usize = 20;
const SIGNAL_SEGMENTS: usize = 21;
const SIGNAL_VECTORS: usize = 26;
/// What the flags always have and never have, above those that programs set, and the segment of 64-bit code.
const FLAGS_SET: u64 = 0b10;
const FLAGS_CLEAR: u64 = !0x3f_ffff;
const CODE_SEGMENT: u64 = 0x33;
/// Where the kernel says, in vector registers that it kept, that they are in its extended form, and how many bytes they
/// take (`struct _fpx_sw_bytes`).
const EXTENDED: u64 = 464;
const EXTENDED_MAGIC: u32 = 0x4650_5853;
/// Bytes of the plain form, and of the extended one at most.
const PLAIN: u64 = 512;
const LARGEST_VECTORS: u64 = 16 << 10;
/// Sizes of an alternative stack that are believed.
const SIGNAL_SIZES: std::ops::RangeInclusive<u64> = 2048..=8 << 20;

/// The function that moves memory: it alone has pointers in vector registers that may be nowhere else (runtime/memmove_amd64.s).
const MOVES: &str = "runtime.memmove";
/// It never returns: what its callers have on the stack is not used any more (runtime/proc.go).
const SCHEDULES: &str = "runtime.schedule";
/// A thread that waits here for something to run takes up nothing that it had (runtime/proc.go).
const STOPS: &str = "runtime.stopm";

/// What a thread does, or did when a signal came.
struct Context {
    sp: u64,
    ip: u64,
    registers: Vec<u64>,
}

/// Adds all words that may be pointers of a thread with these registers. `is_searched` says of an address whether it is
/// searched by others or belongs to no such stack: a goroutine's stack, the heap.
///
/// # Errors
///
/// Where the thread was moving memory, in one sentence: its vector registers are not known.
pub(super) fn roots(
    memory: &AddressSpace,
    code: &mut Code,
    registers: &UserRegisters,
    is_searched: impl Fn(u64) -> bool,
    found: &mut Vec<u64>,
) -> Result<(), String> {
    if code.is_in(registers.ip, MOVES) {
        return Err("at that moment a thread was moving memory, which was partly in registers alone".into());
    }
    let mut contexts =
        vec![Context { sp: registers.general[SP], ip: registers.ip, registers: registers.general.to_vec() }];
    let mut next = 0;
    while next < contexts.len().min(MOST_STACKS) {
        let Context { sp, ip, ref mut registers } = contexts[next];
        next += 1;
        let start = sp & !7;
        let bytes = bytes_from(memory, start, &is_searched);
        let used = used(code, memory, (start, ip, true), &bytes);
        if !bytes.is_empty() && used == 0 {
            continue;
        }
        found.extend(registers.drain(..).chain([ip]).filter(|word| *word != 0));
        let mut words: Vec<u64> =
            bytes[..used].as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        for index in 0..words.len().saturating_sub(SIGNAL_VECTORS) {
            let frame = &mut words[index..=index + SIGNAL_VECTORS];
            if !is_signal_frame(start.wrapping_add(index as u64 * 8), frame) {
                continue;
            }
            let (sp, ip, vectors) = (frame[SIGNAL_SP], frame[SIGNAL_IP], frame[SIGNAL_VECTORS]);
            let registers = &mut frame[SIGNAL_REGISTERS];
            if contexts.iter().all(|known| known.sp != sp) {
                contexts.push(Context { sp, ip, registers: registers.to_vec() });
            }
            registers.fill(0);
            if !code.is_in(ip, MOVES) {
                // What was copied or compared last is still there.
                clear(&mut words, vectors.wrapping_sub(start), vectors_size(memory, vectors));
            }
        }
        found.extend(words.into_iter().filter(|word| *word != 0));
    }
    Ok(())
}

/// How many bytes of a stack are in use by somebody who will take them up again. What has been left there by others is not told
/// from it, so as little as possible is to be taken for it.
fn used(code: &mut Code, memory: &dyn Memory, at: stack::Point, bytes: &[u8]) -> usize {
    let stack = stack::unwind(code, memory, at, bytes);
    if stack.has(STOPS) {
        return 0;
    }
    let last = stack.frames.iter().find(|frame| frame.site.calls.iter().any(|call| &*call.frame.function == SCHEDULES));
    last.map_or(bytes.len(), |frame| (frame.end.saturating_sub(at.0) as usize).min(bytes.len()))
}

/// Bytes that the vector registers take which the kernel kept at an address.
fn vectors_size(memory: &AddressSpace, vectors: u64) -> u64 {
    let at = vectors.wrapping_add(EXTENDED);
    match memory.read_u32(at) {
        Ok(EXTENDED_MAGIC) => memory.read_u32(at.wrapping_add(4)).map_or(PLAIN, u64::from),
        _ => PLAIN,
    }
}

/// Forgets the words in `size` bytes from an offset on.
fn clear(words: &mut [u64], offset: u64, size: u64) {
    let end = offset.saturating_add(size.min(LARGEST_VECTORS)) / 8;
    let range = (offset / 8).min(words.len() as u64)..end.min(words.len() as u64);
    words[range.start as usize..range.end as usize].fill(0);
}

/// Whether the words at an address are what the kernel leaves for a handler that runs on the stack which they lie on. What
/// only looks so would lead into memory that is no stack, and keep alive what nobody uses.
fn is_signal_frame(at: u64, frame: &[u64]) -> bool {
    let (stack, size) = (frame[SIGNAL_STACK], frame[SIGNAL_SIZE]);
    let (flags, segments) = (frame[SIGNAL_FLAGS], frame[SIGNAL_SEGMENTS]);
    let lies_on_it = at.checked_sub(stack).is_some_and(|offset| offset < size);
    lies_on_it
        && SIGNAL_SIZES.contains(&size)
        && flags & (FLAGS_SET | FLAGS_CLEAR) == FLAGS_SET
        && segments & 0xffff == CODE_SEGMENT
}

/// The bytes from an address on, as far as there are any.
fn bytes_from(memory: &AddressSpace, start: u64, is_searched: impl Fn(u64) -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = start;
    while at.wrapping_sub(start) < DEEPEST && !is_searched(at) {
        let Some(end) = (at / PART + 1).checked_mul(PART) else { break };
        let mut part = vec![0; (end - at) as usize];
        if memory.read(at, &mut part).is_err() {
            break;
        }
        bytes.append(&mut part);
        at = end;
    }
    bytes
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
            &mut Code::new(Vec::new()),
            &UserRegisters { ip: 1, general, fs_base: 0 },
            |address| !mapped.iter().any(|words| in_words(words, address)),
            &mut found,
        )
        .expect("it moves nothing");
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
        handler[100 + SIGNAL_FLAGS] = 0x246;
        handler[100 + SIGNAL_SEGMENTS] = 0x002b_0000_0000_0033;
        let found = found_from(at, &[&interrupted, handler]);
        assert!([0xabcd, 0x5eed_0001, 0x5eed_0002].iter().all(|word| found.contains(word)));
        // What the vector registers had counts only where memory was moved.
        handler[100 + SIGNAL_VECTORS] = at + 200 * 8;
        handler[200] = 0x5eed_0003;
        handler[200 + PLAIN as usize / 8] = 0x5eed_0004;
        let found = found_from(at, &[&interrupted, handler]);
        assert!(!found.contains(&0x5eed_0003) && found.contains(&0x5eed_0004));
        handler[200 + EXTENDED as usize / 8] = u64::from(EXTENDED_MAGIC) | (PLAIN + 8) << 32;
        assert!(!found_from(at, &[&interrupted, handler]).contains(&0x5eed_0004));
        // A frame of no 64-bit code is none, nor is one that speaks of another stack.
        handler[100 + SIGNAL_SEGMENTS] = 0;
        assert!(!found_from(at, &[&interrupted, handler]).contains(&0x5eed_0001));
        handler[100 + SIGNAL_SEGMENTS] = CODE_SEGMENT;
        handler[100 + SIGNAL_STACK] = at + (1 << 20);
        assert!(!found_from(at, &[&interrupted, handler]).contains(&0x5eed_0001));
    }

    #[test]
    fn a_stack_that_is_not_there_ends_the_search() {
        assert_eq!(found_from(8, &[]), [0xabcd, 8, 1]);
    }
}

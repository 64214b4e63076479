//! Code that nobody wrote: it may end in any way but a panic, within the limits.

use proptest::prelude::*;

use super::super::overlay::Overlay;
use super::super::{decode, table};
use super::support::{CODE, DATA, Pieces, Watch};
use crate::dryrun::{CodeCache, Limits, Machine, Outcome, Reg};

const LIMITS: Limits = Limits { steps: 3_000, overlay_bytes: 256 << 10, depth: 50 };
const REGISTERS: [Reg; 15] = [
    Reg::Rax,
    Reg::Rcx,
    Reg::Rdx,
    Reg::Rbx,
    Reg::Rbp,
    Reg::Rsi,
    Reg::Rdi,
    Reg::R8,
    Reg::R9,
    Reg::R10,
    Reg::R11,
    Reg::R12,
    Reg::R13,
    Reg::R14,
    Reg::R15,
];

/// Runs code with these registers and checks that it kept within its limits.
fn run(code: Vec<u8>, registers: &[Option<u64>]) -> Outcome {
    let memory = Pieces(vec![(CODE, code), (DATA, vec![0x5a; 8192])]);
    let cache = CodeCache::new();
    let mut machine = Machine::with_code_cache(&memory, LIMITS, &cache);
    machine.set_fs_base(DATA);
    for (reg, value) in REGISTERS.into_iter().zip(registers) {
        machine.set_reg(reg, *value);
    }
    let outcome = machine.call(CODE, &[], &mut Watch::default());
    // One repeated string instruction may cost more than is left.
    assert!(machine.steps() <= LIMITS.steps + (1 << 20));
    assert!(machine.frames().len() <= LIMITS.depth);
    outcome
}

/// Instructions the interpreter has, one after the other, from random bytes.
fn sensible(bytes: &[u8]) -> Vec<u8> {
    let mut code = Vec::new();
    for chunk in bytes.chunks(24) {
        let mut decoder =
            iced_x86::Decoder::with_ip(64, chunk, CODE + code.len() as u64, iced_x86::DecoderOptions::NONE);
        let instruction = decoder.decode();
        let known = !instruction.is_invalid()
            && (decode::end(&instruction).is_some() || table::implementation(&instruction).is_some());
        if known {
            code.extend(&chunk[..instruction.len()]);
        }
    }
    code.push(0xc3);
    code
}

fn register() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        4 => (DATA..DATA + 8192).prop_map(Some),
        1 => any::<u64>().prop_map(Some),
        1 => (0..64_u64).prop_map(Some),
        1 => Just(None),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn random_bytes_never_panic(
        code in prop::collection::vec(any::<u8>(), 0..600),
        registers in prop::collection::vec(register(), 15),
    ) {
        run(code, &registers);
    }

    #[test]
    fn random_programs_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..4000),
        registers in prop::collection::vec(register(), 15),
    ) {
        run(sensible(&bytes), &registers);
    }

    /// Decoding a block reads nothing beyond what is there and forgets nothing that is.
    #[test]
    fn any_block_ends(code in prop::collection::vec(any::<u8>(), 0..100), offset in 0..100_u64) {
        let memory = Pieces(vec![(CODE, code)]);
        let block = decode::block(CODE + offset, &Overlay::new(&memory, 0), &CodeCache::new());
        prop_assert!(block.ops.len() <= 64);
        prop_assert!(block.next_ip >= CODE + offset);
    }
}

#[test]
fn a_cache_of_too_much_code_starts_anew_and_stays_right() {
    // Blocks of one jump each, all over a large piece of code: jmp +0.
    let code = [0xeb_u8, 0].repeat(300_000);
    let memory = Pieces(vec![(CODE, code)]);
    let cache = CodeCache::new();
    for _ in 0..2 {
        let limits = Limits { steps: 1_000_000, ..Limits::default() };
        let mut machine = Machine::with_code_cache(&memory, limits, &cache);
        machine.call(CODE, &[], &mut Watch::default());
        // The last step finds nothing there.
        assert_eq!(machine.steps(), 300_001);
        assert_eq!(machine.ip(), CODE + 600_000);
    }
}

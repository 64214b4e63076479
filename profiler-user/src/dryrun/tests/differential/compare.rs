//! One instruction, one state, both ways.

use iced_x86::{Instruction, Mnemonic, RflagsBits};

use super::forms::Form;
use super::native::{Native, REACH, State};
use crate::dryrun::cpu::Cpu;
use crate::dryrun::decode;
use crate::dryrun::flags::{AF, CF, DF, Flags, OF, PF, SF, STATUS, ZF};
use crate::dryrun::overlay::Overlay;
use crate::dryrun::table::{self, Exec};
use crate::dryrun::tests::support::Pieces;
use crate::dryrun::unknown::Why;
use crate::dryrun::value::{Value, expand};
use crate::dryrun::vector::Vector;

/// What came of it.
pub(super) enum Verdict {
    Same,
    /// Both would raise an exception, so the processor was not asked.
    Traps,
    Differs(String),
}

/// Interprets and runs.
pub(super) fn compare(form: &Form, before: &State, native: &mut Native) -> Verdict {
    let start = native.middle() - REACH as u64;
    let memory = Pieces(vec![(start, before.memory.clone())]);
    let mut cpu = Cpu::new(Overlay::new(&memory, 1 << 20));
    load(&mut cpu, before);
    let Some(exec) = table::implementation(&form.instruction) else {
        return Verdict::Differs("the interpreter does not have it".into());
    };
    let op = decode::op(&form.instruction, exec);
    let done = match exec {
        Exec::Plain(f) => f(&mut cpu, &op),
        Exec::Packed(packed) => packed.run(&mut cpu, &op),
    };
    match done {
        Ok(()) => {}
        Err(Why::Trap(_)) => return Verdict::Traps,
        Err(why) => return Verdict::Differs(format!("the interpreter says: {why}; from {:x?}", before.gpr)),
    }
    let after = native.run(before);
    match difference(&cpu, &after, form, before, start) {
        None => Verdict::Same,
        Some(how) => Verdict::Differs(format!("{how}; from {:x?} flags {:#x}", before.gpr, before.flags)),
    }
}

fn load(cpu: &mut Cpu<'_>, state: &State) {
    for (i, &bits) in state.gpr.iter().enumerate() {
        cpu.set_whole(i as u8, Value::known(bits));
    }
    for (vector, bytes) in cpu.vectors.iter_mut().zip(&state.vectors) {
        let (low, high) = bytes.split_at(16);
        let half = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        *vector = Vector { bits: [half(low), half(high)], poison: [0; 2] };
    }
    cpu.flags = Flags { bits: state.flags as u16, poison: 0 };
}

/// Whether the architecture leaves the result itself undefined, not only flags.
fn result_is_undefined(instruction: &Instruction, before: &State) -> bool {
    match instruction.mnemonic() {
        // 32-bit destination and a source of zero: the upper half.
        Mnemonic::Bsf | Mnemonic::Bsr => instruction.op0_register().size() == 4,
        // 16 bits by more than 16.
        Mnemonic::Shld | Mnemonic::Shrd => beyond(instruction, before, 16),
        _ => false,
    }
}

/// Whether a shift of a `bits`-wide operand is by more than it has bits.
fn beyond(instruction: &Instruction, before: &State, bits: u64) -> bool {
    let size = instruction.memory_size().size().max(instruction.op0_register().size()) as u64 * 8;
    let last = instruction.op_count() - 1;
    let count = if instruction.op_register(last).is_gpr() { before.gpr[1] } else { instruction.immediate(last) };
    size <= bits && (count & 31) > size
}

/// Flags that may be anything after `instruction`.
fn undefined_flags(instruction: &Instruction, before: &State) -> u16 {
    let named = [
        (RflagsBits::CF, CF),
        (RflagsBits::PF, PF),
        (RflagsBits::AF, AF),
        (RflagsBits::ZF, ZF),
        (RflagsBits::SF, SF),
        (RflagsBits::OF, OF),
    ];
    let undefined = instruction.rflags_undefined();
    let mut flags = named.iter().filter(|(bit, _)| undefined & bit != 0).fold(0, |sum, (_, flag)| sum | flag);
    match instruction.mnemonic() {
        // Immediates that make a whole turn and one more count as many, not as one.
        Mnemonic::Rcl | Mnemonic::Rcr => flags |= OF,
        Mnemonic::Shl | Mnemonic::Sal | Mnemonic::Shr if beyond(instruction, before, 16) => flags |= CF,
        Mnemonic::Shld | Mnemonic::Shrd if beyond(instruction, before, 16) => flags |= STATUS,
        _ => {}
    }
    flags
}

/// What differs, if anything.
fn difference(cpu: &Cpu<'_>, after: &State, form: &Form, before: &State, start: u64) -> Option<String> {
    let may_be_unknown = result_is_undefined(&form.instruction, before);
    for (i, &native) in after.gpr.iter().enumerate() {
        let ours = cpu.whole(i as u8);
        if ours.poison != 0 && !may_be_unknown {
            return Some(format!("register {i} is unknown ({:#b})", ours.poison));
        }
        if (ours.bits ^ native) & !expand(ours.poison) != 0 {
            return Some(format!("register {i} is {:#x}, should be {native:#x}", ours.bits));
        }
    }
    for (i, native) in after.vectors.iter().enumerate() {
        let ours = cpu.vectors[i];
        let bytes = [ours.bits[0].to_le_bytes(), ours.bits[1].to_le_bytes()].concat();
        if ours.poison != [0; 2] {
            return Some(format!("vector {i} is unknown"));
        }
        if bytes != native {
            let from = &before.vectors;
            return Some(format!(
                "vector {i} is {bytes:02x?}, should be {native:02x?}, from {:02x?} {:02x?}",
                from[i], from
            ));
        }
    }
    let undefined = undefined_flags(&form.instruction, before);
    let flags = cpu.flags;
    if flags.poison & !undefined != 0 {
        return Some(format!("flags {:#x} are unknown, undefined are only {undefined:#x}", flags.poison));
    }
    let differing = (flags.bits ^ after.flags as u16) & (STATUS | DF) & !flags.poison;
    if differing != 0 {
        return Some(format!("flags {differing:#x} differ: {:#x}, should be {:#x}", flags.bits, after.flags));
    }
    for (chunk, i) in after.memory.chunks(32).zip(0..) {
        let mut ours = [0; 32];
        let address = start + 32 * i;
        let poison = match cpu.memory.read(address, &mut ours) {
            Ok(poison) => poison,
            Err(why) => return Some(why.to_string()),
        };
        if poison != 0 && !may_be_unknown {
            return Some(format!("memory at {address:#x} is unknown"));
        }
        if poison == 0 && ours != chunk {
            return Some(format!("memory at {address:#x} is {ours:02x?}, should be {chunk:02x?}"));
        }
    }
    None
}

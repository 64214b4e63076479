//! Encodings of every interpreted instruction, by going through all opcodes, prefixes and kinds of operands.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};

use super::native::Places;
use super::state::Random;
use crate::dryrun::{decode, table};

/// An instruction with its bytes.
pub(super) struct Form {
    pub bytes: Vec<u8>,
    pub instruction: Instruction,
}

/// Ways to name an operand in the ModRM byte: mod and rm, with a SIB byte where rm is 4.
const OPERANDS: [(u8, u8); 7] = [
    // registers: 4 is also ah, and 2 and 3 make endbr
    (3, 4),
    (3, 2),
    (3, 3),
    // [rbx+disp8], [rsi+disp32], [sib+disp32], [rip+disp32]
    (1, 3),
    (2, 6),
    (2, 4),
    (0, 5),
];

/// Calls `found` for every form, in many variants of registers and immediates.
pub(super) fn each(random: &mut Random, places: Places, found: &mut dyn FnMut(&Form, &mut Random)) {
    let mut try_bytes = |bytes: Vec<u8>, random: &mut Random| {
        if let Some(form) = complete(&bytes, random, places) {
            found(&form, random);
        }
    };
    for opcode in 0..=u8::MAX {
        for reg in 0..8 {
            for (mode, rm) in OPERANDS {
                for prefix in
                    [&[][..], &[0x66], &[0xf2], &[0xf3], &[0xf0], &[0x67], &[0x66, 0xf2], &[0x66, 0xf3], &[0x66, 0xf0]]
                {
                    for map in [&[][..], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]] {
                        for rex in [0, 0x40 | random.below(16) as u8] {
                            let mut bytes = prefix.to_vec();
                            bytes.extend(Some(rex).filter(|&rex| rex != 0));
                            bytes.extend(map);
                            bytes.push(opcode);
                            operand(&mut bytes, mode, reg, rm, random);
                            try_bytes(bytes, random);
                        }
                    }
                }
                for kind in 0..48 {
                    let (map, wide, long, implied) = (kind % 3 + 1, kind / 3 % 2, kind / 6 % 2, kind / 12);
                    // The registers' top bits are stored inverted; so is the second operand. Some instructions want that
                    // to be absent, which is all ones.
                    let tops = if random.chance(2) { 0xe0 } else { (random.next() as u8) & 0xe0 };
                    let second = if random.chance(2) { 0x0f } else { random.below(16) as u8 };
                    let mut bytes = vec![0xc4, tops | map, wide << 7 | second << 3 | long << 2 | implied, opcode];
                    operand(&mut bytes, mode, reg, rm, random);
                    try_bytes(bytes, random);
                }
            }
        }
    }
}

/// Appends ModRM, SIB, and enough bytes for displacement and immediates.
fn operand(bytes: &mut Vec<u8>, mode: u8, reg: u8, rm: u8, random: &mut Random) {
    bytes.push(mode << 6 | reg << 3 | rm);
    if mode != 3 && rm == 4 {
        bytes.push(random.next() as u8);
    }
    // A displacement of 8 bits or the low byte of a longer one: small.
    bytes.push(random.below(100) as u8);
    bytes.extend(random.next().to_le_bytes());
    bytes.extend(random.next().to_le_bytes());
}

/// Decodes, and makes the address of a memory operand one that can be reached; `None` for what is not to be compared.
fn complete(bytes: &[u8], random: &mut Random, places: Places) -> Option<Form> {
    let ip = places.instruction;
    let mut decoder = Decoder::with_ip(64, bytes, ip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() || decode::end(&instruction).is_some() {
        return None;
    }
    table::implementation(&instruction)?;
    let mut bytes = bytes[..instruction.len()].to_vec();
    let offsets = decoder.get_constant_offsets(&instruction);
    if instruction.op_kinds().any(|kind| kind == OpKind::Memory) {
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let reach = places.middle.wrapping_add(random.below(8) * 32);
        let at = offsets.displacement_offset();
        let displacement = match (base, index) {
            (Register::RIP | Register::EIP, _) => Some(reach.wrapping_sub(instruction.next_ip())),
            (Register::None, Register::None) => Some(reach),
            // A constant index register would be needed to reach the memory.
            (Register::None, _) => return None,
            _ if offsets.displacement_size() >= 4 => Some(random.below(4096)),
            _ => None,
        };
        if let Some(displacement) = displacement {
            let size = offsets.displacement_size();
            bytes.get_mut(at..at + size)?.copy_from_slice(displacement.to_le_bytes().get(..size)?);
        }
        // The interpreter's thread-local storage is not the processor's here.
        if matches!(instruction.memory_segment(), Register::FS | Register::GS) {
            return None;
        }
        // The same register twice would have to be solved for; the stack pointer must stay what it is.
        let same = base.full_register() == index.full_register();
        if same || [base, index].iter().any(|r| r.full_register() == Register::RSP) {
            return None;
        }
        // A bit number in a register reaches far from the address it would have to help to compute.
        let bit_test = [Code::Bt_rm16_r16, Code::Bts_rm16_r16, Code::Btr_rm16_r16, Code::Btc_rm16_r16];
        let is_bit_test = bit_test.iter().any(|code| {
            let mut other = Instruction::default();
            other.set_code(*code);
            other.mnemonic() == instruction.mnemonic()
        });
        let number = instruction.op1_register().full_register();
        if is_bit_test && (number == base.full_register() || number == index.full_register()) {
            return None;
        }
        // Instructions that compare with or find their place through these registers need them for that.
        let implicit = [Register::RAX, Register::RDX];
        if instruction.mnemonic() == iced_x86::Mnemonic::Cmpxchg
            && [base, index].iter().any(|r| implicit.contains(&r.full_register()))
        {
            return None;
        }
    }
    let instruction = Decoder::with_ip(64, &bytes, ip, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(Form { bytes, instruction })
}

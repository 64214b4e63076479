//! Where in a function a breakpoint is cheap.
//!
//! A hit traps into the kernel, which then has to carry out the instruction that the breakpoint replaced. A few it
//! emulates (`arch/x86/kernel/uprobes.c`: `push`, `nop`, jumps and calls); any other it runs out of line under single-step,
//! a second trap. Under a hypervisor that intercepts debug exceptions the second costs ten times the first. So a breakpoint
//! goes to the first instruction that is emulated, if every entry passes it with the function's first arguments in place.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, Register};

/// Instructions that are looked at, and the bytes that hold as many.
const INSTRUCTIONS: usize = 12;
const BYTES: usize = INSTRUCTIONS * 15;

/// Registers of the first two integer arguments.
const ARGUMENTS: [Register; 2] = [Register::RDI, Register::RSI];

/// Where to put a breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// Bytes from the function's first instruction.
    pub(super) offset: u64,
    /// Whether the kernel emulates the instruction there.
    pub(super) emulated: bool,
}

/// The cheapest site of the function at `file_offset` of the file at `path`.
pub(super) fn cheapest(path: &Path, file_offset: u64) -> io::Result<Site> {
    let mut code = [0; BYTES];
    let length = File::open(path)?.read_at(&mut code, file_offset)?;
    Ok(cheapest_in(&code[..length]))
}

fn cheapest_in(code: &[u8]) -> Site {
    let mut info = InstructionInfoFactory::new();
    for instruction in Decoder::new(64, code, DecoderOptions::NONE).iter().take(INSTRUCTIONS) {
        if is_emulated(&code[instruction.ip() as usize..]) {
            return Site { offset: instruction.ip(), emulated: true };
        }
        let overwrites = |register: &iced_x86::UsedRegister| {
            ARGUMENTS.contains(&register.register().full_register()) && is_write(register.access())
        };
        let goes_on = instruction.flow_control() == FlowControl::Next && instruction.code() != Code::INVALID;
        if !goes_on || info.info(&instruction).used_registers().iter().any(overwrites) {
            break;
        }
    }
    Site { offset: 0, emulated: false }
}

fn is_write(access: iced_x86::OpAccess) -> bool {
    use iced_x86::OpAccess::{CondWrite, ReadCondWrite, ReadWrite, Write};
    matches!(access, Write | CondWrite | ReadWrite | ReadCondWrite)
}

/// Whether the kernel emulates the instruction that begins with these bytes.
fn is_emulated(code: &[u8]) -> bool {
    match *code {
        // push r64, with the prefix for r8 to r15 too; nop; call and jmp; short conditional jumps.
        [0x50..=0x57 | 0x90 | 0xe8 | 0xe9 | 0xeb | 0x70..=0x7f, ..] | [0x41, 0x50..=0x57, ..] => true,
        // Long conditional jumps.
        [0x0f, second, ..] => (0x80..=0x8f).contains(&second),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_instructions_of_functions_are_told_apart() {
        assert!(is_emulated(&[0x55, 0x48])); // push rbp
        assert!(is_emulated(&[0x41, 0x57])); // push r15
        assert!(is_emulated(&[0x0f, 0x84])); // je rel32
        assert!(!is_emulated(&[0x48, 0x83])); // sub rsp, imm8
        assert!(!is_emulated(&[0x48, 0x89])); // mov r64, r64
        assert!(!is_emulated(&[0xf3, 0x0f])); // endbr64
        assert!(!is_emulated(&[0x0f, 0x1f])); // long nop
        assert!(!is_emulated(&[]));
    }

    #[test]
    fn the_first_cheap_instruction_that_every_entry_passes() {
        // test rsi, rsi; je +2
        assert_eq!(cheapest_in(&[0x48, 0x85, 0xf6, 0x74, 0x02]), Site { offset: 3, emulated: true });
        // endbr64; push rbp
        assert_eq!(cheapest_in(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55]), Site { offset: 4, emulated: true });
    }

    #[test]
    fn no_site_behind_a_return_or_a_lost_argument() {
        let entry = Site { offset: 0, emulated: false };
        // ret; push rbp
        assert_eq!(cheapest_in(&[0xc3, 0x55]), entry);
        // mov rdi, [rdi]; push rbp
        assert_eq!(cheapest_in(&[0x48, 0x8b, 0x3f, 0x55]), entry);
        // xor esi, esi; push rbp
        assert_eq!(cheapest_in(&[0x31, 0xf6, 0x55]), entry);
        // Not an instruction.
        assert_eq!(cheapest_in(&[0x06]), entry);
        assert_eq!(cheapest_in(&[]), entry);
    }
}

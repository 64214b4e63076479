//! The frame pointer of a blocked thread of which only program counter and stack pointer are known, as procfs tells them.
//!
//! Code built with frame pointers (the standard library is) describes its frames by `rbp` alone. But its functions begin
//! alike: `push rbp; mov rbp, rsp`, then pushes and one subtraction, and the stack pointer stays there: from it and the
//! function's first instructions follows the frame pointer. What it leads to must be the return address of a call.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::Module;

/// Instructions that a function is looked at for.
const PROLOGUE: usize = 24;
/// No instruction of a prologue is longer, in bytes.
const LONGEST: usize = 12;

/// The frame pointer in a function that starts at `function`, where the stack pointer is `sp`. `None` where the function
/// does not begin in the known way.
pub(super) fn of(modules: &[Module], function: u64, sp: u64, read: &mut dyn FnMut(u64) -> Option<u64>) -> Option<u64> {
    let module = modules.iter().find(|module| module.contains(function))?;
    let code =
        (1..=PROLOGUE * LONGEST).rev().step_by(LONGEST).find_map(|length| module.file_bytes(function, length))?;
    let bp = sp.checked_add(below_frame_pointer(code, function)?)?;
    let return_address = read(bp.checked_add(8)?)?;
    follows_a_call(modules, return_address).then_some(bp)
}

/// Bytes between stack pointer and frame pointer once the prologue in `code` is done.
fn below_frame_pointer(code: &[u8], function: u64) -> Option<u64> {
    let (mut pushed, mut depth) = (false, None);
    for instruction in Decoder::with_ip(64, code, function, DecoderOptions::NONE).iter().take(PROLOGUE) {
        depth = match (instruction.mnemonic(), depth) {
            (Mnemonic::Push, None) if instruction.op0_register() == Register::RBP => {
                pushed = true;
                None
            }
            (Mnemonic::Mov, None) if pushed && is(&instruction, Register::RBP, Register::RSP) => Some(0),
            (Mnemonic::Push, Some(depth)) if instruction.op0_kind() == OpKind::Register => Some(depth + 8),
            (Mnemonic::Sub, Some(depth)) if instruction.op0_register() == Register::RSP => {
                return matches!(instruction.code(), Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32)
                    .then(|| u64::try_from(instruction.immediate(1).cast_signed()).ok())
                    .flatten()
                    .and_then(|size| size.checked_add(depth));
            }
            // Aligned by more than the caller promises: the distance is not in the code.
            (Mnemonic::And, Some(_)) if instruction.op0_register() == Register::RSP => return None,
            (Mnemonic::Endbr64, None) => None,
            // What stands here is no prologue any more, or none at all.
            _ => return depth,
        };
    }
    None
}

fn is(instruction: &Instruction, to: Register, from: Register) -> bool {
    (instruction.op0_register(), instruction.op1_register()) == (to, from)
}

/// Whether a call ends at `address`: direct, or through a register or memory.
fn follows_a_call(modules: &[Module], address: u64) -> bool {
    /// Bytes of a call's encodings.
    const LENGTHS: [u64; 6] = [2, 3, 4, 5, 6, 7];
    let in_code = |module: &&Module| module.executable_ranges().iter().any(|range| range.contains(&(address - 1)));
    let Some(module) = modules.iter().find(|module| address > 0 && in_code(module)) else { return false };
    LENGTHS.into_iter().any(|length| {
        let Some(start) = address.checked_sub(length) else { return false };
        let Some(bytes) = module.file_bytes(start, length as usize) else { return false };
        let instruction = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE).decode();
        instruction.mnemonic() == Mnemonic::Call && instruction.len() == length as usize
    })
}

#[cfg(test)]
mod tests {
    use super::below_frame_pointer;

    #[test]
    fn prologues_tell_the_size_of_a_frame() {
        // push rbp; mov rbp, rsp; push r15; push rbx; sub rsp, 0x28; mov rdi, rbx
        let whole = [0x55, 0x48, 0x89, 0xe5, 0x41, 0x57, 0x53, 0x48, 0x83, 0xec, 0x28, 0x48, 0x89, 0xdf];
        assert_eq!(below_frame_pointer(&whole, 0x1000), Some(0x38));
        // Without a subtraction: push rbp; mov rbp, rsp; push rbx; push rax; mov rdi, rbx
        let pushes = [0x55, 0x48, 0x89, 0xe5, 0x53, 0x50, 0x48, 0x89, 0xdf];
        assert_eq!(below_frame_pointer(&pushes, 0x1000), Some(0x10));
        // push rbp; mov rbp, rsp; and rsp, -128
        let aligned = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xe4, 0x80];
        assert_eq!(below_frame_pointer(&aligned, 0x1000), None);
        // push rbx; mov rbx, rdi: no frame pointer
        assert_eq!(below_frame_pointer(&[0x53, 0x48, 0x89, 0xfb], 0x1000), None);
        for cut in 0..whole.len() {
            // Whatever is left of it, the answer is a value.
            let _ = below_frame_pointer(&whole[..cut], 0x1000);
        }
    }
}

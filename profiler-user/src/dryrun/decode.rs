//! From bytes to blocks.

use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, EncodingKind, Instruction, Mnemonic, OpKind};

use super::code::{Block, BranchOn, CodeCache, End, Location, Op, Operand, Register, Repeat, Segment};
use super::cpu::ZERO;
use super::hooks::Special;
use super::overlay::Overlay;
use super::table::{self, Exec};
use super::unknown::{Trap, Why};

/// The longest instruction.
const LONGEST: usize = 15;
/// Where a block is cut.
const MOST_IN_BLOCK: usize = 64;

/// Decodes the block at `start`.
pub(super) fn block(start: u64, memory: &Overlay<'_>, code: &CodeCache) -> Block {
    let mut ops = Vec::new();
    let mut ip = start;
    loop {
        let instruction = match one(ip, memory, code) {
            Ok(instruction) => instruction,
            Err(why) => return Block::new(ops, End::Fault(why), None, ip, ip),
        };
        let next = instruction.next_ip();
        if let Some(end) = end(&instruction) {
            let last = op(&instruction, Exec::Plain(table::nothing));
            return Block::new(ops, end, Some(last), ip, next);
        }
        let Some(exec) = table::implementation(&instruction) else {
            let name = format!("{:?}", instruction.mnemonic()).to_lowercase();
            return Block::new(ops, End::Fault(Why::Unimplemented(name)), None, ip, next);
        };
        ops.push(op(&instruction, exec));
        ip = next;
        if ops.len() == MOST_IN_BLOCK {
            return Block::new(ops, End::Next, None, ip, ip);
        }
    }
}

fn one(ip: u64, memory: &Overlay<'_>, code: &CodeCache) -> Result<Instruction, Why> {
    if !code.may_run(ip) {
        return Err(Why::LeftExecutable(ip));
    }
    let mut bytes = [0; LONGEST];
    let to_page_end = (4096 - ip % 4096).min(LONGEST as u64) as usize;
    let read = |length: usize, bytes: &mut [u8]| memory.memory().read(ip, &mut bytes[..length]).is_ok();
    let length = if read(LONGEST, &mut bytes) {
        LONGEST
    } else if read(to_page_end, &mut bytes) {
        to_page_end
    } else {
        // Only tests place code that ends inside a page; there is no cheaper way to learn where it does.
        (1..to_page_end).rev().find(|&length| read(length, &mut bytes)).ok_or(Why::Memory(ip))?
    };
    let mut decoder = Decoder::with_ip(64, &bytes[..length], ip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    match decoder.last_error() {
        DecoderError::None => {}
        DecoderError::NoMoreBytes if length < LONGEST => return Err(Why::Memory(ip + length as u64)),
        _ => return Err(Why::Undecodable),
    }
    let last = ip.checked_add(instruction.len() as u64 - 1).ok_or(Why::Memory(ip))?;
    for page in ip / 4096..=last / 4096 {
        if memory.is_written(page) {
            return Err(Why::CodeWritten(ip));
        }
    }
    Ok(instruction)
}

/// How an instruction ends a block, if it does.
pub(super) fn end(instruction: &Instruction) -> Option<End> {
    let direct = matches!(instruction.op0_kind(), OpKind::NearBranch64);
    let taken = instruction.near_branch_target();
    Some(match instruction.mnemonic() {
        Mnemonic::Jmp if direct => End::Jump(taken),
        Mnemonic::Call if direct => End::Call(taken),
        Mnemonic::Jmp if is_near(instruction) => End::JumpIndirect,
        Mnemonic::Call if is_near(instruction) => End::CallIndirect,
        Mnemonic::Ret if instruction.code() == Code::Retnq => End::Return(0),
        Mnemonic::Ret if instruction.code() == Code::Retnq_imm16 => End::Return(instruction.immediate(0)),
        Mnemonic::Jrcxz => End::Branch { taken, on: BranchOn::CountZero(8) },
        Mnemonic::Jecxz => End::Branch { taken, on: BranchOn::CountZero(4) },
        Mnemonic::Loop | Mnemonic::Loope | Mnemonic::Loopne if direct => {
            use Code::{Loop_rel8_64_RCX, Loope_rel8_64_RCX, Loopne_rel8_64_RCX};
            let wide = matches!(instruction.code(), Loop_rel8_64_RCX | Loope_rel8_64_RCX | Loopne_rel8_64_RCX);
            End::Branch { taken, on: BranchOn::Loop(if wide { 8 } else { 4 }) }
        }
        Mnemonic::Syscall => End::Syscall,
        Mnemonic::Cpuid => End::Special(Special::Cpuid),
        Mnemonic::Rdtsc | Mnemonic::Rdtscp => End::Special(Special::TimeStamp),
        Mnemonic::Rdrand | Mnemonic::Rdseed => End::Special(Special::Random),
        Mnemonic::Xgetbv => End::Special(Special::ExtendedControl),
        Mnemonic::Rdpid | Mnemonic::Rdfsbase | Mnemonic::Rdgsbase => End::Special(Special::Other),
        Mnemonic::Ud2 => End::Trap(Trap::Ud2),
        Mnemonic::Int3 => End::Trap(Trap::Int3),
        Mnemonic::Hlt => End::Trap(Trap::Halt),
        _ if instruction.is_jcc_short_or_near() && direct => End::Branch { taken, on: BranchOn::Condition },
        _ => return None,
    })
}

/// Not a far jump or call, nor one of 16 or 32 bits.
fn is_near(instruction: &Instruction) -> bool {
    match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().size() == 8,
        OpKind::Memory => instruction.is_jmp_near_indirect() || instruction.is_call_near_indirect(),
        _ => false,
    }
}

/// Translates the operands.
pub(super) fn op(instruction: &Instruction, exec: Exec) -> Op {
    let mut operands = [Operand::None; 4];
    let mut sizes = [8; 4];
    for k in 0..instruction.op_count().min(4) {
        let (operand, size) = operand(instruction, k);
        operands[k as usize] = operand;
        sizes[k as usize] = size;
    }
    // Immediates are as wide as what they are combined with.
    for k in 1..4 {
        if matches!(operands[k], Operand::Immediate(_)) {
            sizes[k] = sizes[0].min(8);
        }
    }
    let writes_memory = matches!(operands[0], Operand::Memory);
    let exchange =
        instruction.mnemonic() == Mnemonic::Xchg && instruction.op_kinds().any(|kind| kind == OpKind::Memory);
    Op {
        exec,
        operands,
        sizes,
        memory: location(instruction),
        mnemonic: instruction.mnemonic(),
        condition: instruction.condition_code(),
        repeat: if instruction.has_repne_prefix() {
            Repeat::WhileNotEqual
        } else if instruction.has_repe_prefix() {
            Repeat::WhileEqual
        } else {
            Repeat::Once
        },
        atomic: exchange || instruction.has_lock_prefix() && writes_memory,
        vex: instruction.code().encoding() == EncodingKind::VEX,
        ip: instruction.ip(),
    }
}

fn operand(instruction: &Instruction, k: u32) -> (Operand, u8) {
    match instruction.op_kind(k) {
        OpKind::Register => {
            let register = instruction.op_register(k);
            if register.is_gpr() {
                let index = register.full_register().number() as u8;
                let size = register.size() as u8;
                // Numbers 4 to 7 of the byte registers are ah, ch, dh and bh.
                let high = size == 1 && (4..8).contains(&register.number());
                (Operand::Register(Register { index, size, high }), size)
            } else if register.is_xmm() || register.is_ymm() {
                (Operand::Vector(register.number() as u8 % 16), register.size() as u8)
            } else {
                (Operand::None, 8)
            }
        }
        kind if is_immediate(kind) => (Operand::Immediate(instruction.immediate(k)), 8),
        OpKind::NearBranch16
        | OpKind::NearBranch32
        | OpKind::NearBranch64
        | OpKind::FarBranch16
        | OpKind::FarBranch32 => (Operand::None, 8),
        _ => (Operand::Memory, instruction.memory_size().size().min(64) as u8),
    }
}

fn is_immediate(kind: OpKind) -> bool {
    use OpKind::{
        Immediate8, Immediate8_2nd, Immediate8to16, Immediate8to32, Immediate8to64, Immediate16, Immediate32,
        Immediate32to64, Immediate64,
    };
    matches!(
        kind,
        Immediate8
            | Immediate8_2nd
            | Immediate16
            | Immediate32
            | Immediate64
            | Immediate8to16
            | Immediate8to32
            | Immediate8to64
            | Immediate32to64
    )
}

fn location(instruction: &Instruction) -> Location {
    use iced_x86::Register as R;
    let place = |register: R| if register.is_gpr() { register.full_register().number() as u8 } else { ZERO };
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    Location {
        base: place(base),
        index: place(index),
        scale: instruction.memory_index_scale() as u8,
        displacement: instruction.memory_displacement64(),
        segment: match instruction.memory_segment() {
            R::FS => Segment::Fs,
            R::GS => Segment::Gs,
            _ => Segment::Flat,
        },
        narrow: base.size() == 4 || index.size() == 4,
        fixed: place(base) == ZERO && place(index) == ZERO,
    }
}

//! Moves between vector registers, memory and general registers, and the few tests of vectors.

#![expect(clippy::unnecessary_wraps, reason = "all instructions have one shape")]

use super::arithmetic::logic_flags;
use super::code::{Op, Operand};
use super::cpu::Cpu;
use super::flags::{CF, STATUS, ZF};
use super::moves::set_from_vector;
use super::unknown::Why;
use super::value::{Value, collapse_wide, expand_wide};
use super::vector::{Vector, immediate};

type Done = Result<(), Why>;

/// All moves of a whole vector: `movdqa`, `movups`, `lddqu`, `movntdq`, …
pub(super) fn op_move(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let vector = cpu.vector(op, 1)?;
    cpu.set_vector(op, 0, vector)
}

/// `movd` and `movq`: the low four or eight bytes, zero above.
fn move_low(cpu: &mut Cpu<'_>, op: &Op, size: u8) -> Done {
    let value = cpu.vector_of(op, 1, size)?.low(size);
    match op.operands[0] {
        Operand::Vector(_) => cpu.set_vector(op, 0, Vector::from_low(value)),
        Operand::Memory => cpu.memory.store(cpu.address(op)?, size, value),
        _ => cpu.set(op, 0, value),
    }
}

pub(super) fn op_movd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    move_low(cpu, op, 4)
}

pub(super) fn op_movq(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    move_low(cpu, op, 8)
}

/// `movss` and `movsd`: between registers the upper part stays (or comes from the second operand), from memory it is zero.
fn move_scalar(cpu: &mut Cpu<'_>, op: &Op, size: u8) -> Done {
    let registers = matches!((op.operands[0], op.operands[1]), (Operand::Vector(_), Operand::Vector(_)));
    if !registers {
        return move_low(cpu, op, size);
    }
    let (above, low) = if op.vex { (1, 2) } else { (0, 1) };
    let vector = cpu.vector_of(op, above, 16)?.with_low(size, cpu.vector_of(op, low, size)?.low(size));
    cpu.set_vector(op, 0, vector)
}

pub(super) fn op_movss(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    move_scalar(cpu, op, 4)
}

pub(super) fn op_movsd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    move_scalar(cpu, op, 8)
}

/// The halves of the low 128 bits, each with its poison.
fn halves(vector: Vector) -> [Value; 2] {
    let poison = vector.poison[0];
    [
        Value { bits: vector.bits[0] as u64, poison: poison as u8 },
        Value { bits: (vector.bits[0] >> 64) as u64, poison: (poison >> 8) as u8 },
    ]
}

fn from_halves([low, high]: [Value; 2]) -> Vector {
    Vector {
        bits: [u128::from(low.bits) | u128::from(high.bits) << 64, 0],
        poison: [u16::from(low.poison) | u16::from(high.poison) << 8, 0],
    }
}

/// Replaces half `into` of the first source by half `from` of the second; or stores half `from`.
fn move_half(cpu: &mut Cpu<'_>, op: &Op, into: usize, from: usize) -> Done {
    if op.operands[0] == Operand::Memory {
        let half = halves(cpu.vector_of(op, 1, 16)?)[into];
        return cpu.memory.store(cpu.address(op)?, 8, half);
    }
    let (first, second) = if op.vex { (1, 2) } else { (0, 1) };
    let mut result = halves(cpu.vector_of(op, first, 16)?);
    result[into] = if op.operands[second] == Operand::Memory {
        cpu.memory.load(cpu.address(op)?, 8)?
    } else {
        halves(cpu.vector_of(op, second, 16)?)[from]
    };
    cpu.set_vector(op, 0, from_halves(result))
}

/// `movlps`, `movlpd`, `movhlps`: the low half from memory, or from the other's high half.
pub(super) fn op_move_into_low(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    move_half(cpu, op, 0, 1)
}

/// `movhps`, `movhpd`, `movlhps`: the high half from memory, or from the other's low half.
pub(super) fn op_move_into_high(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    move_half(cpu, op, 1, 0)
}

/// The top bit of each lane of `width` bits, over the whole vector.
fn top_bits(cpu: &mut Cpu<'_>, op: &Op, width: u32) -> Done {
    let vector = cpu.vector(op, 1)?;
    let lanes = 128 / width;
    let top = |bits: u128| (0..lanes).fold(0, |sum, i| sum | ((bits >> (width * (i + 1) - 1)) as u64 & 1) << i);
    let known = vector.poison.iter().all(|&p| top(expand_wide(p)) == 0);
    set_from_vector(cpu, op, top(vector.bits[0]) | top(vector.bits[1]) << lanes, known)
}

pub(super) fn op_pmovmskb(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    top_bits(cpu, op, 8)
}

pub(super) fn op_movmskps(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    top_bits(cpu, op, 32)
}

pub(super) fn op_movmskpd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    top_bits(cpu, op, 64)
}

/// `pinsr…`: an integer of `size` bytes into the lane the immediate names.
fn insert(cpu: &mut Cpu<'_>, op: &Op, size: u8) -> Done {
    let (first, second) = if op.vex { (1, 2) } else { (0, 1) };
    let vector = cpu.vector_of(op, first, 16)?;
    let value = match op.operands[second] {
        Operand::Memory => cpu.memory.load(cpu.address(op)?, size)?,
        _ => cpu.get(op, second)?.low(size),
    };
    let at = u32::from(immediate(op) & (16 / size - 1)) * u32::from(size) * 8;
    let lane = u128::from(super::value::mask(size)) << at;
    let unknown = expand_wide(vector.poison[0]) & !lane | expand_wide(u16::from(value.poison)) << at;
    let bits = vector.bits[0] & !lane | u128::from(value.bits) << at;
    cpu.set_vector(op, 0, Vector { bits: [bits, 0], poison: [collapse_wide(unknown), 0] })
}

/// `pextr…`: the lane of `size` bytes the immediate names, zero-extended.
fn extract(cpu: &mut Cpu<'_>, op: &Op, size: u8) -> Done {
    let vector = cpu.vector_of(op, 1, 16)?;
    let lane = u32::from(immediate(op) & (16 / size - 1)) * u32::from(size);
    let value =
        Value { bits: (vector.bits[0] >> (lane * 8)) as u64, poison: (vector.poison[0] >> lane) as u8 }.low(size);
    match op.operands[0] {
        Operand::Memory => cpu.memory.store(cpu.address(op)?, size, value),
        _ => cpu.set(op, 0, value),
    }
}

pub(super) fn op_pinsrb(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    insert(cpu, op, 1)
}

pub(super) fn op_pinsrw(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    insert(cpu, op, 2)
}

pub(super) fn op_pinsrd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    insert(cpu, op, 4)
}

pub(super) fn op_pinsrq(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    insert(cpu, op, 8)
}

pub(super) fn op_pextrb(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    extract(cpu, op, 1)
}

pub(super) fn op_pextrw(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    extract(cpu, op, 2)
}

/// `pextrd`, `extractps`.
pub(super) fn op_pextrd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    extract(cpu, op, 4)
}

pub(super) fn op_pextrq(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    extract(cpu, op, 8)
}

/// `ptest`: ZF when no bit is in both, CF when none is in the second alone.
pub(super) fn op_ptest(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (a, b) = (cpu.vector(op, 0)?, cpu.vector(op, 1)?);
    let none = |f: fn(u128, u128) -> u128| (0..2).all(|i| f(a.bits[i], b.bits[i]) == 0);
    let zero = if none(|a, b| a & b) { ZF } else { 0 };
    let carry = if none(|a, b| !a & b) { CF } else { 0 };
    logic_flags(&mut cpu.flags, Value::known(1), 8);
    cpu.flags.set(STATUS, zero | carry);
    if a.poison != [0; 2] || b.poison != [0; 2] {
        cpu.flags.forget(ZF | CF);
    }
    Ok(())
}

/// `vextracti128`, `vextractf128`.
pub(super) fn op_extract128(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let from = usize::from(immediate(op) & 1);
    let vector = cpu.vector_of(op, 1, 32)?;
    cpu.set_vector(op, 0, Vector { bits: [vector.bits[from], 0], poison: [vector.poison[from], 0] })
}

/// `vinserti128`, `vinsertf128`.
pub(super) fn op_insert128(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let into = usize::from(immediate(op) & 1);
    let (mut vector, half) = (cpu.vector_of(op, 1, 32)?, cpu.vector_of(op, 2, 16)?);
    (vector.bits[into], vector.poison[into]) = (half.bits[0], half.poison[0]);
    cpu.set_vector(op, 0, vector)
}

/// `vperm2i128`, `vperm2f128`: each half one of the four of both operands, or zero.
pub(super) fn op_permute128(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (a, b) = (cpu.vector_of(op, 1, 32)?, cpu.vector_of(op, 2, 32)?);
    let control = immediate(op);
    let mut result = Vector::ZERO;
    for i in 0..2 {
        let field = control >> (4 * i);
        if field & 8 == 0 {
            let source = if field & 2 == 0 { a } else { b };
            let half = usize::from(field & 1);
            (result.bits[i], result.poison[i]) = (source.bits[half], source.poison[half]);
        }
    }
    cpu.set_vector(op, 0, result)
}

/// `vpermq`, `vpermpd`: eight-byte lanes by two bits each of the immediate.
pub(super) fn op_permute64(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let vector = cpu.vector_of(op, 1, 32)?;
    let all = [halves(vector), halves(Vector { bits: [vector.bits[1], 0], poison: [vector.poison[1], 0] })].concat();
    let control = immediate(op);
    let pick = |i: u32| all[usize::from(control >> (2 * i) & 3)];
    let (low, high) = (from_halves([pick(0), pick(1)]), from_halves([pick(2), pick(3)]));
    let result = Vector { bits: [low.bits[0], high.bits[0]], poison: [low.poison[0], high.poison[0]] };
    cpu.set_vector(op, 0, result)
}

/// `vpbroadcast…`, `vbroadcast…`: the lowest `size` bytes into every lane.
fn broadcast(cpu: &mut Cpu<'_>, op: &Op, size: u8) -> Done {
    let low = cpu.vector_of(op, 1, size)?;
    let width = u32::from(size) * 8;
    let spread = |bits: u128| (0..128 / width).fold(0, |sum, i| sum | bits << (width * i));
    let bits = spread(low.bits[0]);
    let poison = collapse_wide(spread(expand_wide(low.poison[0])));
    let upper = op.sizes[0] == 32;
    cpu.set_vector(
        op,
        0,
        Vector { bits: [bits, if upper { bits } else { 0 }], poison: [poison, if upper { poison } else { 0 }] },
    )
}

pub(super) fn op_broadcast8(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    broadcast(cpu, op, 1)
}

pub(super) fn op_broadcast16(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    broadcast(cpu, op, 2)
}

pub(super) fn op_broadcast32(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    broadcast(cpu, op, 4)
}

pub(super) fn op_broadcast64(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    broadcast(cpu, op, 8)
}

pub(super) fn op_broadcast128(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let half = cpu.vector_of(op, 1, 16)?;
    cpu.set_vector(op, 0, Vector { bits: [half.bits[0]; 2], poison: [half.poison[0]; 2] })
}

pub(super) fn op_vzeroupper(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    for vector in &mut cpu.vectors {
        (vector.bits[1], vector.poison[1]) = (0, 0);
    }
    Ok(())
}

pub(super) fn op_vzeroall(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    cpu.vectors = [Vector::ZERO; 16];
    Ok(())
}

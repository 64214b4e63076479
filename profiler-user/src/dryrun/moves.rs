//! Moving integers: registers, memory, stack, conditions.

#![expect(clippy::unnecessary_wraps, reason = "all instructions have one shape")]

use super::code::{Op, Operand};
use super::cpu::{Cpu, Reg};
use super::unknown::Why;
use super::value::{Value, sign_extend};

type Done = Result<(), Why>;

/// `mov`, `movzx`, `movnti`.
pub(super) fn op_mov(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let value = cpu.get(op, 1)?;
    cpu.set(op, 0, value)
}

/// `movsx`, `movsxd`.
pub(super) fn op_movsx(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let value = cpu.get(op, 1)?.sign_extend(op.sizes[1]);
    cpu.set(op, 0, value)
}

pub(super) fn op_movbe(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let value = swap(cpu.get(op, 1)?, op.sizes[0]);
    cpu.set(op, 0, value)
}

pub(super) fn op_bswap(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let value = swap(cpu.get(op, 0)?, op.sizes[0]);
    cpu.set(op, 0, value)
}

fn swap(value: Value, size: u8) -> Value {
    let unused = 8 - size;
    Value { bits: value.bits.swap_bytes() >> (8 * u32::from(unused)), poison: value.poison.reverse_bits() >> unused }
}

pub(super) fn op_lea(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let address = cpu.effective(op);
    cpu.set(op, 0, address)
}

pub(super) fn op_xchg(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (a, b) = (cpu.get(op, 0)?, cpu.get(op, 1)?);
    // Memory first: its address may use the register. A refused write then changes nothing.
    if op.operands[1] == Operand::Memory {
        cpu.set(op, 1, a)?;
        cpu.set(op, 0, b)
    } else {
        cpu.set(op, 0, b)?;
        cpu.set(op, 1, a)
    }
}

pub(super) fn op_push(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let value = cpu.get(op, 0)?;
    let size = match op.operands[0] {
        Operand::Immediate(_) => 8,
        _ => op.sizes[0],
    };
    cpu.push(size, value)
}

pub(super) fn op_pop(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    // The address of a memory operand is computed with the stack pointer already raised.
    let value = cpu.pop(op.sizes[0])?;
    cpu.set(op, 0, value)
}

pub(super) fn op_leave(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    let frame = cpu.reg(Reg::Rbp);
    cpu.set_reg(Reg::Rsp, frame);
    let saved = cpu.pop(8)?;
    cpu.set_reg(Reg::Rbp, saved);
    Ok(())
}

pub(super) fn op_cmov(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (kept, moved) = (cpu.get(op, 0)?, cpu.get(op, 1)?);
    let value = match cpu.flags.condition(op.condition) {
        Some(true) => moved,
        Some(false) => kept,
        None => either(kept, moved),
    };
    cpu.set(op, 0, value)
}

/// One of two values, nobody knows which: known where they agree.
fn either(a: Value, b: Value) -> Value {
    let differing = super::value::collapse(a.bits ^ b.bits);
    Value { bits: a.bits, poison: a.poison | b.poison | differing }
}

pub(super) fn op_set(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let value = match cpu.flags.condition(op.condition) {
        Some(holds) => Value::known(u64::from(holds)),
        None => Value::unknown(),
    };
    cpu.set(op, 0, value)
}

/// `cbw`, `cwde`, `cdqe`: sign-extends the lower half of the accumulator of `size` bytes.
fn extend_accumulator(cpu: &mut Cpu<'_>, size: u8) {
    let value = cpu.low(Reg::Rax, size / 2).sign_extend(size / 2);
    cpu.set_low(Reg::Rax, size, value);
}

pub(super) fn op_cbw(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    extend_accumulator(cpu, 2);
    Ok(())
}

pub(super) fn op_cwde(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    extend_accumulator(cpu, 4);
    Ok(())
}

pub(super) fn op_cdqe(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    extend_accumulator(cpu, 8);
    Ok(())
}

/// `cwd`, `cdq`, `cqo`: fills `rdx` with the sign of the accumulator of `size` bytes.
fn sign_into_rdx(cpu: &mut Cpu<'_>, size: u8) {
    let value = cpu.low(Reg::Rax, size);
    let known = value.poison >> (size - 1) & 1 == 0;
    let bits = if super::value::sign(value.bits, size) { u64::MAX } else { 0 };
    cpu.set_low(Reg::Rdx, size, if known { Value::known(bits) } else { Value::unknown() });
}

pub(super) fn op_cwd(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    sign_into_rdx(cpu, 2);
    Ok(())
}

pub(super) fn op_cdq(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    sign_into_rdx(cpu, 4);
    Ok(())
}

pub(super) fn op_cqo(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    sign_into_rdx(cpu, 8);
    Ok(())
}

/// `movmskps`, `pmovmskb` and others write what they computed from vectors through here.
pub(super) fn set_from_vector(cpu: &mut Cpu<'_>, op: &Op, bits: u64, known: bool) -> Done {
    cpu.set(op, 0, if known { Value::known(bits) } else { Value::unknown() })
}

/// A signed operand as a number, when it is known.
pub(super) fn signed(cpu: &Cpu<'_>, op: &Op, k: usize) -> Result<Option<i64>, Why> {
    Ok(cpu.get(op, k)?.get().map(|bits| sign_extend(bits, op.sizes[k]) as i64))
}

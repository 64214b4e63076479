//! Shifts and rotates.
//!
//! Unknown bytes are shifted like the value itself; an unknown count makes everything unknown.

use super::arithmetic::{result_flags, result_poison};
use super::code::Op;
use super::cpu::Cpu;
use super::flags::{AF, CF, OF, STATUS};
use super::unknown::Why;
use super::value::{Value, byte_mask, collapse, expand, mask, sign, sign_extend};

type Done = Result<(), Why>;

/// The count, masked as the processor does. Operand `k` is an immediate, `cl`, or missing where the count is one.
fn count(cpu: &Cpu<'_>, op: &Op, k: usize) -> Result<Option<u32>, Why> {
    let count = match op.operands[k] {
        super::code::Operand::None => Value::known(1),
        _ => cpu.get(op, k)?.low(1),
    };
    let masked = if op.sizes[0] == 8 { 63 } else { 31 };
    Ok(count.get().map(|count| count as u32 & masked))
}

/// Applies `f` to the value, and to its unknown bytes as if they were bits.
fn both(value: Value, size: u8, f: impl Fn(u64) -> u64) -> Value {
    let poison = if value.poison == 0 { 0 } else { collapse(f(expand(value.poison)) & mask(size)) };
    Value { bits: f(value.bits) & mask(size), poison }
}

fn unknown_count(cpu: &mut Cpu<'_>, op: &Op, flags: u16) -> Done {
    cpu.flags.forget(flags);
    cpu.set(op, 0, Value::unknown())
}

/// Sets CF and OF from bits of values that may be unknown; OF is defined for a count of one only.
fn set_carry(cpu: &mut Cpu<'_>, carry: bool, overflow: Option<bool>, unknown: bool) {
    cpu.flags.set(CF, if carry { CF } else { 0 });
    match overflow {
        Some(overflow) => cpu.flags.set(OF, if overflow { OF } else { 0 }),
        None => cpu.flags.forget(OF),
    }
    if unknown {
        cpu.flags.forget(CF | OF);
    }
}

fn set_result_flags(cpu: &mut Cpu<'_>, result: Value, size: u8) {
    cpu.flags.set(STATUS & !(CF | OF), result_flags(result.bits, size));
    cpu.flags.forget(AF | result_poison(result, size));
}

pub(super) fn op_shl(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let size = op.sizes[0];
    let value = cpu.get(op, 0)?;
    let Some(count) = count(cpu, op, 1)? else { return unknown_count(cpu, op, STATUS) };
    if count == 0 {
        return cpu.set(op, 0, value);
    }
    let bits = u32::from(size) * 8;
    let result = both(value, size, |v| v << count);
    let carry = count <= bits && value.bits >> (bits - count) & 1 != 0;
    let overflow = (count == 1).then(|| sign(result.bits, size) != carry);
    set_carry(cpu, carry, overflow, value.poison != 0);
    if count > bits {
        cpu.flags.forget(CF);
    }
    set_result_flags(cpu, result, size);
    cpu.set(op, 0, result)
}

pub(super) fn op_shr(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let size = op.sizes[0];
    let value = cpu.get(op, 0)?;
    let Some(count) = count(cpu, op, 1)? else { return unknown_count(cpu, op, STATUS) };
    if count == 0 {
        return cpu.set(op, 0, value);
    }
    let result = both(value, size, |v| v >> count);
    let carry = value.bits >> (count - 1) & 1 != 0;
    set_carry(cpu, carry, (count == 1).then(|| sign(value.bits, size)), value.poison != 0);
    if count > u32::from(size) * 8 {
        cpu.flags.forget(CF);
    }
    set_result_flags(cpu, result, size);
    cpu.set(op, 0, result)
}

pub(super) fn op_sar(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let size = op.sizes[0];
    let value = cpu.get(op, 0)?;
    let Some(count) = count(cpu, op, 1)? else { return unknown_count(cpu, op, STATUS) };
    if count == 0 {
        return cpu.set(op, 0, value);
    }
    let result = both(value, size, |v| (sign_extend(v, size) as i64 >> count) as u64);
    let carry = sign_extend(value.bits, size) as i64 >> (count - 1) & 1 != 0;
    set_carry(cpu, carry, (count == 1).then_some(false), value.poison != 0);
    set_result_flags(cpu, result, size);
    cpu.set(op, 0, result)
}

/// Rotates `value` of `size` bytes left by `by` bits.
fn rotate_left(value: u64, size: u8, by: u32) -> u64 {
    let bits = u32::from(size) * 8;
    let by = by % bits;
    if by == 0 { value } else { value << by | (value & mask(size)) >> (bits - by) }
}

pub(super) fn op_rol(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let size = op.sizes[0];
    let value = cpu.get(op, 0)?;
    let Some(count) = count(cpu, op, 1)? else { return unknown_count(cpu, op, CF | OF) };
    if count == 0 {
        return cpu.set(op, 0, value);
    }
    let result = both(value, size, |v| rotate_left(v, size, count));
    let carry = result.bits & 1 != 0;
    set_carry(cpu, carry, (count == 1).then(|| sign(result.bits, size) != carry), value.poison != 0);
    cpu.set(op, 0, result)
}

pub(super) fn op_ror(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let size = op.sizes[0];
    let value = cpu.get(op, 0)?;
    let Some(count) = count(cpu, op, 1)? else { return unknown_count(cpu, op, CF | OF) };
    if count == 0 {
        return cpu.set(op, 0, value);
    }
    let bits = u32::from(size) * 8;
    let result = both(value, size, |v| rotate_left(v, size, bits - count % bits));
    let carry = sign(result.bits, size);
    let second = result.bits >> (bits - 2) & 1 != 0;
    set_carry(cpu, carry, (count == 1).then_some(carry != second), value.poison != 0);
    cpu.set(op, 0, result)
}

/// Rotates left through the carry: the value with CF above it, as one number of one bit more.
fn rotate_with_carry(cpu: &mut Cpu<'_>, op: &Op, left: bool) -> Done {
    let size = op.sizes[0];
    let bits = u32::from(size) * 8;
    let value = cpu.get(op, 0)?;
    let carry = cpu.flags.get(CF);
    let Some(count) = count(cpu, op, 1)? else { return unknown_count(cpu, op, CF | OF) };
    let by = count % (bits + 1);
    if by == 0 {
        // A count of a whole turn changes nothing, but leaves OF undefined.
        if count != 0 {
            cpu.flags.forget(OF);
        }
        return cpu.set(op, 0, value);
    }
    if value.poison != 0 || carry.is_none() {
        return unknown_count(cpu, op, CF | OF);
    }
    let whole = u128::from(value.bits) | u128::from(carry == Some(true)) << bits;
    let by_left = if left { by } else { bits + 1 - by };
    let turned = whole << by_left | whole >> (bits + 1 - by_left);
    let carry_out = turned >> bits & 1 != 0;
    let result = turned as u64 & mask(size);
    let overflow =
        if left { sign(result, size) != carry_out } else { sign(result, size) != (result >> (bits - 2) & 1 != 0) };
    set_carry(cpu, carry_out, (count == 1).then_some(overflow), false);
    cpu.set(op, 0, Value::known(result))
}

pub(super) fn op_rcl(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    rotate_with_carry(cpu, op, true)
}

pub(super) fn op_rcr(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    rotate_with_carry(cpu, op, false)
}

/// `shld` and `shrd`: shifts operand 0, filling with the bits of operand 1.
fn double(cpu: &mut Cpu<'_>, op: &Op, left: bool) -> Done {
    let size = op.sizes[0];
    let bits = u32::from(size) * 8;
    let (value, fill) = (cpu.get(op, 0)?, cpu.get(op, 1)?);
    let Some(count) = count(cpu, op, 2)? else { return unknown_count(cpu, op, STATUS) };
    if count == 0 {
        return cpu.set(op, 0, value);
    }
    if count > bits {
        // Only 16-bit operands come here; result and flags are undefined.
        return unknown_count(cpu, op, STATUS);
    }
    let shift = |v: u64, f: u64| {
        let (v, f) = (u128::from(v & mask(size)), u128::from(f & mask(size)));
        let joined = if left { (v << bits | f) << count >> bits } else { (f << bits | v) >> count };
        joined as u64 & mask(size)
    };
    let poison = collapse(shift(expand(value.poison), expand(fill.poison))) & byte_mask(size);
    let result = Value { bits: shift(value.bits, fill.bits), poison };
    let carry = if left { value.bits >> (bits - count) & 1 != 0 } else { value.bits >> (count - 1) & 1 != 0 };
    let overflow = (count == 1).then(|| sign(result.bits ^ value.bits, size));
    set_carry(cpu, carry, overflow, (value.poison | fill.poison) & byte_mask(size) != 0);
    set_result_flags(cpu, result, size);
    cpu.set(op, 0, result)
}

pub(super) fn op_shld(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    double(cpu, op, true)
}

pub(super) fn op_shrd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    double(cpu, op, false)
}

/// `shlx`, `shrx`, `sarx`, `rorx`: operand 1 by operand 2, no flags.
fn flagless(cpu: &mut Cpu<'_>, op: &Op, f: impl Fn(u64, u8, u32) -> u64) -> Done {
    let size = op.sizes[0];
    let value = cpu.get(op, 1)?;
    let result = count(cpu, op, 2)?.map_or(Value::unknown(), |count| both(value, size, |v| f(v, size, count)));
    cpu.set(op, 0, result)
}

pub(super) fn op_shlx(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    flagless(cpu, op, |v, _, count| v << count)
}

pub(super) fn op_shrx(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    flagless(cpu, op, |v, _, count| v >> count)
}

pub(super) fn op_sarx(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    flagless(cpu, op, |v, size, count| (sign_extend(v, size) as i64 >> count) as u64)
}

pub(super) fn op_rorx(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    flagless(cpu, op, |v, size, count| rotate_left(v, size, u32::from(size) * 8 - count % (u32::from(size) * 8)))
}

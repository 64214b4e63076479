//! Multiplication and division.

use super::code::Op;
use super::cpu::{Cpu, Reg};
use super::flags::{CF, OF, STATUS};
use super::unknown::{Trap, Why};
use super::value::{Value, mask, sign_extend};

type Done = Result<(), Why>;

/// CF and OF say whether the product has bits beyond its lower half; the rest is undefined.
fn set_flags(cpu: &mut Cpu<'_>, overflow: Option<bool>) {
    cpu.flags.forget(STATUS);
    if let Some(overflow) = overflow {
        cpu.flags.set(CF | OF, if overflow { CF | OF } else { 0 });
    }
}

/// Writes a double-width result: `ax` for bytes, otherwise `rdx:rax`.
fn set_pair(cpu: &mut Cpu<'_>, size: u8, low: Value, high: Value) {
    if size == 1 {
        let bits = low.bits & 0xff | (high.bits & 0xff) << 8;
        cpu.set_low(Reg::Rax, 2, Value { bits, poison: low.poison & 1 | (high.poison & 1) << 1 });
    } else {
        cpu.set_low(Reg::Rax, size, low);
        cpu.set_low(Reg::Rdx, size, high);
    }
}

fn signed(bits: u64, size: u8) -> i128 {
    i128::from(sign_extend(bits, size) as i64)
}

/// `mul` and one-operand `imul`.
fn widening(cpu: &mut Cpu<'_>, op: &Op, product: fn(u64, u64, u8) -> u128, overflows: fn(u128, u8) -> bool) -> Done {
    let size = op.sizes[0];
    let (a, b) = (cpu.low(Reg::Rax, size), cpu.get(op, 0)?);
    let poison = a.poison | b.poison;
    let wide = product(a.bits, b.bits, size);
    let half = |shift: u32| Value::all_or_nothing((wide >> shift) as u64 & mask(size), poison);
    set_pair(cpu, size, half(0), half(u32::from(size) * 8));
    set_flags(cpu, (poison == 0).then(|| overflows(wide, size)));
    Ok(())
}

pub(super) fn op_mul(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    widening(cpu, op, |a, b, _| u128::from(a) * u128::from(b), |wide, size| wide >> (u32::from(size) * 8) != 0)
}

pub(super) fn op_imul(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    use super::code::Operand;
    if op.operands[1] == Operand::None {
        return widening(
            cpu,
            op,
            |a, b, size| (signed(a, size) * signed(b, size)) as u128,
            |wide, size| wide as i128 != signed(wide as u64, size),
        );
    }
    let first = usize::from(op.operands[2] != Operand::None);
    let (a, b) = (cpu.get(op, first)?, cpu.get(op, first + 1)?);
    let (size, poison) = (op.sizes[0], a.poison | b.poison);
    let wide = signed(a.bits, size) * signed(b.bits, size);
    set_flags(cpu, (poison == 0).then(|| wide != signed(wide as u64, size)));
    cpu.set(op, 0, Value::all_or_nothing(wide as u64 & mask(size), poison))
}

/// `mulx`: `rdx` times the last operand into the first two, no flags.
pub(super) fn op_mulx(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let size = op.sizes[0];
    let (a, b) = (cpu.low(Reg::Rdx, size), cpu.get(op, 2)?);
    let wide = u128::from(a.bits) * u128::from(b.bits);
    let half = |shift: u32| Value::all_or_nothing((wide >> shift) as u64 & mask(size), a.poison | b.poison);
    // Of two equal destinations the upper half stays.
    cpu.set(op, 1, half(0))?;
    cpu.set(op, 0, half(u32::from(size) * 8))
}

/// The dividend and the divisor, which must be known: whether a division traps depends on both.
fn division(cpu: &Cpu<'_>, op: &Op) -> Result<(u128, u64), Why> {
    let size = op.sizes[0];
    let divisor = cpu.get(op, 0)?.get().ok_or(Why::Poison("a divisor"))?;
    let known = |value: Value| value.get().map(u128::from).ok_or(Why::Poison("a dividend"));
    let dividend = if size == 1 {
        known(cpu.low(Reg::Rax, 2))?
    } else {
        known(cpu.low(Reg::Rax, size))? | known(cpu.low(Reg::Rdx, size))? << (u32::from(size) * 8)
    };
    Ok((dividend, divisor))
}

pub(super) fn op_div(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let size = op.sizes[0];
    let (dividend, divisor) = division(cpu, op)?;
    let divisor = u128::from(divisor);
    let trap = Why::Trap(Trap::Divide);
    let quotient = dividend.checked_div(divisor).filter(|&q| q <= u128::from(mask(size))).ok_or(trap)?;
    let rest = dividend % divisor;
    set_pair(cpu, size, Value::known(quotient as u64), Value::known(rest as u64));
    cpu.flags.forget(STATUS);
    Ok(())
}

pub(super) fn op_idiv(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let size = op.sizes[0];
    let (dividend, divisor) = division(cpu, op)?;
    let unused = 128 - u32::from(size) * 16;
    let dividend = (dividend << unused) as i128 >> unused;
    let divisor = signed(divisor, size);
    let trap = || Why::Trap(Trap::Divide);
    let quotient = dividend.checked_div(divisor).ok_or_else(trap)?;
    if quotient != signed(quotient as u64, size) {
        return Err(trap());
    }
    let rest = dividend % divisor;
    set_pair(cpu, size, Value::known(quotient as u64 & mask(size)), Value::known(rest as u64 & mask(size)));
    cpu.flags.forget(STATUS);
    Ok(())
}

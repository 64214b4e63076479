//! Integer arithmetic and logic on operands.

#![expect(clippy::unnecessary_wraps, reason = "all instructions have one shape")]

use super::arithmetic::{add, and, differ, has_known_bit, logic_flags, or, subtract, xor};
use super::code::{Op, Operand};
use super::cpu::{Cpu, Reg};
use super::flags::{AF, CF, OF, PF, SF, ZF};
use super::unknown::Why;
use super::value::Value;

type Done = Result<(), Why>;

/// `x op x` of a register: its result does not depend on what `x` is.
fn same_register(op: &Op) -> bool {
    matches!(op.operands[0], Operand::Register(_)) && op.operands[0] == op.operands[1]
}

/// Both operands; known zeros when they are the same register and the operation gives zero for any value.
fn cancelling(cpu: &Cpu<'_>, op: &Op) -> Result<(Value, Value), Why> {
    if same_register(op) {
        return Ok((Value::known(0), Value::known(0)));
    }
    Ok((cpu.get(op, 0)?, cpu.get(op, 1)?))
}

/// The accumulator's part of `size` bytes.
fn accumulator(cpu: &Cpu<'_>, size: u8) -> Value {
    cpu.low(Reg::Rax, size)
}

pub(super) fn op_add(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (a, b) = (cpu.get(op, 0)?, cpu.get(op, 1)?);
    let sum = add(&mut cpu.flags, a, b, Some(false), op.sizes[0]);
    cpu.set(op, 0, sum)
}

pub(super) fn op_adc(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (a, b) = (cpu.get(op, 0)?, cpu.get(op, 1)?);
    let carry = cpu.flags.get(CF);
    let sum = add(&mut cpu.flags, a, b, carry, op.sizes[0]);
    cpu.set(op, 0, sum)
}

pub(super) fn op_sub(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (a, b) = cancelling(cpu, op)?;
    let difference = subtract(&mut cpu.flags, a, b, Some(false), op.sizes[0]);
    cpu.set(op, 0, difference)
}

pub(super) fn op_sbb(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (a, b) = cancelling(cpu, op)?;
    let borrow = cpu.flags.get(CF);
    let difference = subtract(&mut cpu.flags, a, b, borrow, op.sizes[0]);
    cpu.set(op, 0, difference)
}

pub(super) fn op_cmp(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (a, b) = cancelling(cpu, op)?;
    compare(cpu, a, b, op.sizes[0]);
    Ok(())
}

/// The flags of `a - b`.
pub(super) fn compare(cpu: &mut Cpu<'_>, a: Value, b: Value, size: u8) {
    subtract(&mut cpu.flags, a, b, Some(false), size);
    if a.poison | b.poison != 0 && differ(a, b, size) {
        cpu.flags.set(ZF, 0);
    }
}

pub(super) fn op_and(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let result = and(cpu.get(op, 0)?, cpu.get(op, 1)?);
    logic_flags(&mut cpu.flags, result, op.sizes[0]);
    cpu.set(op, 0, result)
}

pub(super) fn op_or(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (a, b) = (cpu.get(op, 0)?, cpu.get(op, 1)?);
    let result = or(a, b);
    logic_flags(&mut cpu.flags, result, op.sizes[0]);
    if has_known_bit(a, op.sizes[0]) || has_known_bit(b, op.sizes[0]) {
        cpu.flags.set(ZF, 0);
    }
    cpu.set(op, 0, result)
}

pub(super) fn op_xor(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (a, b) = cancelling(cpu, op)?;
    let result = xor(a, b);
    logic_flags(&mut cpu.flags, result, op.sizes[0]);
    cpu.set(op, 0, result)
}

pub(super) fn op_test(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let result = and(cpu.get(op, 0)?, cpu.get(op, 1)?);
    logic_flags(&mut cpu.flags, result, op.sizes[0]);
    Ok(())
}

pub(super) fn op_inc(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let carry = cpu.flags;
    let a = cpu.get(op, 0)?;
    let sum = add(&mut cpu.flags, a, Value::known(1), Some(false), op.sizes[0]);
    restore_carry(cpu, carry);
    cpu.set(op, 0, sum)
}

pub(super) fn op_dec(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let carry = cpu.flags;
    let a = cpu.get(op, 0)?;
    let difference = subtract(&mut cpu.flags, a, Value::known(1), Some(false), op.sizes[0]);
    restore_carry(cpu, carry);
    cpu.set(op, 0, difference)
}

/// `inc` and `dec` leave CF alone, known or not.
fn restore_carry(cpu: &mut Cpu<'_>, before: super::flags::Flags) {
    match before.get(CF) {
        Some(carry) => cpu.flags.set(CF, if carry { CF } else { 0 }),
        None => cpu.flags.forget(CF),
    }
}

pub(super) fn op_neg(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let a = cpu.get(op, 0)?;
    let negated = subtract(&mut cpu.flags, Value::known(0), a, Some(false), op.sizes[0]);
    cpu.set(op, 0, negated)
}

pub(super) fn op_not(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let a = cpu.get(op, 0)?;
    cpu.set(op, 0, Value { bits: !a.bits, poison: a.poison })
}

pub(super) fn op_xadd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (a, b) = (cpu.get(op, 0)?, cpu.get(op, 1)?);
    let sum = add(&mut cpu.flags, a, b, Some(false), op.sizes[0]);
    // Memory first, so that a write that is refused changes no register; of two equal registers the sum stays.
    if op.operands[0] == Operand::Memory {
        cpu.set(op, 0, sum)?;
        cpu.set(op, 1, a)
    } else {
        cpu.set(op, 1, a)?;
        cpu.set(op, 0, sum)
    }
}

pub(super) fn op_cmpxchg(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let size = op.sizes[0];
    let (there, expected) = (cpu.get(op, 0)?, accumulator(cpu, size));
    let new = cpu.get(op, 1)?;
    compare(cpu, expected, there, size);
    match cpu.flags.get(ZF) {
        Some(true) => cpu.set(op, 0, new),
        Some(false) => {
            cpu.set(op, 0, there)?;
            cpu.set_low(Reg::Rax, size, there);
            Ok(())
        }
        None => Err(Why::Poison("what a compare-exchange compares")),
    }
}

/// `cmpxchg8b` and `cmpxchg16b`.
pub(super) fn op_cmpxchg_pair(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let half = op.sizes[0] / 2;
    let address = cpu.address(op)?;
    let upper = address.wrapping_add(u64::from(half));
    let there = (cpu.memory.load(address, half)?, cpu.memory.load(upper, half)?);
    let expected = (cpu.low(Reg::Rax, half), cpu.low(Reg::Rdx, half));
    let unknown = there.0.poison | there.1.poison | expected.0.poison | expected.1.poison != 0;
    if differ(there.0, expected.0, half) || differ(there.1, expected.1, half) {
        cpu.flags.set(ZF, 0);
        cpu.set_low(Reg::Rax, half, there.0);
        cpu.set_low(Reg::Rdx, half, there.1);
        cpu.memory.store(address, half, there.0)?;
        cpu.memory.store(upper, half, there.1)
    } else if unknown {
        Err(Why::Poison("what a compare-exchange compares"))
    } else {
        cpu.flags.set(ZF, ZF);
        cpu.memory.store(address, half, cpu.low(Reg::Rbx, half))?;
        cpu.memory.store(upper, half, cpu.low(Reg::Rcx, half))
    }
}

/// `adcx` and `adox`: addition with one flag as carry in and out.
fn add_with(cpu: &mut Cpu<'_>, op: &Op, flag: u16) -> Done {
    let (a, b) = (cpu.get(op, 0)?, cpu.get(op, 1)?);
    let mut flags = cpu.flags;
    let sum = add(&mut flags, a, b, cpu.flags.get(flag), op.sizes[0]);
    match flags.get(CF) {
        Some(carry) => cpu.flags.set(flag, if carry { flag } else { 0 }),
        None => cpu.flags.forget(flag),
    }
    cpu.set(op, 0, sum)
}

pub(super) fn op_adcx(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    add_with(cpu, op, CF)
}

pub(super) fn op_adox(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    add_with(cpu, op, OF)
}

pub(super) fn op_stc(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    cpu.flags.set(CF, CF);
    Ok(())
}

pub(super) fn op_clc(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    cpu.flags.set(CF, 0);
    Ok(())
}

pub(super) fn op_cmc(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    cpu.flags.bits ^= CF;
    Ok(())
}

pub(super) fn op_std(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    cpu.flags.set(super::flags::DF, super::flags::DF);
    Ok(())
}

pub(super) fn op_cld(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    cpu.flags.set(super::flags::DF, 0);
    Ok(())
}

/// What `lahf` and `sahf` carry.
const IN_AH: u16 = CF | PF | AF | ZF | SF;

pub(super) fn op_lahf(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    let rax = cpu.reg(Reg::Rax);
    let ah = u64::from(cpu.flags.bits & IN_AH | 2);
    let unknown = u8::from(cpu.flags.poison & IN_AH != 0) << 1;
    cpu.set_reg(Reg::Rax, Value { bits: rax.bits & !0xff00 | ah << 8, poison: rax.poison & !0b10 | unknown });
    Ok(())
}

pub(super) fn op_sahf(cpu: &mut Cpu<'_>, _: &Op) -> Done {
    let rax = cpu.reg(Reg::Rax);
    if rax.poison & 0b10 == 0 {
        cpu.flags.set(IN_AH, (rax.bits >> 8) as u16);
    } else {
        cpu.flags.forget(IN_AH);
    }
    Ok(())
}

//! String instructions, with and without repetition.

use iced_x86::Mnemonic;

use super::code::{Op, Repeat};
use super::cpu::{Cpu, Reg};
use super::flags::{DF, ZF};
use super::integer::compare;
use super::unknown::Why;
use super::value::Value;

type Done = Result<(), Why>;

/// Elements one instruction may go through before the run ends.
const MOST_ELEMENTS: u64 = 1 << 20;
/// So many elements cost about as much as a step, and count as one.
const ELEMENTS_A_STEP: u64 = 8;

/// How far one element goes.
fn stride(cpu: &Cpu<'_>, size: u8) -> Result<u64, Why> {
    match cpu.flags.get(DF) {
        Some(false) => Ok(u64::from(size)),
        Some(true) => Ok(u64::from(size).wrapping_neg()),
        None => Err(Why::Poison("the direction of a string")),
    }
}

/// How often to repeat.
fn repetitions(cpu: &mut Cpu<'_>, op: &Op) -> Result<u64, Why> {
    if op.repeat == Repeat::Once {
        return Ok(1);
    }
    let count = cpu.must(Reg::Rcx, "a count")?;
    if count > MOST_ELEMENTS {
        return Err(Why::StepLimit);
    }
    cpu.extra_steps += count / ELEMENTS_A_STEP;
    Ok(count)
}

fn advance(cpu: &mut Cpu<'_>, reg: Reg, by: u64) -> Done {
    let at = cpu.must(reg, "an address")?;
    cpu.set_reg(reg, Value::known(at.wrapping_add(by)));
    Ok(())
}

fn finish(cpu: &mut Cpu<'_>, op: &Op, left: u64) {
    if op.repeat != Repeat::Once {
        cpu.set_reg(Reg::Rcx, Value::known(left));
    }
}

/// The size of the elements.
fn element(op: &Op) -> u8 {
    match op.mnemonic {
        Mnemonic::Movsb | Mnemonic::Stosb | Mnemonic::Lodsb | Mnemonic::Cmpsb | Mnemonic::Scasb => 1,
        Mnemonic::Movsw | Mnemonic::Stosw | Mnemonic::Lodsw | Mnemonic::Cmpsw | Mnemonic::Scasw => 2,
        Mnemonic::Movsd | Mnemonic::Stosd | Mnemonic::Lodsd | Mnemonic::Cmpsd | Mnemonic::Scasd => 4,
        _ => 8,
    }
}

pub(super) fn op_movs(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (size, count) = (element(op), repetitions(cpu, op)?);
    let by = stride(cpu, size)?;
    for _ in 0..count {
        let (from, to) = (cpu.must(Reg::Rsi, "an address")?, cpu.must(Reg::Rdi, "an address")?);
        let value = cpu.memory.load(from, size)?;
        cpu.memory.store(to, size, value)?;
        advance(cpu, Reg::Rsi, by)?;
        advance(cpu, Reg::Rdi, by)?;
    }
    finish(cpu, op, 0);
    Ok(())
}

pub(super) fn op_stos(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (size, count) = (element(op), repetitions(cpu, op)?);
    let by = stride(cpu, size)?;
    let value = cpu.low(Reg::Rax, size);
    for _ in 0..count {
        cpu.memory.store(cpu.must(Reg::Rdi, "an address")?, size, value)?;
        advance(cpu, Reg::Rdi, by)?;
    }
    finish(cpu, op, 0);
    Ok(())
}

pub(super) fn op_lods(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (size, count) = (element(op), repetitions(cpu, op)?);
    let by = stride(cpu, size)?;
    for _ in 0..count {
        let value = cpu.memory.load(cpu.must(Reg::Rsi, "an address")?, size)?;
        cpu.set_low(Reg::Rax, size, value);
        advance(cpu, Reg::Rsi, by)?;
    }
    finish(cpu, op, 0);
    Ok(())
}

/// `cmps` and `scas`: compares until the count is used up or the prefix' condition on ZF fails.
fn compare_strings(cpu: &mut Cpu<'_>, op: &Op, scan: bool) -> Done {
    let (size, count) = (element(op), repetitions(cpu, op)?);
    let by = stride(cpu, size)?;
    let mut left = count;
    while left > 0 {
        left -= 1;
        let other = cpu.memory.load(cpu.must(Reg::Rdi, "an address")?, size)?;
        let first = if scan {
            cpu.low(Reg::Rax, size)
        } else {
            let value = cpu.memory.load(cpu.must(Reg::Rsi, "an address")?, size)?;
            advance(cpu, Reg::Rsi, by)?;
            value
        };
        advance(cpu, Reg::Rdi, by)?;
        compare(cpu, first, other, size);
        let go_on = match op.repeat {
            Repeat::Once => break,
            Repeat::WhileEqual => true,
            Repeat::WhileNotEqual => false,
        };
        if cpu.flags.get(ZF).ok_or(Why::Poison("what a string is compared with"))? != go_on {
            break;
        }
    }
    finish(cpu, op, left);
    Ok(())
}

pub(super) fn op_cmps(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    compare_strings(cpu, op, false)
}

pub(super) fn op_scas(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    compare_strings(cpu, op, true)
}

//! Single bits: tests, scans, counts and bit fields.

use super::arithmetic::{logic_flags, result_flags};
use super::code::{Op, Operand};
use super::cpu::Cpu;
use super::flags::{AF, CF, OF, PF, SF, STATUS, ZF};
use super::unknown::Why;
use super::value::{Value, mask, sign_extend};

type Done = Result<(), Why>;

/// Where the word lies that a bit test in memory works on: a register counts bits from the address on, in both directions,
/// beyond the word that stands there.
pub(super) fn word_address(cpu: &Cpu<'_>, op: &Op) -> Result<u64, Why> {
    let address = cpu.address(op)?;
    if !matches!(op.operands[1], Operand::Register(_)) {
        return Ok(address);
    }
    let size = op.sizes[0];
    let index = cpu.get(op, 1)?.get().ok_or(Why::Poison("an address"))?;
    let word = sign_extend(index, size) as i64 >> (u32::from(size) * 8).trailing_zeros();
    Ok(address.wrapping_add((word * i64::from(size)) as u64))
}

/// `bt` and its kin: CF is the bit; `change` makes the new word from the old and the bit's mask.
fn bit_test(cpu: &mut Cpu<'_>, op: &Op, change: Option<fn(u64, u64) -> u64>) -> Done {
    let size = op.sizes[0];
    let bits = u64::from(size) * 8;
    let index = cpu.get(op, 1)?;
    let address = if op.operands[0] == Operand::Memory { Some(word_address(cpu, op)?) } else { None };
    let word = match address {
        Some(address) => cpu.memory.load(address, size)?,
        None => cpu.get(op, 0)?,
    };
    // CF is the bit and ZF stays; the others are undefined.
    cpu.flags.forget(OF | SF | AF | PF | CF);
    let Some(index) = index.get() else {
        return if change.is_some() { cpu.set(op, 0, Value::unknown()) } else { Ok(()) };
    };
    let bit = 1 << (index % bits);
    if word.poison >> (index % bits / 8) & 1 == 0 {
        cpu.flags.set(CF, if word.bits & bit != 0 { CF } else { 0 });
    }
    let Some(change) = change else { return Ok(()) };
    let changed = Value { bits: change(word.bits, bit), poison: word.poison };
    match address {
        Some(address) => cpu.memory.store(address, size, changed),
        None => cpu.set(op, 0, changed),
    }
}

pub(super) fn op_bt(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    bit_test(cpu, op, None)
}

pub(super) fn op_bts(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    bit_test(cpu, op, Some(|word, bit| word | bit))
}

pub(super) fn op_btr(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    bit_test(cpu, op, Some(|word, bit| word & !bit))
}

pub(super) fn op_btc(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    bit_test(cpu, op, Some(|word, bit| word ^ bit))
}

/// `bsf` and `bsr`. Of zero the destination stays as it was, as AMD documents and Intel does; what then is in the upper
/// half of a 32-bit destination is not agreed upon, so it becomes unknown.
fn scan(cpu: &mut Cpu<'_>, op: &Op, position: fn(u64) -> u32) -> Done {
    let source = cpu.get(op, 1)?;
    cpu.flags.forget(STATUS);
    let Some(bits) = source.get() else {
        return cpu.set(op, 0, Value::unknown());
    };
    cpu.flags.set(ZF, if bits == 0 { ZF } else { 0 });
    if bits != 0 {
        return cpu.set(op, 0, Value::known(u64::from(position(bits))));
    }
    if let (4, Operand::Register(register)) = (op.sizes[0], op.operands[0]) {
        let kept = cpu.get(op, 0)?;
        cpu.set_whole(register.index, Value { bits: kept.bits, poison: kept.poison | 0xf0 });
    }
    Ok(())
}

pub(super) fn op_bsf(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    scan(cpu, op, u64::trailing_zeros)
}

pub(super) fn op_bsr(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    scan(cpu, op, u64::ilog2)
}

/// `tzcnt` and `lzcnt`.
fn count_zeros(cpu: &mut Cpu<'_>, op: &Op, count: fn(u64, u32) -> u32) -> Done {
    let source = cpu.get(op, 1)?;
    cpu.flags.forget(STATUS);
    let Some(bits) = source.get() else {
        return cpu.set(op, 0, Value::unknown());
    };
    let width = u32::from(op.sizes[0]) * 8;
    let result = count(bits, width);
    let carry = if result == width { CF } else { 0 };
    cpu.flags.set(CF | ZF, carry | if result == 0 { ZF } else { 0 });
    cpu.set(op, 0, Value::known(u64::from(result)))
}

pub(super) fn op_tzcnt(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    count_zeros(cpu, op, |bits, width| bits.trailing_zeros().min(width))
}

pub(super) fn op_lzcnt(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    count_zeros(cpu, op, |bits, width| bits.leading_zeros() - (64 - width))
}

pub(super) fn op_popcnt(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let source = cpu.get(op, 1)?;
    cpu.flags.set(STATUS, if source.bits == 0 { ZF } else { 0 });
    if source.poison != 0 {
        cpu.flags.forget(ZF);
    }
    cpu.set(op, 0, Value::all_or_nothing(u64::from(source.bits.count_ones()), source.poison))
}

/// `andn`: not operand 1, and operand 2.
pub(super) fn op_andn(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (a, b) = (cpu.get(op, 1)?, cpu.get(op, 2)?);
    let inverted = Value { bits: !a.bits & mask(op.sizes[0]), poison: a.poison };
    let result = super::arithmetic::and(inverted, b);
    logic_flags(&mut cpu.flags, result, op.sizes[0]);
    cpu.flags.forget(PF);
    cpu.set(op, 0, result)
}

/// `blsr`, `blsi`, `blsmsk`: something of the lowest set bit of operand 1; `carry` says CF from the source being zero.
fn lowest(cpu: &mut Cpu<'_>, op: &Op, f: fn(u64) -> u64, carry: fn(bool) -> bool) -> Done {
    let size = op.sizes[0];
    let source = cpu.get(op, 1)?;
    let result = f(source.bits) & mask(size);
    let carry = if carry(source.bits == 0) { CF } else { 0 };
    cpu.flags.set(STATUS, result_flags(result, size) & (ZF | SF) | carry);
    cpu.flags.forget(AF | PF);
    if source.poison != 0 {
        cpu.flags.forget(STATUS);
    }
    cpu.set(op, 0, Value::all_or_nothing(result, source.poison))
}

pub(super) fn op_blsr(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    lowest(cpu, op, |x| x & x.wrapping_sub(1), |zero| zero)
}

pub(super) fn op_blsi(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    lowest(cpu, op, |x| x & x.wrapping_neg(), |zero| !zero)
}

pub(super) fn op_blsmsk(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    lowest(cpu, op, |x| x ^ x.wrapping_sub(1), |zero| zero)
}

/// `bextr`: the field of operand 1 whose start and length are the low two bytes of operand 2.
pub(super) fn op_bextr(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (source, control) = (cpu.get(op, 1)?, cpu.get(op, 2)?.low(2));
    let (start, length) = (control.bits as u32 & 0xff, control.bits as u32 >> 8 & 0xff);
    let shifted = source.bits.checked_shr(start).unwrap_or(0);
    let field = if length >= 64 { shifted } else { shifted & ((1 << length) - 1) };
    let poison = source.poison | control.poison;
    cpu.flags.set(STATUS, if field == 0 { ZF } else { 0 });
    cpu.flags.forget(AF | SF | PF | if poison == 0 { 0 } else { ZF });
    cpu.set(op, 0, Value::all_or_nothing(field, poison))
}

/// `bzhi`: operand 1 without the bits from the index in operand 2 on.
pub(super) fn op_bzhi(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let size = op.sizes[0];
    let (source, index) = (cpu.get(op, 1)?, cpu.get(op, 2)?.low(1));
    let beyond = index.bits >= u64::from(size) * 8;
    let result = if beyond { source.bits } else { source.bits & ((1 << index.bits) - 1) };
    let poison = source.poison | index.poison;
    cpu.flags.set(STATUS, result_flags(result, size) & (ZF | SF) | if beyond { CF } else { 0 });
    cpu.flags.forget(AF | PF | if poison == 0 { 0 } else { ZF | SF | CF });
    cpu.set(op, 0, Value::all_or_nothing(result, poison))
}

/// `pdep` and `pext` move bits between the low end and the places of a mask, one by one.
fn through_mask(cpu: &mut Cpu<'_>, op: &Op, deposit: bool) -> Done {
    let (source, places) = (cpu.get(op, 1)?, cpu.get(op, 2)?);
    let (mut result, mut rest, mut low) = (0, places.bits, 0);
    while rest != 0 {
        let place = rest.trailing_zeros();
        let (from, to) = if deposit { (low, place) } else { (place, low) };
        result |= (source.bits >> from & 1) << to;
        rest &= rest - 1;
        low += 1;
    }
    cpu.set(op, 0, Value::all_or_nothing(result, source.poison | places.poison))
}

pub(super) fn op_pdep(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    through_mask(cpu, op, true)
}

pub(super) fn op_pext(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    through_mask(cpu, op, false)
}

/// `crc32` with the Castagnoli polynomial, bit by bit.
pub(super) fn op_crc32(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    const REFLECTED: u32 = 0x82f6_3b78;
    let (before, data) = (cpu.get(op, 0)?.low(4), cpu.get(op, 1)?);
    let mut crc = before.bits as u32;
    for byte in &data.bits.to_le_bytes()[..usize::from(op.sizes[1])] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ REFLECTED } else { crc >> 1 };
        }
    }
    cpu.set(op, 0, Value::all_or_nothing(u64::from(crc), before.poison | data.poison))
}

//! Addition, subtraction and logic with their flags: the arithmetic itself, free of operands.

use super::flags::{AF, CF, Flags, OF, PF, SF, STATUS, ZF};
use super::value::{Value, byte_mask, mask, sign, upward};

/// ZF, SF and PF of a result.
pub(super) fn result_flags(bits: u64, size: u8) -> u16 {
    let mut flags = 0;
    if bits & mask(size) == 0 {
        flags |= ZF;
    }
    if sign(bits, size) {
        flags |= SF;
    }
    if (bits as u8).count_ones().is_multiple_of(2) {
        flags |= PF;
    }
    flags
}

/// Which of ZF, SF and PF are unknown for a result with unknown bytes: a known byte that is not zero settles ZF.
pub(super) fn result_poison(value: Value, size: u8) -> u16 {
    let poison = value.poison & byte_mask(size);
    if poison == 0 {
        return 0;
    }
    let mut unknown = 0;
    let known = value.bits & mask(size) & !super::value::expand(poison);
    if known == 0 {
        unknown |= ZF;
    }
    if poison >> (size - 1) & 1 != 0 {
        unknown |= SF;
    }
    if poison & 1 != 0 {
        unknown |= PF;
    }
    unknown
}

/// `a + b + carry`, with all status flags.
pub(super) fn add(flags: &mut Flags, a: Value, b: Value, carry: Option<bool>, size: u8) -> Value {
    let (x, y) = (a.bits & mask(size), b.bits & mask(size));
    let wide = u128::from(x) + u128::from(y) + u128::from(carry.unwrap_or(false));
    let sum = wide as u64 & mask(size);
    let mut set = result_flags(sum, size) | (x ^ y ^ sum) as u16 & AF;
    if wide >> (u32::from(size) * 8) != 0 {
        set |= CF;
    }
    if sign(!(x ^ y) & (x ^ sum), size) {
        set |= OF;
    }
    flags.set(STATUS, set);
    spread(flags, Value::known(sum), a.poison | b.poison, carry.is_none(), size)
}

/// `a - b - borrow`, with all status flags.
pub(super) fn subtract(flags: &mut Flags, a: Value, b: Value, borrow: Option<bool>, size: u8) -> Value {
    let (x, y) = (a.bits & mask(size), b.bits & mask(size));
    let borrowed = borrow.unwrap_or(false);
    let difference = x.wrapping_sub(y).wrapping_sub(u64::from(borrowed)) & mask(size);
    let mut set = result_flags(difference, size) | (x ^ y ^ difference) as u16 & AF;
    if u128::from(x) < u128::from(y) + u128::from(borrowed) {
        set |= CF;
    }
    if sign((x ^ y) & (x ^ difference), size) {
        set |= OF;
    }
    flags.set(STATUS, set);
    spread(flags, Value::known(difference), a.poison | b.poison, borrow.is_none(), size)
}

/// Makes unknown what unknown operand bytes can reach through the carries.
fn spread(flags: &mut Flags, result: Value, poison: u8, carry_unknown: bool, size: u8) -> Value {
    let poison = if carry_unknown { byte_mask(size) } else { upward(poison & byte_mask(size)) & byte_mask(size) };
    let result = Value { bits: result.bits, poison };
    if poison != 0 {
        flags.forget(CF | OF | AF | result_poison(result, size));
    }
    result
}

/// ZF of a comparison for equality, when two known bytes differ although others are unknown.
pub(super) fn differ(a: Value, b: Value, size: u8) -> bool {
    let known = !super::value::expand(a.poison | b.poison) & mask(size);
    (a.bits ^ b.bits) & known != 0
}

/// Bitwise and: a known zero byte makes the result known.
pub(super) fn and(a: Value, b: Value) -> Value {
    if a.poison | b.poison == 0 {
        return Value::known(a.bits & b.bits);
    }
    absorb(a, b, a.bits & b.bits, 0)
}

/// Bitwise or: a known byte of all ones makes the result known.
pub(super) fn or(a: Value, b: Value) -> Value {
    if a.poison | b.poison == 0 {
        return Value::known(a.bits | b.bits);
    }
    absorb(a, b, a.bits | b.bits, 0xff)
}

/// Whether a bit of the value is known to be set: whatever it is combined with by `or`, the result is not zero.
pub(super) fn has_known_bit(value: Value, size: u8) -> bool {
    value.bits & !super::value::expand(value.poison) & mask(size) != 0
}

/// Bitwise exclusive or.
pub(super) fn xor(a: Value, b: Value) -> Value {
    Value { bits: a.bits ^ b.bits, poison: a.poison | b.poison }
}

/// The result of a bitwise operation, byte by byte known where either operand has the absorbing byte.
fn absorb(a: Value, b: Value, result: u64, absorbing: u8) -> Value {
    let mut out = Value { bits: result, poison: a.poison | b.poison };
    for i in 0..8 {
        let absorbs = |v: Value| v.poison >> i & 1 == 0 && (v.bits >> (8 * i)) as u8 == absorbing;
        if absorbs(a) || absorbs(b) {
            out.bits = out.bits & !(0xff << (8 * i)) | u64::from(absorbing) << (8 * i);
            out.poison &= !(1 << i);
        }
    }
    out
}

/// Flags after a bitwise operation: CF and OF clear, AF undefined.
pub(super) fn logic_flags(flags: &mut Flags, result: Value, size: u8) {
    flags.set(STATUS, result_flags(result.bits, size));
    flags.forget(AF | result_poison(result, size));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_makes_unknown_bytes_known() {
        let half = Value { bits: 0x00ff_1234, poison: 0b0010 };
        assert_eq!(and(half, Value::known(0xff)), Value::known(0x34));
        assert_eq!(or(half, Value::known(0xff00)), Value::known(0x00ff_ff34));
        assert_eq!(and(half, Value::known(0xffff)).poison, 0b10);
    }

    #[test]
    fn a_carry_reaches_upward_only() {
        let mut flags = Flags::at_entry();
        let sum = add(&mut flags, Value { bits: 0x1200, poison: 0b10 }, Value::known(1), Some(false), 4);
        assert_eq!(sum.poison, 0b1110);
        assert_eq!(sum.bits & 0xff, 1);
        assert_eq!(flags.get(ZF), Some(false));
        assert_eq!(flags.get(CF), None);
        assert_eq!(flags.get(PF), Some(false));
    }
}

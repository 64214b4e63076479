//! Floating-point instructions, scalar and packed, and conversions.

use iced_x86::Mnemonic;

use super::code::Op;
use super::cpu::Cpu;
use super::flags::{CF, PF, STATUS, ZF};
use super::moves::signed;
use super::scalar::{double, narrow, single, widen};
use super::unknown::Why;
use super::value::{Value, mask};
use super::vector::{Packed, Vector, immediate};

type Done = Result<(), Why>;

/// Applies a function of single lanes to 128 bits of them.
fn each(a: u128, b: u128, width: u32, f: impl Fn(u64, u64) -> u64) -> u128 {
    let lane = |v: u128, i: u32| (v >> (width * i)) as u64 & mask((width / 8) as u8);
    (0..128 / width).fold(0, |sum, i| sum | u128::from(f(lane(a, i), lane(b, i))) << (width * i))
}

/// Makes packed functions of scalar ones.
macro_rules! packed {
    ($($name32:ident $name64:ident $f:ident;)*) => {
        $(fn $name32(a: u128, b: u128) -> u128 {
            each(a, b, 32, single::$f)
        }

        fn $name64(a: u128, b: u128) -> u128 {
            each(a, b, 64, double::$f)
        })*
    };
}

packed! {
    addps addpd add;
    subps subpd sub;
    mulps mulpd mul;
    divps divpd div;
    minps minpd min;
    maxps maxpd max;
}

fn sqrtps(a: u128) -> u128 {
    each(a, 0, 32, |a, _| single::sqrt(a))
}

fn sqrtpd(a: u128) -> u128 {
    each(a, 0, 64, |a, _| double::sqrt(a))
}

fn integers_to_singles(a: u128) -> u128 {
    each(a, 0, 32, |a, _| single::from_integer(i64::from(a as u32 as i32)))
}

fn singles_to_integers(a: u128) -> u128 {
    each(a, 0, 32, |a, _| single::to_integer(a, 4, false))
}

fn singles_to_integers_truncating(a: u128) -> u128 {
    each(a, 0, 32, |a, _| single::to_integer(a, 4, true))
}

/// Arithmetic.
pub(super) fn find(mnemonic: Mnemonic) -> Option<Packed> {
    use Mnemonic as M;
    use Packed::{Lanes, Scalar, ScalarUnary, Unary};
    Some(match mnemonic {
        M::Addps | M::Vaddps => Lanes(4, addps),
        M::Addpd | M::Vaddpd => Lanes(8, addpd),
        M::Addss | M::Vaddss => Scalar(4, single::add),
        M::Addsd | M::Vaddsd => Scalar(8, double::add),
        M::Subps | M::Vsubps => Lanes(4, subps),
        M::Subpd | M::Vsubpd => Lanes(8, subpd),
        M::Subss | M::Vsubss => Scalar(4, single::sub),
        M::Subsd | M::Vsubsd => Scalar(8, double::sub),
        M::Mulps | M::Vmulps => Lanes(4, mulps),
        M::Mulpd | M::Vmulpd => Lanes(8, mulpd),
        M::Mulss | M::Vmulss => Scalar(4, single::mul),
        M::Mulsd | M::Vmulsd => Scalar(8, double::mul),
        M::Divps | M::Vdivps => Lanes(4, divps),
        M::Divpd | M::Vdivpd => Lanes(8, divpd),
        M::Divss | M::Vdivss => Scalar(4, single::div),
        M::Divsd | M::Vdivsd => Scalar(8, double::div),
        M::Minps | M::Vminps => Lanes(4, minps),
        M::Minpd | M::Vminpd => Lanes(8, minpd),
        M::Minss | M::Vminss => Scalar(4, single::min),
        M::Minsd | M::Vminsd => Scalar(8, double::min),
        M::Maxps | M::Vmaxps => Lanes(4, maxps),
        M::Maxpd | M::Vmaxpd => Lanes(8, maxpd),
        M::Maxss | M::Vmaxss => Scalar(4, single::max),
        M::Maxsd | M::Vmaxsd => Scalar(8, double::max),
        M::Sqrtps | M::Vsqrtps => Unary(4, sqrtps),
        M::Sqrtpd | M::Vsqrtpd => Unary(8, sqrtpd),
        M::Sqrtss | M::Vsqrtss => ScalarUnary(4, single::sqrt),
        M::Sqrtsd | M::Vsqrtsd => ScalarUnary(8, double::sqrt),
        M::Cvtdq2ps | M::Vcvtdq2ps => Unary(4, integers_to_singles),
        M::Cvtps2dq | M::Vcvtps2dq => Unary(4, singles_to_integers),
        M::Cvttps2dq | M::Vcvttps2dq => Unary(4, singles_to_integers_truncating),
        _ => return None,
    })
}

/// The sources of a legacy or VEX instruction.
fn sources(op: &Op) -> (usize, usize) {
    if op.vex { (1, 2) } else { (0, 1) }
}

/// Makes a lane of `size` bytes unknown wherever one of its bytes is.
fn whole_lanes(poison: u16, size: u8) -> u16 {
    let full = u16::MAX >> (16 - size);
    (0..16 / size).map(|i| full << (i * size)).filter(|lane| poison & lane != 0).fold(0, |sum, lane| sum | lane)
}

/// `cmpps`, `cmppd`.
fn compare_packed(cpu: &mut Cpu<'_>, op: &Op, width: u32, f: fn(u64, u64, u8) -> u64) -> Done {
    let (first, second) = sources(op);
    let (a, b) = (cpu.vector_of(op, first, op.sizes[0])?, cpu.vector_of(op, second, op.sizes[0])?);
    let control = predicate(op);
    let mut result = Vector::ZERO;
    for i in 0..2 {
        result.bits[i] = each(a.bits[i], b.bits[i], width, |a, b| f(a, b, control));
        result.poison[i] = whole_lanes(a.poison[i] | b.poison[i], (width / 8) as u8);
    }
    cpu.set_vector(op, 0, result)
}

/// `cmpss`, `cmpsd`.
fn compare_scalar(cpu: &mut Cpu<'_>, op: &Op, size: u8, f: fn(u64, u64, u8) -> u64) -> Done {
    let (first, second) = sources(op);
    let a = cpu.vector_of(op, first, 16)?;
    let (x, y) = (a.low(size), cpu.vector_of(op, second, size)?.low(size));
    let result = Value::all_or_nothing(f(x.bits, y.bits, predicate(op)), x.poison | y.poison);
    cpu.set_vector(op, 0, a.with_low(size, result))
}

/// The predicate of a comparison: legacy instructions have eight of them.
fn predicate(op: &Op) -> u8 {
    immediate(op) & if op.vex { 31 } else { 7 }
}

pub(super) fn op_cmpps(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    compare_packed(cpu, op, 32, single::compare)
}

pub(super) fn op_cmppd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    compare_packed(cpu, op, 64, double::compare)
}

pub(super) fn op_cmpss(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    compare_scalar(cpu, op, 4, single::compare)
}

pub(super) fn op_cmpsd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    compare_scalar(cpu, op, 8, double::compare)
}

/// `ucomiss` and its kin: the order of two numbers in ZF, PF and CF.
fn compare_flags(cpu: &mut Cpu<'_>, op: &Op, size: u8, f: fn(u64, u64) -> Option<std::cmp::Ordering>) -> Done {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let (a, b) = (cpu.vector_of(op, 0, size)?.low(size), cpu.vector_of(op, 1, size)?.low(size));
    let flags = match f(a.bits, b.bits) {
        None => ZF | PF | CF,
        Some(Less) => CF,
        Some(Equal) => ZF,
        Some(Greater) => 0,
    };
    cpu.flags.set(STATUS, flags);
    if a.poison | b.poison != 0 {
        cpu.flags.forget(ZF | PF | CF);
    }
    Ok(())
}

pub(super) fn op_comiss(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    compare_flags(cpu, op, 4, single::order)
}

pub(super) fn op_comisd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    compare_flags(cpu, op, 8, double::order)
}

/// A scalar conversion within vector registers, from `from` to `to` bytes.
fn convert_scalar(cpu: &mut Cpu<'_>, op: &Op, from: u8, to: u8, f: impl Fn(u64) -> u64) -> Done {
    let (first, second) = sources(op);
    let above = cpu.vector_of(op, first, 16)?;
    let source = cpu.vector_of(op, second, from)?.low(from);
    cpu.set_vector(op, 0, above.with_low(to, Value::all_or_nothing(f(source.bits), source.poison)))
}

pub(super) fn op_cvtss2sd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    convert_scalar(cpu, op, 4, 8, widen)
}

pub(super) fn op_cvtsd2ss(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    convert_scalar(cpu, op, 8, 4, narrow)
}

/// From an integer register or memory into the low lane.
fn from_integer(cpu: &mut Cpu<'_>, op: &Op, to: u8, f: fn(i64) -> u64) -> Done {
    let (first, second) = sources(op);
    let above = cpu.vector_of(op, first, 16)?;
    let value = match signed(cpu, op, second)? {
        Some(source) => Value::known(f(source)),
        None => Value::unknown(),
    };
    cpu.set_vector(op, 0, above.with_low(to, value))
}

pub(super) fn op_cvtsi2ss(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    from_integer(cpu, op, 4, single::from_integer)
}

pub(super) fn op_cvtsi2sd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    from_integer(cpu, op, 8, double::from_integer)
}

/// From the low lane of `from` bytes into an integer register.
fn to_integer(cpu: &mut Cpu<'_>, op: &Op, from: u8, f: impl Fn(u64, u8) -> u64) -> Done {
    let source = cpu.vector_of(op, 1, from)?.low(from);
    cpu.set(op, 0, Value::all_or_nothing(f(source.bits, op.sizes[0]), source.poison))
}

pub(super) fn op_cvtss2si(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    to_integer(cpu, op, 4, |a, size| single::to_integer(a, size, false))
}

pub(super) fn op_cvttss2si(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    to_integer(cpu, op, 4, |a, size| single::to_integer(a, size, true))
}

pub(super) fn op_cvtsd2si(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    to_integer(cpu, op, 8, |a, size| double::to_integer(a, size, false))
}

pub(super) fn op_cvttsd2si(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    to_integer(cpu, op, 8, |a, size| double::to_integer(a, size, true))
}

/// Lanes of a vector of up to 256 bits, `from` bytes each, as values.
fn lanes(vector: Vector, from: u8) -> impl Iterator<Item = Value> {
    let per_half = 16 / from;
    (0..2 * per_half).map(move |i| {
        let (half, at) = (usize::from(i / per_half), u32::from(i % per_half) * u32::from(from));
        Value { bits: (vector.bits[half] >> (8 * at)) as u64, poison: (vector.poison[half] >> at) as u8 }.low(from)
    })
}

/// A vector of lanes of `to` bytes.
fn collect(to: u8, values: impl Iterator<Item = Value>) -> Vector {
    let per_half = 16 / to;
    let mut vector = Vector::ZERO;
    for (value, i) in values.zip(0..2 * per_half) {
        let (half, at) = (usize::from(i / per_half), u32::from(i % per_half) * u32::from(to));
        let value = value.low(to);
        vector.bits[half] |= u128::from(value.bits) << (8 * at);
        vector.poison[half] |= u16::from(value.poison) << at;
    }
    vector
}

/// A packed conversion between lanes of different widths: `count` lanes in all, the rest of the destination zero.
fn convert_packed(cpu: &mut Cpu<'_>, op: &Op, from: u8, to: u8, f: impl Fn(u64) -> u64) -> Done {
    let widest = from.max(to);
    // The wider side is the whole vector: the destination when widening, the source when narrowing.
    let whole = if to > from { op.sizes[0] } else { op.sizes[1] };
    let count = whole / widest;
    let source = cpu.vector_of(op, 1, count * from)?;
    let converted = lanes(source, from).take(usize::from(count)).map(|v| Value::all_or_nothing(f(v.bits), v.poison));
    let result = collect(to, converted);
    cpu.set_vector(op, 0, result)
}

pub(super) fn op_cvtps2pd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    convert_packed(cpu, op, 4, 8, widen)
}

pub(super) fn op_cvtpd2ps(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    convert_packed(cpu, op, 8, 4, narrow)
}

pub(super) fn op_cvtdq2pd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    convert_packed(cpu, op, 4, 8, |a| double::from_integer(i64::from(a as u32 as i32)))
}

pub(super) fn op_cvtpd2dq(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    convert_packed(cpu, op, 8, 4, |a| double::to_integer(a, 4, false))
}

pub(super) fn op_cvttpd2dq(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    convert_packed(cpu, op, 8, 4, |a| double::to_integer(a, 4, true))
}

/// `roundss`, `roundsd`.
fn round_scalar(cpu: &mut Cpu<'_>, op: &Op, size: u8, f: fn(u64, u8) -> u64) -> Done {
    let control = immediate(op);
    convert_scalar(cpu, op, size, size, |a| f(a, control))
}

/// `roundps`, `roundpd`.
fn round_packed(cpu: &mut Cpu<'_>, op: &Op, size: u8, f: fn(u64, u8) -> u64) -> Done {
    let control = immediate(op);
    let source = cpu.vector_of(op, 1, op.sizes[0])?;
    let rounded = lanes(source, size)
        .take(usize::from(op.sizes[0] / size))
        .map(|v| Value::all_or_nothing(f(v.bits, control), v.poison));
    let result = collect(size, rounded);
    cpu.set_vector(op, 0, result)
}

pub(super) fn op_roundss(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    round_scalar(cpu, op, 4, single::round)
}

pub(super) fn op_roundsd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    round_scalar(cpu, op, 8, double::round)
}

pub(super) fn op_roundps(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    round_packed(cpu, op, 4, single::round)
}

pub(super) fn op_roundpd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    round_packed(cpu, op, 8, double::round)
}

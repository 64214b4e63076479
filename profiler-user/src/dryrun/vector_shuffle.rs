//! Instructions that move lanes within vectors: unknown bytes move with them.

use iced_x86::Mnemonic;

use super::code::{Op, Operand};
use super::cpu::Cpu;
use super::unknown::Why;
use super::value::{collapse_wide, expand_wide};
use super::vector::{Packed, Vector, immediate};

type Done = Result<(), Why>;

/// Lane `i` of `width` bits.
fn lane(v: u128, width: u32, i: u32) -> u128 {
    v >> (width * i) & (u128::MAX >> (128 - width))
}

/// A vector of the given lanes of `width` bits, lowest first.
fn join(width: u32, lanes: impl IntoIterator<Item = u128>) -> u128 {
    lanes.into_iter().zip(0..).fold(0, |sum, (lane, i): (u128, u32)| sum | lane << (width * i))
}

/// Two bits of a control byte.
fn pick(control: u8, i: u32) -> u32 {
    u32::from(control >> (2 * i) & 3)
}

/// Makes a function that takes lanes alternately from the lower or upper halves of both operands.
macro_rules! unpack {
    ($name:ident, $width:expr, $first:expr) => {
        fn $name(a: u128, b: u128, _: u8) -> u128 {
            let lanes = 128 / $width / 2;
            join(
                $width,
                (0..lanes).flat_map(|i| [lane(a, $width, $first * lanes + i), lane(b, $width, $first * lanes + i)]),
            )
        }
    };
}

unpack!(unpack_low8, 8, 0);
unpack!(unpack_low16, 16, 0);
unpack!(unpack_low32, 32, 0);
unpack!(unpack_low64, 64, 0);
unpack!(unpack_high8, 8, 1);
unpack!(unpack_high16, 16, 1);
unpack!(unpack_high32, 32, 1);
unpack!(unpack_high64, 64, 1);

fn pshufd(a: u128, control: u8) -> u128 {
    join(32, (0..4).map(|i| lane(a, 32, pick(control, i))))
}

fn pshuflw(a: u128, control: u8) -> u128 {
    join(16, (0..8).map(|i| lane(a, 16, if i < 4 { pick(control, i) } else { i })))
}

fn pshufhw(a: u128, control: u8) -> u128 {
    join(16, (0..8).map(|i| lane(a, 16, if i < 4 { i } else { 4 + pick(control, i - 4) })))
}

fn shufps(a: u128, b: u128, control: u8) -> u128 {
    join(32, (0..4).map(|i| lane(if i < 2 { a } else { b }, 32, pick(control, i))))
}

fn shift_left_bytes(a: u128, count: u8) -> u128 {
    a.checked_shl(u32::from(count) * 8).unwrap_or(0)
}

fn shift_right_bytes(a: u128, count: u8) -> u128 {
    a.checked_shr(u32::from(count) * 8).unwrap_or(0)
}

/// The bytes from `count` on of the first operand above the second.
fn palignr(a: u128, b: u128, count: u8) -> u128 {
    let bits = u32::from(count) * 8;
    match bits {
        0 => b,
        1..=127 => b >> bits | a << (128 - bits),
        _ => a.checked_shr(bits - 128).unwrap_or(0),
    }
}

fn blend16(a: u128, b: u128, control: u8) -> u128 {
    join(16, (0..8).map(|i| lane(if control >> i & 1 != 0 { b } else { a }, 16, i)))
}

fn double_low64(a: u128, _: u8) -> u128 {
    join(64, [lane(a, 64, 0), lane(a, 64, 0)])
}

fn double_even32(a: u128, _: u8) -> u128 {
    pshufd(a, 0b10_10_00_00)
}

fn double_odd32(a: u128, _: u8) -> u128 {
    pshufd(a, 0b11_11_01_01)
}

/// Instructions that only move bytes, 128 bits at a time.
pub(super) fn find(mnemonic: Mnemonic) -> Option<Packed> {
    use Mnemonic as M;
    use Packed::{Shuffle, ShuffleOne};
    Some(match mnemonic {
        M::Punpcklbw | M::Vpunpcklbw => Shuffle(unpack_low8),
        M::Punpcklwd | M::Vpunpcklwd => Shuffle(unpack_low16),
        M::Punpckldq | M::Vpunpckldq | M::Unpcklps | M::Vunpcklps => Shuffle(unpack_low32),
        M::Punpcklqdq | M::Vpunpcklqdq | M::Unpcklpd | M::Vunpcklpd => Shuffle(unpack_low64),
        M::Punpckhbw | M::Vpunpckhbw => Shuffle(unpack_high8),
        M::Punpckhwd | M::Vpunpckhwd => Shuffle(unpack_high16),
        M::Punpckhdq | M::Vpunpckhdq | M::Unpckhps | M::Vunpckhps => Shuffle(unpack_high32),
        M::Punpckhqdq | M::Vpunpckhqdq | M::Unpckhpd | M::Vunpckhpd => Shuffle(unpack_high64),
        M::Pshufd | M::Vpshufd => ShuffleOne(pshufd),
        M::Pshuflw | M::Vpshuflw => ShuffleOne(pshuflw),
        M::Pshufhw | M::Vpshufhw => ShuffleOne(pshufhw),
        M::Shufps | M::Vshufps => Shuffle(shufps),
        M::Pslldq | M::Vpslldq => ShuffleOne(shift_left_bytes),
        M::Psrldq | M::Vpsrldq => ShuffleOne(shift_right_bytes),
        M::Palignr | M::Vpalignr => Shuffle(palignr),
        M::Pblendw | M::Vpblendw => Shuffle(blend16),
        M::Movsldup | M::Vmovsldup => ShuffleOne(double_even32),
        M::Movshdup | M::Vmovshdup => ShuffleOne(double_odd32),
        _ => return None,
    })
}

/// The two operands a legacy or VEX instruction computes from.
fn pair(cpu: &Cpu<'_>, op: &Op) -> Result<(Vector, Vector), Why> {
    let first = usize::from(op.vex);
    Ok((cpu.vector_of(op, first, op.sizes[0])?, cpu.vector_of(op, first + 1, op.sizes[0])?))
}

/// `pshufb`: bytes of the first operand chosen by the second; an unknown choice makes its byte unknown.
pub(super) fn op_pshufb(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    fn choose(a: u128, control: u128) -> u128 {
        join(
            8,
            (0..16).map(|i| {
                let by = lane(control, 8, i) as u32;
                if by & 0x80 != 0 { 0 } else { lane(a, 8, by & 15) }
            }),
        )
    }
    let (a, control) = pair(cpu, op)?;
    let mut result = Vector::ZERO;
    for i in 0..2 {
        result.bits[i] = choose(a.bits[i], control.bits[i]);
        result.poison[i] = collapse_wide(choose(expand_wide(a.poison[i]), control.bits[i])) | control.poison[i];
    }
    cpu.set_vector(op, 0, result)
}

/// Narrows lanes of `from` bits of both operands to half their width.
fn narrow(cpu: &mut Cpu<'_>, op: &Op, from: u32, f: fn(i64) -> u64) -> Done {
    let (a, b) = pair(cpu, op)?;
    let to = from / 2;
    let half = |a: u128, b: u128, f: &dyn Fn(u128) -> u128| {
        let each = |v: u128| (0..128 / from).map(move |i| lane(v, from, i));
        join(to, each(a).chain(each(b)).map(f))
    };
    let saturate = |v: u128| u128::from(f(super::value::sign_extend(v as u64, (from / 8) as u8) as i64));
    let unknown = |v: u128| if v == 0 { 0 } else { u128::MAX >> (128 - to) };
    let mut result = Vector::ZERO;
    for i in 0..2 {
        result.bits[i] = half(a.bits[i], b.bits[i], &saturate);
        result.poison[i] = collapse_wide(half(expand_wide(a.poison[i]), expand_wide(b.poison[i]), &unknown));
    }
    cpu.set_vector(op, 0, result)
}

pub(super) fn op_packsswb(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    narrow(cpu, op, 16, |v| v.clamp(-0x80, 0x7f) as u64 & 0xff)
}

pub(super) fn op_packuswb(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    narrow(cpu, op, 16, |v| v.clamp(0, 0xff) as u64)
}

pub(super) fn op_packssdw(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    narrow(cpu, op, 32, |v| v.clamp(-0x8000, 0x7fff) as u64 & 0xffff)
}

pub(super) fn op_packusdw(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    narrow(cpu, op, 32, |v| v.clamp(0, 0xffff) as u64)
}

/// `shufpd`: unlike `shufps`, each half of a 256-bit one has bits of its own in the control byte.
pub(super) fn op_shufpd(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let (a, b) = pair(cpu, op)?;
    let control = immediate(op);
    let mut result = Vector::ZERO;
    for i in 0..2 {
        let control = u32::from(control >> (2 * i));
        let f = |a, b| join(64, [lane(a, 64, control & 1), lane(b, 64, control >> 1 & 1)]);
        result.bits[i] = f(a.bits[i], b.bits[i]);
        result.poison[i] = collapse_wide(f(expand_wide(a.poison[i]), expand_wide(b.poison[i])));
    }
    cpu.set_vector(op, 0, result)
}

/// `blendps`, `blendpd`, `vpblendd`: lanes by the bits of the control byte, counted through both halves.
fn blend(cpu: &mut Cpu<'_>, op: &Op, width: u32) -> Done {
    let (a, b) = pair(cpu, op)?;
    let control = immediate(op);
    let lanes = 128 / width;
    let mut result = Vector::ZERO;
    for (i, shift) in [(0, 0), (1, lanes)] {
        let f =
            |a, b| join(width, (0..lanes).map(|k| lane(if control >> (shift + k) & 1 != 0 { b } else { a }, width, k)));
        result.bits[i] = f(a.bits[i], b.bits[i]);
        result.poison[i] = collapse_wide(f(expand_wide(a.poison[i]), expand_wide(b.poison[i])));
    }
    cpu.set_vector(op, 0, result)
}

pub(super) fn op_blend32(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    blend(cpu, op, 32)
}

pub(super) fn op_blend64(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    blend(cpu, op, 64)
}

/// `pblendvb`, `blendvps`, `blendvpd`: lanes by the top bits of a mask, which is `xmm0` or the last operand.
fn blend_by_mask(cpu: &mut Cpu<'_>, op: &Op, width: u32) -> Done {
    let (a, b) = pair(cpu, op)?;
    let chooser = if op.vex { cpu.vector_of(op, 3, op.sizes[0])? } else { cpu.vectors[0] };
    let mut result = Vector::ZERO;
    for i in 0..2 {
        let chosen = |k: u32| lane(chooser.bits[i], width, k) >> (width - 1) != 0;
        let f = |a, b| join(width, (0..128 / width).map(|k| lane(if chosen(k) { b } else { a }, width, k)));
        let unknown = join(
            width,
            (0..128 / width).map(|k| {
                let top = chooser.poison[i] >> (width / 8 * (k + 1) - 1) & 1 != 0;
                if top { u128::MAX >> (128 - width) } else { 0 }
            }),
        );
        result.bits[i] = f(a.bits[i], b.bits[i]);
        result.poison[i] = collapse_wide(f(expand_wide(a.poison[i]), expand_wide(b.poison[i])) | unknown);
    }
    cpu.set_vector(op, 0, result)
}

pub(super) fn op_blendv8(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    blend_by_mask(cpu, op, 8)
}

pub(super) fn op_blendv32(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    blend_by_mask(cpu, op, 32)
}

pub(super) fn op_blendv64(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    blend_by_mask(cpu, op, 64)
}

/// `movddup`: from memory, only eight bytes are read.
pub(super) fn op_movddup(cpu: &mut Cpu<'_>, op: &Op) -> Done {
    let a = cpu.vector(op, 1)?;
    let f = |half| double_low64(half, 0);
    let poison = a.poison.map(|p| collapse_wide(f(expand_wide(p))));
    cpu.set_vector(op, 0, Vector { bits: a.bits.map(f), poison })
}

/// `pmovzx` and `pmovsx`: widens lanes from `from` to `to` bits over the whole destination.
fn extend(cpu: &mut Cpu<'_>, op: &Op, from: u32, to: u32, signed: bool) -> Done {
    let read = (u32::from(op.sizes[0]) * from / to) as u8;
    let size = if op.operands[1] == Operand::Memory { read } else { 16 };
    let source = cpu.vector_of(op, 1, size)?;
    let in_half = 128 / to;
    let mut result = Vector::ZERO;
    for (i, first) in [(0, 0), (1, in_half)] {
        let unknown = expand_wide(source.poison[0]);
        result.bits[i] = join(
            to,
            (first..first + in_half).map(|k| {
                let v = lane(source.bits[0], from, k);
                let extended = if signed { super::value::sign_extend(v as u64, (from / 8) as u8) } else { v as u64 };
                u128::from(extended) & (u128::MAX >> (128 - to))
            }),
        );
        result.poison[i] = collapse_wide(join(
            to,
            (first..first + in_half).map(|k| {
                let poison = lane(unknown, from, k);
                let spreads = signed && poison >> (from - 1) != 0;
                if spreads { poison | u128::MAX >> (128 - to) & !(u128::MAX >> (128 - from)) } else { poison }
            }),
        ));
    }
    cpu.set_vector(op, 0, result)
}

/// Makes the instructions that widen lanes.
macro_rules! extensions {
    ($($name:ident $from:literal $to:literal $signed:literal;)*) => {
        $(pub(super) fn $name(cpu: &mut Cpu<'_>, op: &Op) -> Done {
            extend(cpu, op, $from, $to, $signed)
        })*
    };
}

extensions! {
    op_pmovzxbw 8 16 false;
    op_pmovzxbd 8 32 false;
    op_pmovzxbq 8 64 false;
    op_pmovzxwd 16 32 false;
    op_pmovzxwq 16 64 false;
    op_pmovzxdq 32 64 false;
    op_pmovsxbw 8 16 true;
    op_pmovsxbd 8 32 true;
    op_pmovsxbq 8 64 true;
    op_pmovsxwd 16 32 true;
    op_pmovsxwq 16 64 true;
    op_pmovsxdq 32 64 true;
}

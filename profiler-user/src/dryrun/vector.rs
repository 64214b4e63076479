//! Vector registers and operands, and the shapes most vector instructions have.
//!
//! A packed instruction is a plain function over 128 bits; the shape it is given in the table says how its poison spreads
//! and how it is applied to two or three operands, and to each half of a 256-bit one.

use super::code::{Op, Operand};
use super::cpu::Cpu;
use super::unknown::Why;
use super::value::{Value, collapse_wide, expand_wide};

type Done = Result<(), Why>;

/// A 256-bit register in two halves, with one bit of poison a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vector {
    pub bits: [u128; 2],
    pub poison: [u16; 2],
}

impl Vector {
    /// All zero.
    pub(super) const ZERO: Self = Self { bits: [0; 2], poison: [0; 2] };

    /// Nothing known.
    pub(super) fn unknown() -> Self {
        Self { bits: [0; 2], poison: [u16::MAX; 2] }
    }

    /// The low `size` bytes (at most eight) as an integer.
    pub(super) fn low(self, size: u8) -> Value {
        Value { bits: self.bits[0] as u64, poison: self.poison[0] as u8 }.low(size)
    }

    /// The integer, with zeros above.
    pub(super) fn from_low(value: Value) -> Self {
        Self { bits: [u128::from(value.bits), 0], poison: [u16::from(value.poison), 0] }
    }

    /// With its low `size` bytes replaced.
    pub(super) fn with_low(mut self, size: u8, value: Value) -> Self {
        let bits = super::value::mask(size);
        let bytes = super::value::byte_mask(size);
        self.bits[0] = self.bits[0] & !u128::from(bits) | u128::from(value.bits & bits);
        self.poison[0] = self.poison[0] & !u16::from(bytes) | u16::from(value.poison & bytes);
        self
    }
}

impl Cpu<'_> {
    /// Reads a vector operand of at most 32 bytes, zero-extended.
    pub(super) fn vector(&self, op: &Op, k: usize) -> Result<Vector, Why> {
        self.vector_of(op, k, op.sizes[k])
    }

    /// Reads `size` bytes of a vector operand, zero-extended.
    pub(super) fn vector_of(&self, op: &Op, k: usize, size: u8) -> Result<Vector, Why> {
        match op.operands[k] {
            Operand::Vector(index) => {
                let mut vector = self.vectors[usize::from(index)];
                match size {
                    32 => {}
                    16 => (vector.bits[1], vector.poison[1]) = (0, 0),
                    _ => vector = Vector::from_low(vector.low(size)),
                }
                Ok(vector)
            }
            Operand::Memory => self.load_vector(self.address(op)?, size),
            Operand::Register(_) => Ok(Vector::from_low(self.get(op, k)?)),
            Operand::Immediate(_) | Operand::None => Ok(Vector::unknown()),
        }
    }

    /// Loads `size` bytes, at most 32, zero-extended.
    pub(super) fn load_vector(&self, address: u64, size: u8) -> Result<Vector, Why> {
        let mut buf = [0; 32];
        let poison = self.memory.read(address, &mut buf[..usize::from(size.min(32))])?;
        let (low, high) = buf.split_at(16);
        let half = |bytes: &[u8]| bytes.iter().rev().fold(0, |bits, byte| bits << 8 | u128::from(*byte));
        Ok(Vector { bits: [half(low), half(high)], poison: [poison as u16, (poison >> 16) as u16] })
    }

    /// Stores the low `size` bytes.
    pub(super) fn store_vector(&mut self, address: u64, size: u8, vector: Vector) -> Done {
        let mut buf = [0; 32];
        buf[..16].copy_from_slice(&vector.bits[0].to_le_bytes());
        buf[16..].copy_from_slice(&vector.bits[1].to_le_bytes());
        let poison = u32::from(vector.poison[0]) | u32::from(vector.poison[1]) << 16;
        self.memory.write(address, &buf[..usize::from(size.min(32))], poison)
    }

    /// Writes a vector operand. Legacy instructions keep the upper half of the register, VEX-encoded ones clear what they
    /// do not write.
    pub(super) fn set_vector(&mut self, op: &Op, k: usize, vector: Vector) -> Done {
        match op.operands[k] {
            Operand::Vector(index) => {
                let register = &mut self.vectors[usize::from(index)];
                (register.bits[0], register.poison[0]) = (vector.bits[0], vector.poison[0]);
                if op.sizes[k] == 32 {
                    (register.bits[1], register.poison[1]) = (vector.bits[1], vector.poison[1]);
                } else if op.vex {
                    (register.bits[1], register.poison[1]) = (0, 0);
                }
                Ok(())
            }
            Operand::Memory => self.store_vector(self.address(op)?, op.sizes[k], vector),
            Operand::Register(_) => self.set(op, k, vector.low(8)),
            Operand::Immediate(_) | Operand::None => Ok(()),
        }
    }
}

/// The shape of a vector instruction, with what it computes.
#[derive(Clone, Copy)]
pub(super) enum Packed {
    /// Of two operands, lane by lane of so many bytes: a lane is unknown when either operand's is.
    Lanes(u8, fn(u128, u128) -> u128),
    /// The same where equal operands give the same result whatever they are (`pxor x,x`, `pcmpeqd x,x`).
    Cancelling(u8, fn(u128, u128) -> u128),
    /// Of one operand, lane by lane.
    Unary(u8, fn(u128) -> u128),
    /// Moves bytes of two operands; the immediate, if any, says how. Poison moves with them.
    Shuffle(fn(u128, u128, u8) -> u128),
    /// Moves bytes of one operand.
    ShuffleOne(fn(u128, u8) -> u128),
    /// Shifts each lane by one count from an immediate or the low eight bytes of a register or memory.
    Shift(u8, fn(u128, u64) -> u128),
    /// On the lowest lane only, of so many bytes; the rest comes from the first operand.
    Scalar(u8, fn(u64, u64) -> u64),
    /// The same of the second operand alone.
    ScalarUnary(u8, fn(u64) -> u64),
}

/// Makes a poisoned byte poison its whole lane of `lane` bytes.
fn widen(poison: u16, lane: u8) -> u16 {
    if poison == 0 || lane == 1 {
        return poison;
    }
    let full = u16::MAX >> (16 - lane);
    (0..16 / lane).map(|i| full << (i * lane)).filter(|lane| poison & lane != 0).fold(0, |sum, lane| sum | lane)
}

/// The operands of an instruction that computes from two: legacy ones use the destination as the first.
fn sources(op: &Op) -> (usize, usize) {
    if op.vex { (1, 2) } else { (0, 1) }
}

/// The immediate, wherever it stands.
pub(super) fn immediate(op: &Op) -> u8 {
    op.operands
        .iter()
        .rev()
        .find_map(|o| if let Operand::Immediate(i) = o { Some(*i as u8) } else { None })
        .unwrap_or(0)
}

impl Packed {
    /// Runs the instruction.
    pub(super) fn run(self, cpu: &mut Cpu<'_>, op: &Op) -> Done {
        let size = op.sizes[0];
        match self {
            Self::Lanes(lane, f) => {
                let (a, b) = (cpu.vector_of(op, sources(op).0, size)?, cpu.vector_of(op, sources(op).1, size)?);
                lanes(cpu, op, a, b, lane, f)
            }
            Self::Cancelling(lane, f) => {
                let (first, second) = sources(op);
                let same =
                    op.operands[first] == op.operands[second] && matches!(op.operands[first], Operand::Vector(_));
                let (a, b) = if same {
                    (Vector::ZERO, Vector::ZERO)
                } else {
                    (cpu.vector_of(op, first, size)?, cpu.vector_of(op, second, size)?)
                };
                lanes(cpu, op, a, b, lane, f)
            }
            Self::Unary(lane, f) => {
                let a = cpu.vector_of(op, 1, size)?;
                cpu.set_vector(op, 0, Vector { bits: a.bits.map(f), poison: a.poison.map(|p| widen(p, lane)) })
            }
            Self::Shuffle(f) => {
                let (a, b) = (cpu.vector_of(op, sources(op).0, size)?, cpu.vector_of(op, sources(op).1, size)?);
                let control = immediate(op);
                let half = |i: usize| {
                    let bits = f(a.bits[i], b.bits[i], control);
                    let poison = match (a.poison[i], b.poison[i]) {
                        (0, 0) => 0,
                        (first, second) => collapse_wide(f(expand_wide(first), expand_wide(second), control)),
                    };
                    (bits, poison)
                };
                set_halves(cpu, op, half)
            }
            Self::ShuffleOne(f) => {
                // `pslldq` and its kin have their one operand in the destination.
                let k = usize::from(!matches!(op.operands[1], Operand::Immediate(_)));
                let a = cpu.vector_of(op, k, size)?;
                let control = immediate(op);
                set_halves(cpu, op, |i| {
                    let poison = if a.poison[i] == 0 { 0 } else { collapse_wide(f(expand_wide(a.poison[i]), control)) };
                    (f(a.bits[i], control), poison)
                })
            }
            Self::Shift(lane, f) => {
                let (first, second) = sources(op);
                let a = cpu.vector_of(op, first, size)?;
                let count = match op.operands[second] {
                    Operand::Immediate(count) => Value::known(count & 0xff),
                    Operand::Memory => cpu.memory.load(cpu.address(op)?, 8)?,
                    _ => cpu.vector(op, second)?.low(8),
                };
                set_halves(cpu, op, |i| {
                    let poison = if count.poison == 0 { widen(a.poison[i], lane) } else { u16::MAX };
                    (f(a.bits[i], count.bits), poison)
                })
            }
            Self::Scalar(size, f) => {
                let (first, second) = sources(op);
                let a = cpu.vector_of(op, first, 16)?;
                let b = cpu.vector_of(op, second, size)?.low(size);
                let low = a.low(size);
                let result = Value::all_or_nothing(f(low.bits, b.bits), low.poison | b.poison);
                cpu.set_vector(op, 0, a.with_low(size, result))
            }
            Self::ScalarUnary(size, f) => {
                let (first, second) = sources(op);
                let a = cpu.vector_of(op, first, 16)?;
                let b = cpu.vector_of(op, second, size)?.low(size);
                cpu.set_vector(op, 0, a.with_low(size, Value::all_or_nothing(f(b.bits), b.poison)))
            }
        }
    }
}

fn lanes(cpu: &mut Cpu<'_>, op: &Op, a: Vector, b: Vector, lane: u8, f: fn(u128, u128) -> u128) -> Done {
    set_halves(cpu, op, |i| (f(a.bits[i], b.bits[i]), widen(a.poison[i] | b.poison[i], lane)))
}

/// Writes the destination from its halves.
fn set_halves(cpu: &mut Cpu<'_>, op: &Op, half: impl Fn(usize) -> (u128, u16)) -> Done {
    let (low, high) = (half(0), half(1));
    cpu.set_vector(op, 0, Vector { bits: [low.0, high.0], poison: [low.1, high.1] })
}

#[cfg(test)]
mod tests {
    use super::widen;

    #[test]
    fn poison_fills_its_lane() {
        assert_eq!(widen(0b0000_0000_0001_0010, 1), 0b0000_0000_0001_0010);
        assert_eq!(widen(0b0000_0000_0001_0010, 2), 0b0000_0000_0011_0011);
        assert_eq!(widen(0b0000_0000_0001_0000, 4), 0b0000_0000_1111_0000);
        assert_eq!(widen(0b1000_0000_0000_0000, 8), 0b1111_1111_0000_0000);
        assert_eq!(widen(0b1000_0000_0000_0000, 16), 0xffff);
    }
}

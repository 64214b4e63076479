//! Registers, flags and operands.

use super::code::{Location, Op, Operand, Register, Segment};
use super::flags::Flags;
use super::overlay::Overlay;
use super::unknown::Why;
use super::value::{Value, byte_mask, mask};
use super::vector::Vector;

/// A general-purpose register, in the order of the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the architecture's names")]
pub enum Reg {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl Reg {
    /// The registers that carry integer arguments under the System V ABI, in order.
    pub const ARGUMENTS: [Self; 6] = [Self::Rdi, Self::Rsi, Self::Rdx, Self::Rcx, Self::R8, Self::R9];

    /// The general-purpose registers a callee may change under the System V ABI, without `rax` and `rdx`.
    pub(super) const CALLER_SAVED: [Self; 7] =
        [Self::Rcx, Self::Rsi, Self::Rdi, Self::R8, Self::R9, Self::R10, Self::R11];
}

/// Place in the register file of "no register": always zero and known.
pub(super) const ZERO: u8 = 16;

/// The state that instructions work on.
pub(super) struct Cpu<'m> {
    gpr: [u64; 17],
    gpr_poison: [u8; 17],
    pub vectors: [Vector; 16],
    pub flags: Flags,
    pub fs_base: Option<u64>,
    pub memory: Overlay<'m>,
    /// Steps that repeated instructions cost besides their own.
    pub extra_steps: u64,
}

impl<'m> Cpu<'m> {
    /// Nothing known.
    pub(super) fn new(memory: Overlay<'m>) -> Self {
        let mut gpr_poison = [0xff; 17];
        gpr_poison[usize::from(ZERO)] = 0;
        Self {
            gpr: [0; 17],
            gpr_poison,
            vectors: [Vector::unknown(); 16],
            flags: Flags::at_entry(),
            fs_base: None,
            memory,
            extra_steps: 0,
        }
    }

    /// The whole of a register.
    pub(super) fn reg(&self, reg: Reg) -> Value {
        let i = reg as usize;
        Value { bits: self.gpr[i], poison: self.gpr_poison[i] }
    }

    /// Replaces the whole of a register.
    pub(super) fn set_reg(&mut self, reg: Reg, value: Value) {
        let i = reg as usize;
        self.gpr[i] = value.bits;
        self.gpr_poison[i] = value.poison;
    }

    /// The whole of the register with this number.
    #[cfg(test)]
    pub(super) fn whole(&self, index: u8) -> Value {
        let i = usize::from(index);
        Value { bits: self.gpr[i], poison: self.gpr_poison[i] }
    }

    /// Replaces the whole of the register with this number.
    pub(super) fn set_whole(&mut self, index: u8, value: Value) {
        let i = usize::from(index);
        self.gpr[i] = value.bits;
        self.gpr_poison[i] = value.poison;
    }

    /// The low `size` bytes of a register, with the rest zero.
    pub(super) fn low(&self, reg: Reg, size: u8) -> Value {
        self.reg(reg).low(size)
    }

    /// Writes the low `size` bytes of a register as an instruction does: four clear the upper half, fewer keep the rest.
    pub(super) fn set_low(&mut self, reg: Reg, size: u8, value: Value) {
        self.write_register(Register { index: reg as u8, size, high: false }, value);
    }

    /// A register that must be known: `what` it is used as.
    pub(super) fn must(&self, reg: Reg, what: &'static str) -> Result<u64, Why> {
        self.reg(reg).get().ok_or(Why::Poison(what))
    }

    fn read_register(&self, register: Register) -> Value {
        let i = usize::from(register.index);
        let shift = u32::from(register.high);
        let whole = Value { bits: self.gpr[i] >> (8 * shift), poison: self.gpr_poison[i] >> shift };
        whole.low(register.size)
    }

    fn write_register(&mut self, register: Register, value: Value) {
        let i = usize::from(register.index);
        match register.size {
            8 => (self.gpr[i], self.gpr_poison[i]) = (value.bits, value.poison),
            4 => (self.gpr[i], self.gpr_poison[i]) = (value.bits & mask(4), value.poison & byte_mask(4)),
            size => {
                let shift = u32::from(register.high);
                let bits = mask(size) << (8 * shift);
                let bytes = byte_mask(size) << shift;
                self.gpr[i] = self.gpr[i] & !bits | value.bits << (8 * shift) & bits;
                self.gpr_poison[i] = self.gpr_poison[i] & !bytes | value.poison << shift & bytes;
            }
        }
    }

    /// The address of an instruction's memory operand.
    pub(super) fn address(&self, op: &Op) -> Result<u64, Why> {
        let effective = self.effective(op).get().ok_or(Why::Poison("an address"))?;
        match op.memory.segment {
            Segment::Flat => Ok(effective),
            Segment::Fs => {
                let base = self.fs_base.ok_or(Why::Poison("the base of thread-local storage"))?;
                Ok(base.wrapping_add(effective))
            }
            Segment::Gs => Err(Why::Segment),
        }
    }

    /// Base, index and displacement without the segment: what `lea` computes.
    pub(super) fn effective(&self, op: &Op) -> Value {
        let Location { base, index, scale, displacement, narrow, .. } = op.memory;
        let (base, index) = (usize::from(base), usize::from(index));
        let sum =
            self.gpr[base].wrapping_add(self.gpr[index].wrapping_mul(u64::from(scale))).wrapping_add(displacement);
        let bits = if narrow { sum & mask(4) } else { sum };
        Value::all_or_nothing(bits, self.gpr_poison[base] | self.gpr_poison[index])
    }

    /// Reads an integer operand, zero-extended.
    pub(super) fn get(&self, op: &Op, k: usize) -> Result<Value, Why> {
        match op.operands[k] {
            Operand::Register(register) => Ok(self.read_register(register)),
            Operand::Memory => self.memory.load(self.address(op)?, op.sizes[k]),
            Operand::Immediate(bits) => Ok(Value::known(bits & mask(op.sizes[k]))),
            Operand::Vector(_) | Operand::None => Ok(Value::unknown()),
        }
    }

    /// Writes an integer operand.
    pub(super) fn set(&mut self, op: &Op, k: usize, value: Value) -> Result<(), Why> {
        match op.operands[k] {
            Operand::Register(register) => self.write_register(register, value),
            Operand::Memory => self.memory.store(self.address(op)?, op.sizes[k], value)?,
            Operand::Immediate(_) | Operand::Vector(_) | Operand::None => {}
        }
        Ok(())
    }

    /// Pushes `size` bytes.
    pub(super) fn push(&mut self, size: u8, value: Value) -> Result<(), Why> {
        let sp = self.must(Reg::Rsp, "the stack pointer")?.wrapping_sub(u64::from(size));
        self.memory.store(sp, size, value)?;
        self.set_reg(Reg::Rsp, Value::known(sp));
        Ok(())
    }

    /// Pops `size` bytes.
    pub(super) fn pop(&mut self, size: u8) -> Result<Value, Why> {
        let sp = self.must(Reg::Rsp, "the stack pointer")?;
        let value = self.memory.load_back(sp, size)?;
        self.set_reg(Reg::Rsp, Value::known(sp.wrapping_add(u64::from(size))));
        Ok(value)
    }
}

//! Random registers and memory that make an instruction do something.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::native::{Native, REACH, State};
use crate::dryrun::flags::{DF, STATUS};

/// A small generator: the same forms and states in every run.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// xorshift64*
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    /// Once in `times`.
    pub(super) fn chance(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// An integer with the edges more often than they deserve.
    fn integer(&mut self) -> u64 {
        match self.below(8) {
            0 => self.pick(&[0, 1, u64::MAX, i64::MIN as u64, i64::MAX as u64, 0x8000_0000, 0x7fff_ffff, 0xffff_ffff]),
            1 => self.below(256),
            2 => self.below(64).wrapping_neg(),
            3 => 1 << self.below(64),
            4 => self.pick(&[0x80, 0x7f, 0x8000, 0x7fff, 0xff00, 0x8080_8080_8080_8080, 0x7f00_ff80_0001_00ff]),
            5 => self.next() & self.next(),
            _ => self.next(),
        }
    }

    /// Eight bytes of integers or floating-point numbers, with the edges of either.
    fn lane(&mut self) -> u64 {
        let mut single = || -> u64 {
            let bits = match self.below(4) {
                0 => self.pick(&[
                    0,
                    0x8000_0000,
                    0x7f80_0000,
                    0xff80_0000,
                    0x7fc0_1234,
                    0x7f80_4321,
                    0xffbf_ffff,
                    1,
                    0x007f_ffff,
                    0x3f80_0000,
                    0x4f00_0000,
                    0xcf00_0000,
                    0x4eff_ffff,
                    0x5f00_0000,
                    0xdf00_0000,
                    0x3f00_0000,
                    0x3fc0_0000,
                    0xbf00_0000,
                    0x7f7f_ffff,
                ]),
                1 => (self.below(2000) as f32 / 4.0 - 250.0).to_bits(),
                _ => self.next() as u32,
            };
            u64::from(bits)
        };
        let pair = single() | single() << 32;
        match self.below(4) {
            0 => self.integer(),
            1 => pair,
            2 => self.pick(&[
                0,
                1 << 63,
                0x7ff0_0000_0000_0000,
                0xfff0_0000_0000_0000,
                0x7ff8_0000_0000_1234,
                0x7ff0_0000_dead_beef,
                0xfff7_ffff_ffff_ffff,
                1,
                0x41e0_0000_0000_0000,
                0xc1e0_0000_0020_0000,
                0x41df_ffff_ffe0_0000,
                0x43e0_0000_0000_0000,
                0xc3e0_0000_0000_0000,
                0x3fe0_0000_0000_0000,
                0x3ff8_0000_0000_0000,
                0x47ef_ffff_f000_0000,
                0x36a0_0000_0000_0000,
            ]),
            _ => (self.below(200_000) as f64 / 8.0 - 12_500.0).to_bits(),
        }
    }
}

/// Place of a register in [`State::gpr`].
fn place(register: Register) -> usize {
    register.full_register().number()
}

/// A state from which `instruction` may be run: what it uses as an address leads to the test memory.
pub(super) fn prepare(random: &mut Random, instruction: &Instruction, native: &Native) -> State {
    let middle = native.middle();
    let mut state = State {
        vectors: [[0; 32]; 16],
        gpr: [0; 16],
        flags: random.next() & u64::from(STATUS | DF),
        memory: vec![0; 2 * REACH],
    };
    // One random stretch, repeated: making all of it anew each time would take most of the test's time.
    let stretch: Vec<u8> = (0..16).flat_map(|_| random.lane().to_le_bytes()).collect();
    for part in state.memory.chunks_mut(stretch.len()) {
        part.copy_from_slice(&stretch);
    }
    for vector in &mut state.vectors {
        let halves = if native.has_wide_vectors() { 4 } else { 2 };
        for word in vector.chunks_mut(8).take(halves) {
            word.copy_from_slice(&random.lane().to_le_bytes());
        }
    }
    if random.chance(4) {
        state.vectors[1] = state.vectors[0];
    }
    for register in &mut state.gpr {
        *register = random.integer();
    }
    if random.chance(4) {
        state.gpr[0] = state.gpr[1];
    }
    state.gpr[place(Register::RSP)] = middle + random.below(32) * 8;
    let mnemonic = instruction.mnemonic();
    match mnemonic {
        Mnemonic::Leave => state.gpr[place(Register::RBP)] = middle + random.below(32) * 8,
        Mnemonic::Div | Mnemonic::Idiv if random.chance(2) => {
            // A quotient that has room.
            let rax = state.gpr[0];
            let sign = if mnemonic == Mnemonic::Idiv { (rax as i64 >> 63) as u64 } else { 0 };
            state.gpr[place(Register::RDX)] = sign;
            let size = instruction.memory_size().size().max(instruction.op0_register().size());
            match size {
                1 => state.gpr[0] &= 0x7f,
                2 => state.gpr[place(Register::RDX)] = 0,
                4 => (state.gpr[0], state.gpr[place(Register::RDX)]) = (rax & 0x7fff_ffff, 0),
                _ => {}
            }
        }
        _ => {}
    }
    if instruction.op_kinds().any(|kind| matches!(kind, OpKind::MemorySegRSI | OpKind::MemoryESRDI)) {
        state.gpr[place(Register::RSI)] = middle + random.below(256);
        state.gpr[place(Register::RDI)] = middle + random.below(256);
        if instruction.has_rep_prefix() || instruction.has_repne_prefix() {
            state.gpr[place(Register::RCX)] = random.below(30);
            if random.chance(2) {
                // Long runs of equal bytes, so that comparisons go on.
                state.memory[REACH - 300..REACH + 300].fill(0x11);
                state.gpr[0] = 0x1111_1111_1111_1111;
            }
        }
    }
    if instruction.op_kinds().any(|kind| kind == OpKind::Memory) {
        lead_to_memory(random, instruction, middle, &mut state);
    }
    state
}

/// Gives base and index of the memory operand values that make its address lie in the test memory.
fn lead_to_memory(random: &mut Random, instruction: &Instruction, middle: u64, state: &mut State) {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let number = instruction.op1_register();
    let counts_bits = matches!(instruction.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc);
    if counts_bits && number.is_gpr() {
        state.gpr[place(number)] = random.below(4_000).wrapping_sub(2_000);
    }
    // Vectors are wanted aligned, as some instructions insist.
    let aligned = (0..instruction.op_count()).any(|k| instruction.op_register(k).is_vector_register())
        || instruction.memory_size().size() >= 16;
    let target = middle + random.below(8) * 32 + if aligned { 0 } else { random.below(32) };
    if base.is_gpr() {
        let mut rest = target.wrapping_sub(instruction.memory_displacement64());
        if index.is_gpr() {
            let value = random.integer() & !31;
            state.gpr[place(index)] = value;
            rest = rest.wrapping_sub(value.wrapping_mul(u64::from(instruction.memory_index_scale())));
        }
        // Of 32-bit addresses the upper half does not count.
        let noise = if base.size() == 4 { random.next() << 32 } else { 0 };
        state.gpr[place(base)] = if base.size() == 4 { rest & 0xffff_ffff | noise } else { rest };
    }
    // What a compare-exchange compares is equal half of the time.
    let address = if base.is_gpr() { target } else { instruction.memory_displacement64() };
    let at = address.wrapping_sub(middle).wrapping_add(REACH as u64) as usize;
    let word = |at: usize| {
        state.memory.get(at..at + 8).map_or(0, |bytes| bytes.iter().rev().fold(0, |sum, b| sum << 8 | u64::from(*b)))
    };
    let free = |register| place(base) != place(register) || !base.is_gpr();
    match instruction.mnemonic() {
        Mnemonic::Cmpxchg if random.chance(2) => state.gpr[0] = word(at),
        Mnemonic::Cmpxchg8b if random.chance(2) && free(Register::RAX) && free(Register::RDX) && !index.is_gpr() => {
            let there = word(at);
            (state.gpr[0], state.gpr[2]) = (there & 0xffff_ffff, there >> 32);
        }
        Mnemonic::Cmpxchg16b if random.chance(2) && free(Register::RAX) && free(Register::RDX) && !index.is_gpr() => {
            (state.gpr[0], state.gpr[2]) = (word(at), word(at + 8));
        }
        _ => {}
    }
}

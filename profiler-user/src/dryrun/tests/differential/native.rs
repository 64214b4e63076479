//! Carries out one instruction on the processor, from given registers to the registers after.

use std::io;

/// Bytes of test memory on either side of the middle.
pub(super) const REACH: usize = 1024;
/// All registers of the program that runs an instruction.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub vectors: [[u8; 32]; 16],
    pub gpr: [u64; 16],
    pub flags: u64,
    /// Test memory: [`REACH`] bytes below and above the middle.
    pub memory: Vec<u8>,
}

const PAGE: usize = 4096;
/// Where things lie in the mapping: code with the instruction at a place of its own, registers, test memory.
const INSTRUCTION: usize = 2048;
const EPILOGUE: usize = 3072;
const REGISTERS: usize = PAGE;
const GPR: usize = REGISTERS + 512;
const FLAGS: usize = GPR + 128;
const HOST_SP: usize = FLAGS + 8;
const MEMORY: usize = 2 * PAGE;
const LENGTH: usize = MEMORY + 2 * REACH;

/// Addresses that forms refer to.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// Of the instruction.
    pub instruction: u64,
    /// The middle of the test memory.
    pub middle: u64,
}

/// A mapping with a small program that loads all registers, runs an instruction, and stores them.
pub(super) struct Native {
    base: *mut u8,
    wide: bool,
}

impl Native {
    /// Maps and assembles. The mapping lies below 2 GiB, so that 32-bit addresses reach it.
    pub(super) fn new() -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choosing touches nothing that exists.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), LENGTH, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mut native = Self { base: base.cast(), wide: is_x86_feature_detected!("avx") };
        native.assemble();
        Ok(native)
    }

    /// Where forms are to be made for.
    pub(super) fn places(&self) -> Places {
        Places { instruction: self.base as u64 + INSTRUCTION as u64, middle: self.middle() }
    }

    /// Address of the middle of the test memory.
    pub(super) fn middle(&self) -> u64 {
        self.base as u64 + (MEMORY + REACH) as u64
    }

    /// Whether the upper halves of vector registers exist.
    pub(super) fn has_wide_vectors(&self) -> bool {
        self.wide
    }

    fn copy_in(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= LENGTH);
        // SAFETY: the range lies within the mapping, which nothing else refers to.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(offset), bytes.len()) }
    }

    fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset + bytes.len() <= LENGTH);
        // SAFETY: the range lies within the mapping, which was zeroed by the kernel and written only by `copy_in` and runs.
        unsafe { std::ptr::copy_nonoverlapping(self.base.add(offset), bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Puts an instruction in its place, with the way to the epilogue behind it.
    pub(super) fn place(&mut self, instruction: &[u8]) {
        let mut code = instruction.to_vec();
        code.push(0xe9);
        let after = INSTRUCTION + code.len() + 4;
        code.extend(((EPILOGUE - after) as u32).to_le_bytes());
        self.copy_in(INSTRUCTION, &code);
    }

    /// Runs the instruction. It must not fault, and must touch no memory but the test memory.
    pub(super) fn run(&mut self, before: &State) -> State {
        for (i, vector) in before.vectors.iter().enumerate() {
            self.copy_in(REGISTERS + 32 * i, vector);
        }
        for (i, value) in before.gpr.iter().enumerate() {
            self.copy_in(GPR + 8 * i, &value.to_le_bytes());
        }
        // Interrupts on, and the bit that is always set.
        self.copy_in(FLAGS, &(before.flags | 0x202).to_le_bytes());
        self.copy_in(MEMORY, &before.memory);
        // SAFETY: `assemble` put a function there that keeps to the C calling convention, and the caller vouches for the
        // instruction in its middle.
        let program: extern "C" fn() = unsafe { std::mem::transmute(self.base) };
        program();
        let mut after = before.clone();
        for (i, vector) in after.vectors.iter_mut().enumerate() {
            self.copy_out(REGISTERS + 32 * i, vector);
        }
        let mut word = [0; 8];
        for (i, value) in after.gpr.iter_mut().enumerate() {
            self.copy_out(GPR + 8 * i, &mut word);
            *value = u64::from_le_bytes(word);
        }
        self.copy_out(FLAGS, &mut word);
        after.flags = u64::from_le_bytes(word);
        self.copy_out(MEMORY, &mut after.memory);
        after
    }

    fn assemble(&mut self) {
        let mut entry = Assembler { offset: 0, code: Vec::new() };
        // push rbx, rbp, r12 to r15, the flags
        entry.bytes(&[0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x9c]);
        entry.relative(&[0x48, 0x89, 0x25], HOST_SP);
        self.vectors(&mut entry, 0x6f);
        // push [flags]; popfq
        entry.relative(&[0xff, 0x35], FLAGS);
        entry.bytes(&[0x9d]);
        // rsp last
        for i in (0..16).filter(|&i| i != 4).chain([4]) {
            entry.gpr(0x8b, i);
        }
        entry.bytes(&[0xe9]);
        let after = entry.code.len() + 4;
        entry.bytes(&((INSTRUCTION - after) as u32).to_le_bytes());
        assert!(entry.code.len() <= INSTRUCTION);
        let code = entry.code;
        self.copy_in(0, &code);

        let mut exit = Assembler { offset: EPILOGUE, code: Vec::new() };
        for i in 0..16 {
            exit.gpr(0x89, i);
        }
        exit.relative(&[0x48, 0x8b, 0x25], HOST_SP);
        // pushfq; pop [flags]; cld
        exit.bytes(&[0x9c]);
        exit.relative(&[0x8f, 0x05], FLAGS);
        exit.bytes(&[0xfc]);
        self.vectors(&mut exit, 0x7f);
        if self.wide {
            // vzeroupper
            exit.bytes(&[0xc5, 0xf8, 0x77]);
        }
        exit.bytes(&[0x9d, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3]);
        assert!(exit.code.len() <= PAGE - EPILOGUE);
        let code = exit.code;
        self.copy_in(EPILOGUE, &code);
    }

    /// (v)movdqu of all vector registers, loading (0x6f) or storing (0x7f).
    fn vectors(&self, to: &mut Assembler, opcode: u8) {
        for i in 0..16_u8 {
            let operand = (i & 7) << 3 | 5;
            let place = REGISTERS + 32 * usize::from(i);
            if self.wide {
                to.relative(&[0xc5, if i < 8 { 0xfe } else { 0x7e }, opcode, operand], place);
            } else {
                to.relative(&[0xf3, 0x40 | (i >> 3) << 2, 0x0f, opcode, operand], place);
            }
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it is left.
        unsafe { libc::munmap(self.base.cast(), LENGTH) };
    }
}

/// Code under construction, `offset` bytes into the mapping.
struct Assembler {
    offset: usize,
    code: Vec<u8>,
}

impl Assembler {
    fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend(bytes);
    }

    /// An instruction whose operand is `[rip+x]`, reaching `place` in the mapping.
    fn relative(&mut self, opcode: &[u8], place: usize) {
        self.code.extend(opcode);
        let after = self.offset + self.code.len() + 4;
        self.code.extend((place as i32 - after as i32).to_le_bytes());
    }

    /// mov of a general register from (0x8b) or to (0x89) its place.
    fn gpr(&mut self, opcode: u8, i: u8) {
        self.relative(&[0x48 | (i >> 3) << 2, opcode, (i & 7) << 3 | 5], GPR + 8 * usize::from(i));
    }
}

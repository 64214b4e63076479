//! The machine as others see it: registers, memory, frames, and how to start it.

use std::ops::Range;

use super::code::CodeCache;
use super::cpu::{Cpu, Reg};
use super::hooks::{CallFrame, Hooks};
use super::overlay::{Looked, Overlay, PRIVATE, WIDEST};
use super::unknown::{Unknown, Why};
use super::value::Value;
use crate::target::Memory;

/// Bounds on one machine, over all its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Instructions.
    pub steps: u64,
    /// Bytes of pages written to, whole pages counted.
    pub overlay_bytes: usize,
    /// Calls within calls.
    pub depth: usize,
}

impl Default for Limits {
    /// 200,000 steps, 4 MiB, 512 calls.
    fn default() -> Self {
        Self { steps: 200_000, overlay_bytes: 4 << 20, depth: 512 }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The function that was called returned, with this in `rax` (`None`: unknown).
    Returned {
        /// The result.
        rax: Option<u64>,
    },
    /// A hook said [`Action::Stop`](super::Action::Stop).
    Stopped,
    /// The run could not go on.
    Unknown(Unknown),
}

/// One past the machine's own stack. Argument areas of called functions may lie above the first stack pointer.
const STACK_TOP: u64 = PRIVATE + 0x1000_0000;
/// Where [`Machine::scratch`] begins.
const SCRATCH: u64 = PRIVATE + 0x2000_0000;
/// The return address of what [`Machine::call`] enters. Nothing stands there.
pub(super) const SENTINEL: u64 = PRIVATE + 0xf000_0000;

/// An x86-64 processor over a copy-on-write view of a target's memory.
///
/// Registers start unknown. What is written stays in the machine; the target is only read. A machine may run several times,
/// each run seeing what those before it wrote, under one set of [`Limits`].
pub struct Machine<'m> {
    pub(super) cpu: Cpu<'m>,
    pub(super) ip: u64,
    pub(super) steps: u64,
    pub(super) frames: Vec<CallFrame>,
    pub(super) limits: Limits,
    /// Decoded code: shared, or this machine's own.
    pub(super) code: Code<'m>,
    /// A write by a hook that had no room; ends the run.
    pub(super) refused: Option<Why>,
    /// Runs under way: more than one when a hook calls.
    pub(super) nested: u32,
    /// Written pages that have been looked at for code.
    pub(super) pages_checked: usize,
    scratch: u64,
}

/// Where decoded code is kept.
pub(super) enum Code<'m> {
    Own(Box<CodeCache>),
    Shared(&'m CodeCache),
}

impl Code<'_> {
    pub(super) fn cache(&self) -> &CodeCache {
        match self {
            Self::Own(cache) => cache,
            Self::Shared(cache) => cache,
        }
    }
}

impl<'m> Machine<'m> {
    /// A machine that decodes for itself.
    pub fn new(memory: &'m dyn Memory, limits: Limits) -> Self {
        Self::build(memory, limits, Code::Own(Box::default()))
    }

    /// A machine that shares decoded code with others over the same process.
    pub fn with_code_cache(memory: &'m dyn Memory, limits: Limits, code: &'m CodeCache) -> Self {
        Self::build(memory, limits, Code::Shared(code))
    }

    fn build(memory: &'m dyn Memory, limits: Limits, code: Code<'m>) -> Self {
        Self {
            cpu: Cpu::new(Overlay::new(memory, limits.overlay_bytes)),
            ip: 0,
            steps: 0,
            frames: Vec::new(),
            limits,
            code,
            refused: None,
            nested: 0,
            pages_checked: 0,
            scratch: SCRATCH,
        }
    }

    /// Sets the base of `fs`: the thread pointer of the thread to be, unknown until set.
    pub fn set_fs_base(&mut self, base: u64) {
        self.cpu.fs_base = Some(base);
    }

    /// Sets a register; `None` makes it unknown.
    pub fn set_reg(&mut self, reg: Reg, value: Option<u64>) {
        self.cpu.set_reg(reg, value.map_or(Value::unknown(), Value::known));
    }

    /// A register, when all of it is known.
    pub fn reg(&self, reg: Reg) -> Option<u64> {
        self.cpu.reg(reg).get()
    }

    /// The low `size` bytes (1, 2, 4 or 8) of a register, when they are known, whatever stands above.
    pub fn reg_low(&self, reg: Reg, size: u8) -> Option<u64> {
        matches!(size, 1 | 2 | 4 | 8).then(|| self.cpu.low(reg, size).get()).flatten()
    }

    /// Sets the address of the next instruction.
    pub fn set_ip(&mut self, address: u64) {
        self.ip = address;
    }

    /// The address of the instruction the machine stands at.
    pub fn ip(&self) -> u64 {
        self.ip
    }

    /// Instructions interpreted so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Functions entered and not left, innermost last.
    pub fn frames(&self) -> &[CallFrame] {
        &self.frames
    }

    /// Replaces the functions the machine takes itself to be in, innermost last: for [`Machine::resume`] in the middle of a
    /// thread's stack. A `ret` with no frame left returns to what stands on the stack, without a hook being asked.
    pub fn set_frames(&mut self, frames: Vec<CallFrame>) {
        self.frames = frames;
    }

    /// Writes known bytes, for this machine only. When they find no room the next step ends the run as [`Unknown`].
    pub fn write(&mut self, address: u64, bytes: &[u8]) {
        self.put(address, bytes, 0);
    }

    /// Writes a little-endian 8-byte word.
    pub fn write_u64(&mut self, address: u64, value: u64) {
        self.write(address, &value.to_le_bytes());
    }

    /// Writes a little-endian 4-byte word.
    pub fn write_u32(&mut self, address: u64, value: u32) {
        self.write(address, &value.to_le_bytes());
    }

    /// Makes `length` bytes unknown.
    pub fn poison(&mut self, address: u64, length: usize) {
        let mut done = 0;
        while done < length && self.refused.is_none() {
            let part = (length - done).min(WIDEST);
            self.put(address.wrapping_add(done as u64), &[0; WIDEST][..part], u32::MAX);
            done += part;
        }
    }

    fn put(&mut self, address: u64, bytes: &[u8], poison: u32) {
        let mut at = address;
        for part in bytes.chunks(WIDEST) {
            if let Err(why) = self.cpu.memory.write(at, part, poison) {
                self.refused.get_or_insert(why);
                return;
            }
            at = at.wrapping_add(part.len() as u64);
        }
    }

    /// Notices when the code loads the 8-byte word `value`, from wherever except from `except`, from now on; 0 is never
    /// noticed.
    pub fn watch(&mut self, value: u64, except: Range<u64>) {
        self.cpu.memory.watch(value, except);
    }

    /// Where the code has loaded the watched word from since this was asked last, if it has.
    pub fn looked_at(&self) -> Option<Looked> {
        self.cpu.memory.looked_at()
    }

    /// The addresses that the code has loaded the watched word from, in order, each once.
    pub fn looks(&self) -> Vec<u64> {
        let mut places = self.cpu.memory.looks().borrow().clone();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Notices when the code loads a word that points into one of `ranges`, from now on.
    pub fn track(&mut self, ranges: Vec<Range<u64>>) {
        self.cpu.memory.track(ranges);
    }

    /// From where it has loaded such words, in order, and which.
    pub fn tracks(&self) -> Vec<(u64, u64)> {
        self.cpu.memory.tracks().borrow().clone()
    }

    /// Addresses of the words of the target, each of 8 bytes and aligned, that the run has made others than they are.
    pub fn changed(&self) -> Vec<u64> {
        self.cpu.memory.changed()
    }

    /// Reads what the machine sees. Unknown bytes are an error.
    pub fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Unknown> {
        // What a hook reads is no load of the code's.
        let (looks, tracks) = (self.cpu.memory.looks(), self.cpu.memory.tracks());
        let before = (looks.borrow().len(), tracks.borrow().len());
        let read = self.read_bytes(address, buf);
        looks.borrow_mut().truncate(before.0);
        tracks.borrow_mut().truncate(before.1);
        read
    }

    fn read_bytes(&self, address: u64, buf: &mut [u8]) -> Result<(), Unknown> {
        let mut at = address;
        for part in buf.chunks_mut(WIDEST) {
            let poison = self.cpu.memory.read(at, part).map_err(|why| self.unknown(why))?;
            if poison != 0 {
                return Err(self.unknown(Why::PoisonedMemory(at.wrapping_add(u64::from(poison.trailing_zeros())))));
            }
            at = at.wrapping_add(part.len() as u64);
        }
        Ok(())
    }

    /// Reads a little-endian 8-byte word.
    pub fn read_u64(&self, address: u64) -> Result<u64, Unknown> {
        let mut buf = [0; 8];
        self.read(address, &mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }

    /// Reads a little-endian 4-byte word.
    pub fn read_u32(&self, address: u64) -> Result<u32, Unknown> {
        let mut buf = [0; 4];
        self.read(address, &mut buf)?;
        Ok(u32::from_le_bytes(buf))
    }

    /// Reads a byte.
    pub fn read_u8(&self, address: u64) -> Result<u8, Unknown> {
        let mut buf = [0];
        self.read(address, &mut buf)?;
        Ok(buf[0])
    }

    /// Sets aside `length` bytes, aligned to 16, at an address the target cannot have: for modelled allocations and stand-in
    /// objects. Their contents are unknown until written, and count as written memory only then.
    pub fn scratch(&mut self, length: u64) -> u64 {
        let address = self.scratch;
        let end = address.saturating_add(length.max(1)).min(SENTINEL);
        self.scratch = end.next_multiple_of(16);
        if self.scratch >= SENTINEL {
            self.scratch = SENTINEL;
            self.refused.get_or_insert(Why::OverlayLimit);
        }
        address
    }

    /// Calls the function at `entry` with integer arguments (at most six) and runs it until it returns.
    ///
    /// From outside a run this starts anew, on a stack of the machine's own; from a hook it uses the stack in use, and when
    /// the function returns the machine stands where it stood, with `rsp` as it was and all other registers as the function
    /// left them.
    pub fn call(&mut self, entry: u64, args: &[u64], hooks: &mut dyn Hooks) -> Outcome {
        if self.nested == 0 {
            self.frames.clear();
        }
        let (caller, depth, sp) = (self.ip, self.frames.len(), self.cpu.reg(Reg::Rsp));
        let outcome = match self.enter(entry, args) {
            Ok(()) => self.run(hooks),
            Err(why) => Outcome::Unknown(self.unknown(why)),
        };
        if self.nested > 0 {
            self.frames.truncate(depth);
            self.cpu.set_reg(Reg::Rsp, sp);
            self.ip = caller;
        }
        outcome
    }

    fn enter(&mut self, entry: u64, args: &[u64]) -> Result<(), Why> {
        if self.frames.len() >= self.limits.depth {
            return Err(Why::Depth);
        }
        let stack = if self.nested == 0 {
            STACK_TOP
        } else {
            // Below the red zone of the function that the hook was asked from.
            self.cpu.must(Reg::Rsp, "the stack pointer")?.wrapping_sub(RED_ZONE)
        };
        let sp = (stack & !15).wrapping_sub(8);
        self.cpu.memory.store(sp, 8, Value::known(SENTINEL))?;
        self.cpu.set_reg(Reg::Rsp, Value::known(sp));
        for (reg, arg) in Reg::ARGUMENTS.into_iter().zip(args) {
            self.cpu.set_reg(reg, Value::known(*arg));
        }
        self.cpu.flags = super::flags::Flags::at_entry();
        self.frames.push(CallFrame { call_site: None, function: entry, return_address: SENTINEL, sp_at_entry: sp });
        self.ip = entry;
        Ok(())
    }

    /// Runs on from the current address and registers.
    pub fn resume(&mut self, hooks: &mut dyn Hooks) -> Outcome {
        self.run(hooks)
    }

    /// What is not known, at the current address.
    pub(super) fn unknown(&self, why: Why) -> Unknown {
        Unknown { ip: self.ip, why }
    }
}

/// Bytes below the stack pointer that a function may use under the System V ABI.
const RED_ZONE: u64 = 128;

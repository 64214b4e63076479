//! The loop: from block to block until a run ends.

use std::sync::Arc;

use super::code::{Block, End};
use super::control::Next;
use super::hooks::Hooks;
use super::machine::{Machine, Outcome};
use super::table::Exec;
use super::unknown::Why;
use super::{atomics, decode};

/// Runs within runs, through hooks that call functions of the target. Each takes room on the host's stack.
const MOST_NESTED: u32 = 8;

impl Machine<'_> {
    /// Runs until something ends it.
    pub(super) fn run(&mut self, hooks: &mut dyn Hooks) -> Outcome {
        self.nested += 1;
        let ended = if self.nested > MOST_NESTED { Err(Why::Depth) } else { self.run_blocks(hooks) };
        self.nested -= 1;
        ended.unwrap_or_else(|why| Outcome::Unknown(self.unknown(why)))
    }

    fn run_blocks(&mut self, hooks: &mut dyn Hooks) -> Result<Outcome, Why> {
        let mut block = self.block_at(self.ip);
        loop {
            self.straight(&block, hooks)?;
            match self.leave(&block, hooks)? {
                Next::Linked { taken, address } => block = self.block_after(&block, taken, address),
                Next::At(address) => block = self.block_at(address),
                Next::Done(outcome) => return Ok(outcome),
            }
            self.check_writes()?;
        }
    }

    /// Runs the instructions of a block up to the one that ends it.
    fn straight(&mut self, block: &Block, hooks: &mut dyn Hooks) -> Result<(), Why> {
        let left = self.limits.steps.saturating_sub(self.steps);
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(block.ops.len());
        for (i, op) in block.ops[..room].iter().enumerate() {
            self.ip = op.ip;
            let done = if op.atomic {
                atomics::run(self, op, hooks)
            } else {
                match op.exec {
                    Exec::Plain(f) => f(&mut self.cpu, op),
                    Exec::Packed(packed) => packed.run(&mut self.cpu, op),
                }
            };
            if let Err(why) = done {
                self.steps += i as u64 + 1;
                return Err(why);
            }
        }
        self.steps += room as u64 + std::mem::take(&mut self.cpu.extra_steps);
        if room < block.ops.len() {
            self.ip = block.ops[room].ip;
            return Err(Why::StepLimit);
        }
        if !matches!(block.end, End::Next) {
            if self.steps >= self.limits.steps {
                self.ip = block.end_ip;
                return Err(Why::StepLimit);
            }
            self.steps += 1;
        }
        Ok(())
    }

    /// Ends the run when a hook's write had no room, or when code was written to that may have been decoded before.
    fn check_writes(&mut self) -> Result<(), Why> {
        if let Some(why) = self.refused.take() {
            return Err(why);
        }
        let pages = self.cpu.memory.pages_written();
        if pages > self.pages_checked {
            let code = self.code.cache();
            if let Some(page) = self.cpu.memory.written_from(self.pages_checked).find(|&page| code.has_code_on(page)) {
                return Err(Why::CodeWritten(page * 4096));
            }
            self.pages_checked = pages;
        }
        Ok(())
    }

    fn block_at(&self, address: u64) -> Arc<Block> {
        let code = self.code.cache();
        code.find(address).unwrap_or_else(|| self.decode(address))
    }

    fn block_after(&self, from: &Block, taken: bool, address: u64) -> Arc<Block> {
        let code = self.code.cache();
        code.follow(from, taken, address).unwrap_or_else(|| self.decode(address))
    }

    fn decode(&self, address: u64) -> Arc<Block> {
        let code = self.code.cache();
        let block = decode::block(address, &self.cpu.memory, code);
        match block.end {
            // True of this run or this moment only.
            End::Fault(Why::Memory(_) | Why::CodeWritten(_)) => Arc::new(block),
            _ => code.insert(address, block),
        }
    }
}

//! Where control goes when a block ends: branches, calls, returns, and what hooks have to say about them.

use iced_x86::{ConditionCode, Mnemonic};

use super::code::{Block, BranchOn, End, Op, Operand};
use super::cpu::Reg;
use super::flags::{STATUS, ZF};
use super::hooks::{Action, CallFrame, Hooks, Special, Transfer};
use super::machine::{Machine, Outcome, SENTINEL};
use super::unknown::Why;
use super::value::{Value, mask};
use super::vector::Vector;

/// Where to go on.
pub(super) enum Next {
    /// At a target that is the same each time, as the one or the other way out of the block.
    Linked {
        taken: bool,
        address: u64,
    },
    /// Anywhere.
    At(u64),
    Done(Outcome),
}

impl Machine<'_> {
    /// Carries out how a block ends.
    pub(super) fn leave(&mut self, block: &Block, hooks: &mut dyn Hooks) -> Result<Next, Why> {
        let past = Next::Linked { taken: false, address: block.next_ip };
        if let End::Fault(why) = &block.end {
            // Control that leaves is reported where it left from.
            if !(block.ops.is_empty() && matches!(why, Why::LeftExecutable(_))) {
                self.ip = block.end_ip;
            }
            return Err(why.clone());
        }
        self.ip = block.end_ip;
        match block.end {
            End::Next => Ok(past),
            End::Jump(target) => self.jump(block, target, hooks),
            End::Branch { taken, ref on } => {
                if self.branches(block, on)? {
                    self.jump(block, taken, hooks)
                } else {
                    Ok(past)
                }
            }
            End::JumpIndirect => {
                let (target, fixed) = self.indirect(block, "the target of a jump")?;
                if self.may_be_tail(target)
                    && (fixed || self.code.cache().is_function(target, || hooks.is_function(target)))
                {
                    return self.tail_jump(target, Next::At(target), hooks);
                }
                Ok(Next::At(target))
            }
            End::Call(target) => {
                self.call_to(target, block.next_ip, Next::Linked { taken: true, address: target }, hooks)
            }
            End::CallIndirect => {
                let (target, _) = self.indirect(block, "the target of a call")?;
                self.call_to(target, block.next_ip, Next::At(target), hooks)
            }
            End::Return(extra) => self.return_from(extra, hooks),
            End::Syscall => match hooks.on_syscall(self) {
                Action::Continue => Ok(past),
                Action::Return(rax) => {
                    self.kernel_returned(rax);
                    Ok(past)
                }
                Action::ReturnPair(rax, rdx) => {
                    self.kernel_returned(rax);
                    self.set_reg(Reg::Rdx, rdx);
                    Ok(past)
                }
                Action::Stop => Ok(Next::Done(Outcome::Stopped)),
                Action::Unknown(why) => Err(Why::Hook(why)),
            },
            End::Special(special) => self.special(block.last.as_ref(), special, past, hooks),
            End::Trap(trap) => Err(Why::Trap(trap)),
            End::Fault(ref why) => Err(why.clone()),
        }
    }

    /// Whether a conditional jump is taken.
    fn branches(&mut self, block: &Block, on: &BranchOn) -> Result<bool, Why> {
        let condition = block.last.as_ref().map_or(ConditionCode::None, |op| op.condition);
        match *on {
            BranchOn::Condition => self.cpu.flags.condition(condition).ok_or(Why::Poison("a condition to branch on")),
            BranchOn::CountZero(size) => Ok(self.count(size)? == 0),
            BranchOn::Loop(size) => {
                let left = self.count(size)?.wrapping_sub(1) & mask(size);
                self.cpu.set_low(Reg::Rcx, size, Value::known(left));
                let zero = || self.cpu.flags.get(ZF).ok_or(Why::Poison("a condition to branch on"));
                let holds = match block.last.as_ref().map(|op| op.mnemonic) {
                    Some(Mnemonic::Loope) => zero()?,
                    Some(Mnemonic::Loopne) => !zero()?,
                    _ => true,
                };
                Ok(left != 0 && holds)
            }
        }
    }

    fn count(&self, size: u8) -> Result<u64, Why> {
        self.cpu.low(Reg::Rcx, size).get().ok_or(Why::Poison("a count to branch on"))
    }

    /// The target of an indirect call or jump, and whether it was read from a slot at a fixed address.
    fn indirect(&self, block: &Block, what: &'static str) -> Result<(u64, bool), Why> {
        let op: &Op = block.last.as_ref().ok_or(Why::Undecodable)?;
        let target = self.cpu.get(op, 0)?.get().ok_or(Why::Poison(what))?;
        Ok((target, op.operands[0] == Operand::Memory && op.memory.fixed))
    }

    /// A direct jump, within the function or to another one.
    fn jump(&mut self, block: &Block, target: u64, hooks: &mut dyn Hooks) -> Result<Next, Why> {
        let next = Next::Linked { taken: true, address: target };
        if self.may_be_tail(target) && block.leads_to_function(|| hooks.is_function(target)) {
            return self.tail_jump(target, next, hooks);
        }
        Ok(next)
    }

    /// Whether a jump to `target` could stand for a call and a return: nothing of the current function is left on the stack,
    /// and the target is another one.
    fn may_be_tail(&self, target: u64) -> bool {
        self.frames
            .last()
            .is_none_or(|frame| target != frame.function && self.cpu.reg(Reg::Rsp).get() == Some(frame.sp_at_entry))
    }

    fn call_to(&mut self, target: u64, past: u64, into: Next, hooks: &mut dyn Hooks) -> Result<Next, Why> {
        let site = self.ip;
        match hooks.on_call(self, target, Transfer::Call) {
            Action::Continue => {
                if self.frames.len() >= self.limits.depth {
                    return Err(Why::Depth);
                }
                self.cpu.push(8, Value::known(past))?;
                let sp_at_entry = self.cpu.must(Reg::Rsp, "the stack pointer")?;
                let frame = CallFrame { call_site: Some(site), function: target, return_address: past, sp_at_entry };
                self.frames.push(frame);
                return Ok(into);
            }
            Action::Return(rax) => self.callee_returned(rax, None),
            Action::ReturnPair(rax, rdx) => self.callee_returned(rax, rdx),
            Action::Stop => return Ok(Next::Done(Outcome::Stopped)),
            Action::Unknown(why) => return Err(Why::Hook(why)),
        }
        Ok(Next::Linked { taken: false, address: past })
    }

    fn tail_jump(&mut self, target: u64, into: Next, hooks: &mut dyn Hooks) -> Result<Next, Why> {
        match hooks.on_call(self, target, Transfer::TailJump) {
            Action::Continue => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.function = target;
                }
                Ok(into)
            }
            Action::Return(rax) => {
                self.callee_returned(rax, None);
                self.return_from(0, hooks)
            }
            Action::ReturnPair(rax, rdx) => {
                self.callee_returned(rax, rdx);
                self.return_from(0, hooks)
            }
            Action::Stop => Ok(Next::Done(Outcome::Stopped)),
            Action::Unknown(why) => Err(Why::Hook(why)),
        }
    }

    /// Returns from the current function, popping `extra` bytes of arguments.
    fn return_from(&mut self, extra: u64, hooks: &mut dyn Hooks) -> Result<Next, Why> {
        let sp = self.cpu.must(Reg::Rsp, "the stack pointer")?;
        let frame = self.frames.last().cloned();
        if let Some(frame) = &frame {
            if frame.sp_at_entry != sp {
                return Err(Why::Frames);
            }
            match hooks.on_return(self, frame) {
                Action::Continue => {}
                Action::Return(rax) => self.set_reg(Reg::Rax, rax),
                Action::ReturnPair(rax, rdx) => {
                    self.set_reg(Reg::Rax, rax);
                    self.set_reg(Reg::Rdx, rdx);
                }
                Action::Stop => return Ok(Next::Done(Outcome::Stopped)),
                Action::Unknown(why) => return Err(Why::Hook(why)),
            }
        }
        let to = self.cpu.memory.load(sp, 8)?.get().ok_or(Why::Poison("a return address"))?;
        if frame.is_some_and(|frame| frame.return_address != to) {
            return Err(Why::Frames);
        }
        self.cpu.set_reg(Reg::Rsp, Value::known(sp.wrapping_add(8).wrapping_add(extra)));
        self.frames.pop();
        if to == SENTINEL {
            return Ok(Next::Done(Outcome::Returned { rax: self.reg(Reg::Rax) }));
        }
        Ok(Next::At(to))
    }

    /// What the System V ABI leaves of the registers after a call.
    fn callee_returned(&mut self, rax: Option<u64>, rdx: Option<u64>) {
        self.set_reg(Reg::Rax, rax);
        self.set_reg(Reg::Rdx, rdx);
        for reg in Reg::CALLER_SAVED {
            self.set_reg(reg, None);
        }
        self.cpu.vectors = [Vector::unknown(); 16];
        self.cpu.flags.forget(STATUS);
    }

    /// What the kernel leaves of the registers after a system call.
    fn kernel_returned(&mut self, rax: Option<u64>) {
        self.set_reg(Reg::Rax, rax);
        self.set_reg(Reg::Rcx, None);
        self.set_reg(Reg::R11, None);
    }

    fn special(&mut self, op: Option<&Op>, special: Special, past: Next, hooks: &mut dyn Hooks) -> Result<Next, Why> {
        let (first, second) = match hooks.on_special(self, special) {
            Action::Continue => return Ok(past),
            Action::Return(value) => (value, None),
            Action::ReturnPair(value, rdx) => (value, rdx),
            Action::Stop => return Ok(Next::Done(Outcome::Stopped)),
            Action::Unknown(why) => return Err(Why::Hook(why)),
        };
        let value = first.map_or(Value::unknown(), Value::known);
        match op {
            Some(op) if matches!(op.operands[0], Operand::Register(_)) => self.cpu.set(op, 0, value)?,
            _ => {
                self.cpu.set_reg(Reg::Rax, value);
                self.set_reg(Reg::Rdx, second);
                for reg in [Reg::Rbx, Reg::Rcx] {
                    self.set_reg(reg, None);
                }
            }
        }
        if special == Special::Random {
            self.cpu.flags.forget(STATUS);
        }
        Ok(past)
    }
}

//! A machine that stands where a thread stands.

use crate::{
    debuginfo::FrameRegisters,
    dryrun::{CallFrame, CodeCache, Limits, Machine, Reg},
    target::Memory,
};

/// Registers by their DWARF numbers.
const DWARF_ORDER: [Reg; 16] = [
    Reg::Rax,
    Reg::Rdx,
    Reg::Rcx,
    Reg::Rbx,
    Reg::Rsi,
    Reg::Rdi,
    Reg::Rbp,
    Reg::Rsp,
    Reg::R8,
    Reg::R9,
    Reg::R10,
    Reg::R11,
    Reg::R12,
    Reg::R13,
    Reg::R14,
    Reg::R15,
];

/// A machine that stands where the innermost of `frames` (innermost first) goes on, with the others around it.
pub fn machine_at<'m>(
    code: &'m CodeCache,
    memory: &'m dyn Memory,
    limits: Limits,
    frames: &[FrameRegisters],
    fs_base: u64,
) -> Machine<'m> {
    let mut machine = Machine::with_code_cache(memory, limits, code);
    machine.set_fs_base(fs_base);
    stand_at(&mut machine, frames);
    machine
}

/// Puts a machine where the innermost of `frames` goes on. A register that is not known is unknown to the machine too.
pub fn stand_at(machine: &mut Machine<'_>, frames: &[FrameRegisters]) {
    let Some(innermost) = frames.first() else { return };
    for (reg, value) in DWARF_ORDER.into_iter().zip(innermost.values) {
        machine.set_reg(reg, value);
    }
    machine.set_ip(innermost.ip);
    let entered = frames.iter().enumerate().rev().map(|(index, frame)| {
        let caller = frames.get(index + 1);
        CallFrame {
            // A byte of the call instruction stands for it.
            call_site: caller.map(|caller| caller.ip - 1),
            function: frame.ip,
            return_address: caller.map_or(0, |caller| caller.ip),
            // A caller's stack pointer is what it was before its call pushed the return address.
            sp_at_entry: caller.and_then(FrameRegisters::sp).map_or(0, |sp| sp - 8),
        }
    });
    machine.set_frames(entered.collect());
}

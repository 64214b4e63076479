//! Atomic read-modify-writes: carried out like any other, and told to the hooks.

use iced_x86::Mnemonic;

use super::bits;
use super::code::{Op, Operand};
use super::hooks::{Atomic, Hooks};
use super::machine::Machine;
use super::overlay::Overlay;
use super::table::Exec;
use super::unknown::Why;
use crate::target::HIGHEST_COUNT;

/// Runs one and reports it.
pub(super) fn run(machine: &mut Machine<'_>, op: &Op, hooks: &mut dyn Hooks) -> Result<(), Why> {
    let size = op.sizes[0];
    let address = match op.mnemonic {
        Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc => bits::word_address(&machine.cpu, op)?,
        _ => machine.cpu.address(op)?,
    };
    let value = |machine: &Machine<'_>| -> Result<Option<u64>, Why> {
        if size > 8 {
            return Ok(None);
        }
        Ok(machine.cpu.memory.load(address, size)?.get())
    };
    // What turns out to be no count is looked at when it is carried out.
    let step = step(op);
    machine.cpu.memory.set_counting(step.is_some());
    let old = value(machine);
    let counts = step.is_some_and(|by| counts(&machine.cpu.memory, address, &old, by));
    machine.cpu.memory.set_counting(counts);
    let done = match op.exec {
        Exec::Plain(f) => f(&mut machine.cpu, op),
        Exec::Packed(packed) => packed.run(&mut machine.cpu, op),
    };
    let new = value(machine);
    machine.cpu.memory.set_counting(false);
    done?;
    let access = Atomic { address, size, old: old?, new: new?, ip: op.ip };
    hooks.on_atomic(machine, &access);
    Ok(())
}

/// By how much this raises a word of 8 bytes, where it is one up or one down and shows nothing of the word itself: of the value
/// only the flags go on.
fn step(op: &Op) -> Option<i64> {
    let by = match (op.mnemonic, op.operands[1]) {
        (Mnemonic::Inc, _) => 1,
        (Mnemonic::Dec, _) => -1,
        (Mnemonic::Add, Operand::Immediate(by)) => by.cast_signed(),
        (Mnemonic::Sub, Operand::Immediate(by)) => by.cast_signed().wrapping_neg(),
        _ => return None,
    };
    Some(by).filter(|by| by.unsigned_abs() == 1 && op.sizes[0] == 8)
}

/// Whether a step from `old` is that of a count, which shows no more than that it is not 0: the flags that compilers ask for
/// (zero, sign, carry, overflow) are the same for all counts that stay above. So are `Arc::clone` and the drop of an `Arc`
/// compiled, as long as it is not the last (library/alloc/src/sync.rs).
fn counts(memory: &Overlay<'_>, address: u64, old: &Result<Option<u64>, Why>, by: i64) -> bool {
    let Ok(Some(old)) = *old else { return false };
    let least = old.min(old.wrapping_add_signed(by));
    let is_sane = (1..=HIGHEST_COUNT).contains(&old) && address.is_multiple_of(8);
    is_sane && least > 0 && memory.count(address, least)
}

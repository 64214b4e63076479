//! Atomic read-modify-writes: carried out like any other, and told to the hooks.

use iced_x86::Mnemonic;

use super::bits;
use super::code::{Op, Operand};
use super::hooks::{Atomic, Hooks};
use super::machine::Machine;
use super::table::Exec;
use super::unknown::Why;
use super::value::Value;
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
    let counts = counts(machine, op, address);
    machine.cpu.memory.set_counting(counts);
    let old = value(machine);
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

/// Whether this raises or lowers a count by one, and shows nothing of it but that it is not 0: of the value only the flags go on,
/// and those that compilers ask for (zero, sign, carry, overflow) are the same for all counts that stay above 0. So are
/// `Arc::clone` and the drop of an `Arc` compiled, as long as it is not the last (library/alloc/src/sync.rs).
fn counts(machine: &Machine<'_>, op: &Op, address: u64) -> bool {
    let by = match (op.mnemonic, op.operands[1]) {
        (Mnemonic::Inc, _) => 1,
        (Mnemonic::Dec, _) => -1,
        (Mnemonic::Add, Operand::Immediate(by)) => by.cast_signed(),
        (Mnemonic::Sub, Operand::Immediate(by)) => by.cast_signed().wrapping_neg(),
        _ => return false,
    };
    if by.unsigned_abs() != 1 || op.sizes[0] != 8 || !address.is_multiple_of(8) {
        return false;
    }
    let memory = &machine.cpu.memory;
    memory.set_counting(true);
    let old = memory.load(address, 8).ok().and_then(Value::get);
    memory.set_counting(false);
    let Some(old) = old.filter(|old| (1..=HIGHEST_COUNT).contains(old)) else { return false };
    let least = old.min(old.wrapping_add_signed(by));
    least > 0 && memory.count(address, least)
}

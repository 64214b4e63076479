//! Atomic read-modify-writes: carried out like any other, and told to the hooks.

use iced_x86::Mnemonic;

use super::bits;
use super::code::Op;
use super::hooks::{Atomic, Hooks};
use super::machine::Machine;
use super::table::Exec;
use super::unknown::Why;

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
    let old = value(machine)?;
    match op.exec {
        Exec::Plain(f) => f(&mut machine.cpu, op)?,
        Exec::Packed(packed) => packed.run(&mut machine.cpu, op)?,
    }
    let access = Atomic { address, size, old, new: value(machine)?, ip: op.ip };
    hooks.on_atomic(machine, &access);
    Ok(())
}

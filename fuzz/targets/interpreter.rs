//! The dry run: any code over any registers ends within its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler_user::{
    dryrun::{Action, CodeCache, Hooks, Limits, Machine, Reg, Transfer},
    target::{Memory, MemoryError},
};

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x60_0000;
const LIMITS: Limits = Limits { steps: 3_000, overlay_bytes: 256 << 10, depth: 50 };
/// What one repeated string instruction may cost beyond the limit.
const LAST: u64 = 1 << 20;
const REGISTERS: [Reg; 8] = [Reg::Rax, Reg::Rcx, Reg::Rdx, Reg::Rbx, Reg::Rsi, Reg::Rdi, Reg::R8, Reg::R15];

struct Pieces<'a> {
    code: &'a [u8],
    data: [u8; 4096],
}

impl Memory for Pieces<'_> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let piece = |start: u64, bytes: &'_ [u8], buf: &mut [u8]| {
            let offset = usize::try_from(address.checked_sub(start)?).ok()?;
            buf.copy_from_slice(bytes.get(offset..offset.checked_add(buf.len())?)?);
            Some(())
        };
        piece(DATA, &self.data, buf).or_else(|| piece(CODE, self.code, buf)).ok_or(MemoryError::Unmapped(address))
    }
}

/// Steps into everything.
struct Enter;

impl Hooks for Enter {
    fn on_call(&mut self, _: &mut Machine<'_>, _: u64, _: Transfer) -> Action {
        Action::Continue
    }
}

fuzz_target!(|input: &[u8]| {
    // A byte for each register: unknown, a small number, or an address in the data.
    let Some((registers, code)) = input.split_at_checked(REGISTERS.len()) else { return };
    let memory = Pieces { code, data: [0x5a; 4096] };
    let cache = CodeCache::new();
    let mut machine = Machine::with_code_cache(&memory, LIMITS, &cache);
    machine.set_fs_base(DATA);
    for (reg, kind) in REGISTERS.into_iter().zip(registers) {
        let value = match kind {
            0..64 => None,
            64..128 => Some(u64::from(*kind) - 64),
            _ => Some(DATA + u64::from(*kind) * 16),
        };
        machine.set_reg(reg, value);
    }
    machine.call(CODE, &[], &mut Enter);
    assert!(machine.steps() <= LIMITS.steps + LAST, "it ran on");
    assert!(machine.frames().len() <= LIMITS.depth, "it went too deep");
});

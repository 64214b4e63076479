//! ELF files: symbols, lines, types, unwind tables, and whatever runtime they seem to hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler_user::{
    debuginfo::{Bytes, Module, Unwinder, name},
    runtime,
    target::{Memory, MemoryError},
};

const BIAS: u64 = 0x5555_0000_0000;

/// The file's own bytes, where it would be loaded.
struct Loaded<'a>(&'a Module);

impl Memory for Loaded<'_> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let bytes = self.0.file_bytes(address, buf.len()).ok_or(MemoryError::Unmapped(address))?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(module) = Module::parse(Bytes::from(bytes.to_vec()), BIAS, "fuzz".into()) else { return };
    module.quality();
    module.exported("main");
    module.relocated_slots();
    module.build_id();
    let mut addresses: Vec<u64> = module.symbols().map(|symbol| symbol.address).take(64).collect();
    let ranges = module.executable_ranges();
    addresses.extend(ranges.iter().take(8).flat_map(|range| [range.start, range.end.wrapping_sub(1)]));
    addresses.extend([0, BIAS, u64::MAX]);
    if let Some(types) = module.types() {
        for ty in types.instances("small::Pair").into_iter().chain(types.find("small::Shape")) {
            types.contract_name(ty);
            types.shape(ty);
            types.member_path(ty, &["left"]);
            types.parameters(ty);
            types.variants(ty);
        }
    }
    let mut unwinder = Unwinder::new([&module]);
    for address in addresses {
        module.file_bytes(address, 16);
        module.symbols_at(address).for_each(|symbol| drop(name::function(symbol.name)));
        module.source_frames(address);
        module.subprogram_at(address);
        for stack in [0x7000, 0x10, u64::MAX - 8] {
            unwinder.unwind(address, stack, stack, &mut |at| Ok(address.wrapping_add(at & 0x3f)));
        }
    }
    for runtime in runtime::find(std::slice::from_ref(&module), &Loaded(&module)) {
        runtime.describe();
        runtime.wait_functions();
    }
});

//! What a capture holds, before it is packed: no mutation gets through a compressor.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|contents: &[u8]| {
    if let Ok(stored) = gordian_fuzz::open(&gordian_fuzz::pack(contents)) {
        gordian_fuzz::ask(&stored);
    }
});

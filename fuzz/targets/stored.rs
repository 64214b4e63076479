//! Captures and core files, byte by byte.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(stored) = gordian_fuzz::open(bytes) {
        gordian_fuzz::ask(&stored);
    }
});

//! Entries of the cache of debuginfo's answers: as they stand on disk, and with a checksum that agrees.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler_user::debuginfo::cache;

const STAMP: &[u8] = b"file";

fuzz_target!(|bytes: &[u8]| {
    // Whether it is one is not the question.
    let _damaged = cache::open(bytes, STAMP);
    // The stamp with its length in front, as postcard has it, and then the answers.
    let sealed = cache::wrap(&[&b"\x04file"[..], bytes].concat()).expect("there is memory for it");
    if let Some(answers) = cache::open(&sealed, STAMP) {
        let again = cache::seal(&answers, STAMP).expect("it was read");
        assert_eq!(cache::open(&again, STAMP), Some(answers));
    }
});

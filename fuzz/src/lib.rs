//! What the fuzz targets share.

use std::{fs::File, io::Write, os::fd::AsRawFd, path::PathBuf};

use profiler_user::target::{Memory, Stored, TargetError};

/// What a capture begins with: its magic and the version of its format.
pub const CAPTURE: &[u8] = b"gordian\0\x02\0\0\0";

/// Reads `bytes` as a stored process, from a file as gordian does.
pub fn open(bytes: &[u8]) -> Result<Stored, TargetError> {
    let mut file = tempfile();
    file.write_all(bytes).expect("there is memory for a file");
    Stored::open(&PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())))
}

/// A file that is gone when it is closed.
fn tempfile() -> File {
    let folder = std::env::temp_dir();
    let path = folder.join(format!("gordian-fuzz-{}", std::process::id()));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
    let file = file.expect("the temporary folder takes files");
    std::fs::remove_file(&path).expect("it was just made");
    file
}

/// A capture with these contents behind its magic.
pub fn pack(contents: &[u8]) -> Vec<u8> {
    let packed = zstd::bulk::compress(contents, 1).expect("there is memory for it");
    [CAPTURE, &packed].concat()
}

/// Asks a stored process everything that does not need its files.
pub fn ask(stored: &Stored) {
    for _moment in 0..3 {
        let mappings = stored.mappings();
        let addresses: Vec<u64> =
            mappings.iter().take(64).flat_map(|m| [m.range.start, m.range.end.wrapping_sub(1)]).collect();
        let memory = stored.memory(mappings, Vec::new());
        for address in addresses.into_iter().chain([0, u64::MAX]) {
            let mut buf = [0; 4200];
            // Whether it is there is not the question.
            let _read = memory.read(address, &mut buf);
        }
        for thread in stored.threads() {
            thread.stack();
        }
        stored.advance();
    }
}

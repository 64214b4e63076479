//! Debuginfo servers, asked through the program that elfutils provides for it: it knows the protocol, the cache and the
//! user's proxies.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The names of the servers; without it nothing is asked.
const SERVERS: &str = "DEBUGINFOD_URLS";
/// Nobody waits longer for debuginfo than this: what a server sends later is there the next time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The file that the servers have for a build-id (in hexadecimal), in the user's cache.
pub(super) fn debuginfo(build_id: &str) -> Option<PathBuf> {
    std::env::var_os(SERVERS).filter(|servers| !servers.is_empty())?;
    let mut command = Command::new("debuginfod-find");
    command.args(["debuginfo", build_id]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!("{SERVERS} is set, and debuginfod-find (of elfutils) cannot be run: {error}");
            return None;
        }
    };
    let begin = Instant::now();
    // It prints one short line, which the pipe holds until it is read below.
    while matches!(child.try_wait(), Ok(None)) {
        if begin.elapsed() > PATIENCE {
            tracing::warn!("debuginfod-find took longer than {PATIENCE:?} for {build_id}");
            // It may have ended by itself meanwhile.
            let _ = child.kill();
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().ok().filter(|output| output.status.success())?;
    let path = output.stdout.split(|byte| *byte == b'\n').next()?;
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

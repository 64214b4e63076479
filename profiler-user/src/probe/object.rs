//! The object file with the kernel programs, and what the loader sets in it.

use std::borrow::Cow;

use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use profiler_common::{Config, PollCounter};

use super::{Kernel, KernelTarget, ProbeError};

/// Built by `cargo xtask ebpf` and checked in, so that nobody needs its toolchain to build gordian.
static BUILT_IN: &[u8] = aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/ebpf/gordian.bpf.o"));

/// Environment variable that names another object to load.
const OVERRIDE: &str = "GORDIAN_EBPF";

/// Sizes of the maps, in entries or, for ring buffers, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapSizes {
    pub(super) threads: u32,
    pub(super) events: u32,
    pub(super) samples: u32,
    pub(super) logs: u32,
}

impl MapSizes {
    /// As little as the kernel takes, for programs that use none of them.
    pub(super) const LEAST: Self = Self { threads: 1, events: PAGE, samples: PAGE, logs: PAGE };
}

/// The least a ring buffer may have on x86-64.
pub(super) const PAGE: u32 = 4096;

/// The configuration for this kernel and target, without any runtime context.
pub(super) fn config_for(kernel: &Kernel, target: KernelTarget) -> Config {
    Config {
        tgid: target.tgid,
        own_level: target.own_level,
        pid_level: kernel.pid_level,
        upid_size: kernel.upid_size,
        kernel: kernel.offsets,
        polls: PollCounter { known: 0, ..Config::EMPTY.polls },
        ..Config::EMPTY
    }
}

/// Parses the object and creates its maps. No program is loaded yet.
pub(super) fn open(kernel: &Kernel, config: &Config, sizes: MapSizes, log_level: u8) -> Result<Ebpf, ProbeError> {
    let object = match std::env::var_os(OVERRIDE) {
        None => Cow::Borrowed(BUILT_IN),
        Some(path) => Cow::Owned(std::fs::read(&path).map_err(|error| ProbeError::ObjectFile {
            path: path.to_string_lossy().into_owned(),
            error: error.to_string(),
        })?),
    };
    EbpfLoader::new()
        .btf(Some(&kernel.btf))
        .verifier_log_level(VerifierLogLevel::VERBOSE)
        .override_global(Config::GLOBAL, config, true)
        .override_global(aya_log::LEVEL, &log_level, true)
        .map_max_entries("THREADS", sizes.threads)
        .map_max_entries("EVENTS", sizes.events)
        .map_max_entries("SAMPLES", sizes.samples)
        .map_max_entries("AYA_LOGS", sizes.logs)
        .load(&object)
        .map_err(|error| ProbeError::from_load(&error))
}

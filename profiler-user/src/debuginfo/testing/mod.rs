//! Real programs for this room's tests, compiled in the ways that people compile.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use super::{Bytes, Module};

/// How the program is compiled. All are optimised and position independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Build {
    /// `-C debuginfo`
    pub(super) debuginfo: &'static str,
    /// `-C symbol-mangling-version`
    pub(super) mangling: &'static str,
    /// `-C strip`
    pub(super) strip: &'static str,
}

pub(super) const FULL: Build = Build { debuginfo: "2", mangling: "v0", strip: "none" };
pub(super) const FULL_LEGACY: Build = Build { mangling: "legacy", ..FULL };
pub(super) const LIMITED: Build = Build { debuginfo: "1", ..FULL };
pub(super) const LINES: Build = Build { debuginfo: "line-tables-only", ..FULL };
pub(super) const LINES_LEGACY: Build = Build { mangling: "legacy", ..LINES };
pub(super) const SYMBOLS: Build = Build { debuginfo: "0", strip: "debuginfo", ..FULL };
pub(super) const SYMBOLS_LEGACY: Build = Build { mangling: "legacy", ..SYMBOLS };
pub(super) const STRIPPED: Build = Build { debuginfo: "0", strip: "symbols", ..FULL };

const ALL: [Build; 8] = [FULL, FULL_LEGACY, LIMITED, LINES, LINES_LEGACY, SYMBOLS, SYMBOLS_LEGACY, STRIPPED];

/// Where `bank` is pretended to be loaded.
pub(super) const BIAS: u64 = 0x5555_0000_0000;

/// The source of `bank`.
pub(super) fn source() -> PathBuf {
    directory().join("bank.rs")
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/debuginfo/testing")
}

/// The line of `bank` that has `text` in it.
pub(super) fn line_of(text: &str) -> u32 {
    let source = std::fs::read_to_string(source()).expect("the fixture's source is in the repository");
    let at = source.lines().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no line has {text:?}"));
    u32::try_from(at).expect("a short file") + 1
}

/// The file of `bank` in one build, compiled at most once for all tests.
pub(super) fn program(build: Build) -> Bytes {
    static PROGRAMS: [OnceLock<Bytes>; ALL.len()] = [const { OnceLock::new() }; ALL.len()];
    let index = ALL.iter().position(|known| *known == build).expect("one of the builds above");
    PROGRAMS[index].get_or_init(|| compile(build, "bank.rs", &[])).clone()
}

/// `bank` in one build, placed at [`BIAS`].
pub(super) fn module(build: Build) -> Module {
    Module::parse(program(build), BIAS, "bank".into()).expect("rustc writes sound ELF files")
}

/// A library of a few kilobytes, with full debuginfo: small enough to be damaged thousands of times.
pub(super) fn small() -> &'static [u8] {
    static SMALL: OnceLock<Vec<u8>> = OnceLock::new();
    SMALL.get_or_init(|| compile(FULL, "small.rs", &LIBRARY).to_vec())
}

/// The same library with its debuginfo packed.
pub(super) fn small_packed() -> Bytes {
    let packed = ["-C", "link-arg=-Wl,--compress-debug-sections=zlib"];
    compile(FULL, "small.rs", &[&LIBRARY[..], &packed].concat())
}

/// Flags for a library without a standard library below it.
const LIBRARY: [&str; 6] = ["-C", "panic=abort", "-C", "link-arg=-nostdlib", "--crate-type", "cdylib"];

/// Compiles one of the fixtures, with more flags.
fn compile(build: Build, source: &str, more: &[&str]) -> Bytes {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("out");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-C", "opt-level=3", "-C", "codegen-units=1", "-o"]).arg(&out);
    rustc.arg(directory().join(source));
    rustc.arg("-C").arg(format!("debuginfo={}", build.debuginfo));
    rustc.arg("-C").arg(format!("strip={}", build.strip));
    rustc.arg("-C").arg(format!("symbol-mangling-version={}", build.mangling)).args(more);
    if build.mangling == "legacy" {
        // Newer compilers have v0 for their default, and the way back behind a gate.
        rustc.env("RUSTC_BOOTSTRAP", "1").args(["-Z", "unstable-options"]);
    }
    let output = rustc.output().expect("rustc is on the path where cargo is");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Bytes::new(Arc::new(std::fs::read(&out).expect("rustc wrote it")))
}

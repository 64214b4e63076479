//! Compilers that can build kernel programs: which are there, and what it takes to have one.

use std::{
    env,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::run_visibly;

/// Debian's packages: a compiler with `core` for BPF, and the LLVM of its version for the linker.
const PACKAGES: [&str; 7] =
    ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf", "llvm-22", "llvm-22-dev", "libpolly-22-dev", "libzstd-dev"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";

/// The linker that was tried with both toolchains.
const LINKER: &str = "bpf-linker";
const LINKER_VERSION: &str = "0.13.0";

/// A compiler that can build for BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Toolchain {
    /// rustup's nightly with `rust-src`, which builds `core` on the way
    Nightly,
    /// Debian's `rustc-web`, which has `core` for BPF built
    Debian,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nightly => "rustup's nightly",
            Self::Debian => "Debian's rustc-web",
        })
    }
}

impl Toolchain {
    /// This toolchain's cargo, ready for arguments.
    pub(super) fn cargo(self) -> Command {
        match self {
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo", "-Zbuild-std=core"]);
                command
            }
            Self::Debian => {
                let mut command = Command::new(DEBIAN_CARGO);
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command
            }
        }
    }

    fn is_there(self) -> bool {
        match self {
            Self::Nightly => {
                let sysroot = Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]).output();
                sysroot.is_ok_and(|output| {
                    let root = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                    output.status.success() && Path::new(&root).join("lib/rustlib/src/rust/library/core").is_dir()
                })
            }
            Self::Debian => [DEBIAN_RUSTC, DEBIAN_CARGO, DEBIAN_CORE].iter().all(|path| Path::new(path).exists()),
        }
    }

    /// What to type to have it.
    fn recipe(self) -> String {
        match self {
            Self::Nightly => "rustup toolchain install nightly --profile minimal --component rust-src".to_owned(),
            Self::Debian => format!("apt-get install -y {}", PACKAGES.join(" ")),
        }
    }

    fn install(self) -> Result<()> {
        match self {
            Self::Debian if !is_root() => bail!("not root"),
            Self::Debian => {
                run_visibly(Command::new("apt-get").arg("update"))?;
                let mut install = Command::new("apt-get");
                run_visibly(install.args(["install", "-y"]).args(PACKAGES).env("DEBIAN_FRONTEND", "noninteractive"))
            }
            Self::Nightly => {
                let recipe = self.recipe();
                let mut words = recipe.split(' ');
                run_visibly(Command::new(words.next().context("no command")?).args(words))
            }
        }
    }

    /// What to type to have the linker for it.
    fn linker_recipe(self) -> String {
        let install = format!("cargo install {LINKER} --locked --version {LINKER_VERSION}");
        match self {
            Self::Nightly => install,
            Self::Debian => format!(
                "LLVM_PREFIX={DEBIAN_LLVM} LLVM_SYS_221_PREFIX={DEBIAN_LLVM} {install} --no-default-features --features llvm-22"
            ),
        }
    }

    fn install_linker(self) -> Result<()> {
        // As it would be typed: variables and all. Nothing in it comes from outside.
        run_visibly(Command::new("sh").args(["-c", &self.linker_recipe()]))
    }
}

/// The toolchain to build with, its linker there too.
pub(super) fn find(wanted: Option<Toolchain>, may_install: bool) -> Result<Toolchain> {
    let candidates = wanted.map_or(vec![Toolchain::Nightly, Toolchain::Debian], |one| vec![one]);
    let toolchain = match candidates.iter().find(|toolchain| toolchain.is_there()) {
        Some(toolchain) => *toolchain,
        None => install_any(&candidates, may_install)?,
    };
    if !linker_is_there() {
        let recipe = toolchain.linker_recipe();
        if !may_install {
            bail!("{LINKER} is missing; to have it: {recipe}");
        }
        toolchain.install_linker().with_context(|| format!("{LINKER} could not be installed; to have it: {recipe}"))?;
    }
    Ok(toolchain)
}

fn install_any(candidates: &[Toolchain], may_install: bool) -> Result<Toolchain> {
    let mut tried = Vec::new();
    // Debian's packages first: they are there where a nightly's sources may not be had.
    for toolchain in candidates.iter().rev() {
        let result = if may_install { toolchain.install() } else { Err(anyhow::anyhow!("told to install nothing")) };
        match result {
            Ok(()) if toolchain.is_there() => return Ok(*toolchain),
            Ok(()) => tried.push(format!("{toolchain}: installed, and yet not complete")),
            Err(error) => tried.push(format!("{toolchain}: {error:#}; to have it: {}", toolchain.recipe())),
        }
    }
    bail!("there is no compiler for kernel programs here:\n  {}", tried.join("\n  "))
}

fn is_root() -> bool {
    // SAFETY: the call has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn linker_is_there() -> bool {
    let search = path_with_cargo_bin().unwrap_or_default();
    env::split_paths(&search).any(|directory| directory.join(LINKER).is_file())
}

/// Cargo's home directory.
pub(super) fn cargo_home() -> Result<PathBuf> {
    match env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => Ok(PathBuf::from(env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo")),
    }
}

/// The search path, with the place where `cargo install` puts the linker.
pub(super) fn path_with_cargo_bin() -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let all = env::split_paths(&path).chain([cargo_home()?.join("bin")]);
    env::join_paths(all).context("the search path cannot be extended")
}

//! `cargo xtask ebpf`: builds the kernel programs from source, into the place where gordian's build takes them from.
//!
//! They need a compiler with a `core` for BPF, and `bpf-linker`. Two toolchains have it: rustup's nightly with
//! `rust-src`, and Debian's `rustc-web`. What is missing is installed where that is allowed, and named where it is not.

mod hash;
mod toolchain;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use hash::Stamp;
use toolchain::Toolchain;

/// The object as checked in, from the root of the repository.
const OBJECT: &str = "profiler-user/ebpf/gordian.bpf.o";
/// What it was built from.
const STAMP: &str = "profiler-user/ebpf/gordian.bpf.stamp";
/// Target triple of the programs.
const TARGET: &str = "bpfel-unknown-none";

/// Flags of `cargo xtask ebpf`.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Write the object here, and leave the one that is checked in alone
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only say whether the object that is checked in was built from these sources
    #[arg(long, conflicts_with = "out")]
    check: bool,
    /// Install nothing: fail where something is missing
    #[arg(long)]
    no_install: bool,
    /// Toolchain to build with; by default the one that is there
    #[arg(long, value_enum)]
    toolchain: Option<Toolchain>,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Arguments) -> Result<()> {
    let root = root();
    if args.check {
        return check(&root);
    }
    let toolchain = toolchain::find(args.toolchain, !args.no_install)?;
    let built = build(&root, toolchain)?;
    let Some(out) = &args.out else {
        let object = root.join(OBJECT);
        write_stripped(&built, &object)?;
        let stamp = Stamp::of(&root, &fs::read(&object)?)?;
        fs::write(root.join(STAMP), stamp.to_string())?;
        eprintln!("built {OBJECT} with {toolchain}");
        return Ok(());
    };
    write_stripped(&built, out)?;
    eprintln!("built {} with {toolchain}", out.display());
    Ok(())
}

/// Root of the repository.
fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Fails where the object that is checked in was not built from the sources that are there.
fn check(root: &Path) -> Result<()> {
    let object = fs::read(root.join(OBJECT)).with_context(|| format!("{OBJECT} cannot be read"))?;
    let recorded = fs::read_to_string(root.join(STAMP)).with_context(|| format!("{STAMP} cannot be read"))?;
    let now = Stamp::of(root, &object)?.to_string();
    ensure!(
        recorded == now,
        "{OBJECT} is stale: its sources, manifests or lock have changed. Rebuild it with `cargo xtask ebpf`.\n\
         recorded:\n{recorded}now:\n{now}"
    );
    Ok(())
}

/// Compiles and links; returns the path of the object, with its debuginfo.
fn build(root: &Path, toolchain: Toolchain) -> Result<PathBuf> {
    let source = root.join("profiler-ebpf");
    let target_dir = source.join("target");
    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(&source)
        .args(["build", "--release", "--locked", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .args(["--config", &format!("target.{TARGET}.rustflags=[{}]", remaps(root)?.join(","))])
        // Either would replace the flags that make the linker write BTF.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("PATH", toolchain::path_with_cargo_bin()?);
    run_visibly(&mut cargo)?;
    Ok(target_dir.join(TARGET).join("release/gordian-bpf"))
}

/// Flags that keep the builder's own paths out of the object, as TOML strings.
fn remaps(root: &Path) -> Result<Vec<String>> {
    let mut remaps = vec![format!("--remap-path-prefix={}=/gordian", root.display())];
    if let Ok(sources) = fs::read_dir(toolchain::cargo_home()?.join("registry/src")) {
        for registry in sources {
            remaps.push(format!("--remap-path-prefix={}=/registry", registry?.path().display()));
        }
    }
    Ok(remaps.iter().map(|flag| format!("{flag:?}")).collect())
}

/// Copies the object without its DWARF, which nobody loads; its BTF stays. Whole, where there is no tool for it.
fn write_stripped(built: &Path, out: &Path) -> Result<()> {
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent)?;
    }
    let tools = ["/usr/lib/llvm-22/bin/llvm-objcopy", "llvm-objcopy-22", "llvm-objcopy"];
    for tool in tools {
        let stripped = Command::new(tool).arg("--strip-debug").arg(built).arg(out).status();
        if stripped.is_ok_and(|status| status.success()) {
            return Ok(());
        }
    }
    eprintln!("no llvm-objcopy here: the object keeps its debuginfo");
    fs::copy(built, out).with_context(|| format!("cannot write {}", out.display()))?;
    Ok(())
}

/// Shows a command, runs it, and fails where it does.
fn run_visibly(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
    eprintln!("+ {program} {}", arguments.join(" "));
    let status = command.status().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{program} failed: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_that_is_checked_in_was_built_from_these_sources() {
        check(&root()).unwrap();
    }
}

//! `cargo xtask fuzz`: feeds what gordian parses with what nobody meant it to parse.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::programs::{Fixture, Fixtures, build_fixtures, build_gordian, cargo, repository, succeed, target_directory};

/// The targets of `fuzz/Cargo.toml`, and once more `memory`, with the memory of a Go program.
const TARGETS: [&str; 7] = ["module", "stored", "capture", "answers", "interpreter", "memory", GO];
const GO: &str = "go";

/// What libFuzzer needs of the compiler to see which code an input reaches; all of it works with stable Rust.
const COVERAGE: &str = "--cfg=fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Add the inputs that reached something new to fuzz/corpus
    #[arg(long)]
    keep: bool,
    /// Only this target
    #[arg(long, value_parser = TARGETS)]
    target: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let work = target_directory().join("fuzz");
    let programs = build(&work)?;
    let gordian = build_gordian()?;
    let deadlock = build_fixtures("release", Fixtures::One("deadlock"))?.join("deadlock");
    let tokio = capture(&work, &gordian, "deadlock", &Fixture::start(&deadlock)?, &[])?;
    let go = match go_program()? {
        Some(program) => {
            Some(capture(&work, &gordian, GO, &Fixture::start_with(&program, &["pool-exhausted"])?, &["--freeze"])?)
        }
        None => None,
    };
    for target in TARGETS.iter().filter(|name| arguments.target.as_ref().is_none_or(|only| only == *name)) {
        let (kept, found) = (repository().join("fuzz/corpus").join(target), work.join("corpus").join(target));
        for folder in [&kept, &found, &work.join("failed")] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let Some(capture) = (if *target == GO { go.as_ref() } else { Some(&tokio) }) else {
            eprintln!("no Go toolchain in target/go: `cargo test -p gordian-tests --test go` installs one");
            continue;
        };
        let mut command = Command::new(programs.join(if *target == GO { "memory" } else { target }));
        command.env("GORDIAN_FUZZ_CAPTURE", capture);
        command.arg(format!("-artifact_prefix={}/failed/{target}-", work.display()));
        // An input that takes ten seconds or a gibibyte is a defect like one that panics.
        command.args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=65536", "-verbosity=0", "-print_final_stats=1"]);
        if arguments.keep {
            // As few as reach everything: how often a branch is taken does not count.
            succeed(command.args(["-set_cover_merge=1", "-use_counters=0"]).args([&kept, &found]))?;
        } else {
            eprintln!("fuzzing {target} for {} s", arguments.seconds);
            succeed(command.arg(format!("-max_total_time={}", arguments.seconds)).args([&found, &kept]))?;
        }
    }
    Ok(())
}

fn build(work: &Path) -> Result<PathBuf> {
    let mut command = cargo(&repository().join("fuzz"));
    command.env("RUSTFLAGS", COVERAGE).args(["build", "--release", "--locked", "--target", TRIPLE]);
    succeed(command.arg("--target-dir").arg(work))?;
    Ok(work.join(TRIPLE).join("release"))
}

/// A capture of a program.
fn capture(work: &Path, gordian: &Path, name: &str, program: &Fixture, flags: &[&str]) -> Result<PathBuf> {
    let path = work.join(name).with_extension("capture");
    if path.exists() {
        fs::remove_file(&path).with_context(|| format!("cannot replace {}", path.display()))?;
    }
    let mut command = Command::new(gordian);
    command.arg("capture").arg(program.pid().to_string()).args(flags).arg("-o").arg(&path);
    succeed(&mut command)?;
    Ok(path)
}

/// A Go program with goroutines that are stuck, built by the newest toolchain that the tests have installed; `None` without one.
fn go_program() -> Result<Option<PathBuf>> {
    let target = repository().join("target/go");
    let versions = fs::read_dir(&target).into_iter().flatten().flatten().map(|entry| entry.path().join("go"));
    let Some(root) = versions.filter(|root| root.join("bin/go").is_file()).max() else { return Ok(None) };
    let program = target.join("programs/fuzzed");
    let mut go = Command::new(root.join("bin/go"));
    go.current_dir(repository().join("tests/go")).env("GOROOT", &root).env("GOTOOLCHAIN", "local");
    go.env("GOFLAGS", "-mod=mod").env("GOCACHE", target.join("cache")).env("GOPATH", target.join("path"));
    go.env("CGO_ENABLED", "0").args(["build", "-ldflags=-s -w", "-o"]).arg(&program).arg("./guilty");
    succeed(&mut go)?;
    Ok(Some(program))
}

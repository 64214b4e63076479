//! How long it takes from the start of gordian to its first finding.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use object::{Object as _, ObjectSection as _};

use super::stats::median;
use crate::programs::{Fixture, Fixtures, build_fixtures, cargo, repository, succeed, target_directory};

/// Programs with a deadlock in them: profile, program, arguments. The last has the debuginfo of many crates.
const PROGRAMS: [(&str, &str, &[&str]); 3] =
    [("release", "deadlock", &[]), ("debuginfo", "deadlock", &[]), ("debuginfo", "guilty", &["transfer_both_ways"])];

/// What gordian has of its earlier runs.
#[derive(Clone, Copy)]
enum Kept<'d> {
    /// Nothing, and it keeps nothing.
    Nothing,
    /// What it has put into this directory.
    In(&'d Path),
}

/// Of each program, words for it and the seconds of so many times.
pub(super) fn all(gordian: &Path, times: usize) -> Result<Vec<(String, Vec<f64>)>> {
    let each = PROGRAMS.iter().map(|(profile, name, arguments)| {
        let program = build_fixtures(profile, Fixtures::All)?.join(name);
        Ok((words(&program, profile)?, first_findings(gordian, &program, arguments, times, Kept::Nothing)?))
    });
    each.collect()
}

/// The same for small programs and the one of `tests/large`, with nothing kept and with what an earlier run has kept: a page.
pub(super) fn large(gordian: &Path, times: usize) -> Result<String> {
    let mut programs = vec![(build_large()?, "release")];
    for profile in ["debuginfo", "release"] {
        programs.push((build_fixtures(profile, Fixtures::One("deadlock"))?.join("deadlock"), profile));
    }
    let cache = target_directory().join("bench-cache");
    let mut page =
        "| target | nothing kept: median | slowest | answers kept: median | slowest |\n|---|---|---|---|---|\n"
            .to_owned();
    for (program, profile) in programs {
        if cache.exists() {
            fs::remove_dir_all(&cache)?;
        }
        fs::create_dir(&cache)?;
        let mut row = format!("| {} ", words(&program, profile)?);
        first_findings(gordian, &program, &[], 1, Kept::In(&cache))?;
        for kept in [Kept::Nothing, Kept::In(&cache)] {
            let mut seconds = first_findings(gordian, &program, &[], times, kept)?;
            let slowest = seconds.iter().copied().fold(0.0, f64::max);
            let median = median(&mut seconds).unwrap_or_default();
            let _infallible = write!(row, "| {median:.2} s | {slowest:.2} s ");
        }
        page += &(row + "|\n");
    }
    Ok(page)
}

/// Builds the program of `tests/large`, which takes minutes.
fn build_large() -> Result<PathBuf> {
    let target = target_directory().join("large");
    let mut command = cargo(&repository().join("tests/large"));
    succeed(command.args(["build", "--locked", "--release", "--target-dir"]).arg(&target))?;
    Ok(target.join("release/large"))
}

/// A program, how it was built, and how much DWARF it has.
fn words(program: &Path, profile: &str) -> Result<String> {
    let name = program.file_name().unwrap_or_default().display();
    Ok(format!("{name}, {profile}: {:.0} MB of DWARF", dwarf_bytes(program)? as f64 / 1e6))
}

/// How many bytes of DWARF a program has.
fn dwarf_bytes(program: &Path) -> Result<u64> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let file = object::File::parse(&*bytes).context("it is no object file")?;
    let debug = file.sections().filter(|section| section.name().is_ok_and(|name| name.starts_with(".debug_")));
    Ok(debug.map(|section| section.size()).sum())
}

/// Seconds from the start of `gordian check` to the first finding it says, each on a fresh process of `program`, which has a
/// deadlock in it.
fn first_findings(
    gordian: &Path,
    program: &Path,
    arguments: &[&str],
    times: usize,
    kept: Kept<'_>,
) -> Result<Vec<f64>> {
    let mut seconds = Vec::with_capacity(times);
    for _ in 0..times {
        let service = Fixture::start_with(program, arguments)?;
        let mut command = Command::new(gordian);
        command.args(["check", &service.pid().to_string(), "--jsonl"]).stdout(Stdio::piped());
        match kept {
            Kept::Nothing => command.arg("--no-cache"),
            Kept::In(directory) => command.env("XDG_CACHE_HOME", directory),
        };
        let start = Instant::now();
        let mut child = command.spawn().context("cannot start gordian")?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        let mut found = None;
        for line in BufReader::new(stdout).lines() {
            if line?.contains("\"deadlock\"") && found.is_none() {
                found = Some(start.elapsed().as_secs_f64());
            }
        }
        child.wait()?;
        seconds.push(found.context("gordian did not find the deadlock")?);
    }
    Ok(seconds)
}

//! How long it takes from the start of gordian to its first finding.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use object::{Object as _, ObjectSection as _};

use crate::programs::{Fixture, Fixtures, build_fixtures};

/// Programs with a deadlock in them: profile, program, arguments. The last has the debuginfo of many crates.
const PROGRAMS: [(&str, &str, &[&str]); 3] =
    [("release", "deadlock", &[]), ("debuginfo", "deadlock", &[]), ("debuginfo", "guilty", &["transfer_both_ways"])];

/// Of each program, words for it and the seconds of so many times.
pub(super) fn all(gordian: &Path, times: usize) -> Result<Vec<(String, Vec<f64>)>> {
    let each = PROGRAMS.iter().map(|(profile, name, arguments)| {
        let program = build_fixtures(profile, Fixtures::All)?.join(name);
        let words = format!("{name}, {profile}: {:.0} MB of DWARF", dwarf_bytes(&program)? as f64 / 1e6);
        Ok((words, first_findings(gordian, &program, arguments, times)?))
    });
    each.collect()
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
fn first_findings(gordian: &Path, program: &Path, arguments: &[&str], times: usize) -> Result<Vec<f64>> {
    let mut seconds = Vec::with_capacity(times);
    for _ in 0..times {
        let service = Fixture::start_with(program, arguments)?;
        let start = Instant::now();
        let mut child = Command::new(gordian)
            .args(["check", &service.pid().to_string(), "--jsonl"])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start gordian")?;
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

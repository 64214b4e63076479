//! `cargo xtask go speed`: processor time, wall time and memory that gordian takes for large Go programs.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use super::program;
use crate::{
    bench::{
        report::{machine, today},
        stats::median,
    },
    programs::{Fixture, build_gordian},
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Runs of which the median is taken
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// What is looked at: words for it, arguments of `tests/go/large`, and gordian's command.
const PROGRAMS: [(&str, [&str; 2], &str); 4] = [
    ("`tasks` of 100,000 goroutines", ["goroutines", "100000"], "tasks"),
    ("`tasks` of 1,000,000 goroutines", ["goroutines", "1000000"], "tasks"),
    ("`check` of 100,000 goroutines, 1,000 stuck", ["goroutines", "100000"], "check"),
    ("`check` of 1.9 GB of small objects in 42 million pieces, 10 stuck", ["heap", "1900"], "check"),
];

/// What one run of gordian took.
struct Took {
    /// Seconds of processor time, of those in the kernel, and on the clock.
    cpu: f64,
    kernel: f64,
    wall: f64,
    /// The most memory that it had at a time, bytes.
    memory: f64,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.runs > 0, "there is nothing to measure");
    let gordian = build_gordian()?;
    let large = program("large")?;
    println!("`cargo xtask go speed --runs {}`, {}, {}\n", arguments.runs, today(), machine());
    println!("| looked at | processor time | of that in the kernel | on the clock | memory | memory of the program |");
    println!("|---|---|---|---|---|---|");
    for (words, program, command) in PROGRAMS {
        let fixture = Fixture::start_with(&large, &program)?;
        let took: Vec<Took> =
            (0..arguments.runs).map(|_| look(&gordian, command, fixture.pid())).collect::<Result<_>>()?;
        let of = |value: fn(&Took) -> f64| median(&mut took.iter().map(value).collect::<Vec<_>>()).unwrap_or_default();
        println!(
            "| {words} | {:.2} s | {:.2} s | {:.2} s | {:.2} GB | {:.2} GB |",
            of(|took| took.cpu),
            of(|took| took.kernel),
            of(|took| took.wall),
            of(|took| took.memory) / 1e9,
            resident(fixture.pid())? / 1e9,
        );
    }
    Ok(())
}

/// Lets gordian look once, without kernel programs: it is the reading that is measured.
fn look(gordian: &Path, command: &str, pid: u32) -> Result<Took> {
    let begin = Instant::now();
    let mut look = Command::new(gordian);
    look.args([command, &pid.to_string(), "--no-bpf", "--no-cache", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let child = look.spawn().with_context(|| format!("cannot start {look:?}"))?;
    let (status, usage) = wait(child.id())?;
    let wall = begin.elapsed().as_secs_f64();
    // 1 is what `check` says where it has found something.
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    ensure!(code == Some(i32::from(command == "check")), "{look:?} ended with {code:?}");
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let kernel = seconds(usage.ru_stime);
    Ok(Took { cpu: seconds(usage.ru_utime) + kernel, kernel, wall, memory: usage.ru_maxrss as f64 * 1024.0 })
}

/// Waits for a child of ours that nobody else waits for: how it ended, and what it used.
fn wait(pid: u32) -> Result<(i32, libc::rusage)> {
    let mut status = 0;
    // SAFETY: a structure of plain numbers, for which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to variables of ours that outlive the call.
    let waited = unsafe { libc::wait4(pid.cast_signed(), &raw mut status, 0, &raw mut usage) };
    ensure!(waited == pid.cast_signed(), "cannot wait for gordian: {}", io::Error::last_os_error());
    Ok((status, usage))
}

/// Bytes of memory that a process has now.
fn resident(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the program has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}

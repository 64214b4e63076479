//! How long a snapshot takes, by `profiler-user/examples/snapshot_scale.rs`, and a capture.

use std::{fmt::Write, fs, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, ensure};

use super::stats;
use crate::programs::{Fixture, cargo, repository, succeed, target_directory};

/// What is looked at: words for it, and the arguments of the fixture `many`.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("10,000, of which some 250 end in a second", &["10000", "40"]),
    ("100,000, of which some 2,500 end in a second", &["100000", "40"]),
    ("100,000 sleep", &["100000"]),
    ("1,000,000 sleep", &["1000000"]),
];
const CAPTURED: &[&str] = &["100000"];
const CAPTURES: usize = 5;

/// The section of the page, in Markdown.
pub(super) fn section(gordian: &Path, fixtures: &Path) -> Result<String> {
    let mut section = String::from(
        "\n## Snapshots and captures\n\n\
         The fixture `many`, release build. The first read learns the code, the later ones (median of five) do not; memory is what \
         reading added to the debuginfo. Goals: under 2% of tasks unstable; 1,000,000 sleeping tasks in 1 s and 500 MB.\n\n\
         | tasks | found | unstable | first read | later reads | memory |\n|---|---|---|---|---|---|\n",
    );
    for (words, arguments) in PROGRAMS {
        let service = Fixture::start_with(&fixtures.join("many"), arguments)?;
        let columns = example(service.pid())?;
        let [tasks, unstable, first, later, memory] = columns.as_slice() else {
            anyhow::bail!("snapshot_scale printed {columns:?}")
        };
        let _infallible =
            writeln!(section, "| {words} | {tasks} | {unstable}% | {first} s | {later} s | {memory} MB |");
    }
    let service = Fixture::start_with(&fixtures.join("many"), CAPTURED)?;
    let file = target_directory().join("bench.capture");
    let (mut seconds, mut bytes) = (Vec::new(), 0);
    for _ in 0..CAPTURES {
        if file.exists() {
            fs::remove_file(&file).context("the last capture stays")?;
        }
        let begin = Instant::now();
        let mut command = Command::new(gordian);
        succeed(command.arg("capture").arg(service.pid().to_string()).arg("-o").arg(&file).stdout(std::io::stderr()))?;
        seconds.push(begin.elapsed().as_secs_f64());
        bytes = fs::metadata(&file).context("no capture")?.len();
    }
    let _infallible = writeln!(
        section,
        "\n`gordian capture` of 100,000 sleeping tasks: {:.2} s (median of {CAPTURES}, of which 0.3 s are the time between its two \
         moments), {:.1} MB. Goal: 2 s, 64 MB.",
        stats::median(&mut seconds).context("nothing was captured")?,
        bytes as f64 / 1e6,
    );
    Ok(section)
}

fn example(pid: u32) -> Result<Vec<String>> {
    let arguments = ["run", "--release", "--locked", "--package", "profiler-user", "--example", "snapshot_scale", "--"];
    let output = cargo(repository()).args(arguments).arg(pid.to_string()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "snapshot_scale failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().split('\t').map(str::to_owned).collect())
}

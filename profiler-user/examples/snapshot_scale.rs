//! How long a snapshot of a process takes: `cargo run --release -p profiler-user --example snapshot_scale PID`.
//!
//! Prints one line: tasks, the percentage of them that moved while they were read, seconds of the first read (which learns the
//! code) and of the median of five more, and megabytes that reading added to what the debuginfo takes. `cargo xtask bench`
//! puts them into docs/benchmarks.md.

use std::time::Instant;

use profiler_user::{
    debuginfo::Module,
    model::{Snapshot, Target},
    runtime::{self, Reads, World},
    target::Process,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pid = std::env::args().nth(1).ok_or("no PID")?.parse()?;
    let process = Process::open(pid)?;
    let (files, _) = process.modules(&process.mappings()?);
    let modules: Vec<Module> = files.iter().filter_map(|file| Module::load(file).ok()).collect();
    let mut runtimes = runtime::find(&modules, &process.memory(process.mappings()?, files.clone())?);
    let before = megabytes("VmRSS:");
    let (mut tasks, mut unstable, mut seconds) = (0, 0, Vec::new());
    for _ in 0..6 {
        let begin = Instant::now();
        let memory = process.memory(process.mappings()?, files.clone())?;
        let threads: Vec<_> = process.threads()?.into_iter().map(|facts| (facts, None, Vec::new())).collect();
        let world = World { memory: &memory, modules: &modules, threads: &threads, reads: Reads::Passing };
        let mut snapshot = Snapshot::empty(Target { pid, exe: process.exe().to_owned() });
        for runtime in &mut runtimes {
            runtime.read(&world, &mut snapshot);
        }
        seconds.push(begin.elapsed().as_secs_f64());
        tasks = snapshot.tasks.len();
        unstable += snapshot.coverage.unstable;
    }
    let share = 100.0 * unstable as f64 / (seconds.len() * tasks.max(1)) as f64;
    let first = seconds.remove(0);
    seconds.sort_unstable_by(f64::total_cmp);
    println!("{tasks}\t{share:.2}\t{first:.3}\t{:.3}\t{:.0}", seconds[2], megabytes("VmHWM:") - before);
    Ok(())
}

/// A line of this process' own status, which the kernel gives in kilobytes.
fn megabytes(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value =
        status.lines().find_map(|status| status.strip_prefix(line)?.split_whitespace().next()?.parse::<f64>().ok());
    value.unwrap_or(f64::NAN) / 1024.0
}

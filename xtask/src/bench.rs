//! `cargo xtask bench`: what gordian costs a service under load, in interleaved pairs with and without it.

mod analysis;
mod cgroup;
mod first;
mod footprint;
pub(crate) mod measure;
pub(crate) mod report;
mod snapshot;
pub(crate) mod stats;

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};

use crate::programs::{Fixture, Fixtures, build_fixtures, build_gordian, repository};
use measure::{Attachment, Bench, Pair};

/// How often a service is put under which load.
#[derive(clap::Args)]
pub(crate) struct Runs {
    /// Pairs of runs for each way of attaching
    #[arg(long, default_value_t = 30)]
    pub(crate) pairs: usize,
    /// Seconds of load in each run
    #[arg(long, default_value_t = 3)]
    pub(crate) seconds: u32,
    /// Requests a second; 0 sends as fast as the answers come
    #[arg(long, default_value_t = 3000)]
    pub(crate) rate: u32,
    /// Connections that carry them
    #[arg(long, default_value_t = 16)]
    pub(crate) connections: u32,
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    runs: Runs,
    /// How often the time from start to the first finding is taken
    #[arg(long, default_value_t = 10)]
    findings: usize,
    /// Only take the time to the first finding in a program with more than 200 MB of DWARF, which takes minutes to compile, and in
    /// small ones, with nothing kept of earlier runs and with what they keep; print that
    #[arg(long)]
    large: bool,
    /// Print the page and leave docs/benchmarks.md alone
    #[arg(long)]
    dry_run: bool,
}

/// Everything measured for one way of attaching.
pub(crate) struct Series {
    pub(crate) attachment: Attachment,
    pub(crate) pairs: Vec<Pair>,
}

impl Series {
    /// Something of each pair.
    pub(crate) fn each(&self, value: impl Fn(&Pair) -> f64) -> Vec<f64> {
        self.pairs.iter().map(value).collect()
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let gordian = build_gordian()?;
    if arguments.large {
        println!("{}", first::large(&gordian, arguments.findings)?);
        return Ok(());
    }
    let fixtures = build_fixtures("release", Fixtures::All)?;
    let service = Fixture::start(&fixtures.join("http"))?;
    let all = in_turns((&gordian, &fixtures.join("load"), &service), &Attachment::ALL, &arguments.runs)?;
    let first = first::all(&gordian, arguments.findings)?;

    drop(service);
    let page = report::page(&all, &first, arguments)
        + &footprint::section(&gordian, &fixtures, &arguments.runs)?
        + &snapshot::section(&gordian, &fixtures)?
        + &analysis::section()?;
    println!("{page}");
    if !arguments.dry_run {
        std::fs::write(repository().join("docs/benchmarks.md"), page)?;
    }
    Ok(())
}

/// Pairs of runs of a service under load, for some ways of attaching; all of them take turns, pair by pair: a machine that
/// changes its mood changes it for each of them.
pub(crate) fn in_turns(
    (gordian, load, service): (&Path, &Path, &Fixture),
    attachments: &[Attachment],
    runs: &Runs,
) -> Result<Vec<Series>> {
    ensure!(runs.pairs > 0 && runs.seconds > 0, "there is nothing to measure");
    let length = Duration::from_secs(runs.seconds.into());
    let bench = Bench { gordian, load, service, length, rate: runs.rate, connections: runs.connections };
    bench.warm_up()?;
    let of = |&attachment: &Attachment| Series { attachment, pairs: Vec::with_capacity(runs.pairs) };
    let mut all: Vec<Series> = attachments.iter().map(of).collect();
    for number in 0..runs.pairs {
        for series in &mut all {
            series.pairs.push(bench.pair(series.attachment, number % 2 == 1)?);
        }
        eprintln!("pair {} of {}", number + 1, runs.pairs);
    }
    Ok(all)
}

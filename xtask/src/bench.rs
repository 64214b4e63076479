//! `cargo xtask bench`: what gordian costs a service under load, in interleaved pairs with and without it.

mod analysis;
mod measure;
mod report;
mod snapshot;
mod stats;

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::programs::{Fixture, Fixtures, build_fixtures, build_gordian, repository};
use measure::{Attachment, Bench, Pair};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Pairs of runs for each way of attaching
    #[arg(long, default_value_t = 30)]
    pairs: usize,
    /// Seconds of load in each run
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Requests a second; 0 sends as fast as the answers come
    #[arg(long, default_value_t = 3000)]
    rate: u32,
    /// Connections that carry them
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// How often the time from start to the first finding is taken
    #[arg(long, default_value_t = 10)]
    findings: usize,
    /// Print the page and leave docs/benchmarks.md alone
    #[arg(long)]
    dry_run: bool,
}

/// Everything measured for one way of attaching.
pub(crate) struct Series {
    pub(crate) attachment: Attachment,
    pub(crate) pairs: Vec<Pair>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.pairs > 0 && arguments.seconds > 0, "there is nothing to measure");
    let gordian = build_gordian()?;
    let fixtures = build_fixtures("release", Fixtures::All)?;
    let service = Fixture::start(&fixtures.join("http"))?;
    let bench = Bench {
        gordian: &gordian,
        load: fixtures.join("load"),
        service: &service,
        length: Duration::from_secs(arguments.seconds.into()),
        rate: arguments.rate,
        connections: arguments.connections,
    };
    bench.warm_up()?;
    let mut all: Vec<Series> =
        Attachment::ALL.map(|attachment| Series { attachment, pairs: Vec::with_capacity(arguments.pairs) }).into();
    // All ways take turns, pair by pair: a machine that changes its mood changes it for each of them.
    for number in 0..arguments.pairs {
        for series in &mut all {
            series.pairs.push(bench.pair(series.attachment, number % 2 == 1)?);
        }
        eprintln!("pair {} of {}", number + 1, arguments.pairs);
    }
    let mut first = Vec::new();
    for profile in ["release", "debuginfo"] {
        first.push((
            profile,
            measure::first_findings(&gordian, &build_fixtures(profile, Fixtures::All)?, arguments.findings)?,
        ));
    }

    let page = report::page(&all, &first, arguments) + &snapshot::section(&gordian, &fixtures)? + &analysis::section()?;
    println!("{page}");
    if !arguments.dry_run {
        std::fs::write(repository().join("docs/benchmarks.md"), page)?;
    }
    Ok(())
}

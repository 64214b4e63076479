//! What a snapshot a second takes from a service under load: CPU, latency, page faults, memory; also with hardly any memory left.

use std::{fmt::Write, path::Path};

use anyhow::{Context, Result, bail};

use super::{
    Runs, Series,
    cgroup::Cgroup,
    in_turns,
    measure::{Attachment, Pair, SNAPSHOTS},
    report::shown,
    stats::{self, estimate},
};
use crate::programs::{Fixture, build_example};

/// Megabytes that the service keeps besides: two in a hundred of them are room for its work.
const BALLAST: &str = "256";
/// How much of its limit the service takes.
const PERCENT: u64 = 98;

/// The section of the page, in Markdown.
pub(super) fn section(gordian: &Path, fixtures: &Path, runs: &Runs) -> Result<String> {
    let mut section = String::from(
        "\n## A snapshot a second\n\n\
         The same service and load, with 256 MB of memory besides; snapshots and nothing else of gordian, once a second. Page faults \
         are the service's own, memory is what its pages and page tables are more at the end of a run than at its beginning: \
         medians of the runs with / without. Goals: p99.9 within 2%, no memory charged.\n\n\
         | the service | CPU per request | p99.9 latency | page faults | memory |\n|---|---|---|---|---|\n",
    );
    build_example(SNAPSHOTS)?;
    let (program, load) = (fixtures.join("http"), fixtures.join("load"));
    let bench = |service: &Fixture| in_turns((gordian, &load, service), &[Attachment::Snapshots], runs);
    row(&mut section, "with all memory", &bench(&Fixture::start_with(&program, &[BALLAST])?)?)?;
    match Cgroup::create(&format!("gordian-bench-{}", std::process::id())) {
        Ok(cgroup) => {
            let (joining, program) = (cgroup.joining(), program.to_string_lossy());
            let joins = ["-c", "echo 0 > \"$0\" && exec \"$@\"", &joining.to_string_lossy(), &program, BALLAST];
            let service = Fixture::start_with(Path::new("sh"), &joins)?;
            cgroup.limit(cgroup.charged()? * 100 / PERCENT)?;
            let series = bench(&service)?;
            row(&mut section, &format!("at {PERCENT}% of its cgroup's limit"), &series)?;
            drop(service);
        }
        Err(why) => {
            let _infallible = writeln!(section, "\nNot measured with {PERCENT}% of a cgroup's limit taken: {why}.");
        }
    }
    Ok(section)
}

fn row(section: &mut String, service: &str, series: &[Series]) -> Result<()> {
    let [series] = series else { bail!("there is one way of attaching") };
    let median = |value: fn(&Pair) -> f64| stats::median(&mut series.each(value)).context("nothing was measured");
    let _infallible = writeln!(
        section,
        "| {service} | {} | {} | {:.0} / {:.0} | {:.0} / {:.0} kB |",
        shown(estimate(&series.each(Pair::cpu_ratio))),
        shown(estimate(&series.each(Pair::p999_ratio))),
        median(|pair| pair.with.faults)?,
        median(|pair| pair.without.faults)?,
        median(|pair| pair.with.memory_growth / 1e3)?,
        median(|pair| pair.without.memory_growth / 1e3)?,
    );
    Ok(())
}

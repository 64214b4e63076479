//! `cargo xtask go cost`: what gordian costs a Go server under load, by the machinery of `cargo xtask bench`.

use anyhow::Result;

use super::program;
use crate::{
    bench::{
        Runs, Series, in_turns,
        measure::Attachment,
        report::{machine, ratios, today},
        stats::median,
    },
    programs::{Fixture, Fixtures, build_fixtures, build_gordian},
};

/// The default tier, its reads alone, and the live view.
const ATTACHMENTS: [Attachment; 4] = [Attachment::Control, Attachment::Check, Attachment::Reads, Attachment::Live];

pub(super) fn run(runs: &Runs) -> Result<()> {
    let gordian = build_gordian()?;
    let load = build_fixtures("release", Fixtures::One("load"))?.join("load");
    let service = Fixture::start(&program("serves")?)?;
    let all = in_turns((&gordian, &load, &service), &ATTACHMENTS, runs)?;
    let Runs { pairs, seconds, rate, connections } = runs;
    println!(
        "`cargo xtask go cost --pairs {pairs} --seconds {seconds} --rate {rate} --connections {connections}`, {}, {}\n",
        today(),
        machine()
    );
    println!(
        "| attached | CPU per request | p99.9 latency | kernel programs, ns per request | gordian itself, of one processor | of \
         that in the kernel, reading | CPU goal |\n|---|---|---|---|---|---|---|"
    );
    for series in &all {
        println!("{}", row(series));
    }
    Ok(())
}

fn row(series: &Series) -> String {
    let name = series.attachment.name();
    let [cpu, latency, verdict] = ratios(series);
    if series.attachment == Attachment::Control {
        return format!("| {name} | {cpu} | {latency} | – | – | – | – |");
    }
    let of = |value: fn(&crate::bench::measure::Run) -> f64| {
        median(&mut series.each(|pair| value(&pair.with))).unwrap_or_default()
    };
    format!(
        "| {name} | {cpu} | {latency} | {:.0} | {:.1}% | {:.1}% | {verdict} |",
        of(|run| run.kernel_ns_per_request),
        of(|run| run.own[0] * 100.0),
        of(|run| run.own[1] * 100.0)
    )
}

//! `cargo xtask go shots`: how often gordian accuses a healthy Go program.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::with_every_version;
use crate::{
    programs::build_gordian,
    soak::{Looks, Tally, side_by_side},
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many looks at each program
    #[arg(default_value_t = 50)]
    shots: u32,
    /// Programs that run and are looked at at the same time
    #[arg(long, default_value_t = 3)]
    at_a_time: usize,
}

/// A look watches for so many seconds.
const LOOK: &[&str] = &["--for", "2"];

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let gordian = build_gordian()?;
    let programs = with_every_version("healthy")?;
    let listed = Command::new(programs.first().context("no Go")?).output().context("the families are not listed")?;
    let listed: Value = serde_json::from_slice(&listed.stdout).context("the families are no JSON")?;
    let families = listed["families"].as_array().context("there are no families")?;
    // Each family with one version, so that all of these come up.
    let names = families.iter().filter_map(Value::as_str).map(str::to_owned);
    let runs: Vec<_> = programs.iter().cloned().cycle().zip(names).collect();
    let looks = Looks { gordian: &gordian, checks: arguments.shots, flags: LOOK };
    let tallies = side_by_side(&looks, &runs, arguments.at_a_time)?;
    println!("| family | built as | looks | not everything read | false alarms | at most, with 95% confidence |");
    println!("|---|---|---|---|---|---|");
    let mut all = Tally::default();
    for ((program, family), tally) in runs.iter().zip(tallies) {
        let built = program.file_name().unwrap_or_default().to_string_lossy();
        println!("| `{family}` | {built} | {} |", tally.columns());
        all.add(tally);
    }
    println!("| all {} | | {} |", runs.len(), all.columns());
    println!("\nall: {all}");
    all.acquit()
}

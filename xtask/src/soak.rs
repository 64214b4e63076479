//! `cargo xtask soak`: how often gordian accuses a healthy program, over many looks at every innocent one of the corpus.

mod bounds;
mod tally;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub(crate) use tally::{Looks, Tally, check};

use crate::programs::{Fixture, Fixtures, build_fixtures, build_gordian};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Checks of each program in each build
    #[arg(long, default_value_t = 50)]
    checks: u32,
    /// Programs that run and are checked at the same time
    #[arg(long, default_value_t = 8)]
    at_a_time: usize,
    /// Look only at programs whose name contains this
    #[arg(long, default_value = "")]
    only: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let gordian = build_gordian()?;
    let mut runs = Vec::new();
    for profile in ["release", "debuginfo"] {
        let program = build_fixtures(profile, Fixtures::One("innocent"))?.join("innocent");
        let names = names(&program)?;
        runs.extend(
            names.into_iter().filter(|name| name.contains(&arguments.only)).map(|name| (program.clone(), name)),
        );
    }
    ensure!(!runs.is_empty(), "no innocent program is called {}", arguments.only);
    let looks = Looks { gordian: &gordian, checks: arguments.checks, flags: &[] };
    let mut all = Tally::default();
    for tally in side_by_side(&looks, &runs, arguments.at_a_time)? {
        all.add(tally);
    }
    println!("{} innocent programs (each build counts): {all}", runs.len());
    all.acquit()
}

/// The innocent programs.
fn names(program: &Path) -> Result<Vec<String>> {
    let output = Command::new(program).arg("--list").output().context("the corpus does not start")?;
    let listed: Value = serde_json::from_slice(&output.stdout).context("the corpus does not list its programs")?;
    let programs = listed.as_array().context("the list is no list")?;
    Ok(programs.iter().filter_map(|program| program["name"].as_str()).map(str::to_owned).collect())
}

/// Looks at programs that take a name as their argument, so many of them at a time. What came of each, in their order.
pub(crate) fn side_by_side(looks: &Looks<'_>, runs: &[(PathBuf, String)], at_a_time: usize) -> Result<Vec<Tally>> {
    ensure!(looks.checks > 0 && at_a_time > 0, "there is nothing to look at");
    let queue = Mutex::new(runs.iter().enumerate());
    let (next, done) = (|| queue.lock().ok()?.next(), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..at_a_time)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some((place, (program, name))) = next() {
                        let fixture = Fixture::start_with(program, &[name])?;
                        let mut tally = Tally::default();
                        tally.look(looks, fixture.pid(), name)?;
                        eprintln!("{name}: {tally}");
                        done.lock().ok().context("a lane has panicked")?.push((place, tally));
                    }
                    Ok(())
                })
            })
            .collect();
        lanes.into_iter().try_for_each(|lane| lane.join().ok().context("a lane has panicked")?)
    })?;
    let mut done = done.into_inner().ok().context("a lane has panicked")?;
    done.sort_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, tally)| tally).collect())
}

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

pub(crate) use tally::{Tally, check};

use crate::programs::{Fixture, Fixtures, build_fixtures, build_gordian};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Checks of each program in each build
    #[arg(long, default_value_t = 50)]
    checks: u32,
    /// Programs that run and are checked at the same time
    #[arg(long, default_value_t = 3)]
    at_a_time: usize,
    /// Look only at programs whose name contains this
    #[arg(long, default_value = "")]
    only: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.checks > 0 && arguments.at_a_time > 0, "there is nothing to look at");
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
    let tally = side_by_side(&gordian, &runs, arguments)?;
    println!("{} innocent programs (each build counts): {tally}", runs.len());
    tally.acquit()
}

/// The innocent programs.
fn names(program: &Path) -> Result<Vec<String>> {
    let output = Command::new(program).arg("--list").output().context("the corpus does not start")?;
    let listed: Value = serde_json::from_slice(&output.stdout).context("the corpus does not list its programs")?;
    let programs = listed.as_array().context("the list is no list")?;
    Ok(programs.iter().filter_map(|program| program["name"].as_str()).map(str::to_owned).collect())
}

fn side_by_side(gordian: &Path, runs: &[(PathBuf, String)], arguments: &Arguments) -> Result<Tally> {
    let queue = Mutex::new(runs.iter());
    let (next, total) = (|| queue.lock().ok()?.next(), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..arguments.at_a_time)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some((program, name)) = next() {
                        let fixture = Fixture::start_with(program, &[name])?;
                        let mut tally = Tally::default();
                        tally.look(gordian, fixture.pid(), name, arguments.checks)?;
                        eprintln!("{name}: {tally}");
                        total.lock().ok().context("a lane has panicked")?.add(tally);
                    }
                    Ok(())
                })
            })
            .collect();
        lanes.into_iter().try_for_each(|lane| lane.join().ok().context("a lane has panicked")?)
    })?;
    total.into_inner().ok().context("a lane has panicked")
}

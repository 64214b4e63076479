//! `cargo xtask soak`: how often gordian accuses a healthy program, over many looks at every innocent one of the corpus.

mod bounds;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

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

/// What came of looking at programs.
#[derive(Default)]
struct Tally {
    checks: u32,
    /// Looks that ended with "not everything could be read".
    partial: u32,
    /// Checks that accused somebody.
    alarms: u32,
    /// Seconds during which a program was watched or ran between two checks.
    seconds: f64,
    accusations: Vec<String>,
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
    report(&tally, runs.len());
    ensure!(tally.alarms == 0, "{} false alarms", tally.alarms);
    Ok(())
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
                        let tally = look(gordian, program, name, arguments.checks)?;
                        eprintln!("{name}: {} checks, {} alarms", tally.checks, tally.alarms);
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

/// Many checks of one program that goes on running.
fn look(gordian: &Path, program: &Path, name: &str, checks: u32) -> Result<Tally> {
    let fixture = Fixture::start_with(program, &[name])?;
    let (start, mut tally) = (Instant::now(), Tally::default());
    for _ in 0..checks {
        let mut command = Command::new(gordian);
        let output =
            command.arg("check").arg(fixture.pid().to_string()).args(["--json", "--fail-on", "all"]).output()?;
        let document: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{name}: {}", String::from_utf8_lossy(&output.stderr)))?;
        let findings = document["findings"].as_array().context("a document has findings")?;
        let wrong: Vec<&Value> = findings.iter().filter(|finding| finding["kind"] != "stalled").collect();
        tally.checks += 1;
        tally.partial += u32::from(document["complete"] == false);
        tally.alarms += u32::from(!wrong.is_empty());
        tally.accusations.extend(
            wrong.iter().map(|finding| {
                format!("{name}: {} ({}): {}", finding["kind"], finding["certainty"], finding["summary"])
            }),
        );
    }
    tally.seconds = start.elapsed().as_secs_f64();
    Ok(tally)
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.checks += other.checks;
        self.partial += other.partial;
        self.alarms += other.alarms;
        self.seconds += other.seconds;
        self.accusations.extend(other.accusations);
    }
}

fn report(tally: &Tally, programs: usize) {
    for accusation in &tally.accusations {
        println!("FALSE ALARM {accusation}");
    }
    let hours = tally.seconds / 3600.0;
    println!(
        "{} false alarms in {} checks of {programs} innocent programs (each build counts), {hours:.2} process-hours; {} \
         checks could not read everything",
        tally.alarms, tally.checks, tally.partial
    );
    println!(
        "with 95% confidence at most {:.2}% of checks, and {:.2} a process-hour",
        bounds::binomial(tally.alarms, tally.checks) * 100.0,
        bounds::poisson(tally.alarms) / hours
    );
}

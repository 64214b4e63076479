//! Looking many times at programs in which nothing is wrong, and what may be said of the rate of false alarms.

use std::{fmt, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::bounds;

/// How programs are looked at.
pub(crate) struct Looks<'a> {
    /// The gordian that looks.
    pub(crate) gordian: &'a Path,
    /// How often it looks at each.
    pub(crate) checks: u32,
    /// What `gordian check` is told besides.
    pub(crate) flags: &'a [&'a str],
}

/// What came of looking at programs.
#[derive(Default)]
pub(crate) struct Tally {
    /// Looks at a program.
    checks: u32,
    /// Tasks that were seen in them.
    tasks: u64,
    /// Looks that ended with "not everything could be read".
    partial: u32,
    /// Checks that accused somebody.
    alarms: u32,
    /// Seconds during which a program was watched or ran between two checks.
    seconds: f64,
    /// Each, in words.
    accusations: Vec<String>,
}

impl Tally {
    /// Many checks of one program that goes on running; `name` is for the words.
    pub(crate) fn look(&mut self, looks: &Looks<'_>, pid: u32, name: &str) -> Result<()> {
        let start = Instant::now();
        for _ in 0..looks.checks {
            let document =
                check(looks.gordian, pid, looks.flags).with_context(|| format!("{name} was not looked at"))?;
            let findings = document["findings"].as_array().context("a document has findings")?;
            let wrong: Vec<&Value> = findings.iter().filter(|finding| finding["kind"] != "stalled").collect();
            self.checks += 1;
            self.tasks += document["coverage"]["seen"].as_u64().unwrap_or(0);
            self.partial += u32::from(document["complete"] == false);
            self.alarms += u32::from(!wrong.is_empty());
            self.accusations.extend(wrong.iter().map(|finding| {
                format!("{name}: {} ({}): {}", finding["kind"], finding["certainty"], finding["summary"])
            }));
        }
        self.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.checks += other.checks;
        self.tasks += other.tasks;
        self.partial += other.partial;
        self.alarms += other.alarms;
        self.seconds += other.seconds;
        self.accusations.extend(other.accusations);
    }

    /// Checks, those that could not read everything, false alarms, and what share of checks these may be in truth: columns of
    /// a table.
    pub(crate) fn columns(&self) -> String {
        let most = bounds::binomial(self.alarms, self.checks) * 100.0;
        format!("{} | {} | {} | {most:.2}%", self.checks, self.partial, self.alarms)
    }

    /// An error where anybody was accused; says of what.
    pub(crate) fn acquit(&self) -> Result<()> {
        for accusation in &self.accusations {
            println!("FALSE ALARM {accusation}");
        }
        ensure!(self.alarms == 0, "{} false alarms", self.alarms);
        Ok(())
    }
}

/// What `gordian check` says of a process.
pub(crate) fn check(gordian: &Path, pid: u32, flags: &[&str]) -> Result<Value> {
    let mut command = Command::new(gordian);
    command.arg("check").arg(pid.to_string()).args(["--json", "--no-cache", "--fail-on", "all"]).args(flags);
    let output = command.output()?;
    serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.seconds / 3600.0;
        write!(
            f,
            "{} false alarms in {} checks that saw {} tasks, {hours:.2} process-hours; {} checks could not read everything; with 95% confidence at \
             most {:.2}% of checks, and {:.2} a process-hour",
            self.alarms,
            self.checks,
            self.tasks,
            self.partial,
            bounds::binomial(self.alarms, self.checks) * 100.0,
            bounds::poisson(self.alarms) / hours
        )
    }
}

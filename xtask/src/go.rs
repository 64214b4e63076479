//! `cargo xtask go`: what is made from Go's own toolchains, and what is measured on Go programs.

mod cost;
mod shots;
mod speed;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::{
    bench::Runs,
    programs::{cargo, repository, succeed},
};

#[derive(clap::Subcommand)]
pub(crate) enum Arguments {
    /// Write the tables of Go's layouts anew, from what each version builds
    Layouts,
    /// Look at each healthy Go program so many times, and count what is said of it
    Shots(shots::Arguments),
    /// Compare what gordian finds with Go's own profile of leaked goroutines
    Recall,
    /// Measure what gordian costs a Go server under load
    Cost(Runs),
    /// Measure how long gordian takes for large Go programs, and how much memory
    Speed(speed::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let test = |file: &str, name: &str| {
        let mut command = cargo(repository());
        command.args(["test", "--locked", "--package", "gordian-tests", "--test", file, "--", name, "--nocapture"]);
        command.env("GORDIAN_REQUIRE", "all");
        command
    };
    match arguments {
        Arguments::Layouts => {
            succeed(test("go_layouts", "every_table_says_what_its_version_builds").env("GORDIAN_WRITE_LAYOUTS", "1"))
        }
        Arguments::Shots(arguments) => shots::run(arguments),
        Arguments::Recall => succeed(&mut test("go", "finds_all_that_go_finds_itself")),
        Arguments::Cost(runs) => cost::run(runs),
        Arguments::Speed(arguments) => speed::run(arguments),
    }
}

/// Builds `tests/go/NAME` with the newest Go, as `go build` does.
fn program(name: &str) -> Result<PathBuf> {
    built(&[name])?.pop().context("nothing was built")
}

/// Builds `tests/go/NAME` with every Go that is tested, oldest first, without symbols.
fn with_every_version(name: &str) -> Result<Vec<PathBuf>> {
    built(&[name, "--every-version"])
}

/// What the tests' own way of building Go programs makes of its arguments.
fn built(arguments: &[&str]) -> Result<Vec<PathBuf>> {
    let mut command = cargo(repository());
    command.args(["run", "--quiet", "--locked", "--package", "gordian-tests", "--bin", "go_program", "--"]);
    let output = command.args(arguments).output().context("cannot run cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} was not built: {}", arguments[0], said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect())
}

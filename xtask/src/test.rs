//! `cargo xtask test`: every test of the workspace, with the skipped ones named.

mod tally;

use std::io::{BufRead, BufReader, Write};

use anyhow::{Context, Result, bail};

use crate::programs::{TESTED_FIXTURES, build_everyway, build_fixtures, build_gordian, cargo, repository};
use tally::Tally;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build as yourself, run the tests as root
    #[arg(long)]
    sudo: bool,
    /// Show every line of every test
    #[arg(long)]
    verbose: bool,
    /// Run only tests whose name contains this
    filter: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let gordian = build_gordian()?;
    for (profile, which) in TESTED_FIXTURES {
        build_fixtures(profile, which)?;
    }
    build_everyway()?;
    let mut command = cargo(repository());
    command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    command.args(arguments.filter.as_deref()).args(["--", "--show-output"]);
    command.env("GORDIAN_BIN", gordian).env("GORDIAN_PREBUILT", "1").env("INSTA_UPDATE", "no");
    if arguments.sudo {
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo -E");
    }
    // One pipe for both, so that what a test says stays behind its name.
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("cannot start cargo test")?;
    // The command keeps the pipe's writing end; its end is ours to see only without it.
    drop(command);

    let mut tally = Tally::default();
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(reader).lines() {
        let line = line.context("what the tests print is no text")?;
        let worth_showing = tally.line(&line);
        if worth_showing || arguments.verbose {
            writeln!(out, "{line}")?;
        }
    }
    let status = child.wait()?;

    writeln!(out)?;
    for line in &tally.told {
        writeln!(out, "{line}")?;
    }
    for (test, why) in &tally.skipped {
        writeln!(out, "skipped {test}: {why}")?;
    }
    for test in &tally.failed {
        writeln!(out, "FAILED {test}")?;
    }
    writeln!(out, "{}", tally.summary())?;
    if !status.success() {
        bail!("the tests did not all pass");
    }
    if !tally.skipped.is_empty() && std::env::var("GORDIAN_REQUIRE").as_deref() == Ok("all") {
        bail!("GORDIAN_REQUIRE=all, and tests were skipped");
    }
    Ok(())
}

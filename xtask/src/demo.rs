//! `cargo xtask demo`: from nothing to a named deadlock and a flamegraph.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::programs::{Fixture, Fixtures, build_fixtures, build_gordian, repository, target_directory};

/// How long the flamegraph is sampled.
const SECONDS: &str = "3";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build as yourself, run gordian as root
    #[arg(long)]
    sudo: bool,
    /// Leave the service running until Enter is pressed, to try other commands on it
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let gordian = build_gordian()?;
    build_fixtures("debuginfo", Fixtures::One("load"))?;
    let fixtures = build_fixtures("debuginfo", Fixtures::One("deadlock"))?;
    let gordian = |what: &[&str]| -> Command {
        let mut command = if arguments.sudo { Command::new("sudo") } else { Command::new(&gordian) };
        if arguments.sudo {
            command.arg(&gordian);
        }
        command.args(what);
        command
    };

    let service = Fixture::start(&fixtures.join("deadlock"))?;
    let pid = service.pid().to_string();
    println!("\nA service runs as pid {pid}. It answers requests, and somewhere in it two tasks are stuck for ever.");

    println!("\n$ gordian check {pid}\n");
    let status = gordian(&["check", &pid]).status().context("cannot start gordian")?;
    match status.code() {
        Some(1) => {}
        Some(2) => bail!("gordian could not look at the service. If it was not allowed to, type: {}", with_sudo()),
        _ => bail!("gordian should have found the deadlock (exit status 1), and ended with {status}"),
    }

    let drawing = target_directory().join("demo.svg");
    flamegraph(&service, &fixtures, &drawing, &gordian, &pid)?;

    println!("\nWhat to type next, on any Tokio program of yours:");
    for (command, what) in [
        ("gordian ps", "what can be attached to"),
        ("gordian PID", "the live view"),
        ("gordian tasks PID", "every task and where it waits"),
        ("gordian check PID", "what you have just seen"),
    ] {
        println!("  target/release/{command:<20} {what}");
    }
    if arguments.keep {
        println!("\nThe service goes on as pid {pid}. Press Enter to end it.");
        std::io::stdin().read_line(&mut String::new())?;
    }
    Ok(())
}

/// Puts the service under load and draws where its CPU time goes.
fn flamegraph(
    service: &Fixture,
    fixtures: &Path,
    drawing: &Path,
    gordian: &dyn Fn(&[&str]) -> Command,
    pid: &str,
) -> Result<()> {
    let shown = drawing.strip_prefix(repository()).unwrap_or(drawing);
    println!("\n$ gordian flame {pid} -d {SECONDS} -o {}\n", shown.display());
    let mut load = Command::new(fixtures.join("load"))
        .args([&service.port()?.to_string(), "5", "4", "0"])
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start the load")?;
    let path = drawing.to_str().context("the path is UTF-8")?;
    let status = gordian(&["flame", pid, "-d", SECONDS, "-o", path]).status().context("cannot start gordian")?;
    let _ended = load.kill();
    load.wait()?;
    if !status.success() {
        bail!("the flamegraph needs CAP_BPF and CAP_PERFMON; type: {}", with_sudo());
    }
    ensure!(drawing.exists(), "gordian wrote no {}", drawing.display());
    println!("Open {} in a browser.", shown.display());
    Ok(())
}

/// The command that has all privileges.
fn with_sudo() -> &'static str {
    "cargo xtask demo --sudo"
}

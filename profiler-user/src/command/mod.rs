//! The command line: one file a subcommand. This room wires the others together and knows no rule of its own.

mod args;
mod attach;
mod capture;
mod check;
mod doctor;
mod flame;
mod gather;
mod give_way;
mod live;
mod log;
mod output;
mod places;
mod ps;
mod target;
mod tasks;

use anyhow::{Context, bail};
use tokio::runtime::Handle;

pub use args::{Cli, Command};
pub use give_way::give_way;
pub use log::log;
pub use output::{Output, Status, note};

/// Runs what the command line asks for. Results are on standard output by the time this returns; an error is for the
/// caller to print, and means that gordian could not look.
///
/// # Errors
/// One line: what happened, why, what to type next.
pub fn run(cli: &Cli, runtime: &Handle) -> anyhow::Result<Status> {
    if let Some(contradiction) = cli.contradiction() {
        bail!("{contradiction}");
    }
    let output = Output::new(cli.global.color);
    match &cli.command {
        Some(Command::Ps(ps)) => ps::run(ps, output),
        Some(Command::Tasks(tasks)) => tasks::run(tasks, runtime, output),
        Some(Command::Check(check)) => check::run(check, runtime, output),
        Some(Command::Flame(flame)) => flame::run(flame, output),
        Some(Command::Capture(capture)) => capture::run(capture, output),
        Some(Command::Doctor) => doctor::run(output),
        None => {
            let target = cli.target.as_deref().context("no TARGET: give a pid, a name or a container id")?;
            live::run(target, &cli.watch, runtime)
        }
    }
}

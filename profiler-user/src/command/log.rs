//! `--verbose`: what gordian does, on standard error, or in a file while the live view owns the terminal.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    sync::Mutex,
};

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use super::Cli;

/// Overrides what is logged, in the syntax of `tracing_subscriber::EnvFilter`.
const FILTER: &str = "GORDIAN_LOG";

/// Begins to log as the flags say. Returns the file, where it is one.
///
/// # Errors
/// Where the file cannot be made.
pub fn log(cli: &Cli) -> anyhow::Result<Option<PathBuf>> {
    if !cli.global.verbose {
        return Ok(None);
    }
    let filter =
        EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new("info,gordian=debug,profiler_user=debug"));
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    if cli.command.is_some() {
        log.with_writer(io::stderr).with_ansi(false).init();
        return Ok(None);
    }
    let (path, file) = open().context("cannot make a file for --verbose")?;
    log.with_writer(Mutex::new(file)).with_ansi(false).init();
    Ok(Some(path))
}

/// A file of ours alone, in the user's state directory: nobody else can have put a link there.
fn open() -> anyhow::Result<(PathBuf, File)> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let directory = state
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")))
        .context("neither XDG_STATE_HOME nor HOME is set")?
        .join("gordian");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .with_context(|| directory.display().to_string())?;
    let path = directory.join(format!("live-{}.log", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(&path).with_context(|| path.display().to_string())?;
    Ok((path, file))
}

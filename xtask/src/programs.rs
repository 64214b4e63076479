//! Building gordian and the fixtures, and starting fixtures.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The fixtures that the end-to-end tests start: profile, as in `tests/fixtures/Cargo.toml`, and programs.
pub(crate) const TESTED_FIXTURES: [(&str, Fixtures); 5] = [
    ("release", Fixtures::All),
    ("debuginfo", Fixtures::All),
    ("stripped", Fixtures::One("deadlock")),
    ("fatlto", Fixtures::One("deadlock")),
    ("fatlto", Fixtures::One("locks")),
];

/// Which fixtures to build.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fixtures {
    All,
    One(&'static str),
}

/// Root of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ has a parent")
}

/// Cargo, in a directory of the repository.
pub(crate) fn cargo(directory: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(directory);
    command
}

/// Runs a command to its successful end.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// Builds the release binary and says where it is.
pub(crate) fn build_gordian() -> Result<PathBuf> {
    let arguments = ["build", "--release", "--locked", "--package", "profiler-user"];
    succeed(cargo(repository()).args(arguments))?;
    Ok(target_directory().join("release/gordian"))
}

/// Builds an example of the library and says where it is.
pub(crate) fn build_example(name: &str) -> Result<PathBuf> {
    let arguments = ["build", "--release", "--locked", "--package", "profiler-user", "--example", name];
    succeed(cargo(repository()).args(arguments))?;
    Ok(target_directory().join("release/examples").join(name))
}

/// Builds fixtures in one profile and says where they are.
pub(crate) fn build_fixtures(profile: &str, which: Fixtures) -> Result<PathBuf> {
    let directory = repository().join("tests/fixtures");
    // The fixtures have a target directory of their own, whatever the caller's environment says.
    let mut command = cargo(&directory);
    command.env_remove("CARGO_TARGET_DIR").args(["build", "--locked", "--workspace", "--profile", profile]);
    match which {
        Fixtures::All => command.arg("--bins"),
        Fixtures::One(name) => command.args(["--bin", name]),
    };
    succeed(&mut command)?;
    Ok(directory.join("target").join(profile))
}

/// Builds some fixtures in every way of `tests/fixtures/builds`, and against every tokio of `tests/fixtures/versions`.
pub(crate) fn build_everyway() -> Result<()> {
    let directory = repository().join("tests/fixtures");
    for path in entries(&directory.join("builds"))? {
        if path.extension().is_some_and(|extension| extension == "toml") && !path.ends_with("Cargo.toml") {
            build_one(&directory, &directory.join("builds"), path.file_stem(), Some(&path))?;
        }
    }
    for path in entries(&directory.join("versions"))? {
        build_one(&directory, &path, path.file_name(), None)?;
    }
    Ok(())
}

fn build_one(directory: &Path, package: &Path, name: Option<&OsStr>, config: Option<&Path>) -> Result<()> {
    let target = directory.join("target/builds").join(name.context("it has a name")?);
    let mut command = cargo(directory);
    // The triple keeps flags for the fixtures away from the build scripts of what they depend on.
    command.args(["build", "--locked", "--release", "--target", "x86_64-unknown-linux-gnu"]);
    command.arg("--target-dir").arg(target).arg("--manifest-path").arg(package.join("Cargo.toml"));
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    succeed(&mut command)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Where Cargo puts what it builds of the workspace: xtask itself was put there.
pub(crate) fn target_directory() -> PathBuf {
    let own = std::env::current_exe().ok();
    let found = own.as_deref().and_then(Path::parent).and_then(Path::parent).map(Path::to_owned);
    found.unwrap_or_else(|| repository().join("target"))
}

/// A fixture that runs; killed when dropped.
pub(crate) struct Fixture {
    child: Child,
    /// What it said when it was ready.
    pub(crate) ready: Value,
}

impl Fixture {
    /// Starts a fixture and waits for its ready line.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        Self::start_with(program, &[])
    }

    /// The same with arguments.
    pub(crate) fn start_with(program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        // Its stdin stays open: some fixtures wait for a line on it.
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        let mut fixture = Self { child, ready: Value::Null };
        let mut lines = BufReader::new(stdout).lines();
        // Whatever a fixture prints besides is its own affair, and must be read so that it goes on.
        let said = lines.by_ref().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
        let ready = said.into_iter().find(Value::is_object);
        fixture.ready = ready.with_context(|| format!("{} was never ready", program.display()))?;
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(fixture)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The port it serves on.
    pub(crate) fn port(&self) -> Result<u64> {
        self.ready["port"].as_u64().with_context(|| format!("no port in {}", self.ready))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

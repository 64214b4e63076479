//! A PostgreSQL of its own, in a directory of its own, until it is dropped.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::programs::succeed;

const PATIENCE: Duration = Duration::from_secs(30);
/// It will not run as root; Debian's package brings this user.
const USER: &str = "postgres";

pub(super) struct Postgres {
    child: Child,
    directory: PathBuf,
}

impl Postgres {
    /// A fresh one under `parent`, that listens on a socket in its directory alone.
    pub(super) fn start(parent: &Path) -> Result<Self> {
        let programs = programs()?;
        let directory = parent.join("postgres");
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::create_dir_all(&directory)?;
        if is_root() {
            succeed(Command::new("chown").arg(USER).arg(&directory))?;
        }
        let data = directory.join("data");
        let mut initdb = as_user(&programs.join("initdb"));
        initdb.args(["--username=bank", "--auth=trust", "--no-sync", "--pgdata"]).arg(&data).stdout(Stdio::null());
        succeed(&mut initdb)?;
        let mut server = as_user(&programs.join("postgres"));
        server.arg("-D").arg(&data).arg("-k").arg(&directory).args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        server.stdout(Stdio::null()).stderr(Stdio::null());
        let child = server.spawn().context("cannot start postgres")?;
        let postgres = Self { child, directory };
        let begin = Instant::now();
        while !postgres.answers(&programs)? {
            ensure!(begin.elapsed() < PATIENCE, "PostgreSQL does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(postgres)
    }

    fn answers(&self, programs: &Path) -> Result<bool> {
        let mut command = Command::new(programs.join("pg_isready"));
        let status = command.arg("--quiet").arg("--host").arg(&self.directory).status();
        Ok(status.context("cannot start pg_isready")?.success())
    }

    /// The directory of its socket.
    pub(super) fn socket(&self) -> &str {
        self.directory.to_str().unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SAFETY: kill(2) touches no memory; it is our child, which has not been waited for. SIGQUIT ends it at once.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGQUIT) };
        let _status = self.child.wait();
    }
}

/// Where the newest installed version has its programs.
fn programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.max_by_key(|version| version.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    Ok(newest.context("PostgreSQL is not installed: apt-get install postgresql")?.path().join("bin"))
}

fn is_root() -> bool {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A program of PostgreSQL's, as a user that it accepts.
fn as_user(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    // The user need not be able to enter the directory that this runs in.
    command.current_dir("/").process_group(0);
    command
}

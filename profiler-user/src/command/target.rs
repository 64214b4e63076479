//! From what the user typed to a process, running or kept in a file.

use std::{
    fmt::{self, Display, Write},
    path::Path,
};

use thiserror::Error;

use crate::target::{Place, Stored};

/// Matches named in an error at most.
const LISTED: usize = 10;
/// The shortest container id that is taken for one: what `docker ps` prints.
const SHORT_ID: usize = 12;
/// `comm` holds no more bytes than this.
const COMM: usize = 15;

/// Why what was typed names no process. Each is one line: what happened, why, what to type next.
#[derive(Debug, Error)]
pub(super) enum ResolveError {
    #[error("no process {0}: it does not exist or has exited; `gordian ps` lists what can be attached to")]
    NoSuchPid(String),
    #[error("{tid} is a thread of process {pid}: give the process, `{pid}`")]
    Thread { tid: i32, pid: i32 },
    #[error("no process is named `{0}` and no container has that id; `gordian ps` lists what can be attached to")]
    NoMatch(String),
    #[error("{} processes match `{typed}`, give the pid of one: {}", matches.len(), Listed(matches))]
    Ambiguous { typed: String, matches: Vec<Running> },
    #[error("cannot list the processes in /proc: {0}")]
    Proc(#[from] procfs::ProcError),
}

/// A process that could be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pid: i32,
    /// `comm`: cut to 15 bytes by the kernel, and the program may change it.
    comm: String,
    /// Arguments, the program first.
    cmdline: Vec<String>,
    /// Last part of the executable's path, where that may be read.
    exe: Option<String>,
    /// Control group paths.
    cgroups: Vec<String>,
}

impl Running {
    fn is_named(&self, typed: &str) -> bool {
        let argument = self.cmdline.first().map(|program| program.rsplit('/').next().unwrap_or(program));
        self.exe.as_deref() == Some(typed)
            || self.comm == typed
            || argument == Some(typed)
            || (self.comm.len() == COMM && self.exe.is_none() && typed.starts_with(&self.comm))
    }

    fn is_in_container(&self, id: &str) -> bool {
        // `/docker/<id>`, `/system.slice/docker-<id>.scope`, `/kubepods/.../cri-containerd-<id>.scope`
        let parts = self.cgroups.iter().flat_map(|path| path.split(['/', '-', '.', ':']));
        parts.into_iter().any(|part| part.len() >= SHORT_ID && part.starts_with(id))
    }
}

/// The process, capture or core file that `typed` names. What has a slash in it is a file; a word may be the name of a
/// process too, which comes first.
pub(super) fn place(typed: &str) -> Result<Place, ResolveError> {
    let file = || Place::File(typed.into());
    if typed.contains('/') {
        return Ok(file());
    }
    match resolve(typed) {
        Err(ResolveError::NoMatch(_)) if Stored::is_one(Path::new(typed)) => Ok(file()),
        resolved => resolved.map(Place::Process),
    }
}

/// The process that `typed` names.
pub(super) fn resolve(typed: &str) -> Result<i32, ResolveError> {
    if typed.bytes().all(|byte| byte.is_ascii_digit()) && !typed.is_empty() {
        let pid = typed.parse().map_err(|_| ResolveError::NoSuchPid(typed.into()))?;
        return by_pid(pid);
    }
    choose(typed, running()?)
}

fn by_pid(pid: i32) -> Result<i32, ResolveError> {
    // /proc/N answers for a thread id too, though no listing shows it.
    let status = procfs::process::Process::new(pid).and_then(|process| process.status());
    match status {
        Ok(status) if status.tgid != pid => Err(ResolveError::Thread { tid: pid, pid: status.tgid }),
        Err(procfs::ProcError::NotFound(_)) => Err(ResolveError::NoSuchPid(pid.to_string())),
        // Whether it may be looked at is found out by looking.
        Ok(_) | Err(_) => Ok(pid),
    }
}

fn choose(typed: &str, running: Vec<Running>) -> Result<i32, ResolveError> {
    let id = typed.to_ascii_lowercase();
    let is_id = id.len() >= SHORT_ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (named, others): (Vec<_>, Vec<_>) = running.into_iter().partition(|process| process.is_named(typed));
    let matches = if named.is_empty() && is_id {
        others.into_iter().filter(|process| process.is_in_container(&id)).collect()
    } else {
        named
    };
    match &matches[..] {
        [] => Err(ResolveError::NoMatch(typed.into())),
        [one] => Ok(one.pid),
        _ => Err(ResolveError::Ambiguous { typed: typed.into(), matches }),
    }
}

/// Every process but ourselves; one that ends meanwhile is left out.
fn running() -> Result<Vec<Running>, ResolveError> {
    let own = std::process::id();
    let all = procfs::process::all_processes()?.flatten();
    Ok(all.filter(|process| process.pid.cast_unsigned() != own).filter_map(|process| facts(&process)).collect())
}

fn facts(process: &procfs::process::Process) -> Option<Running> {
    let cgroups = process.cgroups().map(|groups| groups.0.into_iter().map(|group| group.pathname).collect());
    Some(Running {
        pid: process.pid,
        comm: process.stat().ok()?.comm,
        cmdline: process.cmdline().unwrap_or_default(),
        exe: process.exe().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
        cgroups: cgroups.unwrap_or_default(),
    })
}

struct Listed<'a>(&'a [Running]);

impl Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, process) in self.0.iter().take(LISTED).enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{} {}", process.pid, process.comm)?;
            if !process.cmdline.is_empty() {
                f.write_str(" (")?;
                abridged(f, &process.cmdline.join(" "))?;
                f.write_char(')')?;
            }
        }
        match self.0.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Command lines can be pages long; what tells one from another is usually near the front.
fn abridged(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => write!(f, "{}...", &text[..end]),
        None => f.write_str(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, comm: &str, cmdline: &[&str], cgroup: &str) -> Running {
        Running {
            pid,
            comm: comm.into(),
            cmdline: cmdline.iter().map(|&part| part.into()).collect(),
            exe: Some(comm.into()),
            cgroups: vec![cgroup.into()],
        }
    }

    const ID: &str = "4f66ad9a0b2e8f9d2c1b7a6e5d4c3b2a1f0e9d8c7b6a5f4e3d2c1b0a9f8e7d6c";

    fn machine() -> Vec<Running> {
        vec![
            process(10, "ledger", &["/srv/ledger", "--port", "80"], "/system.slice/ledger.service"),
            process(11, "web", &["/srv/web"], &format!("/system.slice/docker-{ID}.scope")),
            process(12, "worker", &["worker", "a"], "/"),
            process(13, "worker", &["worker", "b"], "/"),
        ]
    }

    #[test]
    fn a_name_that_one_process_has() {
        assert_eq!(choose("ledger", machine()).unwrap(), 10);
    }

    #[test]
    fn a_name_longer_than_the_kernel_keeps() {
        let mut long = process(20, "a-rather-long-n", &[], "/");
        long.exe = None;
        assert_eq!(choose("a-rather-long-name", vec![long]).unwrap(), 20);
    }

    #[test]
    fn a_container_by_its_short_or_long_id() {
        assert_eq!(choose(&ID[..12], machine()).unwrap(), 11);
        assert_eq!(choose(ID, machine()).unwrap(), 11);
        assert!(matches!(choose("4f66ad9a0b2f", machine()), Err(ResolveError::NoMatch(_))));
    }

    #[test]
    fn an_ambiguous_name_lists_the_matches_on_one_line() {
        let said = choose("worker", machine()).unwrap_err().to_string();
        assert_eq!(said, "2 processes match `worker`, give the pid of one: 12 worker (worker a); 13 worker (worker b)");
        let crowd: Vec<_> = (0..14).map(|pid| process(pid, "w", &[&"x".repeat(99)], "/")).collect();
        let said = choose("w", crowd).unwrap_err().to_string();
        assert!(said.ends_with("; and 4 more") && said.contains("xxx...)"), "{said}");
    }

    #[test]
    fn pids_that_are_none() {
        assert!(resolve("99999999999").unwrap_err().to_string().starts_with("no process 99999999999:"));
        assert!(resolve("2147483647").unwrap_err().to_string().starts_with("no process 2147483647:"));
        assert!(resolve("no-such-program-here").unwrap_err().to_string().contains("gordian ps"));
    }

    #[test]
    fn a_thread_is_sent_to_its_process() {
        let own = std::process::id().cast_signed();
        let asked = std::thread::spawn(|| resolve(&nix::unistd::gettid().to_string())).join().unwrap();
        assert!(matches!(asked, Err(ResolveError::Thread { pid, .. }) if pid == own), "{asked:?}");
    }
}

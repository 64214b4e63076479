//! Why a process cannot be looked at.

use thiserror::Error;

use super::privileges::{self, Capability};

/// Each is one line: what happened, why, and what to type next.
#[derive(Debug, Error)]
pub enum TargetError {
    /// Nothing runs under this pid.
    #[error("no process {0}: it does not exist or has exited; `gordian ps` lists what can be attached to")]
    NoSuchProcess(i32),
    /// A kernel thread or a zombie: no address space.
    #[error("process {0} has no memory of its own (a kernel thread, or already dead)")]
    NoMemory(i32),
    /// The kernel refuses to let us read it.
    #[error("not allowed to read process {pid}: {hint}")]
    Denied {
        /// The process.
        pid: i32,
        /// Which capability or setting, and the line to type.
        hint: String,
    },
    /// It ended while it was read.
    #[error("process {0} exited while it was being read")]
    Exited(i32),
    /// It replaced its program while it was read.
    #[error("process {0} called exec while it was being read: attach again to see the new program")]
    Execed(i32),
    /// It was to be stopped for a read, and was not.
    #[error("process {pid} could not be stopped for the read: {cause} Without --freeze it is read as it runs")]
    NotStopped {
        /// The process.
        pid: i32,
        /// Why.
        cause: String,
    },
    /// A capture or core file that cannot be read, or could not be written.
    #[error("{}: {cause}", path.display())]
    Unusable {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        cause: String,
    },
    /// Something about it could not be read for another reason.
    #[error("cannot read {what} of process {pid}: {cause}")]
    Io {
        /// The process.
        pid: i32,
        /// What.
        what: &'static str,
        /// Why.
        cause: String,
    },
}

impl TargetError {
    /// The refusal for `pid`, with the capability, yama's setting where there is one, and the line to type.
    pub(super) fn denied(pid: i32) -> Self {
        let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope")
            .ok()
            .map(|scope| scope.trim().to_owned())
            .filter(|scope| scope != "0")
            .map(|scope| format!("; kernel.yama.ptrace_scope is {scope}"))
            .unwrap_or_default();
        let hint = format!("{}{yama}", privileges::remedy(&privileges::lacking([Capability::SysPtrace])));
        Self::Denied { pid, hint }
    }

    /// What `error` means for a file of `/proc/PID`.
    pub(super) fn from_proc(pid: i32, what: &'static str, error: procfs::ProcError) -> Self {
        use procfs::ProcError;
        match error {
            ProcError::PermissionDenied(_) => Self::denied(pid),
            ProcError::NotFound(_) => Self::NoSuchProcess(pid),
            ProcError::Io(error, _) => Self::from_io(pid, what, &error),
            other => Self::Io { pid, what, cause: other.to_string() },
        }
    }

    /// What an I/O error on a file of `/proc/PID` means.
    pub(super) fn from_io(pid: i32, what: &'static str, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::denied(pid),
            Some(libc::ESRCH | libc::ENOENT) => Self::NoSuchProcess(pid),
            _ => Self::Io { pid, what, cause: error.to_string() },
        }
    }
}

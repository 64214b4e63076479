//! Why the kernel's side is not there, in one line each, with the remedy.

use std::{fmt::Write as _, io};

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use thiserror::Error;

use crate::target::{Capability, lacking, remedy};

/// Probing that cannot be done.
#[derive(Clone, Debug, Error)]
pub enum ProbeError {
    /// `/sys/kernel/btf/vmlinux` is missing, or is not BTF.
    #[error("this kernel does not describe its own types ({0}): it needs CONFIG_DEBUG_INFO_BTF")]
    NoBtf(String),
    /// The kernel has no `bpf` system call, or not the kind of program that is wanted.
    #[error("this kernel cannot run {what}: it needs Linux {since} or newer with CONFIG_BPF_SYSCALL")]
    TooOld {
        /// The feature that is missing.
        what: &'static str,
        /// Oldest kernel that has it.
        since: &'static str,
    },
    /// The kernel refused for want of privileges.
    #[error("not allowed to {what}: {}", remedy(missing))]
    NotPermitted {
        /// What was tried.
        what: &'static str,
        /// Names of the capabilities that are missing; empty where all are there and the kernel refused nevertheless.
        missing: Vec<&'static str>,
    },
    /// There is no such process in this pid namespace.
    #[error("no process {0} in this pid namespace")]
    NoProcess(i32),
    /// A kernel struct does not have a field the programs read.
    #[error("this kernel's {0} is not as expected: its BTF has no such field")]
    NoField(&'static str),
    /// The object with the programs does not fit this build.
    #[error("the kernel programs do not fit this build of gordian ({0}): rebuild them with `cargo xtask ebpf`")]
    BadObject(String),
    /// The file that `GORDIAN_EBPF` names cannot be read.
    #[error("cannot read GORDIAN_EBPF={path}: {error}")]
    ObjectFile {
        /// As given.
        path: String,
        /// What went wrong.
        error: String,
    },
    /// The layout of the runtime's context is outside what the programs read.
    #[error("the runtime's context layout is out of range: {0}")]
    BadLayout(String),
    /// The verifier or an attach point refused.
    #[error("the kernel refused {what}: {reason}")]
    Refused {
        /// Program or call.
        what: &'static str,
        /// The kernel's own words, one line.
        reason: String,
    },
    /// Events were asked for outside a tokio runtime, or a second time.
    #[error("events cannot be read: {0}")]
    Events(String),
}

/// The capabilities that loading and attaching need and this process lacks. `CAP_SYS_ADMIN` stands for both.
pub(super) fn missing_capabilities() -> Vec<&'static str> {
    if Capability::SysAdmin.is_held() {
        return Vec::new();
    }
    lacking([Capability::Bpf, Capability::Perfmon])
}

/// What a call lacks that `CAP_SYS_ADMIN` alone opens.
pub(super) fn missing_admin() -> Vec<&'static str> {
    lacking([Capability::SysAdmin])
}

impl ProbeError {
    /// The error for a call that returned this one.
    pub(super) fn from_io(what: &'static str, since: &'static str, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { what, missing: missing_capabilities() },
            Some(libc::ENOSYS | libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP) => Self::TooOld { what, since },
            _ => Self::Refused { what, reason: error.to_string() },
        }
    }

    /// The error for a program that could not be loaded or attached.
    pub(super) fn from_program(what: &'static str, since: &'static str, error: &ProgramError) -> Self {
        match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                let log = verifier_log.to_string();
                // The verifier speaks only where it looked at the program; its last line is the verdict.
                match log.lines().rev().find(|line| !line.trim().is_empty() && !line.starts_with("processed ")) {
                    Some(line) if !is_permission(io_error) => {
                        tracing::debug!(program = what, "verifier: {log}");
                        Self::Refused { what, reason: line.trim().to_owned() }
                    }
                    _ => Self::from_io(what, since, io_error),
                }
            }
            ProgramError::SyscallError(error) => Self::from_io(what, since, &error.io_error),
            ProgramError::Btf(_) => Self::TooOld { what, since },
            other => Self::Refused { what, reason: one_line(other) },
        }
    }

    /// The error for an object that could not be loaded.
    pub(super) fn from_load(error: &EbpfError) -> Self {
        match error {
            EbpfError::MapError(MapError::CreateError { io_error, .. }) => {
                Self::from_io("create maps for kernel programs", "5.8", io_error)
            }
            EbpfError::MapError(MapError::SyscallError(error)) => {
                Self::from_io("create maps for kernel programs", "5.8", &error.io_error)
            }
            EbpfError::BtfError(error) => Self::BadObject(one_line(error)),
            other => Self::BadObject(one_line(other)),
        }
    }
}

fn is_permission(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// An error and its sources, in one line.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            let _ = write!(text, ": {inner_text}");
        }
        source = inner.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_lacks() {
        let error = ProbeError::NotPermitted { what: "load kernel programs", missing: vec!["CAP_BPF", "CAP_PERFMON"] };
        let text = error.to_string();
        assert!(text.starts_with("not allowed to load kernel programs: needs CAP_BPF and CAP_PERFMON"));
        assert!(!text.contains('\n'));
    }
}

//! Why a session cannot begin or go on.

use thiserror::Error;

use crate::target::TargetError;

/// Each is one line: what happened, why, and what to type next.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The process cannot be looked at.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There is nothing in it that gordian knows.
    #[error("process {pid} ({name}) has no async runtime that gordian can read: {why}")]
    NoRuntime {
        /// The process.
        pid: i32,
        /// Name of its executable.
        name: String,
        /// What was looked for, and what to do.
        why: String,
    },
    /// A part of gordian could not be set up.
    #[error("{0}")]
    Setup(String),
}

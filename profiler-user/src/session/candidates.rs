//! What can be attached to.

use super::{AttachError, inspector::Inspector};
use crate::{debuginfo::Quality, model::Snapshot, target::TargetError};

/// A process with an async runtime.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Pid as gordian sees it.
    pub pid: i32,
    /// `comm`.
    pub name: String,
    /// Path of its executable, as it sees it.
    pub exe: std::path::PathBuf,
    /// Library and version.
    pub runtime: String,
    /// Tasks that were found; `None` where the read failed half-way.
    pub tasks: Option<usize>,
    /// What debuginfo its executable has.
    pub debuginfo: Quality,
    /// What cannot be seen of it, one sentence; empty when nothing is missing.
    pub note: String,
}

/// Processes that may not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// How many.
    pub processes: usize,
    /// Why, of the first; empty where there is none.
    pub why: String,
}

/// Every process with an async runtime that may be read, and those that may not.
pub fn candidates() -> (Vec<Candidate>, Denied) {
    let (mut found, mut denied) = (Vec::new(), Denied::default());
    let Ok(processes) = procfs::process::all_processes() else { return (found, denied) };
    let own = std::process::id() as i32;
    for process in processes.flatten().filter(|process| process.pid != own) {
        match candidate(process.pid) {
            Ok(candidate) => found.push(candidate),
            Err(AttachError::Target(TargetError::Denied { hint, .. })) => {
                denied.processes += 1;
                if denied.processes == 1 {
                    denied.why = hint;
                }
            }
            Err(_) => {}
        }
    }
    found.sort_by_key(|candidate| candidate.pid);
    (found, denied)
}

fn candidate(pid: i32) -> Result<Candidate, AttachError> {
    let mut inspector = Inspector::glance(pid)?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    let snapshot: Option<Snapshot> = inspector.snapshot(&rustc_hash::FxHashMap::default()).ok();
    let runtime = inspector.runtimes().collect::<Vec<_>>().join(", ");
    Ok(Candidate {
        pid,
        name,
        exe: inspector.target().exe,
        runtime,
        debuginfo: inspector.modules().first().map_or(Quality::Stripped, crate::debuginfo::Module::quality),
        note: snapshot.as_ref().and_then(|snapshot| snapshot.missing.first().cloned()).unwrap_or_default(),
        tasks: snapshot.map(|snapshot| snapshot.tasks.len()),
    })
}

//! What `ps --json` prints.

use serde::Serialize;

use super::{SCHEMA, task::Shown};
use crate::session::Candidate;

/// The processes that can be attached to.
#[derive(Serialize)]
pub struct Candidates<'a> {
    schema: u32,
    #[serde(rename = "candidates")]
    processes: Vec<CandidateJson<'a>>,
    denied: usize,
}

#[derive(Serialize)]
struct CandidateJson<'a> {
    pid: i32,
    name: &'a str,
    exe: Shown<std::path::Display<'a>>,
    runtime: &'a str,
    tasks: Option<usize>,
    debuginfo: &'static str,
    note: Option<&'a str>,
}

impl<'a> Candidates<'a> {
    /// `denied` processes could not be looked into.
    pub fn new(candidates: &'a [Candidate], denied: usize) -> Self {
        Self { schema: SCHEMA, processes: candidates.iter().map(candidate).collect(), denied }
    }
}

fn candidate(candidate: &Candidate) -> CandidateJson<'_> {
    CandidateJson {
        pid: candidate.pid,
        name: &candidate.name,
        exe: Shown(candidate.exe.display()),
        runtime: &candidate.runtime,
        tasks: candidate.tasks,
        debuginfo: candidate.debuginfo.name(),
        note: (!candidate.note.is_empty()).then_some(&candidate.note),
    }
}

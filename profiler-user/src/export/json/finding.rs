//! Findings.

use serde::Serialize;

use super::task::{FrameJson, ResourceJson, Shown, TaskJson};
use crate::{
    export::{evidence, format::rfc3339},
    model::{Edge, Finding, FindingThread, PartyId, Snapshot},
};

/// One finding, with its tasks whole.
#[derive(Serialize)]
pub struct FindingJson<'a> {
    id: &'a str,
    kind: &'static str,
    certainty: &'static str,
    summary: &'a str,
    cause: Option<&'a str>,
    tasks: Vec<TaskJson<'a>>,
    threads: Vec<ThreadJson<'a>>,
    edges: Vec<EdgeJson<'a>>,
    unknowns: &'a [String],
    breakable_by: Vec<EscapeJson<'a>>,
    effects: u64,
    formed_at: Option<String>,
    first_seen: Option<String>,
    returned: u32,
    ended_at: Option<String>,
    lasted_s: Option<f64>,
}

#[derive(Serialize)]
struct ThreadJson<'a> {
    tid: i32,
    name: &'a str,
    frames: Vec<FrameJson<'a>>,
}

#[derive(Serialize)]
struct EdgeJson<'a> {
    from: Shown<PartyId>,
    from_name: &'a str,
    to: Option<Shown<PartyId>>,
    to_name: Option<&'a str>,
    resource: ResourceJson<'a>,
    wait_site: Option<FrameJson<'a>>,
    hold_site: Option<FrameJson<'a>>,
}

#[derive(Serialize)]
struct EscapeJson<'a> {
    what: &'a str,
    in_ms: Option<i64>,
}

impl<'a> FindingJson<'a> {
    /// `snapshot` is the one the finding was made from; a task that it does not have is left out of `tasks` (its
    /// party still stands in `edges`).
    pub fn new(finding: &'a Finding, snapshot: &'a Snapshot) -> Self {
        Self {
            id: &finding.id,
            kind: finding.kind.name(),
            certainty: finding.certainty.name(),
            summary: &finding.summary,
            cause: finding.cause.as_deref(),
            tasks: evidence::tasks(finding, snapshot).into_iter().map(Into::into).collect(),
            threads: finding.threads.iter().map(thread).collect(),
            edges: finding.edges.iter().map(edge).collect(),
            unknowns: &finding.unknowns,
            breakable_by: finding
                .breakable_by
                .iter()
                .map(|escape| EscapeJson { what: &escape.what, in_ms: escape.in_ms })
                .collect(),
            effects: finding.effects,
            formed_at: finding.formed_at.and_then(rfc3339),
            first_seen: rfc3339(finding.first_seen),
            returned: finding.returned,
            ended_at: finding.ended_at.and_then(rfc3339),
            lasted_s: finding.lasted().map(|lasted| lasted.as_secs_f64()),
        }
    }
}

fn thread(thread: &FindingThread) -> ThreadJson<'_> {
    ThreadJson { tid: thread.tid, name: &thread.name, frames: thread.frames.iter().map(Into::into).collect() }
}

fn edge(edge: &Edge) -> EdgeJson<'_> {
    EdgeJson {
        from: Shown(edge.from.party),
        from_name: &edge.from.name,
        to: edge.to.as_ref().map(|end| Shown(end.party)),
        to_name: edge.to.as_ref().map(|end| end.name.as_str()),
        resource: (&edge.resource).into(),
        wait_site: edge.wait_site.as_ref().map(Into::into),
        hold_site: edge.hold_site.as_ref().map(Into::into),
    }
}

//! What is wrong, and why we say so.

use std::time::{Duration, SystemTime};

use super::{Frame, PartyId, ResourceKey};

/// Kinds of finding, most permanent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FindingKind {
    /// Parties that wait on one another and can never move.
    Deadlock,
    /// A wait that nobody is left to end.
    Orphaned,
    /// A task that nobody will ever poll.
    Undriven,
    /// A worker stuck in one poll.
    BlockedWorker,
    /// Scheduled, and not polled.
    Starved,
    /// A resource that is full, with a queue and no handover.
    Exhausted,
    /// A kind of task whose old cohort keeps growing.
    Leak,
    /// Long, but could still end.
    Stalled,
}

impl FindingKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Deadlock,
        Self::Orphaned,
        Self::Undriven,
        Self::BlockedWorker,
        Self::Starved,
        Self::Exhausted,
        Self::Leak,
        Self::Stalled,
    ];

    /// The name used in text, JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deadlock => "deadlock",
            Self::Orphaned => "orphaned",
            Self::Undriven => "undriven",
            Self::BlockedWorker => "blocked-worker",
            Self::Starved => "starved",
            Self::Exhausted => "exhausted",
            Self::Leak => "leak",
            Self::Stalled => "stalled",
        }
    }

    /// Whether it never ends by itself.
    pub fn is_permanent(self) -> bool {
        matches!(self, Self::Deadlock | Self::Orphaned | Self::Undriven)
    }
}

/// How sure we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Certainty {
    /// Evidence alone, nothing is claimed.
    Observed,
    /// An observed cycle, or dead owners identified, with at least one named unknown.
    Likely,
    /// Everyone who could make a counted move is accounted for.
    Proved,
}

impl Certainty {
    /// The name used in text and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Likely => "likely",
            Self::Proved => "proved",
        }
    }
}

/// One end of an edge, with what a reader wants to see of it.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeEnd {
    /// Who.
    pub party: PartyId,
    /// Type name of the task, or name of the thread.
    pub name: String,
}

/// `from` waits for `resource`; `to` would have to act.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// Who waits.
    pub from: EdgeEnd,
    /// Who must act; `None` where nobody is left.
    pub to: Option<EdgeEnd>,
    /// What is waited for.
    pub resource: ResourceKey,
    /// The await point at which `from` waits.
    pub wait_site: Option<Frame>,
    /// The frame of `to` that holds the resource.
    pub hold_site: Option<Frame>,
}

/// Something that is no counted move but would break a finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Escape {
    /// What: "timeout of task 7", "cancellation token", "abort through the join handle in ...".
    pub what: String,
    /// Milliseconds until it happens by itself, where known.
    pub in_ms: Option<i64>,
}

/// A thread that a finding shows.
#[derive(Clone, Debug, PartialEq)]
pub struct FindingThread {
    /// Thread id.
    pub tid: i32,
    /// `comm`.
    pub name: String,
    /// Root first.
    pub frames: Vec<Frame>,
}

/// Something wrong, with its evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Stable over time: made of kind, parties and resources.
    pub id: String,
    /// What.
    pub kind: FindingKind,
    /// How sure.
    pub certainty: Certainty,
    /// One sentence in the users' words.
    pub summary: String,
    /// The root cause, where it is something other than the parties themselves.
    pub cause: Option<String>,
    /// The tasks in it; their stacks are in the snapshot that the finding was made from.
    pub tasks: Vec<PartyId>,
    /// The threads in it.
    pub threads: Vec<FindingThread>,
    /// The evidence.
    pub edges: Vec<Edge>,
    /// What could not be accounted for, one sentence each.
    pub unknowns: Vec<String>,
    /// What would break it.
    pub breakable_by: Vec<Escape>,
    /// How many other tasks wait because of it.
    pub effects: u64,
    /// When it formed; `None` when that was before attach.
    pub formed_at: Option<SystemTime>,
    /// When gordian first saw it: since it came back, where it did.
    pub first_seen: SystemTime,
    /// How many times it had ended and come back by then.
    pub returned: u32,
    /// When gordian saw that it had ended; `None` as long as it stands.
    pub ended_at: Option<SystemTime>,
}

impl Finding {
    /// A finding seen now, with nothing yet to say why.
    pub fn new(id: String, kind: FindingKind, certainty: Certainty, summary: String) -> Self {
        Self {
            id,
            kind,
            certainty,
            summary,
            cause: None,
            tasks: Vec::new(),
            threads: Vec::new(),
            edges: Vec::new(),
            unknowns: Vec::new(),
            breakable_by: Vec::new(),
            effects: 0,
            formed_at: None,
            first_seen: SystemTime::now(),
            returned: 0,
            ended_at: None,
        }
    }

    /// How long it stood, at least; `None` as long as it stands.
    pub fn lasted(&self) -> Option<Duration> {
        self.ended_at.map(|end| end.duration_since(self.formed_at.unwrap_or(self.first_seen)).unwrap_or_default())
    }
}

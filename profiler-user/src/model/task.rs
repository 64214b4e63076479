//! A task: its strands, what each waits for and what each holds.

use std::sync::Arc;

use super::{PartyId, ResourceKey};

/// One function of an await stack or of a thread's stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// `krate::module::function`, named alike in all builds.
    pub function: Arc<str>,
    /// Source file, where a line table speaks of it.
    pub file: Option<Arc<str>>,
    /// Line of the await point or call, counted from 1.
    pub line: Option<u32>,
}

impl Frame {
    /// See [`is_library`].
    pub fn is_library(&self) -> bool {
        is_library(&self.function)
    }
}

/// Whether the function or type of this name belongs to what every async program contains and nobody wrote for this one:
/// the runtime, the standard library, combinators, the C library.
pub fn is_library(name: &str) -> bool {
    const CRATES: [&str; 13] = [
        "alloc",
        "core",
        "futures",
        "futures_channel",
        "futures_core",
        "futures_util",
        "parking_lot",
        "parking_lot_core",
        "pin_project_lite",
        "std",
        "tokio",
        "tokio_stream",
        "tokio_util",
    ];
    // Go's own packages around what waits; a path there has a dot, and no `::`.
    const PACKAGES: [&str; 7] = ["sync.", "internal/", "runtime.", "time.", "context.", "io.", "database/sql."];
    if let Some((first, _)) = name.split_once("::") {
        // `<&tokio::…` is how a method of a trait begins.
        return CRATES.contains(&first.trim_start_matches(['<', '&']));
    }
    // Without a path it is a function of C.
    !name.contains('.') || PACKAGES.iter().any(|package| name.starts_with(package))
}

/// What a task does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskState {
    /// On a thread, being polled.
    Running,
    /// Woken and queued (or about to be), not yet polled.
    Scheduled,
    /// Waits for a wake.
    Suspended,
    /// Its poll blocks a thread in the kernel.
    Blocked,
    /// Finished; kept for its join handle.
    Complete,
    /// Could not be told.
    Unknown,
}

impl TaskState {
    /// The name used in text and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Scheduled => "scheduled",
            Self::Suspended => "suspended",
            Self::Blocked => "blocked",
            Self::Complete => "complete",
            Self::Unknown => "unknown",
        }
    }
}

/// How long a state has lasted, at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Since {
    /// Seconds, a lower bound.
    pub at_least_s: f64,
    /// What the bound rests on.
    pub source: SinceSource,
}

/// Where a duration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinceSource {
    /// Seen in this state ever since gordian attached: the true duration is longer.
    Attach,
    /// gordian saw the state begin between two snapshots.
    Snapshot,
    /// An event in the kernel marked the beginning.
    Event,
    /// The runtime in the target noted the time itself.
    Runtime,
}

impl SinceSource {
    /// The name used in text and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Snapshot => "snapshot",
            Self::Event => "event",
            Self::Runtime => "runtime",
        }
    }
}

/// How the parent strand goes on with respect to its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fork {
    /// When all children have ended: join!, a set that is drained.
    All,
    /// When any child ends, dropping the others: select!, timeout.
    Any,
    /// Not understood.
    Unknown,
}

/// One thread of control inside a task: the chain of awaits from where it begins to its leaf or its next fork.
#[derive(Clone, Debug, PartialEq)]
pub struct Strand {
    /// Root first; strands that stand alike may share them.
    pub frames: Arc<[Frame]>,
    /// What its leaf waits for; `None` for a strand that forks or could not be followed.
    pub wait: Option<Wait>,
    /// What this strand's own frames would release. The root also carries what no strand could be found for.
    pub holds: Vec<Hold>,
    /// How this strand goes on when it has children.
    pub fork: Fork,
    /// Concurrently polled children.
    pub children: Vec<Strand>,
}

impl Strand {
    /// A strand without waits, holds or children.
    pub fn new(frames: impl Into<Arc<[Frame]>>) -> Self {
        Self { frames: frames.into(), wait: None, holds: Vec::new(), fork: Fork::Unknown, children: Vec::new() }
    }

    /// A strand of which nothing is known.
    pub fn unknown() -> Self {
        Self { frames: Arc::default(), wait: None, holds: Vec::new(), fork: Fork::Unknown, children: Vec::new() }
    }

    /// This strand and all below it, parents first.
    pub fn walk(&self) -> impl Iterator<Item = &Strand> {
        let mut stack = vec![self];
        std::iter::from_fn(move || {
            let next = stack.pop()?;
            stack.extend(next.children.iter().rev());
            Some(next)
        })
    }

    /// Every wait of this strand and those below.
    pub fn waits(&self) -> impl Iterator<Item = &Wait> {
        self.walk().filter_map(|strand| strand.wait.as_ref())
    }

    /// Every hold of this strand and those below.
    pub fn all_holds(&self) -> impl Iterator<Item = &Hold> {
        self.walk().flat_map(|strand| strand.holds.iter())
    }
}

/// What is wanted of the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitMode {
    /// Permits of a lock or semaphore: 1 for a Mutex, all for a writer.
    Acquire {
        /// How many.
        permits: u64,
    },
    /// The next message, or the channel's end.
    Receive,
    /// Room for a message.
    Send,
    /// The end of a task.
    Join,
    /// A notification.
    Notified,
    /// A point in time.
    Deadline {
        /// Milliseconds until then, where it was read; negative when it has passed.
        in_ms: Option<i64>,
    },
    /// Readiness of a descriptor.
    Ready {
        /// The descriptor, where it was read.
        fd: Option<i32>,
    },
    /// Not understood.
    Unknown,
}

/// What a strand or thread waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The resource; an address of 0 stands for one that could not be read.
    pub resource: ResourceKey,
    /// What is wanted of it.
    pub mode: WaitMode,
    /// Place in the resource's queue, 0 is next; `None` where the queue was not read.
    pub position: Option<u32>,
    /// The awaited task of a join.
    pub target: Option<PartyId>,
}

/// How something is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldHow {
    /// A guard or permit that its drop gives back.
    Guard,
    /// Permits assigned to a queued acquire that has not been polled since.
    AssignedUnpolled,
    /// Part of the permits that a queued acquire wants: `k` of `n`.
    Reserved,
    /// The sending end of a channel.
    Sender,
    /// The receiving end of a channel.
    Receiver,
    /// A join handle: it can abort the task.
    JoinHandle,
}

impl HoldHow {
    /// The name used in text and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::AssignedUnpolled => "assigned-unpolled",
            Self::Reserved => "reserved",
            Self::Sender => "sender",
            Self::Receiver => "receiver",
            Self::JoinHandle => "join-handle",
        }
    }
}

/// What a strand or thread holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The resource.
    pub resource: ResourceKey,
    /// How.
    pub how: HoldHow,
    /// Permits, or 1.
    pub amount: u64,
    /// The function whose frame owns it, with its present await point.
    pub site: Option<Frame>,
}

/// Names and values that a program gave to a task, in its own order; tasks share them.
pub type Labels = Arc<[(String, String)]>;

/// Who started a task, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The task that did; `None` where only the place is known.
    pub party: Option<PartyId>,
    /// The place in the program.
    pub site: Option<Frame>,
}

/// One task, or the root future of a `block_on`.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Identity over time.
    pub party: PartyId,
    /// Address of the task's header in the target; 0 for a `block_on` root that is only known from its stack.
    pub address: u64,
    /// Index into [`super::Snapshot::runtimes`].
    pub runtime: usize,
    /// The future's type, named as functions are.
    pub name: Arc<str>,
    /// What it does now.
    pub state: TaskState,
    /// The same in the runtime's own words, where it has any: `chan receive`.
    pub status: Option<Arc<str>>,
    /// For how long; `None` in a single snapshot.
    pub since: Option<Since>,
    /// Who started it, where the runtime remembers.
    pub origin: Option<Box<Origin>>,
    /// What the program has labelled it with, where it can.
    pub labels: Option<Labels>,
    /// The root chain, with its forks.
    pub root: Strand,
    /// Whether `root` and its holds are the whole truth; if not, why (one line).
    pub incomplete: Option<Arc<str>>,
    /// Whether `root` has every strand, each with its wait: what is missing of an `incomplete` task is then no more than
    /// holds. Without this nothing about the task may support a verdict.
    pub awaits_known: bool,
    /// A digest: where two reads of a task in the same state have the same, it did not move between them. Of one that is
    /// `incomplete`, of what it was read from; of one that is ready, of what those who could poll it have noted. `None` where
    /// there is no telling, and where the rest tells.
    pub imprint: Option<u64>,
    /// It changed while it was read; nothing about it may support a verdict.
    pub unstable: bool,
    /// The thread that polls it now.
    pub thread: Option<i32>,
}

impl Task {
    /// Whether it is at rest and could not be read whole: what stands of it is less than the truth.
    pub fn is_opaque(&self) -> bool {
        self.incomplete.is_some() && !self.unstable && matches!(self.state, TaskState::Suspended | TaskState::Unknown)
    }

    /// The id that users see: the runtime's own, or `block_on:TID`.
    pub fn id(&self) -> String {
        match self.party {
            PartyId::Task { id, .. } => id.to_string(),
            other => other.to_string(),
        }
    }
}

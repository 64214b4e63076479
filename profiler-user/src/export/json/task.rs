//! Tasks, what they wait for and hold, and groups of them.

use std::{collections::BTreeMap, fmt::Display};

use serde::{Serialize, Serializer};

use crate::{
    export::group::Group,
    model::{Fork, Frame, Hold, PartyId, ResourceKey, Strand, Task, Thread, Wait, WaitMode},
};

/// An address as `"0x…"`, or null where it could not be read.
#[derive(Clone, Copy)]
pub(super) struct Address(pub(super) u64);

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 0 { serializer.serialize_none() } else { serializer.collect_str(&format_args!("{:#x}", self.0)) }
    }
}

/// Anything that reads as text is written as a string.
#[derive(Clone, Copy)]
pub(super) struct Shown<T>(pub(super) T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[derive(Serialize)]
pub(super) struct FrameJson<'a> {
    function: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
}

impl<'a> From<&'a Frame> for FrameJson<'a> {
    fn from(frame: &'a Frame) -> Self {
        Self { function: &frame.function, file: frame.file.as_deref(), line: frame.line }
    }
}

#[derive(Serialize)]
pub(super) struct ResourceJson<'a> {
    kind: Shown<&'a crate::model::ResourceKind>,
    address: Address,
}

impl<'a> From<&'a ResourceKey> for ResourceJson<'a> {
    fn from(key: &'a ResourceKey) -> Self {
        Self { kind: Shown(&key.kind), address: Address(key.address) }
    }
}

/// One await of a stack; the last of a chain that forks has the branches below it.
#[derive(Serialize)]
struct AwaitJson<'a> {
    #[serde(flatten)]
    frame: FrameJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fork: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<BranchJson<'a>>,
}

#[derive(Serialize)]
struct BranchJson<'a> {
    awaits: Vec<AwaitJson<'a>>,
    wait: Option<WaitJson<'a>>,
    holds: Vec<HoldJson<'a>>,
}

#[derive(Serialize)]
struct WaitJson<'a> {
    #[serde(flatten)]
    resource: ResourceJson<'a>,
    position: Option<u32>,
    #[serde(flatten)]
    mode: ModeJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Shown<PartyId>>,
}

/// What is wanted of the resource: `mode` and what belongs to it.
#[derive(Serialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
enum ModeJson {
    Acquire { permits: u64 },
    Receive,
    Send,
    Join,
    Notified,
    Deadline { in_ms: Option<i64> },
    Ready { fd: Option<i32> },
    Unknown,
}

#[derive(Serialize)]
struct HoldJson<'a> {
    #[serde(flatten)]
    resource: ResourceJson<'a>,
    how: &'static str,
    amount: u64,
    site: Option<FrameJson<'a>>,
}

/// Who started a task: the place, and the task.
#[derive(Serialize)]
struct OriginJson<'a> {
    party: Option<Shown<PartyId>>,
    site: Option<FrameJson<'a>>,
}

#[derive(Serialize)]
struct SinceJson {
    at_least_s: f64,
    source: &'static str,
}

/// One task.
#[derive(Serialize)]
pub struct TaskJson<'a> {
    id: String,
    party: Shown<PartyId>,
    name: &'a str,
    state: &'static str,
    status: Option<&'a str>,
    since: Option<SinceJson>,
    awaits: Vec<AwaitJson<'a>>,
    wait: Option<WaitJson<'a>>,
    holds: Vec<HoldJson<'a>>,
    thread: Option<i32>,
    address: Address,
    origin: Option<OriginJson<'a>>,
    labels: BTreeMap<&'a str, &'a str>,
    incomplete: Option<&'a str>,
    unstable: bool,
}

impl<'a> From<&'a Task> for TaskJson<'a> {
    fn from(task: &'a Task) -> Self {
        Self {
            id: task.id(),
            party: Shown(task.party),
            name: &task.name,
            state: task.state.name(),
            status: task.status.as_deref(),
            since: task.since.map(|since| SinceJson {
                at_least_s: if since.at_least_s.is_finite() { since.at_least_s.max(0.0) } else { 0.0 },
                source: since.source.name(),
            }),
            awaits: awaits(&task.root, &task.name),
            wait: task.root.wait.as_ref().map(wait),
            holds: task.root.all_holds().map(hold).collect(),
            thread: task.thread,
            address: Address(task.address),
            incomplete: task.incomplete.as_deref(),
            origin: task.origin.as_ref().map(|origin| OriginJson {
                party: origin.party.map(Shown),
                site: origin.site.as_ref().map(FrameJson::from),
            }),
            labels: task
                .labels
                .iter()
                .flat_map(|labels| labels.iter())
                .map(|(name, value)| (&**name, &**value))
                .collect(),
            unstable: task.unstable,
        }
    }
}

/// A thread that waits for another, or that holds something.
#[derive(Serialize)]
pub(super) struct BlockedThreadJson<'a> {
    tid: i32,
    party: Shown<PartyId>,
    name: &'a str,
    wait: Option<WaitJson<'a>>,
    holds: Vec<HoldJson<'a>>,
    /// Whether `holds` is everything.
    holds_known: bool,
    frames: Vec<FrameJson<'a>>,
}

impl<'a> From<&'a Thread> for BlockedThreadJson<'a> {
    fn from(thread: &'a Thread) -> Self {
        Self {
            tid: thread.tid,
            party: Shown(PartyId::Thread { tid: thread.tid }),
            name: &thread.name,
            wait: thread.wait.as_ref().map(wait),
            holds: thread.holds.iter().map(hold).collect(),
            holds_known: thread.holds_known,
            frames: thread.frames.iter().map(Into::into).collect(),
        }
    }
}

/// Tasks that wait alike.
#[derive(Serialize)]
pub struct GroupJson<'a> {
    count: usize,
    name: &'a str,
    awaits: Vec<AwaitJson<'a>>,
    wait: Option<WaitKindJson<'a>>,
    states: BTreeMap<&'static str, u64>,
    longest_s: Option<f64>,
    /// Where they were started.
    origin: Option<FrameJson<'a>>,
    /// How many more than when the watch began.
    #[serde(skip_serializing_if = "Option::is_none")]
    grown: Option<i64>,
    /// The first few, in no promised order.
    examples: Vec<String>,
}

#[derive(Serialize)]
struct WaitKindJson<'a> {
    kind: Shown<&'a crate::model::ResourceKind>,
    /// How many different resources of that kind.
    addresses: usize,
}

/// Ids listed as examples of a group.
const EXAMPLES: usize = 10;

impl<'a> From<&Group<'a>> for GroupJson<'a> {
    fn from(group: &Group<'a>) -> Self {
        let first = group.tasks[0];
        Self {
            count: group.tasks.len(),
            name: &first.name,
            awaits: awaits(&first.root, &first.name),
            wait: first
                .root
                .wait
                .as_ref()
                .map(|wait| WaitKindJson { kind: Shown(&wait.resource.kind), addresses: group.wait_addresses() }),
            states: group.states().into_iter().map(|(state, n)| (state.name(), n)).collect(),
            origin: first.origin.as_ref().and_then(|origin| origin.site.as_ref()).map(FrameJson::from),
            grown: group.grown,
            longest_s: group.longest_s().filter(|s| s.is_finite()),
            examples: group.tasks.iter().take(EXAMPLES).map(|task| task.id()).collect(),
        }
    }
}

/// `name` stands in for the place of a fork above which no frame is known.
fn awaits<'a>(strand: &'a Strand, name: &'a str) -> Vec<AwaitJson<'a>> {
    let bare = |frame| AwaitJson { frame, fork: None, children: Vec::new() };
    let mut awaits: Vec<_> = strand.frames.iter().map(|frame| bare(FrameJson::from(frame))).collect();
    if !strand.children.is_empty() {
        if awaits.is_empty() {
            awaits.push(bare(FrameJson { function: name, file: None, line: None }));
        }
        if let Some(leaf) = awaits.last_mut() {
            leaf.fork = Some(fork(strand.fork));
            leaf.children = strand.children.iter().map(|child| branch(child, name)).collect();
        }
    }
    awaits
}

fn branch<'a>(strand: &'a Strand, name: &'a str) -> BranchJson<'a> {
    BranchJson {
        awaits: awaits(strand, name),
        wait: strand.wait.as_ref().map(wait),
        holds: strand.holds.iter().map(hold).collect(),
    }
}

fn fork(fork: Fork) -> &'static str {
    match fork {
        Fork::All => "all",
        Fork::Any => "any",
        Fork::Unknown => "unknown",
    }
}

fn wait(wait: &Wait) -> WaitJson<'_> {
    WaitJson {
        resource: (&wait.resource).into(),
        position: wait.position,
        mode: match wait.mode {
            WaitMode::Acquire { permits } => ModeJson::Acquire { permits },
            WaitMode::Receive => ModeJson::Receive,
            WaitMode::Send => ModeJson::Send,
            WaitMode::Join => ModeJson::Join,
            WaitMode::Notified => ModeJson::Notified,
            WaitMode::Deadline { in_ms } => ModeJson::Deadline { in_ms },
            WaitMode::Ready { fd } => ModeJson::Ready { fd },
            WaitMode::Unknown => ModeJson::Unknown,
        },
        target: wait.target.map(Shown),
    }
}

fn hold(hold: &Hold) -> HoldJson<'_> {
    HoldJson {
        resource: (&hold.resource).into(),
        how: hold.how.name(),
        amount: hold.amount,
        site: hold.site.as_ref().map(Into::into),
    }
}

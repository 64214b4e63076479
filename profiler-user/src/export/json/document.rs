//! The object at the top, and the lines of a stream.

use serde::Serialize;

use super::{
    FindingJson, GroupJson, SCHEMA, TaskJson,
    task::{Address, BlockedThreadJson, ResourceJson, Shown},
};
use crate::{
    export::{format::count, group::Group, unread},
    model::{Buffer, Coverage, Finding, LostCounts, PartyId, Resource, Runtime, Snapshot, Task, Thread},
    session::{ProbeState, View},
};

/// What `--json` prints. One of `findings`, `tasks` and `groups` is there.
#[derive(Serialize)]
pub struct Document<'a> {
    schema: u32,
    target: TargetJson<'a>,
    complete: bool,
    missing: Vec<String>,
    coverage: CoverageJson,
    lost: u64,
    lost_by: LostJson,
    probes: ProbesJson,
    ended: Option<&'a str>,
    stopped_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    findings: Option<Vec<FindingJson<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<Vec<TaskJson<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<GroupJson<'a>>>,
    /// With `tasks` and `groups`: the threads that wait for one another, and those that hold something.
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<Vec<BlockedThreadJson<'a>>>,
    /// With `tasks`: the channels of which the room was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Vec<ChannelJson<'a>>>,
    /// With `tasks`: what the descriptors lead to that tasks wait for.
    #[serde(skip_serializing_if = "Option::is_none")]
    descriptors: Option<Vec<DescriptorJson<'a>>>,
}

#[derive(Serialize)]
struct DescriptorJson<'a> {
    fd: i32,
    what: &'a str,
}

/// A channel with those who wait at it.
#[derive(Serialize)]
struct ChannelJson<'a> {
    #[serde(flatten)]
    resource: ResourceJson<'a>,
    length: u64,
    capacity: u64,
    /// Oldest first; null for whoever is not known.
    queue: Vec<Option<Shown<PartyId>>>,
    /// Whether `queue` is the whole queue.
    queue_known: bool,
}

#[derive(Serialize)]
struct TargetJson<'a> {
    pid: i32,
    exe: Shown<std::path::Display<'a>>,
    inlined_frames: bool,
    runtimes: Vec<RuntimeJson<'a>>,
}

#[derive(Serialize)]
struct RuntimeJson<'a> {
    kind: &'static str,
    version: Option<&'a str>,
    workers: usize,
    worker_threads: &'a [i32],
    address: Address,
}

#[derive(Serialize)]
struct CoverageJson {
    seen: u64,
    decoded: u64,
    unknown: u64,
    unstable: u64,
}

#[derive(Serialize)]
struct LostJson {
    ring_full: u64,
    user_read: u64,
    channel_full: u64,
    stack_moved: u64,
}

#[derive(Serialize)]
struct ProbesJson {
    switch: &'static str,
    waits: &'static str,
}

impl<'a> Document<'a> {
    fn new(view: &'a View) -> Self {
        let snapshot = &*view.snapshot;
        Self {
            schema: SCHEMA,
            target: target(snapshot),
            complete: snapshot.complete(),
            missing: missing(view),
            coverage: coverage(snapshot.coverage),
            lost: snapshot.lost.total(),
            lost_by: lost(snapshot.lost),
            probes: ProbesJson { switch: probe(&view.switch_probe), waits: probe(&view.wait_probe) },
            ended: view.ended.as_deref(),
            stopped_ms: snapshot.stopped_for.map(|stopped| stopped.as_secs_f64() * 1e3),
            findings: None,
            tasks: None,
            groups: None,
            threads: None,
            channels: None,
            descriptors: None,
        }
    }

    /// `check`: each finding comes with the snapshot it was made from, `view` is the last one.
    pub fn findings(view: &'a View, findings: impl IntoIterator<Item = (&'a Finding, &'a Snapshot)>) -> Self {
        let findings = findings.into_iter().map(|(finding, snapshot)| FindingJson::new(finding, snapshot)).collect();
        Self { findings: Some(findings), ..Self::new(view) }
    }

    /// `tasks --all`.
    pub fn tasks(view: &'a View, tasks: impl IntoIterator<Item = &'a Task>) -> Self {
        let (tasks, threads) = (tasks.into_iter().map(Into::into).collect(), threads(&view.snapshot));
        let channels = view.snapshot.resources.iter().filter_map(channel).collect();
        let descriptors = view.snapshot.descriptors.iter().map(|(fd, what)| DescriptorJson { fd: *fd, what }).collect();
        Self {
            tasks: Some(tasks),
            threads: Some(threads),
            channels: Some(channels),
            descriptors: Some(descriptors),
            ..Self::new(view)
        }
    }

    /// `tasks`.
    pub fn groups(view: &'a View, groups: &[Group<'a>]) -> Self {
        let (groups, threads) = (groups.iter().map(Into::into).collect(), threads(&view.snapshot));
        Self { groups: Some(groups), threads: Some(threads), ..Self::new(view) }
    }
}

/// What `--jsonl` prints: a line for each finding as it forms, then one that closes the stream.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Line<'a> {
    /// A finding. Printed again, with the same `id`, when it has become more certain, when it has ended and when it has come
    /// back.
    Finding(Box<FindingLine<'a>>),
    /// The whole, as `--json` prints it.
    End(Box<Document<'a>>),
}

/// A finding that stands by itself.
#[derive(Serialize)]
pub struct FindingLine<'a> {
    schema: u32,
    #[serde(flatten)]
    finding: FindingJson<'a>,
}

impl<'a> Line<'a> {
    /// The line of a finding made from `snapshot`.
    pub fn finding(finding: &'a Finding, snapshot: &'a Snapshot) -> Self {
        Self::Finding(Box::new(FindingLine { schema: SCHEMA, finding: FindingJson::new(finding, snapshot) }))
    }
}

/// What was not read, then what cannot be watched. Only the former makes a result incomplete: without any probe the
/// verdicts on what was read are the same, they only come later.
fn missing(view: &View) -> Vec<String> {
    let probes = [&view.switch_probe, &view.wait_probe];
    let reasons = probes.into_iter().filter_map(|probe| match probe {
        ProbeState::Missing(why) => Some(why.as_str()),
        ProbeState::On | ProbeState::Off => None,
    });
    let mut all = view.snapshot.missing.clone();
    let unread = unread::reasons(&view.snapshot.tasks);
    all.extend(unread.iter().map(|(why, tasks)| format!("{} not read whole: {why}", count(*tasks, "task"))));
    for reason in reasons {
        if !all.iter().any(|known| known == reason) {
            all.push(reason.to_owned());
        }
    }
    all
}

fn threads(snapshot: &Snapshot) -> Vec<BlockedThreadJson<'_>> {
    let telling = |thread: &&Thread| thread.wait.is_some() || !thread.holds.is_empty();
    snapshot.threads.iter().filter(telling).map(Into::into).collect()
}

fn channel(resource: &Resource) -> Option<ChannelJson<'_>> {
    let Buffer { length, capacity } = resource.buffer?;
    let queue = resource.queue.iter().map(|entry| entry.party.map(Shown)).collect();
    Some(ChannelJson { resource: (&resource.key).into(), length, capacity, queue, queue_known: resource.queue_known })
}

fn target(snapshot: &Snapshot) -> TargetJson<'_> {
    TargetJson {
        pid: snapshot.target.pid,
        exe: Shown(snapshot.target.exe.display()),
        inlined_frames: snapshot.inlined_frames,
        runtimes: snapshot.runtimes.iter().map(runtime).collect(),
    }
}

fn runtime(runtime: &Runtime) -> RuntimeJson<'_> {
    RuntimeJson {
        kind: runtime.kind.name(),
        version: runtime.version.as_deref(),
        workers: runtime.workers.len(),
        worker_threads: &runtime.workers,
        address: Address(runtime.address),
    }
}

fn coverage(coverage: Coverage) -> CoverageJson {
    let Coverage { seen, decoded, unknown, unstable } = coverage;
    CoverageJson { seen, decoded, unknown, unstable }
}

fn lost(lost: LostCounts) -> LostJson {
    let LostCounts { ring_full, user_read, channel_full, stack_moved } = lost;
    LostJson { ring_full, user_read, channel_full, stack_moved }
}

fn probe(state: &ProbeState) -> &'static str {
    match state {
        ProbeState::On => "on",
        ProbeState::Off => "off",
        ProbeState::Missing(_) => "missing",
    }
}

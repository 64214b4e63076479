//! `exhausted`: a semaphore of which several tasks have everything, and others queue, and nothing is handed over.
//!
//! Only permits whose holders were found count, since the finding is about them, and those that nobody has any more. A lock
//! with one holder is no pool: who waits long for one is `stalled`. A full channel is none either: between two snapshots a
//! fast consumer and its only producer look like ones that stand still.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::{
    analysis::{identity, names},
    model::{
        Certainty, Edge, EdgeEnd, Finding, FindingKind, HoldHow, PartyId, Resource, ResourceKey, Snapshot, Strand,
        Task, TaskState,
    },
};

/// Holders and waiters that the evidence names.
const NAMED: usize = 64;

/// Semaphores that have a queue, by address.
#[derive(Debug, Default)]
pub(super) struct Watch {
    full: FxHashMap<u64, Full>,
}

/// Who had a full semaphore, and who was next, from when on.
#[derive(Debug, PartialEq, Eq)]
struct Full {
    since: Instant,
    holders: Vec<(PartyId, u64)>,
    next: PartyId,
}

impl Watch {
    /// Takes in the next snapshot; a finding for each semaphore at which nothing has moved for `threshold`.
    pub(super) fn observe(&mut self, now: &Snapshot, threshold: Duration) -> Vec<Finding> {
        let mut before = std::mem::take(&mut self.full);
        let holders = holders(now);
        let mut found = Vec::new();
        for resource in now.resources.iter().filter(|resource| resource.queue_known && resource.key.kind.is_semaphore())
        {
            let address = resource.key.address;
            let Some(next) = resource.queue.first().and_then(|entry| entry.party) else { continue };
            let holders = holders.get(&address).map(Vec::as_slice).unwrap_or_default();
            let mut has: Vec<(PartyId, u64)> =
                holders.iter().map(|holder| (holder.task.party, holder.amount)).collect();
            has.sort_unstable();
            let several = has.windows(2).any(|pair| pair[0].0 != pair[1].0);
            let at_rest =
                holders.iter().all(|holder| holder.task.state == TaskState::Suspended && !holder.task.unstable);
            if !(several || resource.abandoned) || !at_rest || resource.available.is_some_and(|available| available > 0)
            {
                continue;
            }
            let since = match before.remove(&address) {
                Some(known) if known.holders == has && known.next == next => known.since,
                _ => now.taken_at,
            };
            let full_for = now.taken_at.saturating_duration_since(since);
            if full_for >= threshold {
                found.push(explain(now, resource, holders, next, full_for));
            }
            self.full.insert(address, Full { since, holders: has, next });
        }
        found
    }
}

/// A task with permits.
struct Holder<'a> {
    task: &'a Task,
    strand: &'a Strand,
    amount: u64,
    site: Option<&'a crate::model::Frame>,
}

fn holders(now: &Snapshot) -> FxHashMap<u64, Vec<Holder<'_>>> {
    let mut holders: FxHashMap<u64, Vec<Holder<'_>>> = FxHashMap::default();
    for task in &now.tasks {
        for strand in task.root.walk() {
            for hold in
                strand.holds.iter().filter(|hold| hold.how == HoldHow::Guard && hold.resource.kind.is_semaphore())
            {
                let holder = Holder { task, strand, amount: hold.amount, site: hold.site.as_ref() };
                holders.entry(hold.resource.address).or_default().push(holder);
            }
        }
    }
    holders
}

/// The strand of a holder that keeps it from giving back: one that waits for more of the same; or else one in the function that
/// holds, at or below the strand that owns the hold, or anywhere in its task.
fn delaying<'a>(holder: &Holder<'a>, pool: &ResourceKey) -> Option<&'a Strand> {
    let waiting = || holder.strand.walk().chain(holder.task.root.walk()).filter(|strand| strand.wait.is_some());
    let wants_more = |strand: &&Strand| strand.wait.as_ref().is_some_and(|wait| wait.resource == *pool);
    let owns = |strand: &&Strand| {
        holder.site.is_some_and(|site| strand.frames.iter().any(|frame| frame.function == site.function))
    };
    waiting().find(wants_more).or_else(|| waiting().find(owns)).or_else(|| waiting().next())
}

fn explain(now: &Snapshot, resource: &Resource, holders: &[Holder<'_>], next: PartyId, full_for: Duration) -> Finding {
    let pool = format!("{} {:#x}", resource.key.kind, resource.key.address);
    let permits: u64 = holders.iter().map(|holder| holder.amount).sum();
    let id = identity::id(FindingKind::Exhausted, [format!("{:#x}", resource.key.address)]);
    let waiters = match resource.queue.len() {
        1 => "1 task queues".to_owned(),
        count => format!("{count} tasks queue"),
    };
    let seconds = full_for.as_secs_f64();
    let summary = match holders.first() {
        Some(first) => format!(
            "{waiters} for {pool}, of which {} tasks, like {}, have had {permits} permits for {seconds:.0} s without handing one over",
            holders.len(),
            names::task(first.task),
        ),
        None => format!(
            "{waiters} for {pool}, of which for {seconds:.0} s all has been taken and nobody is left who could give it back"
        ),
    };
    let doing = |holder: &Holder<'_>| {
        let strand = delaying(holder, &resource.key)?;
        let wait = strand.wait.as_ref()?;
        let place = names::site(&strand.frames).map_or_else(String::new, |site| format!(" in {}", site.function));
        let what =
            if wait.resource == resource.key { "more of them".to_owned() } else { wait.resource.kind.to_string() };
        Some(format!("{} waits for {what}{place}", names::task(holder.task)))
    };
    let waiting = now.tasks.iter().find(|task| task.party == next);
    let end = |party, name: &str| EdgeEnd { party, name: name.to_owned() };
    let edge = |holder: Option<&Holder<'_>>| Edge {
        from: end(next, waiting.map_or("", |task| &task.name)),
        to: holder.map(|holder| end(holder.task.party, &holder.task.name)),
        resource: resource.key.clone(),
        wait_site: waiting.and_then(|task| names::site(&task.root.frames)).cloned(),
        hold_site: holder.and_then(|holder| holder.site).cloned(),
    };
    let mut edges: Vec<Edge> = holders.iter().take(NAMED).map(|holder| edge(Some(holder))).collect();
    if edges.is_empty() {
        edges.push(edge(None));
    }
    let mut tasks: Vec<PartyId> = holders.iter().map(|holder| holder.task.party).collect();
    tasks.sort_unstable();
    tasks.dedup();
    Finding {
        cause: holders.first().and_then(doing),
        tasks,
        edges,
        effects: resource.queue.len() as u64,
        ..Finding::new(id, FindingKind::Exhausted, Certainty::Observed, summary)
    }
}

//! One finding: what happened, who, where, who holds what, what to do.

use std::collections::BTreeSet;

use super::{remedy::remedy, resource, stack};
use crate::{
    export::{
        evidence::{self, Tie},
        format::{clock, count, named, seconds, since, site, task as task_name},
        page::{Ink, Page},
    },
    model::{Certainty, Edge, Finding, FindingKind, FindingThread, Hold, HoldHow, PartyId, Snapshot, Task},
    session::View,
};

/// With more parties than this, only the first ones and the last are shown whole.
const SHOWN_WHOLE: usize = 6;
/// How many of the first ones then.
const FIRST: usize = 3;
/// Names listed of the parties between.
const NAMED: usize = 12;

/// Writes one finding; `snapshot` is the one it was made from.
pub fn finding(page: &mut Page, finding: &Finding, snapshot: &Snapshot) {
    page.put(ink(finding.kind), finding.kind.name()).add(", ");
    page.put(if finding.certainty == Certainty::Proved { Ink::Strong } else { Ink::Warn }, finding.certainty.name());
    page.add(": ").put(Ink::Strong, &finding.summary).end();
    if let Some(cause) = finding.cause.as_ref().filter(|cause| !finding.summary.contains(*cause)) {
        page.indent(2).add("cause: ").add(cause).end();
    }
    let tasks = evidence::tasks(finding, snapshot);
    let parties: Vec<_> =
        tasks.iter().map(|task| Party::Task(task)).chain(finding.threads.iter().map(Party::Thread)).collect();
    if parties.len() <= SHOWN_WHOLE {
        for party in &parties {
            party.write(page, finding, snapshot);
        }
    } else {
        let (last, others) = (&parties[parties.len() - 1], &parties[FIRST..parties.len() - 1]);
        for party in &parties[..FIRST] {
            party.write(page, finding, snapshot);
        }
        between(page, others);
        last.write(page, finding, snapshot);
    }
    lone_edges(page, finding, &parties);
    page.blank();
    facts(page, finding);
}

/// The line that closes a finding that was written before.
pub fn ended(page: &mut Page, finding: &Finding) {
    let after = finding.lasted().map_or_else(String::new, |lasted| format!(" after {}", seconds(lasted.as_secs_f64())));
    page.put(Ink::Good, format_args!("{} ended{after}", finding.kind.name())).add(": ").add(&finding.summary);
    page.add(" (").put(Ink::Faint, &finding.id).add(")").end();
}

/// What else is to be said, a line each.
fn facts(page: &mut Page, finding: &Finding) {
    let mut fact = |ink: Ink, head: &str, what: &str| {
        page.indent(2).put(ink, head).tab(16).add(what).end();
    };
    let when = match finding.formed_at {
        Some(moment) => format!("formed at {}", clock(moment)),
        None => format!("formed before gordian attached, first seen at {}", clock(finding.first_seen)),
    };
    fact(Ink::Faint, "when", &when);
    if let Some(lasted) = finding.lasted() {
        fact(Ink::Good, "ended", &format!("after {}", seconds(lasted.as_secs_f64())));
    }
    if finding.returned > 0 {
        fact(Ink::Warn, "came back", &format!("it had ended {} before", count(finding.returned.into(), "time")));
    }
    if finding.effects > 0 {
        let verb = if finding.effects == 1 { "waits" } else { "wait" };
        fact(Ink::Faint, "effects", &format!("{} {verb} because of it", count(finding.effects, "other task")));
    }
    for escape in &finding.breakable_by {
        let deadline = escape.in_ms.map(|ms| match ms {
            0.. => format!(", in {}", seconds(ms as f64 / 1e3)),
            _ => ", due already".into(),
        });
        fact(Ink::Warn, "breakable by", &format!("{}{}", escape.what, deadline.unwrap_or_default()));
    }
    for unknown in &finding.unknowns {
        fact(Ink::Warn, "not known", unknown);
    }
    fact(Ink::Good, "what to do", &remedy(finding));
    fact(Ink::Faint, "id", &finding.id);
}

enum Party<'a> {
    Task(&'a Task),
    Thread(&'a FindingThread),
}

impl Party<'_> {
    fn id(&self) -> PartyId {
        match self {
            Self::Task(task) => task.party,
            Self::Thread(thread) => PartyId::Thread { tid: thread.tid },
        }
    }

    fn write(&self, page: &mut Page, finding: &Finding, snapshot: &Snapshot) {
        page.blank();
        match self {
            Self::Task(task) => {
                page.indent(2).put(Ink::Strong, task_name(task)).add(", ").add(task.state.name());
                if let Some(since_when) = task.since.filter(|bound| bound.at_least_s >= super::tasks::TOLD_S) {
                    page.add(" for ").add(since(since_when));
                }
                page.end();
                stack::frames(page, &task.root.frames, 4);
                stack::branches(page, &task.root, 4);
            }
            Self::Thread(thread) => {
                page.indent(2).put(Ink::Strong, named(self.id(), &thread.name)).end();
                stack::frames(page, &thread.frames, 4);
            }
        }
        waits(page, finding, self.id(), snapshot);
        self.holds(page, finding, snapshot);
    }

    /// What it holds of the things that the finding is about.
    fn holds(&self, page: &mut Page, finding: &Finding, snapshot: &Snapshot) {
        let id = self.id();
        let task = snapshot.tasks.iter().find(|task| task.party == id);
        let thread = snapshot.threads.iter().find(|thread| PartyId::Thread { tid: thread.tid } == id);
        let of_task = task.into_iter().flat_map(|task| task.root.all_holds());
        let all = of_task.chain(thread.into_iter().flat_map(|thread| thread.holds.iter()));
        let is_part = |hold: &&Hold| finding.edges.iter().any(|edge| edge.resource == hold.resource);
        for said in resource::holds(all.filter(is_part)) {
            page.indent(2).put(Ink::Warn, said).end();
        }
    }
}

/// The edges that begin at a party: what it waits for, and who would have to act.
fn waits(page: &mut Page, finding: &Finding, id: PartyId, snapshot: &Snapshot) {
    let mut said = BTreeSet::new();
    for edge in finding.edges.iter().filter(|edge| edge.from.party == id) {
        if said.insert(&edge.resource) {
            page.indent(2).put(Ink::Bad, format_args!("waits for {}", resource::named(&edge.resource)));
            if let Some(frame) = &edge.wait_site {
                page.add(", in ").add(site(frame));
            }
            page.end();
        }
        page.indent(4).add(actor(edge, snapshot)).end();
    }
}

/// Who would have to act for the waiter of an edge to go on, and why.
fn actor(edge: &Edge, snapshot: &Snapshot) -> String {
    let Some(to) = &edge.to else { return "and nobody is left who could end that wait".into() };
    let who = if to.party == edge.from.party { "this task itself".into() } else { named(to.party, &to.name) };
    let tie = evidence::tie(edge, to.party, snapshot);
    let held_at = match tie {
        Tie::Holds(hold) => hold.site.as_ref(),
        _ => None,
    };
    let place = edge.hold_site.as_ref().or(held_at);
    let place = place.map(|frame| format!(", {}", resource::guard_place(frame))).unwrap_or_default();
    match tie {
        Tie::Holds(hold) => match hold.how {
            HoldHow::Sender => format!("whose sender is owned by {who}{place}"),
            HoldHow::Receiver => format!("whose receiver is owned by {who}{place}"),
            HoldHow::AssignedUnpolled => format!("handed to {who}, which has not been polled since{place}"),
            HoldHow::Guard | HoldHow::Reserved | HoldHow::JoinHandle => format!("held by {who}{place}"),
        },
        Tie::Ahead => format!("where {who} is ahead of it in the queue{place}"),
        Tie::Joined => format!("which is {who}{place}"),
        Tie::Unsaid => format!("for which {who} would have to act{place}"),
    }
}

/// Edges of parties that are not shown, because the finding names them but the snapshot has them no more.
fn lone_edges(page: &mut Page, finding: &Finding, shown: &[Party<'_>]) {
    let shown: BTreeSet<PartyId> = shown.iter().map(Party::id).collect();
    for edge in finding.edges.iter().filter(|edge| !shown.contains(&edge.from.party)) {
        page.indent(2).add(named(edge.from.party, &edge.from.name));
        page.add(" waits for ").add(resource::named(&edge.resource));
        if let Some(to) = &edge.to {
            page.add(", for which ").add(named(to.party, &to.name)).add(" would have to act");
        }
        page.end();
    }
}

fn between(page: &mut Page, others: &[Party<'_>]) {
    let names: Vec<_> = others.iter().take(NAMED).map(|party| crate::export::format::party(party.id())).collect();
    page.blank();
    page.indent(2).put(Ink::Faint, format_args!("and {} more between: {}", others.len(), names.join(", ")));
    if others.len() > NAMED {
        page.put(Ink::Faint, ", ... (--json has them all)");
    }
    page.end();
}

fn ink(kind: FindingKind) -> Ink {
    match kind {
        _ if kind.is_permanent() => Ink::Bad,
        FindingKind::Stalled => Ink::Faint,
        _ => Ink::Warn,
    }
}

/// The line that closes a `check`: what was looked at, for how long, and what could not be.
pub fn verdict(page: &mut Page, findings: &[&Finding], view: &View, watched_s: f64) {
    let snapshot = &*view.snapshot;
    let permanent = findings.iter().any(|finding| finding.kind.is_permanent());
    let watched = seconds(watched_s);
    let looked = format!("{} looked at for {watched}", count(snapshot.coverage.seen, "task"));
    let found = FindingKind::ALL.into_iter().filter_map(|kind| {
        let n = findings.iter().filter(|finding| finding.kind == kind).count();
        // Some of the kinds are what was found, the others say how it is.
        let is_noun = matches!(kind, FindingKind::Deadlock | FindingKind::BlockedWorker | FindingKind::Leak);
        (n > 0).then(|| if is_noun { count(n as u64, kind.name()) } else { format!("{n} {}", kind.name()) })
    });
    let found = found.collect::<Vec<_>>().join(", ");
    if permanent {
        page.put(Ink::Bad, &found).add(": ").add(looked);
    } else {
        if snapshot.complete() {
            page.put(Ink::Good, "no deadlock").add(": ").add(looked).add(", everything could be read");
        } else {
            page.put(Ink::Warn, "no deadlock found").add(", but not everything could be read: ").add(looked);
        }
        if !found.is_empty() {
            page.add("; ").put(Ink::Warn, &found);
        }
    }
    page.end();
    super::tasks::unread(page, view);
}

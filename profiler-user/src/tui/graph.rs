//! The wait-for graph around one task, as a tree of lines: what it waits for, who would have to act, what those wait
//! for in turn; what it holds and who waits for that. A cycle is marked where it closes.

use rustc_hash::FxHashSet;

use super::{
    doc::{Line, Tone},
    index::{Holder, Index, Waiting, same},
    text,
};
use crate::{
    model::{Frame, HoldHow, PartyId, TaskState, ThreadActivity, Wait, WaitMode},
    session::View,
};

/// Lines that a graph may take; what is left out is said.
const MAX_LINES: usize = 400;
/// Hops that a chain is followed.
const MAX_DEPTH: usize = 24;
/// Parties shown under one resource.
const MAX_PARTIES: usize = 8;

/// The graph around `party`. A party that is a polled task's thread is drawn as that task.
pub(super) fn graph(party: PartyId, view: &View, index: &Index) -> Vec<Line> {
    let party = index.canonical(party, view);
    let mut tree =
        Tree { view, index, lines: Vec::new(), path: vec![party], seen: FxHashSet::from_iter([party]), cut: false };
    tree.waits(party, "");
    tree.holds(party);
    tree.joiners(party);
    if tree.cut {
        tree.lines.push(Line::new(Tone::Dim, "… the rest of this graph is left out: it is too long to read here"));
    }
    tree.lines
}

/// What is known of one who would have to act.
struct Actor<'a> {
    party: PartyId,
    how: &'static str,
    site: Option<&'a Frame>,
    /// Whether its own waits are drawn below it. Those of earlier waiters would repeat this very queue.
    follow: bool,
}

struct Tree<'a> {
    view: &'a View,
    index: &'a Index,
    lines: Vec<Line>,
    /// From the task the graph is about to the one being drawn.
    path: Vec<PartyId>,
    /// Parties whose waits stand in the lines already.
    seen: FxHashSet<PartyId>,
    cut: bool,
}

/// Rulings for the entry at `at` of `len` under `indent`: before its first line, before what is below it.
fn ruling(indent: &str, at: usize, len: usize) -> (String, String) {
    if at + 1 == len {
        (format!("{indent}└─ "), format!("{indent}   "))
    } else {
        (format!("{indent}├─ "), format!("{indent}│  "))
    }
}

impl<'a> Tree<'a> {
    fn push(&mut self, line: Line) {
        if self.lines.len() < MAX_LINES {
            self.lines.push(line);
        } else {
            self.cut = true;
        }
    }

    fn full(&self) -> bool {
        self.lines.len() >= MAX_LINES
    }

    /// Everything `party` waits for, with those who would have to act below it.
    fn waits(&mut self, party: PartyId, indent: &str) {
        let waits = self.index.waits(party, self.view);
        let top = self.path.len() == 1;
        if waits.is_empty() && top {
            let line = Line::new(Tone::Plain, self.idle(party));
            self.push(line);
        }
        let len = waits.len();
        for (at, waiting) in waits.into_iter().enumerate() {
            if self.full() {
                self.cut = true;
                return;
            }
            // The selected task's own waits stand at the margin: they are the headline.
            let (lead, below) = if top { (String::new(), String::new()) } else { ruling(indent, at, len) };
            self.push(wait_line(&waiting).behind(lead, format!("{below}   ")));
            self.actors(party, waiting.wait, &below);
        }
    }

    /// Why a task that waits for nothing does not.
    fn idle(&self, party: PartyId) -> String {
        let Some(task) = self.index.task(party, self.view) else {
            return "waits for nothing that was seen".to_owned();
        };
        match task.state {
            TaskState::Running => "waits for nothing: it is being polled",
            TaskState::Scheduled => "waits for a worker: it was woken and stands in a run queue",
            TaskState::Complete => "waits for nothing: it has finished, and is kept for its join handle",
            TaskState::Blocked => "blocks its thread in the kernel, on what could not be told",
            TaskState::Suspended | TaskState::Unknown => "what it waits for could not be told",
        }
        .to_owned()
    }

    /// Those who would have to act for `wait` of `party` to end.
    fn actors(&mut self, party: PartyId, wait: &'a Wait, indent: &str) {
        let (actors, left_out) = self.who_can_act(party, wait);
        let notes = self.notes(party, wait, actors.is_empty());
        let len = actors.len() + notes.len() + usize::from(left_out > 0);
        let mut at = 0;
        for actor in actors {
            let (lead, below) = ruling(indent, at, len);
            self.actor(&actor, lead, &below);
            at += 1;
        }
        if left_out > 0 {
            let (lead, below) = ruling(indent, at, len);
            let more = format!("… and {} more", text::grouped(left_out as u64));
            self.push(Line::new(Tone::Dim, more).behind(lead, below));
            at += 1;
        }
        for (tone, note) in notes {
            let (lead, below) = ruling(indent, at, len);
            self.push(Line::new(tone, note).behind(lead, below));
            at += 1;
        }
    }

    /// Whom the findings name, holders that count for this wait, earlier waiters; each once, and how many are left out.
    fn who_can_act(&self, party: PartyId, wait: &'a Wait) -> (Vec<Actor<'a>>, usize) {
        let index = self.index;
        let mut actors: Vec<Actor<'a>> = Vec::new();
        let mut named = FxHashSet::default();
        let mut add = |actor: Actor<'a>| {
            if named.insert(actor.party) {
                actors.push(actor);
            }
        };
        if let Some(target) = wait.target {
            add(Actor { party: target, how: "ends with", site: None, follow: true });
        }
        for &at in index.findings(party) {
            for edge in &self.view.findings[at].edges {
                if index.canonical(edge.from.party, self.view) == party
                    && same(&edge.resource, &wait.resource)
                    && let Some(to) = &edge.to
                {
                    let to = index.canonical(to.party, self.view);
                    let how = if matches!(wait.mode, WaitMode::Acquire { .. }) { "held by" } else { "must act:" };
                    add(Actor { party: to, how, site: edge.hold_site.as_ref(), follow: true });
                }
            }
        }
        for holder in index.holders(&wait.resource) {
            if let Some(how) = acts(wait.mode, holder) {
                add(Actor { party: holder.party, how, site: holder.site.as_ref(), follow: true });
            }
        }
        if let (Some(position), Some(resource)) = (wait.position, index.resource(&wait.resource, self.view)) {
            for earlier in resource.queue.iter().take(position as usize).filter_map(|entry| entry.party) {
                if earlier != party {
                    add(Actor { party: earlier, how: "queued before it:", site: None, follow: false });
                }
            }
        }
        let left_out = actors.len().saturating_sub(MAX_PARTIES);
        actors.truncate(MAX_PARTIES);
        (actors, left_out)
    }

    /// What is to be said where the parties alone do not explain the wait.
    fn notes(&self, party: PartyId, wait: &Wait, nobody: bool) -> Vec<(Tone, String)> {
        let mut notes = Vec::new();
        for &at in self.index.findings(party) {
            let finding = &self.view.findings[at];
            let alone = finding.edges.iter().any(|edge| {
                edge.to.is_none()
                    && self.index.canonical(edge.from.party, self.view) == party
                    && same(&edge.resource, &wait.resource)
            });
            if alone {
                let text =
                    format!("nobody is left who could act ({} {})", finding.certainty.name(), finding.kind.name());
                notes.push((Tone::Bad, text));
            }
        }
        if nobody && notes.is_empty() {
            notes.extend(unheld(wait.mode).map(|text| (Tone::Dim, text.to_owned())));
        }
        notes
    }

    fn actor(&mut self, actor: &Actor<'_>, lead: String, below: &str) {
        let party = self.index.canonical(actor.party, self.view);
        let mut line = Line::new(Tone::Plain, format!("{} ", actor.how)).behind(lead, below).to(party);
        line = self.named(line, party);
        if let Some(site) = actor.site {
            let own_name = self.index.task(party, self.view).is_some_and(|task| task.name == site.function);
            line = match text::location(site).filter(|_| own_name) {
                Some(at) => line.and(Tone::Dim, " at ").and(Tone::Plain, at),
                None => line.and(Tone::Dim, " in ").and(Tone::Plain, text::site(site)),
            };
        }
        if self.path.contains(&party) {
            let closes = if self.path.len() == 1 && self.path[0] == party {
                "  ↩ ITSELF"
            } else if self.path[0] == party {
                "  ↩ CYCLE: back to the selected task"
            } else {
                "  ↩ CYCLE"
            };
            self.push(line.and(Tone::Bad, closes));
            return;
        }
        if !actor.follow {
            self.push(line);
            return;
        }
        if !self.seen.insert(party) {
            self.push(line.and(Tone::Dim, "  (its waits are shown above)"));
            return;
        }
        self.push(line);
        if self.path.len() >= MAX_DEPTH {
            self.push(
                Line::new(Tone::Dim, "… the chain goes on: Enter on the task above follows it").behind(below, below),
            );
            return;
        }
        self.path.push(party);
        self.waits(party, below);
        self.path.pop();
    }

    /// `line` with a party's name, type and state.
    fn named(&self, line: Line, party: PartyId) -> Line {
        let line = line.and(Tone::Strong, text::party(party));
        if let Some(task) = self.index.task(party, self.view) {
            return line
                .and(Tone::Plain, format!(" {}", text::escape(&task.name)))
                .and(Tone::Dim, format!(" · {}", task.state.name()));
        }
        if let Some(thread) = self.index.thread_of(party, self.view) {
            let doing = match thread.activity {
                ThreadActivity::Parked => "parked",
                ThreadActivity::Driving => "in the driver",
                ThreadActivity::Polling(_) | ThreadActivity::Running => "running",
                ThreadActivity::BlockedIn(_) | ThreadActivity::Blocked => "blocked",
                ThreadActivity::Unknown => "state unknown",
            };
            return line
                .and(Tone::Plain, format!(" {}", text::escape(&thread.name)))
                .and(Tone::Dim, format!(" · {doing}"));
        }
        line.and(Tone::Warn, " (gone, or not seen in this snapshot)")
    }

    /// What `party` holds, and who waits for each of it.
    fn holds(&mut self, party: PartyId) {
        for hold in self.index.holds(party, self.view) {
            let mut line = Line::new(Tone::Plain, "holds ").and(Tone::Strong, text::resource(&hold.resource));
            line = line.and(Tone::Dim, format!(" ({})", how_held(hold.how, hold.amount)));
            if let Some(site) = &hold.site {
                line = line.and(Tone::Dim, " in ").and(Tone::Plain, text::site(site));
            }
            self.push(line.behind("", "   "));
            let waiters: Vec<PartyId> =
                self.index.waiters(&hold.resource).iter().copied().filter(|&waiter| waiter != party).collect();
            self.waiting(&waiters, "waited for by ");
        }
    }

    /// Who waits for the end of `party`.
    fn joiners(&mut self, party: PartyId) {
        let joiners = self.index.joiners(party);
        if !joiners.is_empty() {
            self.push(Line::new(Tone::Plain, "its end is awaited"));
            self.waiting(joiners, "by ");
        }
    }

    fn waiting(&mut self, waiters: &[PartyId], verb: &str) {
        let shown = waiters.len().min(MAX_PARTIES);
        let left_out = waiters.len() - shown;
        let len = shown + usize::from(left_out > 0);
        for (at, &waiter) in waiters[..shown].iter().enumerate() {
            let waiter = self.index.canonical(waiter, self.view);
            let (lead, below) = ruling("", at, len);
            let line = self.named(Line::new(Tone::Plain, verb).behind(lead, below).to(waiter), waiter);
            self.push(line);
        }
        if left_out > 0 {
            let (lead, below) = ruling("", shown, len);
            let more = format!("… and {} more", text::grouped(left_out as u64));
            self.push(Line::new(Tone::Dim, more).behind(lead, below));
        }
    }
}

/// How a holder could end a wait of this mode; `None` where what it holds does not matter to it.
fn acts(mode: WaitMode, holder: &Holder) -> Option<&'static str> {
    match (mode, holder.how) {
        (WaitMode::Acquire { .. } | WaitMode::Unknown, HoldHow::Guard) => Some("held by"),
        (WaitMode::Acquire { .. } | WaitMode::Unknown, HoldHow::AssignedUnpolled) => {
            Some("assigned to, and not taken up by,")
        }
        (WaitMode::Acquire { .. } | WaitMode::Unknown, HoldHow::Reserved) => Some("part reserved for"),
        (WaitMode::Receive | WaitMode::Unknown, HoldHow::Sender) => Some("sender owned by"),
        (WaitMode::Send | WaitMode::Unknown, HoldHow::Receiver) => Some("receiver owned by"),
        _ => None,
    }
}

/// What is to be said of a wait for which nobody was found: no verdict, only what its end depends on.
fn unheld(mode: WaitMode) -> Option<&'static str> {
    match mode {
        WaitMode::Acquire { .. } => Some("no holder was found in a task or thread; that alone proves nothing"),
        WaitMode::Receive => Some("no owner of a sender was found; that alone proves nothing"),
        WaitMode::Send => Some("no owner of the receiver was found; that alone proves nothing"),
        WaitMode::Join => Some("the awaited task was not found"),
        WaitMode::Notified => Some("whoever can reach it may notify it"),
        WaitMode::Deadline { .. } => Some("ends by itself, as long as the runtime's driver is polled"),
        WaitMode::Ready { .. } => Some("ends when the descriptor is ready, as long as the runtime's driver is polled"),
        WaitMode::Unknown => None,
    }
}

fn wait_line(waiting: &Waiting<'_>) -> Line {
    let wait = waiting.wait;
    let mut line = Line::new(Tone::Plain, "waits for ").and(Tone::Strong, text::resource(&wait.resource));
    let what = wanted(wait);
    if !what.is_empty() {
        line = line.and(Tone::Dim, format!(" ({what})"));
    }
    match waiting.site {
        Some(site) => line.and(Tone::Dim, " at ").and(Tone::Plain, text::site(site)),
        None => line,
    }
}

/// What is wanted of a resource and from which place in its queue, in words.
fn wanted(wait: &Wait) -> String {
    let mut words: Vec<String> = Vec::new();
    match wait.mode {
        WaitMode::Acquire { permits: 1 } | WaitMode::Unknown | WaitMode::Notified => {}
        WaitMode::Acquire { permits } => words.push(format!("{} permits", text::grouped(permits))),
        WaitMode::Receive => words.push("next message".to_owned()),
        WaitMode::Send => words.push("room to send".to_owned()),
        WaitMode::Join => words.extend(wait.target.map(text::party)),
        WaitMode::Deadline { in_ms } => words.extend(in_ms.map(text::until)),
        WaitMode::Ready { fd } => words.extend(fd.map(|fd| format!("fd {fd}"))),
    }
    match wait.position {
        Some(0) => words.push("next in its queue".to_owned()),
        Some(position) => {
            words.push(format!("{} in its queue", text::counted(u64::from(position), "is before it", "are before it")));
        }
        None => {}
    }
    words.join(", ")
}

fn how_held(how: HoldHow, amount: u64) -> String {
    let name = match how {
        HoldHow::Guard => "guard",
        HoldHow::AssignedUnpolled => "assigned to it, not polled since",
        HoldHow::Reserved => "reserved for it",
        HoldHow::Sender => "sender",
        HoldHow::Receiver => "receiver",
        HoldHow::JoinHandle => "can abort it",
    };
    if amount > 1 { format!("{name}, {} permits", text::grouped(amount)) } else { name.to_owned() }
}

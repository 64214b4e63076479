//! Who holds, who waits and who is found at fault, by party and by resource: built once for a view, asked many times.

use rustc_hash::{FxHashMap, FxHashSet};

use super::rows::own;
use crate::{
    model::{
        Finding, Frame, Hold, HoldHow, PartyId, Resource, ResourceKey, ResourceKind, Strand, Task, Thread,
        ThreadActivity, Wait,
    },
    session::View,
};

/// A party that holds something.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    /// Who.
    pub party: PartyId,
    /// How.
    pub how: HoldHow,
    /// The frame that owns it.
    pub site: Option<Frame>,
}

/// A wait of a party, with the await point or call at which it waits: the innermost that is the user's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting<'a> {
    /// What for.
    pub wait: &'a Wait,
    /// Where.
    pub site: Option<&'a Frame>,
}

/// Lookup tables over one view.
#[derive(Debug, Default)]
pub(super) struct Index {
    tasks: FxHashMap<PartyId, usize>,
    threads: FxHashMap<i32, usize>,
    polled_by: FxHashMap<PartyId, usize>,
    holders: FxHashMap<ResourceKey, Vec<Holder>>,
    waiters: FxHashMap<ResourceKey, Vec<PartyId>>,
    joiners: FxHashMap<PartyId, Vec<PartyId>>,
    resources: FxHashMap<ResourceKey, usize>,
    findings: FxHashMap<PartyId, Vec<usize>>,
}

/// One key for one thing in memory: the lock primitives share tokio's semaphore, and may be named apart by two readers.
fn family(key: &ResourceKey) -> Option<ResourceKey> {
    if key.address == 0 {
        return None;
    }
    let kind = if key.kind.is_permits() { ResourceKind::TokioBatchSemaphore } else { key.kind.clone() };
    Some(ResourceKey { kind, address: key.address })
}

impl Index {
    /// The tables for `view`.
    pub(super) fn new(view: &View) -> Self {
        let mut index = Self::default();
        let snapshot = &*view.snapshot;
        for (at, thread) in snapshot.threads.iter().enumerate() {
            index.threads.insert(thread.tid, at);
            if let ThreadActivity::Polling(party) | ThreadActivity::BlockedIn(party) = thread.activity {
                index.polled_by.insert(party, at);
            }
        }
        for (at, task) in snapshot.tasks.iter().enumerate() {
            index.tasks.insert(task.party, at);
            if let Some(&thread) = task.thread.and_then(|tid| index.threads.get(&tid)) {
                index.polled_by.entry(task.party).or_insert(thread);
            }
        }
        for task in &snapshot.tasks {
            for hold in task.root.all_holds() {
                index.hold(task.party, hold);
            }
            for wait in task.root.waits() {
                index.wait(task.party, wait);
            }
        }
        for thread in &snapshot.threads {
            let party = index.actor(PartyId::Thread { tid: thread.tid }, snapshot.threads.as_slice());
            for hold in &thread.holds {
                index.hold(party, hold);
            }
            if let Some(wait) = &thread.wait {
                index.wait(party, wait);
            }
        }
        for (at, resource) in snapshot.resources.iter().enumerate() {
            if let Some(key) = family(&resource.key) {
                index.resources.insert(key, at);
            }
        }
        for (at, finding) in view.findings.iter().enumerate() {
            for party in parties(finding) {
                index.findings.entry(party).or_default().push(at);
            }
        }
        index
    }

    fn hold(&mut self, party: PartyId, hold: &Hold) {
        let Some(key) = family(&hold.resource) else { return };
        let holder = Holder { party, how: hold.how, site: hold.site.clone() };
        self.holders.entry(key).or_default().push(holder);
    }

    fn wait(&mut self, party: PartyId, wait: &Wait) {
        if let Some(key) = family(&wait.resource) {
            let waiters = self.waiters.entry(key).or_default();
            if waiters.last() != Some(&party) {
                waiters.push(party);
            }
        }
        if let Some(target) = wait.target {
            self.joiners.entry(target).or_default().push(party);
        }
    }

    /// The task that a thread polls stands for the thread: whatever that thread waits for, the task cannot pass.
    fn actor(&self, party: PartyId, threads: &[Thread]) -> PartyId {
        let PartyId::Thread { tid } = party else { return party };
        match self.threads.get(&tid).map(|&at| &threads[at].activity) {
            Some(ThreadActivity::Polling(task) | ThreadActivity::BlockedIn(task)) => *task,
            _ => party,
        }
    }

    /// A party as the graph names it: the polled task instead of the thread that polls it.
    pub(super) fn canonical(&self, party: PartyId, view: &View) -> PartyId {
        self.actor(party, &view.snapshot.threads)
    }

    /// The task of that name.
    pub(super) fn task<'a>(&self, party: PartyId, view: &'a View) -> Option<&'a Task> {
        self.tasks.get(&party).map(|&at| &view.snapshot.tasks[at])
    }

    /// The thread of that id.
    pub(super) fn thread<'a>(&self, tid: i32, view: &'a View) -> Option<&'a Thread> {
        self.threads.get(&tid).map(|&at| &view.snapshot.threads[at])
    }

    /// The thread that polls a task now, or the thread itself.
    pub(super) fn thread_of<'a>(&self, party: PartyId, view: &'a View) -> Option<&'a Thread> {
        match party {
            PartyId::Thread { tid } => self.thread(tid, view),
            _ => self.polled_by.get(&party).map(|&at| &view.snapshot.threads[at]),
        }
    }

    /// Everyone who holds `key`.
    pub(super) fn holders(&self, key: &ResourceKey) -> &[Holder] {
        family(key).and_then(|key| self.holders.get(&key)).map_or(&[], Vec::as_slice)
    }

    /// Everyone who waits for `key`.
    pub(super) fn waiters(&self, key: &ResourceKey) -> &[PartyId] {
        family(key).and_then(|key| self.waiters.get(&key)).map_or(&[], Vec::as_slice)
    }

    /// Everyone who waits for the end of `party`.
    pub(super) fn joiners(&self, party: PartyId) -> &[PartyId] {
        self.joiners.get(&party).map_or(&[], Vec::as_slice)
    }

    /// What is known of `key` beyond its holders and waiters.
    pub(super) fn resource<'a>(&self, key: &ResourceKey, view: &'a View) -> Option<&'a Resource> {
        family(key).and_then(|key| self.resources.get(&key)).map(|&at| &view.snapshot.resources[at])
    }

    /// The findings that name `party`, as indices into [`View::findings`], most permanent first.
    pub(super) fn findings(&self, party: PartyId) -> &[usize] {
        self.findings.get(&party).map_or(&[], Vec::as_slice)
    }

    /// Everything `party` waits for: its strands' waits, and those of the thread that polls it.
    pub(super) fn waits<'a>(&self, party: PartyId, view: &'a View) -> Vec<Waiting<'a>> {
        let mut out = Vec::new();
        if let Some(task) = self.task(party, view) {
            strand_waits(&task.root, &mut out);
        }
        if let Some(thread) = self.thread_of(party, view)
            && let Some(wait) = &thread.wait
        {
            out.push(Waiting { wait, site: site(&thread.frames) });
        }
        out
    }

    /// Everything `party` holds, with what the thread that polls it holds.
    pub(super) fn holds<'a>(&self, party: PartyId, view: &'a View) -> Vec<&'a Hold> {
        let mut out: Vec<&Hold> = self.task(party, view).into_iter().flat_map(|task| task.root.all_holds()).collect();
        if let Some(thread) = self.thread_of(party, view) {
            out.extend(&thread.holds);
        }
        out
    }
}

/// Whether two keys name the same thing in memory.
pub(super) fn same(a: &ResourceKey, b: &ResourceKey) -> bool {
    family(a).is_some_and(|a| family(b) == Some(a))
}

fn strand_waits<'a>(root: &'a Strand, out: &mut Vec<Waiting<'a>>) {
    for strand in root.walk() {
        if let Some(wait) = &strand.wait {
            // A branch of a select may be a library's future through and through: then the frame that forks says more.
            out.push(Waiting { wait, site: own(&strand.frames).or_else(|| site(&root.frames)) });
        }
    }
}

fn site(frames: &[Frame]) -> Option<&Frame> {
    own(frames).or_else(|| frames.last())
}

/// Everyone a finding names, each once.
fn parties(finding: &Finding) -> FxHashSet<PartyId> {
    let ends = finding.edges.iter().flat_map(|e| [Some(e.from.party), e.to.as_ref().map(|to| to.party)]).flatten();
    let threads = finding.threads.iter().map(|t| PartyId::Thread { tid: t.tid });
    finding.tasks.iter().copied().chain(ends).chain(threads).collect()
}

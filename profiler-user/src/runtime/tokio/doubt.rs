//! A second look at those who would be accused, for what no task tells of itself: all memory that can be written is searched.
//!
//! A dry poll shows who looks at the task's waker, and a dry drop what the task owns. Neither shows
//!
//! - a future that has given its waker away at its first poll and has not looked at it since, where it was inlined beside
//!   others: it shows by a waker of the task that stands where nobody keeps one who was seen;
//! - an abort handle: it is a reference to the task that is no waker; or that it is in somebody's `JoinSet`;
//! - the plain address that a C library has of a box in which the task owns an end of a channel, for its callback: as for
//!   [`super::reach`], it shows by what points into that. (Locks are not asked for like that: what leads to one is copied
//!   about with the state of a service, and leaves traces in memory that was freed since);
//! - that its destructor takes a guard or an end of a channel out of a place that others can reach too, as one does who removes
//!   his entry from a table: then the handle is loaded from memory that is not the task's own. What the destructor frees is the
//!   task's own, unless it came to that from such memory, as to the node of a list that others can reach.
//!
//! All this is searched for only where there is a finding.

use std::ops::Range;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    around, borrowed,
    ends::{CHANNEL_SPAN, COUNTS},
    heap::Header,
    holds::{Dropped, Dropping},
    ownership::{self, Pieces},
    poll::{self, Polled},
    read::{Tokio, UNNAMED, any_thread_pointer},
    roots::Root,
    strands,
    strays::dead_stacks,
    vtables::TaskVtable,
};
use crate::{
    model::{Fork, Hold, HoldHow, PartyId, ResourceKind, Snapshot, Strand, Task, TaskState, ThreadRole, WaitMode},
    runtime::World,
    target::{Addresses, Memory, ThreadFacts, ranges},
};

/// Who is looked at again, at most: nobody else is accused.
const MOST: usize = 2000;
/// Who is asked whether he would abort somebody, at most.
const MOST_OTHERS: usize = 200;
/// Bytes that are taken to be freed by who does not say how much.
const UNSAID: u64 = 1 << 10;
/// How one that can end a task from outside is called.
const ABORT_HANDLE: &str = "tokio::task::AbortHandle";

/// Looks again at each of `accused`, and notes in `snapshot` what may move them after all. Whether there was anything.
pub(super) fn note(
    tokio: &Tokio,
    world: &World<'_>,
    roots: &[Root<'_>],
    snapshot: &mut Snapshot,
    accused: &[PartyId],
) -> bool {
    let again = Again { tokio, world, fs_base: any_thread_pointer(world).unwrap_or(0), roots };
    let accused: FxHashSet<PartyId> = accused.iter().copied().collect();
    let lent = give_back_lent(world, snapshot, roots, &accused);
    let mut tasks = snapshot.tasks.iter().enumerate().filter(|(_, task)| accused.contains(&task.party));
    let some = tasks.by_ref().take(MOST);
    let mut suspects: Vec<Suspect> = some.filter_map(|(index, task)| again.suspect(index, task)).collect();
    if suspects.is_empty() {
        return lent;
    }
    let others: Vec<usize> = tasks.map(|(index, _)| index).collect();
    again.note_who_aborts(snapshot, &accused, &mut suspects);
    search_wakers(tokio, world, snapshot, &mut suspects);
    search_ways(world, snapshot, &mut suspects);
    let mut changed = lent || !others.is_empty();
    for other in others {
        put_beside(&mut snapshot.tasks[other].root, UNNAMED);
    }
    for suspect in suspects {
        changed |= suspect.clear(&mut snapshot.tasks[suspect.index]);
    }
    changed
}

/// Takes ends of channels from accused roots, and from their threads, from whose stacks others borrow. Whether there were any.
fn give_back_lent(
    world: &World<'_>,
    snapshot: &mut Snapshot,
    roots: &[Root<'_>],
    accused: &FxHashSet<PartyId>,
) -> bool {
    let lend = borrowed::from(world, roots, &snapshot.threads);
    let lends = |tid: i32| lend.contains(&tid) && accused.contains(&PartyId::BlockOn { tid });
    let of_tasks = snapshot.tasks.iter_mut().filter_map(|task| match task.party {
        PartyId::BlockOn { tid } if lends(tid) => Some(&mut task.root.holds),
        _ => None,
    });
    let of_threads = snapshot.threads.iter_mut().filter(|thread| lends(thread.tid)).map(|thread| &mut thread.holds);
    let mut some = false;
    for holds in of_tasks.chain(of_threads) {
        let before = holds.len();
        holds.retain(|hold| !is_handle(hold));
        some |= holds.len() < before;
    }
    some
}

/// One that would be accused.
#[derive(Default)]
struct Suspect {
    /// Which of the snapshot's tasks.
    index: usize,
    /// Of a suspended task: its header, the waker's data. 0 of others, whose wakers are not looked for.
    header: u64,
    /// Its cell, or its part of a stack.
    own: Range<u64>,
    /// What its drop frees: starts and ends.
    freed: Pieces,
    /// What it has an end of: where the ends of all channels keep wakers.
    channels: Vec<Range<u64>>,
    /// Wakers that its poll has looked at.
    kept: Vec<u64>,
    /// How many references to it are no such wakers.
    others: u64,
    /// Wakers in what is its own: of futures that are not polled now.
    idle_wakers: u64,
    /// A waker stands elsewhere.
    given_away: bool,
    /// One who waits for something else has it in a set whose drop aborts it.
    kept_in_set: bool,
    /// Addresses that would be a way to one of its holds, with that hold's number.
    ways: Vec<(Range<u64>, usize)>,
    /// Holds to which there is one.
    strayed: Vec<usize>,
}

impl Suspect {
    /// Whether memory at `at` is its own, and what stands there it has told of.
    fn owns(&self, at: u64) -> bool {
        ownership::piece(&self.freed, at).is_some() || self.own.contains(&at)
    }

    /// A waker of it stands at `at`.
    fn found_waker(&mut self, at: u64) {
        if self.kept.contains(&at) {
            return;
        }
        if self.owns(at) || self.channels.iter().any(|channel| channel.contains(&at)) {
            self.idle_wakers += 1;
        } else {
            self.given_away = true;
        }
    }

    /// Notes what was found; whether there was anything.
    fn clear(&self, task: &mut Task) -> bool {
        let mut number = 0..;
        task.root.holds.retain(|_| number.next().is_none_or(|number| !self.strayed.contains(&number)));
        let beside = if self.given_away {
            Some(UNNAMED)
        } else {
            // Whoever waits for messages, and for nothing that somebody has, is often made to be ended like that.
            let can_be_aborted = self.others > self.idle_wakers || self.kept_in_set;
            Some(ABORT_HANDLE).filter(|_| can_be_aborted && is_idle(task))
        };
        if let Some(name) = beside {
            put_beside(&mut task.root, name);
        }
        beside.is_some() || !self.strayed.is_empty()
    }
}

/// Whether all that the task waits for is to be told something.
fn is_idle(task: &Task) -> bool {
    use ResourceKind::{Other, TokioBroadcast, TokioMpsc, TokioNotify, TokioWatch};
    let mut waits = task.root.waits().peekable();
    waits.peek().is_some()
        && waits.all(|wait| match (&wait.resource.kind, wait.mode) {
            (TokioMpsc | TokioBroadcast | TokioWatch, WaitMode::Receive) => true,
            // Who has something others want is there for more than being told.
            (TokioNotify | Other(_), WaitMode::Notified) => task.root.all_holds().next().is_none(),
            _ => false,
        })
}

/// Gives a task another branch, of something that may come at any time.
fn put_beside(root: &mut Strand, name: &str) {
    let (wait, children) = (root.wait.take(), std::mem::take(&mut root.children));
    let own = Strand { wait, fork: root.fork, children, ..Strand::unknown() };
    root.fork = Fork::Any;
    root.children = vec![own, Strand { wait: Some(strands::other(name)), ..Strand::unknown() }];
}

/// What is needed to poll and drop once more.
struct Again<'w> {
    tokio: &'w Tokio,
    world: &'w World<'w>,
    fs_base: u64,
    roots: &'w [Root<'w>],
}

impl Again<'_> {
    fn suspect(&self, index: usize, task: &Task) -> Option<Suspect> {
        let mut suspect = Suspect { index, ..Suspect::default() };
        let polled = self.poll(task, &mut suspect)?;
        let dropped = self.drop(task, &[])?;
        let end = |freed: &Range<u64>| if freed.is_empty() { freed.start.saturating_add(UNSAID) } else { freed.end };
        suspect.freed = dropped.freed.iter().map(|freed| (freed.start, end(freed))).collect();
        suspect.channels = dropped.shares.iter().map(|share| share.base..share.base + CHANNEL_SPAN).collect();
        let leaves = polled.hits.iter().map(|hit| hit.this).chain(polled.kept.iter().copied());
        let leaves: Vec<u64> = leaves.chain(dropped.acquires.iter().copied()).filter(|leaf| *leaf != 0).collect();
        suspect.strayed = self.taken_from_elsewhere(&mut suspect, task, &dropped);
        let boxes = self.boxes(&suspect, task, &leaves);
        for (number, hold) in task.root.holds.iter().enumerate().filter(|(_, hold)| is_handle(hold)) {
            suspect.ways.extend(self.ways(&boxes, hold).into_iter().map(|way| (way, number)));
        }
        suspect.kept = polled.kept;
        Some(suspect)
    }

    /// What its poll shows. Notes what is its own, and who may wake it.
    fn poll(&self, task: &Task, suspect: &mut Suspect) -> Option<Polled> {
        let (code, memory) = (&self.tokio.code, self.world.memory);
        if let PartyId::BlockOn { tid } = task.party {
            let root = self.root(tid)?;
            suspect.own = root.own(memory.mappings());
            return Some(root.poll(code, memory));
        }
        let (header, vtable) = self.header(task)?;
        suspect.own = header.address..header.address + vtable.trailer_offset;
        let polled = poll::run(code, memory, vtable, &header, self.fs_base, false, &mut |_| ());
        if task.state == TaskState::Suspended && polled.watched {
            suspect.header = header.address;
            suspect.others = header.state.wakers().saturating_sub(polled.kept.len() as u64);
        }
        Some(polled)
    }

    /// What its drop shows, with an eye on the loads of words that point into `tracked`.
    fn drop(&self, task: &Task, tracked: &[Range<u64>]) -> Option<Dropped> {
        let dropping = Dropping { tracked, ..self.tokio.dropping(self.world.memory, self.fs_base) };
        if let PartyId::BlockOn { tid } = task.party {
            return self.root(tid)?.drop(dropping, self.world.modules, &self.tokio.unwinder);
        }
        let (header, vtable) = self.header(task)?;
        Some(dropping.task(vtable, &header, &[]))
    }

    /// Notes which idle suspects others have in a `JoinSet`, or in what else aborts when it is dropped: who waits for the end of these
    /// alone will not abort them, whoever waits for something else may.
    fn note_who_aborts(&self, snapshot: &Snapshot, accused: &FxHashSet<PartyId>, suspects: &mut [Suspect]) {
        if !suspects.iter().any(|suspect| is_idle(&snapshot.tasks[suspect.index])) {
            return;
        }
        let is_other =
            |task: &&Task| !accused.contains(&task.party) && task.root.waits().any(|wait| wait.mode != WaitMode::Join);
        for other in snapshot.tasks.iter().filter(is_other).take(MOST_OTHERS) {
            let Some(dropped) = self.drop(other, &[]).filter(|dropped| !dropped.aborted.is_empty()) else { continue };
            for suspect in suspects.iter_mut() {
                suspect.kept_in_set |= dropped.aborted.contains(&snapshot.tasks[suspect.index].address);
            }
        }
    }

    fn header(&self, task: &Task) -> Option<(Header, &TaskVtable)> {
        let header = Header::read(self.world.memory, task.address, &self.tokio.vtables)?;
        let vtable = self.tokio.vtables.get(&header.vtable)?;
        Some((header, vtable))
    }

    fn root(&self, tid: i32) -> Option<&Root<'_>> {
        self.roots.iter().find(|root| root.facts.tid == tid)
    }

    /// What its drop frees, but for its cell, to which the whole runtime points, and for the futures that it polls, to `leaves`:
    /// those are moved about before they are first polled, and leave traces. A channel is no future.
    fn boxes(&self, suspect: &Suspect, task: &Task, leaves: &[u64]) -> Vec<Range<u64>> {
        let freed = suspect.freed.iter().map(|(start, end)| *start..*end);
        let channels = || task.root.holds.iter().filter(|hold| is_handle(hold)).map(|hold| hold.resource.address);
        let is_channel = |range: &Range<u64>| channels().any(|channel| range.contains(&channel));
        let (mut polled, mut boxes): (Vec<_>, Vec<_>) = freed
            .filter(|range| range.start != suspect.own.start)
            .partition(|range| !is_channel(range) && leaves.iter().any(|leaf| range.contains(leaf)));
        while let Some(inner) = polled.pop() {
            let (outer, others) = boxes.into_iter().partition(|range| self.has(range, inner.start));
            boxes = others;
            polled.extend::<Vec<_>>(outer);
        }
        boxes
    }

    /// Addresses by which one could come to what the task has of a resource in one of its `boxes`: in those, and in those around them, as
    /// the links of a list are in the middle of its nodes. To what lies in the future itself it lends references, and they leave traces.
    fn ways(&self, boxes: &[Range<u64>], hold: &Hold) -> Vec<Range<u64>> {
        let mut ways = Vec::new();
        let has_it = |range: &&Range<u64>| self.has(range, hold.resource.address);
        let (mut around, mut others): (Vec<_>, Vec<_>) = boxes.iter().partition(has_it);
        while let Some(inner) = around.pop() {
            ways.push(around::inside(inner));
            let (outer, rest) = others.into_iter().partition(|range| self.has(range, inner.start));
            others = rest;
            around.extend::<Vec<_>>(outer);
        }
        ways
    }

    /// The holds, by number, that its drop gives back by a handle that it takes from elsewhere. A message that nobody has
    /// received is whose the receiver is. Takes out of what the drop frees what it has come to from elsewhere.
    fn taken_from_elsewhere(&self, suspect: &mut Suspect, task: &Task, dropped: &Dropped) -> Vec<usize> {
        let holds = task.root.holds.iter().enumerate();
        let handles: Vec<(usize, Vec<u64>)> =
            holds.map(|(number, hold)| (number, handles(hold, dropped))).filter(|(_, all)| !all.is_empty()).collect();
        let places = handles.iter().flat_map(|(_, all)| all).map(|handle| *handle..*handle + 1);
        let freed = suspect.freed.iter().map(|(start, end)| *start..*end);
        let tracked: Vec<Range<u64>> = places.chain(freed).collect();
        let Some(again) = self.drop(task, &tracked) else { return Vec::new() };
        let in_target = |at: u64| self.world.memory.mappings().at(at).is_some();
        let own = suspect.own.clone();
        ownership::keep_own(&mut suspect.freed, &again.loads, |at| in_target(at).then(|| own.contains(&at)));
        let mut strayed = FxHashSet::default();
        for (_, word) in again.loads.iter().filter(|(at, _)| in_target(*at) && !suspect.owns(*at)) {
            let is_handle = |(_, all): &&(usize, Vec<u64>)| all.contains(word);
            strayed.extend(handles.iter().filter(is_handle).map(|(number, _)| *number));
        }
        strayed.into_iter().collect()
    }

    /// Whether a word stands in a range.
    fn has(&self, range: &Range<u64>, word: u64) -> bool {
        around::words(self.world.memory, range).contains(&word)
    }
}

/// The words by which a drop comes to what it gives back; none of what nobody could use in the task's place.
fn handles(hold: &Hold, dropped: &Dropped) -> Vec<u64> {
    let at = hold.resource.address;
    if hold.resource.kind.is_permits() {
        let around = |base: &u64| at.checked_sub(*base).is_some_and(|inside| inside < CHANNEL_SPAN);
        let counts = dropped.shares.iter().map(|share| share.base).filter(around);
        // The count of weak references is the second one.
        return [at].into_iter().chain(counts.flat_map(|base| [base, base - COUNTS])).collect();
    }
    Some(at).filter(|_| is_handle(hold) && !dropped.queued.contains(&at)).into_iter().collect()
}

/// Whether others could use it in the task's place.
fn is_handle(hold: &Hold) -> bool {
    hold.resource.address != 0 && matches!(hold.how, HoldHow::Sender | HoldHow::Receiver)
}

/// Searches all memory for wakers of `suspects`.
fn search_wakers(tokio: &Tokio, world: &World<'_>, snapshot: &Snapshot, suspects: &mut [Suspect]) {
    let functions = tokio.code.task_waker();
    let asked = suspects.iter().enumerate().filter(|(_, suspect)| suspect.others > 0);
    let headers: FxHashMap<u64, usize> = asked.map(|(number, suspect)| (suspect.header, number)).collect();
    if headers.is_empty() {
        return;
    }
    let traces = traces(world, |tid| is_poller(snapshot, tid));
    for mapping in world.memory.mappings().iter().filter(|mapping| mapping.write) {
        world.memory.scan(mapping.range.clone(), |start, bytes| {
            for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
                let word = u64::from_le_bytes(*word);
                let at = start + index as u64 * 8;
                if Some(word) == functions {
                    let beside = [at.wrapping_sub(8), at.wrapping_add(8)];
                    let mut data = beside.into_iter().filter_map(|at| world.memory.read_u64(at).ok());
                    let whose = data.find_map(|data| headers.get(&data));
                    if let Some(number) = whose.filter(|_| !traces.iter().any(|stack| stack.contains(&at))) {
                        suspects[*number].found_waker(at);
                    }
                }
            }
        });
    }
}

/// Searches all memory for ways to what `suspects` have, but not the stacks of threads that poll: of those in `block_on` too, which have
/// made what they handed to tasks.
fn search_ways(world: &World<'_>, snapshot: &Snapshot, suspects: &mut [Suspect]) {
    let ways = suspects.iter().flat_map(|suspect| &suspect.ways).map(|(way, _)| way.clone());
    let ways = ranges::merged(ways.collect());
    let (Some(first), Some(last)) = (ways.first(), ways.last()) else { return };
    let mut addresses = Addresses::new(first.start..last.end);
    let is_root = |tid| snapshot.tasks.iter().any(|task| task.party == PartyId::BlockOn { tid });
    let traces = traces(world, |tid| is_poller(snapshot, tid) || is_root(tid));
    for mapping in world.memory.mappings().iter().filter(|mapping| mapping.write) {
        world.memory.scan(mapping.range.clone(), |start, bytes| {
            addresses.each(start, bytes, |at, address| {
                if !ranges::contains(&ways, address) || traces.iter().any(|stack| stack.contains(&at)) {
                    return;
                }
                for suspect in suspects.iter_mut() {
                    let led_to = suspect.ways.iter().filter(|(way, _)| way.contains(&address) && !suspect.owns(at));
                    suspect.strayed.extend(led_to.map(|(_, hold)| *hold).collect::<Vec<_>>());
                }
                // Whoever keeps what was read must have it too.
                let _ = world.memory.read_u64(at);
            });
        });
    }
}

/// Where what is polled leaves its traces: stacks of threads that poll, and what nobody uses of the others.
fn traces(world: &World<'_>, polls: impl Fn(i32) -> bool) -> Vec<Range<u64>> {
    let stack = |facts: &ThreadFacts| Some(world.memory.mappings().at(facts.stack()?.0)?.range.clone());
    let pollers = world.threads.iter().filter(|(facts, ..)| polls(facts.tid));
    dead_stacks(world).into_iter().chain(pollers.filter_map(|(facts, ..)| stack(facts))).collect()
}

/// Whether a thread polls tasks or roots.
fn is_poller(snapshot: &Snapshot, tid: i32) -> bool {
    let thread = snapshot.threads.iter().find(|thread| thread.tid == tid);
    thread.is_some_and(|thread| thread.role.is_of_runtime() && thread.role != ThreadRole::BlockingPool)
}

//! One task, or one root of a `block_on`: polled and dropped over a copy-on-write view.

use std::{ops::Range, sync::Arc};

use super::{
    children::{Sets, Woken},
    classify::{self, Leaf},
    closing,
    context::Observed,
    ends::Share,
    heap::{self, Header},
    holds::{Dropped, Dropping, Released},
    imprint::{self, CELL_CHECKED},
    kept::Basis,
    names,
    poll::{self, Hit, Polled},
    probe::{Asked, Probe},
    read::{Tokio, UNNAMED},
    resources,
    roots::Root,
    shape::Waiter,
    strands,
    vtables::TaskVtable,
    waits::{self, Missing, Watched},
    within,
};
use crate::{
    debuginfo::name,
    model::{Frame, Hold, PartyId, ResourceKind, Strand, Task, TaskState, is_library},
    runtime::World,
    target::{AddressSpace, Memory, Trail},
};

/// What the semaphore waits of a task told.
#[derive(Default)]
struct SemaphoreWaits {
    missing: Vec<Missing>,
    counters: Vec<(u64, u64)>,
    descriptors: Vec<(u64, i32)>,
}

/// A task as it was read.
#[derive(Clone, PartialEq)]
pub(super) struct ReadTask {
    pub(super) task: Task,
    /// What only the rest of the read needs; `None` for nothing.
    told: Option<Box<Told>>,
}

/// What the reading of a task has told of others.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Told {
    /// Queued acquires that its destructor drops.
    pub(super) acquires: Vec<u64>,
    /// References that its destructor gives back to what may be channels.
    pub(super) shares: Vec<Share>,
    /// Semaphores inside of channels, each with its channel.
    pub(super) rooms: Vec<(u64, u64)>,
    /// Semaphore waits of its strands.
    pub(super) missing: Vec<Missing>,
    /// The semaphores that its polls touched, each with the word in which it counts its free permits.
    pub(super) counters: Vec<(u64, u64)>,
    /// Waiters of its own in queues of semaphores.
    pub(super) waiters: Vec<Waiter>,
    /// What its destructor gives back by code without a name.
    pub(super) released: Vec<Released>,
    /// Descriptors that its strands wait for, each with the word that told.
    pub(super) descriptors: Vec<(u64, i32)>,
}

impl Told {
    fn of(dropped: Dropped, waits: SemaphoreWaits, waiters: Vec<Waiter>) -> Self {
        let Dropped { acquires, shares, rooms, released, .. } = dropped;
        let SemaphoreWaits { missing, counters, descriptors } = waits;
        Self { acquires, shares, rooms, missing, counters, waiters, released, descriptors }
    }
}

/// Of a task that tells nothing.
static NOTHING: Told = Told {
    acquires: Vec::new(),
    shares: Vec::new(),
    rooms: Vec::new(),
    missing: Vec::new(),
    counters: Vec::new(),
    waiters: Vec::new(),
    released: Vec::new(),
    descriptors: Vec::new(),
};

impl ReadTask {
    pub(super) fn new(task: Task, told: Told) -> Self {
        // Of a million tasks few tell anything.
        let told = (told != NOTHING).then(|| Box::new(told));
        Self { task, told }
    }

    /// What its reading has told of others.
    pub(super) fn told(&self) -> &Told {
        self.told.as_deref().unwrap_or(&NOTHING)
    }

    /// Itself, to be changed, and what its reading has told of others.
    pub(super) fn parts(&mut self) -> (&mut Task, &Told) {
        (&mut self.task, self.told.as_deref().unwrap_or(&NOTHING))
    }

    /// The same where there is anything, to be changed.
    pub(super) fn told_mut(&mut self) -> Option<&mut Told> {
        self.told.as_deref_mut()
    }
}

impl Tokio {
    /// Learns what only the code of a task's type tells, from one that is being polled: its state is in flux and nothing
    /// that is read of it counts, but the functions that its poll and its drop begin with are its type's.
    fn learn_type(&mut self, world: &World<'_>, header: &Header, vtable: &TaskVtable, fs_base: u64) {
        if self.learned.contains(&header.vtable) {
            return;
        }
        let _ = self.dry_poll(world, world.memory, header, vtable, fs_base, true);
        let dropped = self.dropping(world.memory, fs_base).task(vtable, header, &[]);
        self.learn_name(world, header.vtable, &dropped);
    }

    /// Polls a task over a copy-on-write view, and learns on the way where threads keep what they poll.
    fn dry_poll(
        &mut self,
        world: &World<'_>,
        memory: &dyn Memory,
        header: &Header,
        vtable: &TaskVtable,
        fs_base: u64,
        first_only: bool,
    ) -> Polled {
        let (mut context, mut current_task) = (self.context, self.current_task);
        let id = memory.read_u64(header.address + vtable.id_offset).ok();
        let polled = poll::run(&self.code, memory, vtable, header, fs_base, first_only, &mut |machine| {
            if let (None, Some(offset), Some(id)) = (context, self.tls_offset, id) {
                let observed = Observed::of(machine, world.memory, fs_base, offset, id);
                current_task = current_task.or(observed.as_ref().map(Observed::current_task));
                context = observed.and_then(|observed| observed.context());
            }
        });
        (self.context, self.current_task) = (context, current_task);
        self.learn_poll_code(header.vtable, &polled);
        polled
    }

    fn learn_poll_code(&mut self, vtable: u64, polled: &Polled) {
        if !self.learned.insert(vtable) {
            return;
        }
        for function in &polled.poll_functions {
            let known = self.poll_code.entry(*function).or_insert(Some(vtable));
            // Code that two types share tells neither.
            if *known != Some(vtable) {
                *known = None;
            }
        }
        self.poll_names.borrow_mut().clear();
    }

    fn learn_name(&mut self, world: &World<'_>, vtable: u64, dropped: &Dropped) {
        if !self.names.contains_key(&vtable)
            && let Some((function, name)) = names::of_destructor(world.modules, &dropped.functions)
        {
            let known = self.drop_code.entry(function).or_insert(Some(vtable));
            if *known == Some(vtable) {
                self.names.insert(vtable, name);
            } else if let Some(other) = known.take() {
                // Code that two types share tells neither.
                self.names.remove(&other);
            }
        }
    }

    /// The type of a task's future. Without a name of its own it is called by the function that it runs first.
    pub(super) fn name_of(&self, vtable: u64, root: &Strand) -> Arc<str> {
        let first =
            || root.walk().flat_map(|strand| strand.frames.iter()).next().map(|frame| Arc::clone(&frame.function));
        self.names.get(&vtable).cloned().or_else(first).unwrap_or_else(|| UNNAMED.into())
    }

    /// The root future that `root`'s thread waits in.
    pub(super) fn read_root(&self, world: &World<'_>, root: &Root<'_>, fs_base: u64) -> ReadTask {
        let party = PartyId::BlockOn { tid: root.facts.tid };
        let mut polled = root.poll(&self.code, world.memory);
        let probe = Probe { code: &self.code, memory: world.memory, asked: Asked::Root(root), woken: None };
        let probe = root.can_be_asked().then_some(&probe);
        let dropped = root.drop(self.dropping(world.memory, fs_base), world.modules, &self.unwinder);
        let dropped = dropped.unwrap_or_else(|| Dropped {
            incomplete: Some("what it holds: its thread's frame has no landing pad".into()),
            ..Dropped::default()
        });
        let sets = Sets { code: &self.code, memory: world.memory, fs_base: root.fs_base() };
        if root.can_be_asked() {
            sets.unfold(&mut polled, &dropped, |woken| root.poll_woken(&self.code, world.memory, woken));
        }
        let (mut strand, waits) = self.strands(world, world.memory, &mut polled, &dropped, probe);
        strand.holds = self.holds(world, world.memory, &dropped, &polled, &strand);
        let own = names::of_destructor(world.modules, &dropped.functions).map(|(_, name)| name);
        // A library's future says nothing of the program: whoever waits for it does.
        let name = own.filter(|name| root.callers.is_empty() || !is_library(name));
        let caller = root.callers.first().map(|caller| Arc::clone(&caller.function));
        if strand.walk().flat_map(|strand| strand.frames.iter()).all(Frame::is_library) {
            strand.frames = root.callers.iter().chain(strand.frames.iter()).cloned().collect();
        }
        let unseen = unwatched(&polled);
        let awaits_known = polled.incomplete.is_none() && unseen.is_none();
        let incomplete = polled.incomplete.take().or(dropped.incomplete.clone()).or(unseen).map(Into::into);
        let told = Told::of(Dropped { released: Vec::new(), ..dropped }, waits, waiters_of(&polled));
        let task = Task {
            party,
            address: 0,
            runtime: 0,
            name: name.or(caller).unwrap_or_else(|| UNNAMED.into()),
            state: TaskState::Suspended,
            status: None,
            origin: None,
            labels: None,
            since: None,
            root: strand,
            incomplete,
            awaits_known,
            // While its thread is not run, nothing moves.
            imprint: root.facts.switches,
            unstable: false,
            thread: Some(root.facts.tid),
        };
        ReadTask::new(task, told)
    }

    /// The strands that a dry poll has shown, and what its semaphore waits told on the way.
    fn strands(
        &self,
        world: &World<'_>,
        memory: &dyn Memory,
        polled: &mut Polled,
        dropped: &Dropped,
        probe: Option<&Probe<'_>>,
    ) -> (Strand, SemaphoreWaits) {
        // Where the draw was inlined the order is chance; where in the code each is polled is not.
        polled.hits.sort_by(|one, other| one.order().cmp(other.order()));
        polled.joins.retain(|(_, site)| self.is_join(probe, *site));
        let mut waits = SemaphoreWaits::default();
        let mut watched = Watched { moment: &self.moment, pid: world.memory.pid(), descriptors: Vec::new() };
        let strand = strands::build(&self.code, world.modules, polled, dropped, |hit, functions| {
            let probe = probe.map(|probe| Probe { woken: hit.child.as_deref(), ..*probe });
            let probe = probe.as_ref();
            let leaf_name = || leaf_name(world, hit, functions);
            let mut wait = waits::read(hit, &polled.kept, functions, memory, &self.vtables, &mut watched, leaf_name);
            if hit.leaf == Some(Leaf::Acquire) {
                if wait.resource.kind == ResourceKind::TokioBatchSemaphore
                    && let Some(kind) = self.lock(probe, hit, wait.resource.address)
                {
                    wait.resource.kind = kind;
                }
                waits.missing.extend(waits::missing(hit));
                waits.counters.extend(waits::counter(hit, wait.resource.address));
            }
            within::name(&self.within, memory, probe, hit, &mut wait);
            wait
        });
        waits.descriptors = watched.descriptors;
        (strand, waits)
    }

    /// What the frames of a thread would give back.
    pub(super) fn thread_holds(&self, world: &World<'_>, dropped: &Dropped) -> Vec<Hold> {
        let nowhere = Strand::unknown();
        resources::holds(&self.code, world.modules, dropped, &[], &nowhere, &self.vtables, world.memory)
    }

    /// A dry drop on a thread with this thread pointer.
    pub(super) fn dropping<'a>(&'a self, memory: &'a dyn Memory, fs_base: u64) -> Dropping<'a> {
        let (code, deallocs, contended) = (&self.code, &self.deallocs, &*self.contended);
        Dropping { code, memory, fs_base, deallocs, contended, tracked: &[] }
    }

    /// Which lock an acquire belongs to; only what is known already where there is nobody to ask.
    fn lock(&self, probe: Option<&Probe<'_>>, hit: &Hit, semaphore: u64) -> Option<ResourceKind> {
        let site = hit.path.last()?.site;
        if let Some(known) = self.locks.borrow().get(&site) {
            return known.clone();
        }
        let file = probe?.file_of_panic_when_closed(waits::count(hit, semaphore)?);
        let kind = file.as_deref().and_then(classify::lock_of_file);
        self.locks.borrow_mut().insert(site, kind.clone());
        kind
    }

    /// Whether the code at `site` polls the children of a `join!`; likewise.
    fn is_join(&self, probe: Option<&Probe<'_>>, site: u64) -> bool {
        if let Some(known) = self.joins.borrow().get(&site) {
            return *known;
        }
        // The end of a root's poll looks like any other end of its run.
        let Some(probe) = probe.filter(|probe| matches!(probe.asked, Asked::Task { .. })) else { return false };
        let is_join = probe.waits_for_the_others(site);
        self.joins.borrow_mut().insert(site, is_join);
        is_join
    }

    fn holds(
        &self,
        world: &World<'_>,
        memory: &dyn Memory,
        dropped: &Dropped,
        polled: &Polled,
        strand: &Strand,
    ) -> Vec<Hold> {
        let acquires = polled.hits.iter().filter(|hit| hit.leaf == Some(Leaf::Acquire));
        let awaited: Vec<u64> = acquires.map(|hit| hit.this).collect();
        resources::holds(&self.code, world.modules, dropped, &awaited, strand, &self.vtables, memory)
    }

    /// Whether a task's runtime is one, which is asked once for each.
    fn is_scheduled(&self, memory: &dyn Memory, party: PartyId) -> bool {
        matches!(party, PartyId::Task { runtime, .. } if self.kinds.contains_key(&runtime) || heap::is_scheduler(memory, runtime))
    }

    /// The part of a task's cell that is checked for changes.
    pub(super) fn cell(&self, header: &Header) -> Range<u64> {
        let length = self.vtables.get(&header.vtable).map_or(0, |vtable| vtable.trailer_offset.min(CELL_CHECKED));
        header.address..header.address + length
    }

    /// The task with this header as it is now, and what that rests on, if it is at rest and was read whole.
    pub(super) fn read_task<'w>(
        &mut self,
        world: &'w World<'_>,
        header: &Header,
        fs_base: u64,
    ) -> Option<(ReadTask, Option<Basis<'w>>)> {
        let memory = world.memory;
        let vtable = self.vtables.get(&header.vtable)?.clone();
        let cell = self.cell(header);
        let header = &Header::read(memory, header.address, &self.vtables).filter(|now| now.vtable == header.vtable)?;
        if header.state.is_complete() {
            return None;
        }
        let vtable = &vtable;
        let party = waits::party(header, vtable, memory).filter(|party| self.is_scheduled(memory, *party))?;
        let mut state = header.state.task_state();
        let mut waits = SemaphoreWaits::default();
        let mut root = Strand::unknown();
        let mut dropped = Dropped::default();
        let mut waiters = Vec::new();
        let incomplete;
        let mut awaits_known = false;
        let mut timeless = true;
        let trail = Trail::new(memory);
        if state == TaskState::Running {
            incomplete = Some("being polled while it was read".to_owned());
            self.learn_type(world, header, vtable, fs_base);
        } else {
            let scheduled = state == TaskState::Scheduled;
            let mut polled = self.dry_poll(world, &trail, header, vtable, fs_base, scheduled);
            let probe = Probe { code: &self.code, memory, asked: Asked::Task { vtable, header, fs_base }, woken: None };
            waiters = waiters_of(&polled);
            dropped = self.dropping(&trail, fs_base).task(vtable, header, &waiters);
            if !scheduled {
                let sets = Sets { code: &self.code, memory: &trail, fs_base };
                let poll = |woken: &Woken| poll::run_woken(&self.code, &trail, vtable, header, fs_base, woken);
                sets.unfold(&mut polled, &dropped, poll);
            }
            (root, waits) = self.strands(world, &trail, &mut polled, &dropped, Some(&probe));
            root.holds = self.holds(world, &trail, &dropped, &polled, &root);
            closing::name(&self.closing, &self.dropping(&trail, fs_base), vtable, header, &dropped, &mut root);
            let sockets = polled.hits.iter().filter(|hit| hit.leaf == Some(Leaf::Io)).count();
            // Which descriptor it is may be known later.
            timeless = memory.pid().is_none() || waits.descriptors.len() == sockets;
            let is_set = |hit: &&Hit| matches!(hit.leaf, Some(Leaf::JoinSet | Leaf::JoinSetList));
            let mut sets = polled.hits.iter().filter(is_set);
            if let (Some(set), None) = (sets.next(), sets.next())
                && let Some(joined) = waits::joined(set, &dropped.aborted, &trail, &self.vtables)
            {
                strands::spread(&mut root, set.this, &joined);
            }
            self.learn_name(world, header.vtable, &dropped);
            let unseen = overlooked(&polled, header, vtable);
            awaits_known = polled.incomplete.is_none() && unseen.is_none();
            let unread = polled.incomplete.or(dropped.incomplete.take());
            incomplete = unread.or(unseen).or_else(|| nameless(vtable));
            // All its permits have been assigned and the wake has not arrived yet.
            if state == TaskState::Suspended && waits.missing.iter().any(|missing| missing.permits == 0) {
                state = TaskState::Scheduled;
            }
        }
        let settled = settled(memory, &cell);
        let imprint = incomplete.as_ref().and_then(|_| imprint::of_cell(memory, &cell));
        let told = Told::of(dropped, waits, waiters);
        let task = Task {
            party,
            address: header.address,
            runtime: 0,
            // Its name waits until all types are known.
            name: Arc::default(),
            state,
            status: None,
            origin: None,
            labels: None,
            since: None,
            root,
            imprint,
            incomplete: incomplete.map(Into::into),
            awaits_known,
            unstable: settled.is_none(),
            thread: None,
        };
        let read = ReadTask::new(task, told);
        let whole = timeless && read.task.state == TaskState::Suspended && read.task.incomplete.is_none();
        let basis = settled.filter(|_| whole).map(|digest| Basis { trail, cell, digest });
        Some((read, basis))
    }
}

/// The waiters that a poll has shown.
fn waiters_of(polled: &Polled) -> Vec<Waiter> {
    polled.hits.iter().filter_map(waits::waiter).collect()
}

/// What a leaf that no table knows is called: its type, or the innermost function that is left of it.
fn leaf_name(world: &World<'_>, hit: &Hit, functions: &[Arc<str>]) -> String {
    let symbol = world.module_at(hit.function).and_then(|module| module.symbol_at(hit.function));
    let function = symbol.map(|symbol| name::function(symbol.name));
    let by_symbol = function.as_deref().and_then(strands::polled_type);
    let by_frames = strands::innermost(functions);
    let named = if hit.looked { by_frames.or(by_symbol) } else { by_symbol.or(by_frames) };
    named.unwrap_or(UNNAMED).to_owned()
}

/// Why there may be waits that were not seen.
fn overlooked(polled: &Polled, header: &Header, vtable: &TaskVtable) -> Option<String> {
    // Where nothing has a name, each wait has a waker registered somewhere all the same, and these are counted.
    let (wakers, waits) = (header.state.wakers(), polled.hits.len() as u64);
    let fewer = vtable.by_shape && wakers > waits;
    let fewer = fewer
        .then(|| format!("what else it waits for: {wakers} wakers of it may be registered, {waits} waits are known"));
    unwatched(polled).or(fewer)
}

/// Beside a leaf that is known there may be one that only a look at the waker would have told.
fn unwatched(polled: &Polled) -> Option<String> {
    let beside = !polled.watched && polled.hits.iter().any(|hit| hit.leaf.is_some());
    beside.then(|| "what else it waits for: the waker that it is polled with was not found".to_owned())
}

/// Why a task of a stripped binary is not understood: most of what its destructor gives back has no name.
fn nameless(vtable: &TaskVtable) -> Option<String> {
    vtable.by_shape.then(|| "what else it holds: its program has no symbols".to_owned())
}

/// The digest of the checked part of a cell, if that is now as the view has it, so that what was read of it held at one moment.
fn settled(memory: &AddressSpace, cell: &Range<u64>) -> Option<u64> {
    let length = (cell.end - cell.start) as usize;
    let (mut then, mut now) = (vec![0; length], vec![0; length]);
    let read = memory.read(cell.start, &mut then).is_ok() && memory.read_now(cell.start, &mut now).is_ok();
    (read && then == now).then(|| imprint::digest(&then))
}

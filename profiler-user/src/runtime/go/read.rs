//! One read of all goroutines of a process.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    allgs, buildinfo,
    code::{self, Code},
    goroutine::{Goroutine, Status},
    holders::{self, Unlocks},
    layout::Layout,
    moduledata::ModuleData,
    pointers,
    queue::Queues,
    reach::{self, Subject},
    spans,
    stack::{self, Stack},
    threads,
    waits::{self, Waiting},
};
use crate::{
    debuginfo::Module,
    model::{
        Coverage, Frame, Origin, PartyId, QueueEntry, Resource, ResourceKey, ResourceKind, Runtime as RuntimeInstance,
        RuntimeKind, Since, SinceSource, Snapshot, Strand, Task, TaskState,
    },
    runtime::{Runtime, ThreadContext, World},
    target::{AddressSpace, Memory, ThreadFacts},
};

/// The id of the main goroutine.
const MAIN: u64 = 1;
/// Modules in one program: more than one only with plugins.
const MOST_MODULES: usize = 64;

/// What is known of the program's code and of where its runtime keeps things.
struct Known {
    layout: Layout,
    code: Code,
    /// Address of the list of goroutines.
    allgs: u64,
    unlocks: Unlocks,
    /// Address of the list of the heap's spans, where it was found.
    allspans: Option<u64>,
}

/// Go's runtime, as it was found in a process.
pub struct Go {
    version: String,
    /// Or one sentence that says why nothing can be read.
    known: Result<Known, String>,
    /// The goroutines that were parked when they were read last, by id.
    parked: FxHashMap<u64, Goroutine>,
}

/// A goroutine with its stack.
pub(super) struct ReadGoroutine {
    pub(super) goroutine: Goroutine,
    pub(super) stack: Stack,
    /// The thread that runs it.
    pub(super) thread: Option<i32>,
}

impl Go {
    /// Looks for a Go program among `modules`.
    pub fn find(modules: &[Module], memory: &dyn Memory) -> Option<Self> {
        let (module, version) = modules.iter().find_map(|module| Some((module, buildinfo::version(module)?)))?;
        let known = learn(module, memory, &version);
        Some(Self { version, known, parked: FxHashMap::default() })
    }
}

fn learn(module: &Module, memory: &dyn Memory, version: &str) -> Result<Known, String> {
    let layout = Layout::of(module, memory, version)?;
    let first = ModuleData::find(module, memory, &layout)?;
    let allgs = allgs::find(module, memory, &layout, &first).ok_or("its list of goroutines (allgs) was not found")?;
    let allspans = spans::find(module, memory, &layout, &first);
    let mut modules = vec![first];
    while let Some(next) = modules.last().map(|module| module.next).filter(|next| *next != 0) {
        if modules.len() >= MOST_MODULES {
            break;
        }
        match ModuleData::read(memory, &layout, next) {
            Ok(module) => modules.push(module),
            Err(error) => return Err(format!("a plugin's moduledata cannot be read: {error}")),
        }
    }
    Ok(Known { layout, code: Code::new(modules), allgs, unlocks: Unlocks::default(), allspans })
}

impl Runtime for Go {
    fn read(&mut self, world: &World<'_>, snapshot: &mut Snapshot) {
        let index = snapshot.runtimes.len();
        let known = match &mut self.known {
            Ok(known) => known,
            Err(why) => {
                snapshot.missing.push(format!("goroutines: {why}"));
                return;
            }
        };
        let Some(addresses) = allgs::read(world.memory, known.allgs) else {
            snapshot.missing.push("goroutines: the list of all of them cannot be read".into());
            return;
        };
        let mut queues = Queues::default();
        let (mut tasks, mut subjects, mut waitings) = (Vec::new(), Vec::new(), Vec::new());
        let mut deferred = Vec::new();
        for address in addresses {
            let Some(read) = known.read(world, address) else { continue };
            let waiting = known.waiting(world.memory, &read, &mut queues);
            if !known.is_system(&read.goroutine) {
                let unlocks = holders::of(
                    (&mut known.code, &mut known.unlocks),
                    world.memory,
                    &known.layout,
                    &read.goroutine,
                    &read.stack,
                );
                deferred.extend(unlocks.into_iter().map(|unlock| (tasks.len(), unlock)));
                tasks.push(Task { runtime: index, ..known.task(world.memory, &read, &waiting) });
            }
            let stood = self.parked.get(&read.goroutine.id).is_some_and(|before| before.stands_as(&read.goroutine));
            subjects.push(known.subject(world.memory, read, &waiting, stood));
            waitings.push(waiting);
        }
        let parked = subjects.iter().filter(|subject| subject.goroutine.status.is_parked());
        self.parked = parked.map(|subject| (subject.goroutine.id, subject.goroutine.clone())).collect();
        let awaited: FxHashSet<ResourceKey> =
            waitings.iter().flat_map(|waiting| &waiting.waits).map(|wait| wait.resource.clone()).collect();
        for (place, unlock) in deferred {
            let root = &mut tasks[place].root;
            let own = root.wait.as_ref().map(|wait| &wait.resource);
            if let Some(hold) = unlock.hold(&awaited, own).filter(|hold| !root.holds.contains(hold)) {
                root.holds.push(hold);
            }
        }
        count(&tasks, &mut snapshot.coverage);
        let ids: FxHashMap<u64, PartyId> = tasks.iter().map(|task| (task.address, task.party)).collect();
        snapshot.resources.extend(channels(&queues, &ids));
        match known.dead(world.memory, &subjects) {
            Ok(dead) => close(&mut snapshot.resources, &dead, &subjects, &waitings, &ids),
            Err(why) => snapshot.missing.push(format!("which goroutines can never run again: {why}")),
        }
        snapshot.runtimes.push(RuntimeInstance {
            address: known.allgs,
            kind: RuntimeKind::Go,
            version: Some(self.version.clone()),
            workers: Vec::new(),
        });
        snapshot.threads.extend(threads::describe(world, &tasks));
        snapshot.tasks.extend(tasks);
    }

    fn describe(&self) -> String {
        format!("go {}", self.version)
    }

    fn thread_context(&self) -> Option<ThreadContext> {
        None
    }

    fn polled_type(&self, _modules: &[Module], _addresses: &[u64]) -> Option<Arc<str>> {
        None
    }

    fn inside_poll(&self, _frames: &[Frame]) -> Option<usize> {
        None
    }

    fn wait_functions(&self) -> Vec<u64> {
        Vec::new()
    }
}

impl Known {
    fn read(&mut self, world: &World<'_>, address: u64) -> Option<ReadGoroutine> {
        let memory = world.memory;
        let goroutine = Goroutine::read(memory, &self.layout, address)?;
        let thread = threads::of(world, &self.layout, &goroutine);
        let at = match goroutine.status {
            Status::Running => {
                // What it was at when it ran last is past; where its thread is blocked, the kernel knows.
                thread.and_then(ThreadFacts::stack).map(|(sp, pc)| (sp, pc, true))
            }
            Status::CopyStack => None,
            _ => Some((goroutine.sp, goroutine.pc, false)),
        };
        let stack = at.map(|at| stack::unwind(&mut self.code, memory, &goroutine, at)).unwrap_or_default();
        Some(ReadGoroutine { goroutine, stack, thread: thread.map(|facts| facts.tid) })
    }

    /// Whether it is one of the runtime's own (runtime/traceback.go, `isSystemGoroutine`).
    fn is_system(&mut self, goroutine: &Goroutine) -> bool {
        const NOT: [&str; 3] = ["runtime.main", "runtime.corostart", "runtime.handleAsyncEvent"];
        let start = self.code.name(goroutine.start_pc);
        start.is_some_and(|name| name.starts_with("runtime.") && !NOT.contains(&&*name))
    }

    /// The name of its wait reason; that of its status where it does not wait.
    fn status(&self, goroutine: &Goroutine) -> &str {
        let reason = self.layout.reasons.get(usize::from(goroutine.reason));
        let reason = reason.filter(|reason| goroutine.status.is_parked() && !reason.is_empty());
        reason.map_or(goroutine.status.word(), String::as_str)
    }

    fn waiting(&self, memory: &AddressSpace, read: &ReadGoroutine, queues: &mut Queues) -> Waiting {
        if !read.goroutine.status.is_parked() {
            return Waiting::default();
        }
        let reason = self.status(&read.goroutine);
        waits::read(memory, &self.layout, queues, &read.goroutine, &read.stack, reason)
    }

    /// What the marking needs of a goroutine; `stood` says that it was in the same park when it was read last.
    fn subject(&self, memory: &AddressSpace, read: ReadGoroutine, waiting: &Waiting, stood: bool) -> Subject {
        let ReadGoroutine { goroutine, stack, .. } = read;
        let parked = goroutine.status.is_parked() && stack.complete;
        Subject {
            pointers: if parked { pointers::of(&self.code, memory, &stack) } else { Vec::new() },
            sudogs: waiting.places.iter().map(|place| place.sudog).collect(),
            waits_for: waiting.targets.clone().filter(|_| stood && parked),
            followed: stack.complete,
            goroutine,
        }
    }

    /// Who can never run again.
    fn dead(&mut self, memory: &AddressSpace, subjects: &[Subject]) -> Result<reach::Dead, String> {
        let allspans = self.allspans.ok_or("the list of the heap's spans was not found")?;
        let places = reach::Places { layout: &self.layout, allgs: self.allgs, allspans };
        let first = reach::find(memory, &mut self.code, places, subjects)?;
        if first.all.is_empty() {
            return Ok(first);
        }
        // Once more from the beginning: what only a torn read showed, two do not show alike.
        let before: FxHashSet<usize> = first.all.into_iter().collect();
        let mut again = reach::find(memory, &mut self.code, places, subjects)?;
        again.all.retain(|index| before.contains(index));
        Ok(again)
    }

    fn task(&mut self, memory: &AddressSpace, read: &ReadGoroutine, waiting: &Waiting) -> Task {
        let ReadGoroutine { goroutine, stack, thread } = read;
        let calls = stack.frames.iter().flat_map(|frame| &frame.site.calls);
        let mut frames: Vec<Frame> = calls.filter(|call| call.shown).map(|call| call.frame.clone()).collect();
        frames.reverse();
        let first = frames.first().map(|frame| Arc::clone(&frame.function));
        let name = match self.code.name(goroutine.start_pc) {
            // The main goroutine begins in the runtime, and a call with arguments in a wrapper.
            Some(start) if !start.starts_with("runtime.") && !start.contains(".gowrap") => start,
            start => first.or(start).unwrap_or_else(|| "(function not known)".into()),
        };
        let mut root = Strand::new(frames);
        waiting.place(&mut root);
        let at_rest = !matches!(goroutine.status, Status::Running | Status::CopyStack);
        let unstable = at_rest && !self.stands(memory, goroutine);
        let incomplete = match goroutine.status {
            Status::Running | Status::CopyStack if !stack.complete => {
                Some("it runs: its stack is in its thread's registers")
            }
            _ if !stack.complete => Some("its stack could not be followed to its root"),
            _ => None,
        };
        Task {
            party: PartyId::Task { runtime: self.allgs, id: goroutine.id },
            address: goroutine.address,
            runtime: 0,
            name,
            state: state(goroutine.status),
            status: Some(self.status(goroutine).into()),
            since: since(goroutine),
            origin: self.origin(goroutine),
            root,
            awaits_known: incomplete.is_none(),
            imprint: None,
            incomplete: incomplete.map(Into::into),
            unstable,
            thread: *thread,
        }
    }

    /// Whether it still stands as it did when it was read: only then the stack is its stack of that moment.
    fn stands(&self, memory: &AddressSpace, goroutine: &Goroutine) -> bool {
        let mut bytes = vec![0; self.layout.g_size as usize];
        memory.read_now(goroutine.address, &mut bytes).is_ok()
            && Goroutine::parse(&bytes, &self.layout, goroutine.address).is_some_and(|now| now.stands_as(goroutine))
    }

    fn origin(&mut self, goroutine: &Goroutine) -> Option<Origin> {
        // The runtime itself starts the main goroutine.
        let site = self.code.caller(goroutine.creator_pc).filter(|site| code::is_shown(&site.function))?;
        let party = PartyId::Task { runtime: self.allgs, id: goroutine.creator };
        Some(Origin { party: (goroutine.creator != 0).then_some(party), site: Some(site) })
    }
}

fn state(status: Status) -> TaskState {
    match status {
        Status::Running | Status::CopyStack => TaskState::Running,
        Status::Runnable | Status::Preempted => TaskState::Scheduled,
        Status::Syscall => TaskState::Blocked,
        Status::Waiting | Status::Leaked => TaskState::Suspended,
    }
}

/// By the runtime's own note, which a collection makes.
fn since(goroutine: &Goroutine) -> Option<Since> {
    let noted = matches!(goroutine.status, Status::Waiting | Status::Syscall) && goroutine.since != 0;
    let waited = waits::now_ns()?.checked_sub(i64::try_from(goroutine.since).ok()?)?;
    let at_least_s = waited as f64 / 1e9;
    (noted && waited >= 0).then_some(Since { at_least_s, source: SinceSource::Runtime })
}

/// The channels that goroutines wait at, with their queues. A channel at which some receive and others send is full and
/// empty at once only while it is being read.
fn channels(queues: &Queues, parties: &FxHashMap<u64, PartyId>) -> Vec<Resource> {
    let entry = |goroutine: &u64| QueueEntry { party: parties.get(goroutine).copied(), wants: None };
    let resource = |(address, [receivers, senders]): (&u64, &[Vec<u64>; 2])| Resource {
        queue: receivers.iter().chain(senders).map(entry).collect(),
        queue_known: receivers.is_empty() || senders.is_empty(),
        ..Resource::new(ResourceKey { kind: ResourceKind::GoChan, address: *address })
    };
    queues.waiters.iter().map(resource).collect()
}

/// Says of everything that the dead wait for who can reach it.
fn close(
    resources: &mut Vec<Resource>,
    dead: &reach::Dead,
    subjects: &[Subject],
    waitings: &[Waiting],
    parties: &FxHashMap<u64, PartyId>,
) {
    let mut places: FxHashMap<ResourceKey, usize> =
        resources.iter().enumerate().map(|(place, resource)| (resource.key.clone(), place)).collect();
    // The main goroutine in a select without cases only keeps the program alive: no trouble, and it will never act.
    let keeps_alive =
        |subject: &Subject| subject.goroutine.id == MAIN && subject.waits_for.as_ref().is_some_and(Vec::is_empty);
    for index in &dead.all {
        let subject = &subjects[*index];
        if keeps_alive(subject) {
            continue;
        }
        let targets = subject.waits_for.iter().flatten().map(Some).chain(std::iter::repeat(None));
        for (wait, target) in waitings[*index].waits.iter().zip(targets) {
            let reachers = target.and_then(|target| dead.reached_by.get(target)).into_iter().flatten();
            let able = reachers.map(|place| &subjects[*place]).filter(|subject| !keeps_alive(subject));
            let mut known: Vec<PartyId> =
                able.filter_map(|subject| parties.get(&subject.goroutine.address).copied()).collect();
            known.sort_unstable();
            known.dedup();
            let place = *places.entry(wait.resource.clone()).or_insert_with(|| {
                resources.push(Resource::new(wait.resource.clone()));
                resources.len() - 1
            });
            resources[place].reachable_by = Some(known);
        }
    }
}

fn count(tasks: &[Task], coverage: &mut Coverage) {
    for task in tasks {
        coverage.seen += 1;
        if task.unstable {
            coverage.unstable += 1;
        } else if task.is_opaque() {
            coverage.unknown += 1;
        } else {
            coverage.decoded += 1;
        }
    }
}

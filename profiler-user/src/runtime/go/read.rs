//! One read of all goroutines of a process.

use std::{sync::Arc, time::Duration};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    abandoned, allgs, buildinfo,
    code::Code,
    describe,
    goroutine::{Goroutine, Park, Status},
    holders::{self, Deferred, Unlocks},
    labels,
    layout::{self, Layout},
    moduledata::ModuleData,
    pointers, pools,
    queue::Queues,
    queued::{self, Queued, Waiter},
    reach::{self, Subject, Subjects},
    spans,
    stack::{self, Stack},
    stands::Stands,
    threads,
    waits::{self, Waiting},
};
use crate::{
    debuginfo::Module,
    model::{Frame, PartyId, Resource, ResourceKey, Runtime as RuntimeInstance, RuntimeKind, Snapshot, Task},
    runtime::{Runtime, ThreadContext, World},
    target::{AddressSpace, Memory, ThreadFacts},
};

/// What two looks may be nearer to one another than was asked for.
const MARGIN: Duration = Duration::from_millis(50);
/// Goroutines for which there is room from the beginning, at most.
const MOST_RESERVED: usize = 1 << 22;
/// Goroutines that are read together.
const TOGETHER: usize = 4096;
/// Modules in one program: more than one only with plugins.
const MOST_MODULES: usize = 64;

/// What is known of the program's code and of where its runtime keeps things.
pub(super) struct Known {
    pub(super) layout: Layout,
    pub(super) code: Code,
    /// Address of the list of goroutines.
    pub(super) allgs: u64,
    /// The minor version; one that is not known is taken for the newest.
    minor: u32,
    unlocks: Unlocks,
    /// Address of the list of the heap's spans, where it was found.
    allspans: Option<u64>,
    /// The words for what goroutines do, by status and number of the wait reason.
    pub(super) words: FxHashMap<(Status, u8), Arc<str>>,
    pub(super) stands: Stands,
}

/// Go's runtime, as it was found in a process.
pub struct Go {
    version: String,
    /// Or one sentence that says why nothing can be read.
    known: Result<Known, String>,
    /// In which park each goroutine was when it was read last, by its number in the list of all.
    parked: Vec<Option<Park>>,
    queued: Queued,
}

/// All that one read gives.
#[derive(Default)]
struct Reading {
    tasks: Vec<Task>,
    subjects: Subjects,
    queues: Queues,
    /// Deferred unlocks, with the task's place.
    deferred: Vec<(usize, Deferred)>,
    labels: labels::Known,
    /// Those who wait for a lock.
    at_locks: Vec<Waiter>,
    /// Those who wait for a connection of a pool.
    at_pools: Vec<pools::Waiter>,
}

impl Go {
    /// Looks for a Go program among `modules`.
    pub fn find(modules: &[Module], memory: &dyn Memory) -> Option<Self> {
        let (module, version) = modules.iter().find_map(|module| Some((module, buildinfo::version(module)?)))?;
        let known = learn(module, memory, &version);
        Some(Self { version, known, parked: Vec::new(), queued: Queued::default() })
    }
}

fn learn(module: &Module, memory: &dyn Memory, version: &str) -> Result<Known, String> {
    let layout = Layout::of(module, memory, version)?;
    let first = ModuleData::find(module, memory, &layout)?;
    let allgs = allgs::find(module, memory, &layout, &first).ok_or("its list of goroutines (allgs) was not found")?;
    let allspans = spans::by_symbol(module, &layout).or_else(|| spans::by_shape(memory, &layout, &first));
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
    Ok(Known {
        layout,
        code: Code::new(modules),
        allgs,
        minor: layout::minor(version).unwrap_or(u32::MAX),
        unlocks: Unlocks::default(),
        allspans,
        words: FxHashMap::default(),
        stands: Stands::default(),
    })
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
        let Reading { mut tasks, subjects, queues, deferred, at_locks, at_pools, .. } =
            known.read(world, &addresses, &self.parked);
        for task in &mut tasks {
            task.runtime = index;
        }
        self.parked = vec![None; addresses.len()];
        for subject in subjects.all.iter().filter(|subject| subject.goroutine.status.is_parked()) {
            self.parked[subject.place] = Some(subject.goroutine.park());
        }
        let awaited: FxHashSet<ResourceKey> = if deferred.is_empty() {
            FxHashSet::default()
        } else {
            tasks.iter().flat_map(|task| task.root.waits()).map(|wait| wait.resource.clone()).collect()
        };
        for (place, unlock) in &deferred {
            let root = &mut tasks[*place].root;
            let own = root.wait.as_ref().map(|wait| &wait.resource);
            if let Some(hold) = unlock.hold(&awaited, own).filter(|hold| !root.holds.contains(hold)) {
                root.holds.push(hold);
            }
        }
        let place = (&known.code, world.memory as &dyn Memory);
        let held = self.queued.observe(snapshot.taken_at, place, &at_locks, &deferred, &mut tasks);
        describe::count(&tasks, &mut snapshot.coverage);
        let ids: FxHashMap<u64, PartyId> = tasks.iter().map(|task| (task.address, task.party)).collect();
        snapshot.resources.extend(describe::channels(&queues, &ids));
        match known.dead(world, &subjects) {
            Ok(dead) => {
                describe::close(&mut snapshot.resources, &dead, (&subjects.all, &tasks), &ids);
                let place = (&known.code, world.memory as &dyn Memory);
                let critical = &mut self.queued.critical;
                let left = abandoned::find(place, critical, (&dead, &subjects.all), &at_locks, &deferred);
                describe::abandon(&mut snapshot.resources, &left);
                match known.pools(world, (&subjects, &dead), &at_pools, &mut tasks) {
                    Ok(pools) => snapshot.resources.extend(pools),
                    Err(why) => snapshot.missing.push(format!("who has the connections of a sql.DB: {why}")),
                }
            }
            Err(why) => snapshot.missing.push(format!("which goroutines can never run again: {why}")),
        }
        describe::hold(&mut snapshot.resources, held);
        snapshot.runtimes.push(RuntimeInstance {
            address: known.allgs,
            kind: RuntimeKind::Go,
            version: Some(self.version.clone()),
            workers: Vec::new(),
        });
        snapshot.threads.extend(threads::describe(world, &tasks));
        if snapshot.tasks.is_empty() {
            // To move a million of them takes longer than to read some.
            snapshot.tasks = tasks;
        } else {
            snapshot.tasks.extend(tasks);
        }
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

    fn unwind(&self, ip: u64, sp: u64, read: &mut dyn FnMut(u64) -> Option<u64>) -> Option<(Vec<u64>, bool)> {
        let code = &self.known.as_ref().ok()?.code;
        let (addresses, complete) = code.addresses((ip, sp), read);
        (!addresses.is_empty()).then_some((addresses, complete))
    }

    fn functions_at(&mut self, memory: &dyn Memory, address: u64) -> Option<Vec<Frame>> {
        let site = self.known.as_mut().ok()?.code.site(memory, address, true)?;
        Some(site.calls.iter().rev().map(|call| call.frame.clone()).collect())
    }

    fn apart(&self) -> Duration {
        queued::STILL + MARGIN
    }

    fn polls(&self) -> bool {
        // A thread that blocks in a system call hands its goroutines to another.
        false
    }

    fn wait_functions(&self) -> Vec<u64> {
        Vec::new()
    }
}

impl Known {
    /// Reads the goroutines whose records are at `addresses`, some thousand at a time; `parked` says in which park each was
    /// when it was read last.
    fn read(&mut self, world: &World<'_>, addresses: &[u64], parked: &[Option<Park>]) -> Reading {
        let mut reading = Reading::default();
        reading.tasks.reserve(addresses.len().min(MOST_RESERVED));
        reading.subjects.all.reserve(addresses.len().min(MOST_RESERVED));
        for (number, some) in addresses.chunks(TOGETHER).enumerate() {
            self.read_some(world, some, number * TOGETHER, parked, &mut reading);
        }
        reading
    }

    /// The goroutines that are in the list of all from number `first` on.
    fn read_some(
        &mut self,
        world: &World<'_>,
        addresses: &[u64],
        first: usize,
        parked: &[Option<Park>],
        reading: &mut Reading,
    ) {
        let memory = world.memory;
        let (mut goroutines, mut stacks) = (Vec::new(), Vec::new());
        let records = |addresses: &[u64], size: u64| -> Vec<_> {
            addresses.iter().map(|address| *address..address.saturating_add(size)).collect()
        };
        memory.scattered(&records(addresses, self.layout.g_size), |place, record| {
            let goroutine = record.and_then(|record| Goroutine::parse(record, &self.layout, addresses[place]));
            let Some((goroutine, record)) = goroutine.zip(record) else { return };
            let thread = threads::of(world, &self.layout, &goroutine);
            let at = match goroutine.status {
                // What it was at when it ran last is past; where its thread is blocked, the kernel knows.
                Status::Running => thread.and_then(ThreadFacts::stack).map(|(sp, pc)| (sp, pc, true)),
                Status::CopyStack => None,
                _ => Some((goroutine.sp, goroutine.pc, false)),
            };
            stacks.push(at.map_or(0..0, |at| stack::piece(&goroutine, at)));
            let from = reading.subjects.pointers.len();
            pointers::of_record(memory, &self.layout, record, &mut reading.subjects.pointers);
            goroutines.push((
                first + place,
                goroutine,
                at,
                thread.map(|facts| facts.tid),
                from..reading.subjects.pointers.len(),
            ));
        });
        let mut tasks = Vec::new();
        memory.scattered(&stacks, |place, bytes| {
            let (place, goroutine, at, thread, record) = &goroutines[place];
            let stack = at.map(|at| stack::unwind(&mut self.code, memory, at, bytes.unwrap_or_default()));
            let stack = stack.unwrap_or_default();
            let mut waiting = self.waiting(memory, goroutine, &stack, &mut reading.queues);
            let mut own = None;
            let start = self.code.start(goroutine.start_pc);
            if !start.as_ref().is_some_and(|start| start.system) {
                let unlocks = holders::of((&mut self.code, &mut self.unlocks), memory, &self.layout, goroutine, &stack);
                let task = reading.tasks.len();
                reading.deferred.extend(unlocks.into_iter().map(|unlock| (task, unlock)));
                let mut described = self.task(goroutine, &stack, *thread, start, &mut waiting);
                described.labels = reading.labels.at(memory, self.minor, goroutine.labels);
                queued::keep(&mut reading.at_locks, (task, &described), (*place, || goroutine.park()), &stack);
                pools::keep(&mut reading.at_pools, task, reading.subjects.all.len(), &waiting, &stack);
                reading.tasks.push(described);
                tasks.push((task, reading.subjects.all.len()));
                own = Some(task);
            }
            let pointers = &mut reading.subjects.pointers;
            let from = pointers.len();
            pointers.extend_from_within(record.clone());
            if goroutine.status.is_parked() && stack.complete {
                pointers::of(&stack, pointers);
            }
            let before = parked.get(*place).and_then(Option::as_ref);
            reading.subjects.all.push(Subject {
                place: *place,
                task: own,
                pointers: from..pointers.len(),
                waiting,
                stood: before.is_some_and(|park| *park == goroutine.park()),
                followed: stack.complete,
                goroutine: goroutine.clone(),
            });
        });
        // Only what still stands as it did had that stack at that moment.
        let addresses: Vec<u64> =
            tasks.iter().map(|(_, subject)| reading.subjects.all[*subject].goroutine.address).collect();
        memory.scattered(&records(&addresses, self.layout.g_size), |place, record| {
            let (task, subject) = tasks[place];
            let goroutine = &reading.subjects.all[subject].goroutine;
            let now = record.and_then(|record| Goroutine::parse(record, &self.layout, goroutine.address));
            let at_rest = !matches!(goroutine.status, Status::Running | Status::CopyStack);
            reading.tasks[task].unstable = at_rest && !now.is_some_and(|now| now.stands_as(goroutine));
        });
    }

    fn waiting(&self, memory: &AddressSpace, goroutine: &Goroutine, stack: &Stack<'_>, queues: &mut Queues) -> Waiting {
        if !goroutine.status.is_parked() {
            return Waiting::default();
        }
        waits::read(memory, &self.layout, queues, goroutine, stack, self.status(goroutine))
    }

    /// Who waits for pools of connections, and who has those: noted at the tasks.
    fn pools(
        &mut self,
        world: &World<'_>,
        (subjects, dead): (&Subjects, &reach::Dead),
        waiters: &[pools::Waiter],
        tasks: &mut [Task],
    ) -> Result<Vec<Resource>, String> {
        let Some(allspans) = self.allspans else { return Ok(Vec::new()) };
        let places = reach::Places { layout: &self.layout, allgs: self.allgs, allspans, reads: world.reads };
        pools::observe(pools::Look { memory: world.memory, places, subjects, dead }, &mut self.code, waiters, tasks)
    }

    /// Who can never run again.
    fn dead(&mut self, world: &World<'_>, subjects: &Subjects) -> Result<reach::Dead, String> {
        if self.allspans.is_none() {
            // It was being added to when it was looked for.
            let data = self.code.modules.first();
            self.allspans = data.and_then(|data| spans::by_shape(world.memory, &self.layout, data));
        }
        let allspans = self.allspans.ok_or("the list of the heap's spans was not found")?;
        let places = reach::Places { layout: &self.layout, allgs: self.allgs, allspans, reads: world.reads };
        reach::find(world.memory, &mut self.code, places, subjects)
    }
}

//! One read of all goroutines of a process.

use std::{sync::Arc, time::Duration};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    abandoned, allgs, buildinfo,
    code::Code,
    describe,
    goroutine::{Park, Status},
    goroutines::Reading,
    holders::Unlocks,
    layout::{self, Layout},
    moduledata::ModuleData,
    pools,
    queued::{self, Queued},
    reach::{self, Subjects},
    spans,
    stands::Stands,
    threads,
};
use crate::{
    debuginfo::Module,
    model::{Frame, PartyId, Resource, ResourceKey, Runtime as RuntimeInstance, RuntimeKind, Snapshot, Task},
    runtime::{Runtime, ThreadContext, World},
    target::Memory,
};

/// What two looks may be nearer to one another than was asked for.
const MARGIN: Duration = Duration::from_millis(50);
/// Modules in one program: more than one only with plugins.
const MOST_MODULES: usize = 64;

/// What is known of the program's code and of where its runtime keeps things.
pub(super) struct Known {
    pub(super) layout: Layout,
    pub(super) code: Code,
    /// Address of the list of goroutines.
    pub(super) allgs: u64,
    /// The minor version; one that is not known is taken for the newest.
    pub(super) minor: u32,
    pub(super) unlocks: Unlocks,
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

/// Adds `more` to `some`: where there are none yet without a move of each, of which there may be a million.
fn add<T>(some: &mut Vec<T>, more: Vec<T>) {
    if some.is_empty() {
        *some = more;
    } else {
        some.extend(more);
    }
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
        let Reading { mut tasks, subjects, queues, parked, deferred, at_locks, at_pools, .. } =
            known.read(world, index, &addresses, &self.parked);
        self.parked = parked;
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
        let dead = known.dead(world, &subjects);
        // Of those who wait alone the party is known.
        let asked = !queues.shared.is_empty() || dead.as_ref().is_ok_and(|dead| !dead.all.is_empty());
        let named = tasks.iter().filter(|_| asked).map(|task| (task.address, task.party));
        let ids: FxHashMap<u64, PartyId> = named.collect();
        add(&mut snapshot.resources, describe::channels(&queues, &ids));
        match dead {
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
        add(&mut snapshot.tasks, tasks);
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

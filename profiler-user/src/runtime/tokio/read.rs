//! One read of all that tokio has in a process.

use std::{cell::RefCell, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    blocked::BlockedThreads,
    channels, closing,
    code::Code,
    context, doubt,
    heap::{self, Header},
    holds::Dropped,
    imprint,
    kept::Kept,
    kinds,
    moment::Moment,
    names, pool, reach,
    reading::Batch,
    resources, roots,
    supposed::{self, Refuted},
    task::ReadTask,
    threads::{self, Described},
    vtables::{self, TaskVtable},
    within,
};
use crate::{
    debuginfo::{Module, RegisterUnwinder},
    locks::Contended,
    model::{
        Coverage, Frame, PartyId, ResourceKey, ResourceKind, Runtime as RuntimeInstance, RuntimeKind, Snapshot,
        TaskState, ThreadActivity, ThreadRole,
    },
    runtime::{Runtime, ThreadContext, World},
    target::{self, Memory, ThreadFacts, thread_pointer},
};

/// What a stripped program costs.
const NAMELESS: &str = "symbols: the program is stripped, so types, functions and most of what tasks wait for and hold are \
                        not known; its unstripped file or its debuginfo tells them (--debug-file, --symbol-path)";

/// What it costs when no thread's stack shows the runtime.
const ROLELESS: &str = "which threads are workers, and what block_on runs: the functions that would tell were inlined, and \
                        no line table tells of them";

/// Stands for a type that the binary does not name.
pub(super) const UNNAMED: &str = "(type not known)";

/// Tokio, as it was found in a process' code.
pub struct Tokio {
    pub(super) vtables: FxHashMap<u64, TaskVtable>,
    pub(super) deallocs: FxHashSet<u64>,
    pub(super) names: FxHashMap<u64, Arc<str>>,
    /// Vtables whose poll functions have been asked for the type's name.
    pub(super) asked: FxHashSet<u64>,
    /// By address of the runtime instance.
    pub(super) kinds: FxHashMap<u64, RuntimeKind>,
    pub(super) version: Option<String>,
    pub(super) code: Code,
    pub(super) unwinder: Arc<RegisterUnwinder>,
    /// Locks that threads waited for when the present read began.
    pub(super) contended: Arc<Contended>,
    /// Vtables whose code has been learned from.
    pub(super) learned: FxHashSet<u64>,
    /// Vtable that a function on the way from the worker's loop to the future belongs to; `None` where several share it.
    pub(super) poll_code: FxHashMap<u64, Option<u64>>,
    /// Vtable that a function of a destructor, by which its type was named, belongs to; `None` where several share it.
    pub(super) drop_code: FxHashMap<u64, Option<u64>>,
    /// Answers of [`Runtime::polled_type`] by function: samples ask for the same ones again and again.
    pub(super) poll_names: RefCell<FxHashMap<u64, Option<Arc<str>>>>,
    pub(super) thread_roles: threads::KnownRoles,
    /// What was supposed and was not so.
    pub(super) refuted: Refuted,
    pub(super) tls_offset: Option<i64>,
    pub(super) context: Option<ThreadContext>,
    /// Offset from a thread pointer to the id of the task that its thread polls.
    pub(super) current_task: Option<i64>,
    /// Which lock the acquire that is polled from a place of the code belongs to; `None` where none.
    pub(super) locks: RefCell<FxHashMap<u64, Option<ResourceKind>>>,
    /// Whether the children that are polled from a place of the code are those of a `join!`.
    pub(super) joins: RefCell<FxHashMap<u64, bool>>,
    /// The channels whose ends destructors give back.
    pub(super) closing: closing::Known,
    /// What notifications and semaphores are part of.
    pub(super) within: within::Known,
    pub(super) moment: Moment,
    pub(super) workers: imprint::Workers,
    pub(super) kept: Kept,
}

impl Tokio {
    /// Looks for tokio in `modules`; `None` where no task vtable is found.
    pub fn find(modules: &[Module], memory: &dyn Memory) -> Option<Self> {
        let mut vtables = FxHashMap::default();
        let mut version = None;
        for module in modules {
            let found = vtables::find(module, memory);
            if found.is_empty() {
                continue;
            }
            version = version.or_else(|| super::version::of(module));
            vtables.extend(found);
        }
        if vtables.is_empty() {
            return None;
        }
        let mut poll_code: FxHashMap<u64, Option<u64>> = FxHashMap::default();
        for (address, vtable) in &vtables {
            poll_code.entry(vtable.poll).and_modify(|known| *known = None).or_insert(Some(*address));
        }
        let deallocs = vtables.values().map(|vtable| vtable.dealloc).collect();
        Some(Self {
            vtables,
            deallocs,
            names: FxHashMap::default(),
            asked: FxHashSet::default(),
            kinds: FxHashMap::default(),
            version,
            code: Code::learn(modules, memory),
            unwinder: Arc::new(RegisterUnwinder::new(modules)),
            contended: Arc::default(),
            tls_offset: modules.first().and_then(context::tls_offset),
            context: None,
            current_task: None,
            learned: FxHashSet::default(),
            poll_code,
            drop_code: FxHashMap::default(),
            poll_names: RefCell::default(),
            thread_roles: threads::KnownRoles::default(),
            refuted: Refuted::default(),
            locks: RefCell::default(),
            joins: RefCell::default(),
            closing: closing::Known::default(),
            within: within::Known::default(),
            moment: Moment::default(),
            workers: imprint::Workers::default(),
            kept: Kept::default(),
        })
    }

    /// Names the types of tasks that are there. A program has many more, and asking each of their polls reads most of its debuginfo.
    fn name_types(&mut self, modules: &[Module], headers: &[Header]) {
        for header in headers {
            if self.asked.insert(header.vtable)
                && let Some(name) = self.named_by_poll(modules, header.vtable)
            {
                self.names.insert(header.vtable, name);
            }
        }
    }

    /// The type that a vtable was made for, by what its poll function says.
    fn named_by_poll(&self, modules: &[Module], vtable: u64) -> Option<Arc<str>> {
        let poll = self.vtables.get(&vtable)?.poll;
        // A poll that several types share was made for one of them, and nothing says for which.
        let alone = self.poll_code.get(&poll) == Some(&Some(vtable));
        let module = modules.iter().find(|module| alone && module.contains(poll))?;
        names::of_poll(module, poll)
    }
}

impl Tokio {
    /// Gives tasks that are to be polled what tells later whether their runtime's workers have taken up any task since.
    fn mark_ready(&mut self, world: &World<'_>, tasks: &mut [ReadTask], headers: &[&Header]) {
        let seen: Vec<imprint::Seen<'_>> = tasks
            .iter()
            .zip(headers)
            .filter(|(read, _)| matches!(read.task.state, TaskState::Running | TaskState::Scheduled))
            .map(|(read, header)| (read.task.party, read.task.state, *header))
            .collect();
        let noted = self.workers.look(&self.code, world, &self.vtables, self.current_task, &seen);
        for read in tasks.iter_mut().filter(|read| read.task.state == TaskState::Scheduled) {
            if let PartyId::Task { runtime, .. } = read.task.party {
                read.task.imprint = noted.get(&runtime).copied().flatten();
            }
        }
    }
}

impl Runtime for Tokio {
    fn read(&mut self, world: &World<'_>, snapshot: &mut Snapshot) {
        self.moment = Moment::default();
        let headers = heap::scan(world.memory, &self.vtables);
        self.name_types(world.modules, &headers);
        let fs_base = any_thread_pointer(world);
        if self.vtables.values().any(|vtable| vtable.by_shape) {
            snapshot.missing.push(NAMELESS.into());
        }
        if fs_base.is_none() {
            snapshot.missing.push("thread-local storage was not found: polls that use it could not be followed".into());
        }
        let fs_base = fs_base.unwrap_or(0);
        let unwinder = Arc::clone(&self.unwinder);
        let blocked = BlockedThreads::read(world, &unwinder);
        self.contended = Arc::clone(&blocked.contended);
        let Batch { mut tasks, headers: headers_read } = self.read_all(world, &headers, fs_base);
        self.mark_ready(world, &mut tasks, &headers_read);
        // Only now is it known which of their functions they share.
        for (read, header) in tasks.iter_mut().zip(&headers_read) {
            read.task.name = self.name_of(header.vtable, &read.task.root);
        }
        let mut runtimes: Vec<RuntimeInstance> = Vec::new();
        let mut roots_read = Vec::new();
        for (read, header) in tasks.iter_mut().zip(&headers_read) {
            let PartyId::Task { runtime, .. } = read.task.party else { continue };
            let index = runtimes.iter().position(|known| known.address == runtime).unwrap_or_else(|| {
                runtimes.push(RuntimeInstance {
                    address: runtime,
                    kind: *self.kinds.entry(runtime).or_insert_with(|| {
                        let vtable = &self.vtables[&header.vtable];
                        kinds::of(&self.code, world.modules, world.memory, vtable, header, fs_base)
                    }),
                    version: self.version.clone(),
                    workers: Vec::new(),
                });
                runtimes.len() - 1
            });
            read.task.runtime = snapshot.runtimes.len() + index;
        }
        let mut roots = roots::find(world, &self.unwinder);
        roots.retain(|root| root.is_one(&self.code, world.memory));
        for root in &roots {
            let mut read = self.read_root(world, root, fs_base);
            let index = threads::runtime_of(world, root, &runtimes).unwrap_or_else(|| {
                // A runtime that has no task but the root.
                runtimes.push(RuntimeInstance {
                    address: 0,
                    kind: RuntimeKind::Tokio,
                    version: self.version.clone(),
                    workers: Vec::new(),
                });
                runtimes.len() - 1
            });
            read.task.runtime = snapshot.runtimes.len() + index;
            roots_read.push(read);
        }
        let running = tasks.iter().filter(|read| read.task.state == TaskState::Running);
        let work = headers.iter().filter(|header| header.owner == 0 && header.state.is_running());
        let running = threads::Polled {
            tasks: running.map(|read| (read.task.address, read.task.party)).collect(),
            work: work.map(|header| header.address).collect(),
        };
        let mut thread_roles = std::mem::take(&mut self.thread_roles);
        let holds = |facts: &ThreadFacts| {
            let root = roots.iter().find(|root| root.facts.tid == facts.tid);
            let name = |dropped: &Dropped| self.thread_holds(world, dropped);
            blocked.holds(facts, root, self.dropping(world.memory, fs_base), &name)
        };
        let Described { threads: described, polled_by, worked_on_by } =
            threads::describe(world, &runtimes, &running, &self.vtables, &mut thread_roles, &blocked, &holds);
        self.thread_roles = thread_roles;
        for thread in &described {
            let waits = matches!(thread.activity, ThreadActivity::Parked | ThreadActivity::Driving);
            let read = |read: &ReadTask| read.task.party == PartyId::BlockOn { tid: thread.tid };
            if thread.role == ThreadRole::BlockOn && waits && !roots_read.iter().any(read) {
                let (tid, name) = (thread.tid, &thread.name);
                snapshot.missing.push(format!("the root future of block_on on thread {tid} ({name}) was not found"));
            }
            let serves = match thread.role {
                ThreadRole::Worker(index) => Some(index),
                ThreadRole::BlockOn => threads::current_thread_runtime(world, thread, &runtimes),
                ThreadRole::BlockingPool | ThreadRole::Plain | ThreadRole::Unknown => None,
            };
            if let Some(index) = serves {
                runtimes[index].workers.push(thread.tid);
            }
        }
        if !runtimes.is_empty()
            && !described.iter().any(|thread| thread.role.is_of_runtime())
            && described.iter().any(|thread| !thread.frames.is_empty())
        {
            snapshot.missing.push(ROLELESS.into());
        }
        for read in &mut tasks {
            if let Some(tid) = polled_by.get(&read.task.party) {
                read.task.thread = Some(*tid);
                // A `LocalSet` never leaves its thread.
                let runtime = &mut runtimes[read.task.runtime - snapshot.runtimes.len()];
                if runtime.kind == RuntimeKind::TokioLocalSet && !runtime.workers.contains(tid) {
                    runtime.workers.push(*tid);
                }
                if let Some(thread) = described.iter().find(|thread| thread.tid == *tid) {
                    threads::adopt_stack(&mut read.task, thread);
                }
            }
        }
        let mut read = tasks;
        read.extend(roots_read);
        let worker = |header: u64| worked_on_by.get(&header).copied().flatten();
        for task in &mut read {
            resources::waits_mut(&mut task.task.root, &mut |wait| {
                if wait.resource.kind == ResourceKind::BlockingPool && wait.target.is_none() {
                    wait.target = worker(wait.resource.address).map(|tid| PartyId::Thread { tid });
                }
            });
        }
        let mut resources = resources::read(&self.code, world.memory, &mut read, fs_base);
        channels::settle(&self.code, world.modules, world.memory, &mut read, &mut resources);
        reach::note(self, world, fs_base, &roots, &described, &mut read, &mut resources);
        pool::note(&headers, &described, &read, &mut resources);
        count(&read, &mut snapshot.coverage);
        snapshot.runtimes.extend(runtimes);
        snapshot.threads.extend(described);
        let read = read.into_iter().map(|read| read.task);
        if snapshot.tasks.is_empty() {
            // Where they stand: a million take a third of a gigabyte.
            snapshot.tasks = read.collect();
        } else {
            snapshot.tasks.extend(read);
        }
        snapshot.resources.extend(resources);
        let of_tasks = snapshot.tasks.iter().flat_map(|task| task.root.all_holds());
        let held: FxHashSet<&ResourceKey> = snapshot
            .threads
            .iter()
            .flat_map(|thread| &thread.holds)
            .chain(of_tasks)
            .map(|hold| &hold.resource)
            .collect();
        let unread = blocked.unread(&self.code, &|lock| held.contains(lock));
        snapshot.missing.extend(unread);
        supposed::suppose(snapshot, &mut self.refuted);
    }

    fn doubt(&mut self, world: &World<'_>, snapshot: &mut Snapshot, accused: &[PartyId]) -> bool {
        let roots = if accused.is_empty() { Vec::new() } else { roots::find(world, &self.unwinder) };
        let settled = supposed::settle(self, world, &roots, snapshot, accused);
        settled | (!accused.is_empty() && doubt::note(self, world, &roots, snapshot, accused))
    }

    fn thread_context(&self) -> Option<ThreadContext> {
        self.context
    }

    fn polled_type(&self, modules: &[Module], addresses: &[u64]) -> Option<Arc<str>> {
        addresses.iter().find_map(|address| {
            let module = modules.iter().find(|module| module.contains(*address))?;
            let function = module.symbol_at(*address)?.address;
            if let Some(known) = self.poll_names.borrow().get(&function) {
                return known.clone();
            }
            let by_vtable = || {
                let vtable = (*self.poll_code.get(&function)?)?;
                self.names.get(&vtable).cloned().or_else(|| self.named_by_poll(modules, vtable))
            };
            let named = by_vtable().or_else(|| names::of_wrapper(module, *address));
            self.poll_names.borrow_mut().insert(function, named.clone());
            named
        })
    }

    fn inside_poll(&self, frames: &[Frame]) -> Option<usize> {
        threads::inside_poll(frames)
    }

    fn polls(&self) -> bool {
        true
    }

    fn wait_functions(&self) -> Vec<u64> {
        self.code.wait_functions()
    }

    fn describe(&self) -> String {
        self.version.as_ref().map_or_else(|| "tokio".into(), |version| format!("tokio {version}"))
    }
}

fn count(tasks: &[ReadTask], coverage: &mut Coverage) {
    for read in tasks {
        coverage.seen += 1;
        if read.task.unstable {
            coverage.unstable += 1;
        } else if read.task.is_opaque() {
            coverage.unknown += 1;
        } else {
            coverage.decoded += 1;
        }
    }
}

/// The thread pointer of some thread, a runtime's worker where there is one: a poll reads the runtime's thread-local
/// context.
pub(super) fn any_thread_pointer(world: &World<'_>) -> Option<u64> {
    let mut threads: Vec<_> = world.threads.iter().collect();
    let worker = |frames: &[Frame]| frames.iter().any(|frame| frame.function.starts_with("tokio::runtime::scheduler"));
    threads.sort_by_key(|(.., frames)| !worker(frames));
    let by_stack = threads.into_iter().find_map(|(facts, registers, _)| {
        registers.and_then(|registers| registers.fs_base).or_else(|| {
            let (sp, _) = facts.stack()?;
            thread_pointer(world.memory, world.memory.mappings(), sp)
        })
    });
    by_stack.or_else(|| target::any_thread_pointer(world.memory, world.memory.mappings()))
}

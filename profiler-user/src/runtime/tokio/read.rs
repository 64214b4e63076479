//! One read of all that tokio has in a process.

use std::{cell::RefCell, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    classify::Leaf,
    code::Code,
    context,
    heap::{self, Header},
    holds::{self, Dropped},
    kinds, names,
    poll::{self, Polled},
    resources,
    roots::{self, Root},
    strands, threads,
    vtables::{self, TaskVtable},
    waits::{self, Missing},
};
use crate::{
    debuginfo::{Module, RegisterUnwinder, name},
    model::{
        Coverage, Frame, Hold, PartyId, ResourceKey, ResourceKind, Runtime as RuntimeInstance, RuntimeKind, Snapshot,
        Strand, Task, TaskState, ThreadActivity, ThreadRole, Wait,
    },
    runtime::{Runtime, ThreadContext, World},
    target::{self, LiveMemory, Memory, thread_pointer},
};

/// Bytes of a task cell that are compared to see whether it changed while it was read, at most.
const CELL_CHECKED: u64 = 64 << 10;

/// Stands for a type that the binary does not name.
pub(super) const UNNAMED: &str = "(type not known)";

/// What the semaphore waits of a task told.
#[derive(Default)]
struct SemaphoreWaits {
    missing: Vec<Missing>,
    available: Vec<(u64, u64)>,
}

/// Reads that are repeated on a fresh view. What a task's poll meets lies on many pages, read one after the other while the
/// program goes on: a dry run that fails may have met two moments side by side.
#[derive(Default)]
struct Rereads {
    done: usize,
    /// Types of which a second read told no more than the first.
    in_vain: FxHashSet<u64>,
}

impl Rereads {
    /// A fresh view costs the reads of all that was at hand, so there is a limit to them.
    const MOST: usize = 64;

    fn are_worth(&self, vtable: u64) -> bool {
        self.done < Self::MOST && !self.in_vain.contains(&vtable)
    }

    fn told(&mut self, vtable: u64, in_vain: bool) {
        self.done += 1;
        if in_vain {
            self.in_vain.insert(vtable);
        }
    }
}

/// Tokio, as it was found in a process' code.
pub struct Tokio {
    vtables: FxHashMap<u64, TaskVtable>,
    deallocs: FxHashSet<u64>,
    names: FxHashMap<u64, Arc<str>>,
    /// By address of the runtime instance.
    kinds: FxHashMap<u64, RuntimeKind>,
    version: Option<String>,
    code: Code,
    unwinder: RegisterUnwinder,
    /// Vtables whose code has been learned from.
    learned: FxHashSet<u64>,
    /// Vtable that a function on the way from the worker's loop to the future belongs to; `None` where several share it.
    poll_code: FxHashMap<u64, Option<u64>>,
    /// Answers of [`Runtime::polled_type`] by function: samples ask for the same ones again and again.
    poll_names: RefCell<FxHashMap<u64, Option<Arc<str>>>>,
    thread_roles: threads::KnownRoles,
    tls_offset: Option<i64>,
    context: Option<ThreadContext>,
}

/// A task as it was read, with what only the rest of the read needs.
pub(super) struct ReadTask {
    pub(super) task: Task,
    /// Cell, from the header to its end.
    pub(super) cell: std::ops::Range<u64>,
    /// Semaphore waits of its strands.
    pub(super) missing: Vec<Missing>,
    /// Free permits of the semaphores that its polls touched, by the semaphore's address.
    pub(super) available: Vec<(u64, u64)>,
}

impl Tokio {
    /// Looks for tokio in `modules`; `None` where no task vtable is found.
    pub fn find(modules: &[Module], memory: &dyn Memory) -> Option<Self> {
        let mut vtables = FxHashMap::default();
        let (mut names, mut version) = (FxHashMap::default(), None);
        for module in modules {
            let found = vtables::find(module, memory);
            if found.is_empty() {
                continue;
            }
            version = version.or_else(|| super::version::of(module));
            for (address, vtable) in &found {
                if let Some(name) = names::of_poll(module, vtable.poll) {
                    names.insert(*address, name);
                }
            }
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
            names,
            kinds: FxHashMap::default(),
            version,
            code: Code::learn(modules, memory),
            unwinder: RegisterUnwinder::new(modules),
            tls_offset: modules.first().and_then(context::tls_offset),
            context: None,
            learned: FxHashSet::default(),
            poll_code,
            poll_names: RefCell::default(),
            thread_roles: threads::KnownRoles::default(),
        })
    }

    /// Learns what only the code of a task's type tells, from one that is being polled: its state is in flux and nothing
    /// that is read of it counts, but the functions that its poll and its drop begin with are its type's.
    fn learn_type(&mut self, world: &World<'_>, header: &Header, vtable: &TaskVtable, fs_base: u64) {
        if self.learned.contains(&header.vtable) {
            return;
        }
        let _ = self.dry_poll(world, header, vtable, fs_base, true);
        let is_dealloc = |address| self.deallocs.contains(&address);
        let dropped = holds::run(&self.code, world.memory, vtable, header, fs_base, &is_dealloc);
        self.learn_name(world, header.vtable, &dropped);
    }

    /// Polls a task over a copy-on-write view, and learns on the way where threads keep what they poll.
    fn dry_poll(
        &mut self,
        world: &World<'_>,
        header: &Header,
        vtable: &TaskVtable,
        fs_base: u64,
        first_only: bool,
    ) -> Polled {
        let memory = world.memory;
        let mut context = self.context;
        let id = memory.read_u64(header.address + vtable.id_offset).ok();
        let polled = poll::run(&self.code, memory, vtable, header, fs_base, first_only, &mut |machine| {
            if let (None, Some(offset), Some(id)) = (context, self.tls_offset, id) {
                context = context::observe(machine, memory, fs_base, offset, id);
            }
        });
        self.context = context;
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
            && let Some(name) = names::of_destructor(world.modules, &dropped.functions)
        {
            self.names.insert(vtable, name);
        }
    }

    /// The root future that `root`'s thread waits in.
    fn read_root(&self, world: &World<'_>, root: &Root<'_>) -> ReadTask {
        let party = PartyId::BlockOn { tid: root.facts.tid };
        let polled = root.poll(&self.code, world.memory);
        let (mut strand, waits) = self.strands(world, &polled);
        let dropped = root.drop(&self.code, world, &self.unwinder, &|address| self.deallocs.contains(&address));
        let (name, unknown) = match dropped {
            Some(dropped) => {
                strand.holds = self.holds(world, &dropped, &polled, &strand);
                (names::of_destructor(world.modules, &dropped.functions), dropped.incomplete)
            }
            None => (None, Some("what it holds: its thread's frame has no landing pad".into())),
        };
        let leafless = leafless(&strand);
        ReadTask {
            task: Task {
                party,
                address: 0,
                runtime: 0,
                name: name.or_else(|| root.caller.clone()).unwrap_or_else(|| UNNAMED.into()),
                state: TaskState::Suspended,
                since: None,
                root: strand,
                incomplete: polled.incomplete.or(unknown).or(leafless).map(Into::into),
                unstable: false,
                thread: Some(root.facts.tid),
            },
            cell: 0..0,
            missing: waits.missing,
            available: waits.available,
        }
    }

    /// The strands that a dry poll has shown, and what its semaphore waits told on the way.
    fn strands(&self, world: &World<'_>, polled: &Polled) -> (Strand, SemaphoreWaits) {
        let mut waits = SemaphoreWaits::default();
        let strand = strands::build(&self.code, world.modules, polled, |hit, functions| {
            let leaf_name = || {
                let symbol = world.module_at(hit.function).and_then(|module| module.symbol_at(hit.function));
                let function = symbol.map(|symbol| name::function(symbol.name));
                function.as_deref().and_then(|name| name.rsplit_once("::")).map_or(UNNAMED, |(ty, _)| ty).to_owned()
            };
            let wait = waits::read(hit, functions, world.memory, &self.vtables, leaf_name);
            if hit.leaf == Some(Leaf::Acquire) {
                waits.missing.extend(waits::missing(hit));
                waits.available.extend(waits::available(hit, wait.resource.address));
            }
            Some(wait)
        });
        (strand, waits)
    }

    fn holds(&self, world: &World<'_>, dropped: &Dropped, polled: &Polled, strand: &Strand) -> Vec<Hold> {
        let acquires = polled.hits.iter().filter(|hit| hit.leaf == Some(Leaf::Acquire));
        let awaited: Vec<u64> = acquires.map(|hit| hit.this).collect();
        resources::holds(&self.code, world.modules, dropped, &awaited, strand, &self.vtables, world.memory)
    }

    fn read_task(&mut self, world: &World<'_>, header: &Header, fs_base: u64) -> Option<ReadTask> {
        let memory = world.memory;
        let vtable = self.vtables.get(&header.vtable)?.clone();
        let cell = header.address..header.address + vtable.trailer_offset;
        // The cell is read here and now, as one: what lies between the scan and this task's turn does not matter.
        memory.forget(cell.clone());
        let header = &Header::read(memory, header.address, &self.vtables).filter(|now| now.vtable == header.vtable)?;
        if header.state.is_complete() {
            return None;
        }
        let vtable = &vtable;
        let party = waits::party(header, vtable, memory)?;
        let mut state = header.state.task_state();
        let mut waits = SemaphoreWaits::default();
        let mut root = Strand::new(Vec::new());
        let incomplete;
        if state == TaskState::Running {
            incomplete = Some("being polled while it was read".to_owned());
            self.learn_type(world, header, vtable, fs_base);
        } else {
            let scheduled = state == TaskState::Scheduled;
            let polled = self.dry_poll(world, header, vtable, fs_base, scheduled);
            (root, waits) = self.strands(world, &polled);
            let is_dealloc = |address| self.deallocs.contains(&address);
            let dropped = holds::run(&self.code, memory, vtable, header, fs_base, &is_dealloc);
            root.holds = self.holds(world, &dropped, &polled, &root);
            self.learn_name(world, header.vtable, &dropped);
            incomplete = polled.incomplete.or(dropped.incomplete).or_else(|| leafless(&root));
            // All its permits have been assigned and the wake has not arrived yet.
            if state == TaskState::Suspended && waits.missing.iter().any(|missing| missing.permits == 0) {
                state = TaskState::Scheduled;
            }
        }
        // Without a name of its own a future is called by the function that it runs first.
        let first = || root.walk().flat_map(|strand| &strand.frames).next().map(|frame| Arc::clone(&frame.function));
        let name = self.names.get(&header.vtable).cloned().or_else(first).unwrap_or_else(|| UNNAMED.into());
        Some(ReadTask {
            task: Task {
                party,
                address: header.address,
                runtime: 0,
                name,
                state,
                since: None,
                root,
                incomplete: incomplete.map(Into::into),
                unstable: !unchanged(memory, header, cell.clone(), &self.vtables),
                thread: None,
            },
            cell,
            missing: waits.missing,
            available: waits.available,
        })
    }
}

impl Runtime for Tokio {
    fn read(&mut self, world: &World<'_>, snapshot: &mut Snapshot) {
        let headers = heap::scan(world.memory, &self.vtables);
        let fs_base = any_thread_pointer(world);
        if fs_base.is_none() {
            snapshot.missing.push("thread-local storage was not found: polls that use it could not be followed".into());
        }
        let fs_base = fs_base.unwrap_or(0);
        let mut seen = FxHashSet::default();
        let mut tasks = Vec::new();
        let mut rereads = Rereads::default();
        for header in headers.iter().filter(|header| header.owner != 0 && !header.state.is_complete()) {
            let mut read = self.read_task(world, header, fs_base);
            if read.as_ref().is_some_and(|read| read.task.is_opaque()) && rereads.are_worth(header.vtable) {
                world.memory.refresh();
                read = self.read_task(world, header, fs_base);
                rereads.told(header.vtable, read.as_ref().is_some_and(|read| read.task.is_opaque()));
            }
            if let Some(read) = read
                && seen.insert(read.task.party)
            {
                tasks.push((read, header));
            }
        }
        let mut runtimes: Vec<RuntimeInstance> = Vec::new();
        let mut roots_read = Vec::new();
        for (read, header) in &mut tasks {
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
        for root in roots::find(world, &self.unwinder) {
            let mut read = self.read_root(world, &root);
            let index = threads::runtime_of(world, &root, &runtimes).unwrap_or_else(|| {
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
        let running: FxHashMap<u64, PartyId> = tasks
            .iter()
            .filter(|(read, _)| read.task.state == TaskState::Running)
            .map(|(read, _)| (read.task.address, read.task.party))
            .collect();
        let (described, polled_by) =
            threads::describe(world, &runtimes, &running, &self.vtables, &mut self.thread_roles);
        for thread in &described {
            let waits = matches!(thread.activity, ThreadActivity::Parked | ThreadActivity::Driving);
            let read = |read: &ReadTask| read.task.party == PartyId::BlockOn { tid: thread.tid };
            if thread.role == ThreadRole::BlockOn && waits && !roots_read.iter().any(read) {
                let (tid, name) = (thread.tid, &thread.name);
                snapshot.missing.push(format!("the root future of block_on on thread {tid} ({name}) was not found"));
            }
            if let ThreadRole::Worker(index) = thread.role {
                runtimes[index].workers.push(thread.tid);
            }
        }
        for (read, _) in &mut tasks {
            if let Some(tid) = polled_by.get(&read.task.party) {
                read.task.thread = Some(*tid);
                if let Some(thread) = described.iter().find(|thread| thread.tid == *tid) {
                    threads::adopt_stack(&mut read.task, thread);
                }
            }
        }
        let mut read: Vec<ReadTask> = tasks.into_iter().map(|(read, _)| read).chain(roots_read).collect();
        let resources = resources::read(&self.code, world.memory, &mut read, fs_base);
        count(&read, &mut snapshot.coverage);
        snapshot.runtimes.extend(runtimes);
        snapshot.threads.extend(described);
        snapshot.tasks.extend(read.into_iter().map(|read| read.task));
        snapshot.resources.extend(resources);
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
                self.names.get(&vtable).cloned()
            };
            let named = by_vtable().or_else(|| names::of_wrapper(module, *address));
            self.poll_names.borrow_mut().insert(function, named.clone());
            named
        })
    }

    fn inside_poll(&self, frames: &[Frame]) -> Option<usize> {
        threads::inside_poll(frames)
    }

    fn wait_functions(&self) -> Vec<u64> {
        self.code.wait_functions()
    }

    fn describe(&self) -> String {
        self.version.as_ref().map_or_else(|| "tokio".into(), |version| format!("tokio {version}"))
    }
}

/// Why a task that waits for nothing is not understood: every pending poll has registered a waker somewhere.
fn leafless(root: &Strand) -> Option<String> {
    root.waits().next().is_none().then(|| "what it waits for: its poll reached no leaf that is known".to_owned())
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

/// Whether the cell is now as the view has it, so that what was read of it held at one moment.
fn unchanged(
    memory: &LiveMemory,
    header: &Header,
    cell: std::ops::Range<u64>,
    vtables: &FxHashMap<u64, TaskVtable>,
) -> bool {
    let length = (cell.end - cell.start).min(CELL_CHECKED) as usize;
    let (mut then, mut now) = (vec![0; length], vec![0; length]);
    Header::read_now(memory, header.address, vtables) == Some(*header)
        && memory.read(cell.start, &mut then).is_ok()
        && memory.read_now(cell.start, &mut now).is_ok()
        && then == now
}

/// The thread pointer of some thread, a runtime's worker where there is one: a poll reads the runtime's thread-local
/// context.
fn any_thread_pointer(world: &World<'_>) -> Option<u64> {
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

/// The key that a wait or hold on `kind` at `address` is known by.
pub(super) fn key(kind: ResourceKind, address: u64) -> ResourceKey {
    ResourceKey { kind, address }
}

/// All waits of a strand and those below, to be changed.
pub(super) fn waits_mut(strand: &mut Strand, visit: &mut dyn FnMut(&mut Wait)) {
    if let Some(wait) = &mut strand.wait {
        visit(wait);
    }
    for child in &mut strand.children {
        waits_mut(child, visit);
    }
}

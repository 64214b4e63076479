//! Threads that are blocked: which lock each waits for, and what their frames hold.

use std::{cell::OnceCell, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    code::Code,
    holds::{Dropped, Dropping},
    policy::Plain,
    poll::root_limits,
    roots::Root,
    threads,
};
use crate::{
    debuginfo::{FrameRegisters, RegisterUnwinder, name},
    locks::{self, Blocked, Contended},
    model::{Frame, Hold, HoldHow, PartyId, ResourceKey, ResourceKind, Wait, WaitMode},
    runtime::{ThreadRegisters, World},
    target::{Memory, ThreadFacts, thread_pointer},
};

/// What threads wait for, as far as it is other threads' doing.
pub(super) struct BlockedThreads<'w> {
    world: &'w World<'w>,
    unwinder: &'w RegisterUnwinder,
    threads: FxHashMap<i32, BlockedThread<'w>>,
    /// The locks among it.
    pub(super) contended: Arc<Contended>,
    /// Threads by their ids in the target's own pid namespace.
    by_own_tid: FxHashMap<i32, i32>,
}

struct BlockedThread<'w> {
    registers: Option<ThreadRegisters>,
    stack: &'w [Frame],
    frames: OnceCell<Vec<FrameRegisters>>,
    blocked: Blocked,
}

/// Bytes of a frame that are looked at, at most.
const LARGEST_FRAME: u64 = 64 << 10;

/// What the frames of a thread hold.
#[derive(Default)]
pub(super) struct ThreadHolds {
    pub(super) holds: Vec<Hold>,
    /// Whether that is everything.
    pub(super) whole: bool,
}

impl<'w> BlockedThreads<'w> {
    /// Looks at every thread.
    pub(super) fn read(world: &'w World<'w>, unwinder: &'w RegisterUnwinder) -> Self {
        let mut threads = FxHashMap::default();
        let mut by_own_tid = FxHashMap::default();
        for (facts, registers, stack) in world.threads {
            by_own_tid.extend(facts.own_tid.map(|own| (own, facts.tid)));
            let frames = OnceCell::new();
            let unwound = || frames.get_or_init(|| unwind(world, unwinder, registers.as_ref())).clone();
            let blocked = locks::read(facts, stack, &unwound, world.memory);
            threads.insert(facts.tid, BlockedThread { registers: *registers, stack, frames, blocked });
        }
        let contended = Arc::new(Contended::among(threads.values().map(|thread| &thread.blocked)));
        Self { world, unwinder, threads, contended, by_own_tid }
    }

    /// What the thread waits for.
    pub(super) fn wait(&self, tid: i32) -> Option<Wait> {
        let (resource, mode, target) = match &self.threads.get(&tid)?.blocked {
            Blocked::Lock(lock) => (lock.clone(), WaitMode::Unknown, None),
            Blocked::Join { tid, word } => {
                let thread = ResourceKey { kind: ResourceKind::JoinHandle, address: *word };
                let target = self.by_own_tid.get(tid).map(|tid| PartyId::Thread { tid: *tid });
                (thread, WaitMode::Join, target)
            }
            Blocked::Condition { .. } | Blocked::Elsewhere | Blocked::Unknown => return None,
        };
        Some(Wait { resource, mode, position: None, target })
    }

    /// The header that a poll on the thread's stack has at hand, of those that `is_polled_by` knows to be polled by the
    /// function at that address: of the outermost or the innermost poll. `None` where no poll is found, or several headers
    /// are: any other word on a stack may be a mere reference.
    pub(super) fn polled(&self, tid: i32, outermost: bool, is_polled_by: &dyn Fn(u64, u64) -> bool) -> Option<u64> {
        let thread = self.threads.get(&tid)?;
        let frames = thread.frames.get_or_init(|| unwind(self.world, self.unwinder, thread.registers.as_ref()));
        let polls = |frame: &FrameRegisters| {
            let symbol = self.world.module_at(frame.ip - 1)?.symbol_at(frame.ip - 1)?;
            threads::is_task_poll(&name::function(symbol.name)).then_some(symbol.address)
        };
        let mut found: Vec<(usize, u64)> =
            frames.iter().enumerate().filter_map(|(index, frame)| Some((index, polls(frame)?))).collect();
        if outermost {
            found.reverse();
        }
        // A poll is made of several functions, and some of them have handed the header on and forgotten it.
        found
            .into_iter()
            .find_map(|(index, function)| {
                let start = frames[index].sp()?;
                let end =
                    frames.get(index + 1).and_then(FrameRegisters::sp).filter(|end| end - start <= LARGEST_FRAME)?;
                let stack = (start..end).step_by(8).filter_map(|at| self.world.memory.read_u64(at).ok());
                let registers = frames[index].values.into_iter().flatten();
                let mut headers: Vec<u64> =
                    registers.chain(stack).filter(|word| is_polled_by(*word, function)).collect();
                headers.sort_unstable();
                headers.dedup();
                (!headers.is_empty()).then_some(headers)
            })
            .and_then(|headers| <[u64; 1]>::try_from(headers).ok())
            .map(|[header]| header)
    }

    /// Why the holders of locks were not found, where that is how the program was built. `is_held` knows those that were.
    pub(super) fn unread(&self, code: &Code, is_held: &dyn Fn(&ResourceKey) -> bool) -> Option<String> {
        let unheld = |thread: &BlockedThread<'_>| matches!(&thread.blocked, Blocked::Lock(lock) if !is_held(lock));
        (!code.unwinds && self.threads.values().any(unheld)).then(|| {
            "who holds the locks that threads wait for: the program was built with panic=abort, and its frames do not say \
             what they own"
                .into()
        })
    }

    /// Whether what threads hold matters to anyone: some thread waits for a lock or for the end of another.
    fn is_any_waiting(&self) -> bool {
        self.threads.values().any(|thread| matches!(thread.blocked, Blocked::Lock(_) | Blocked::Join { .. }))
    }

    /// What the frames of a blocked thread hold, but for those that belong to the `root` that waits on it.
    pub(super) fn holds(
        &self,
        facts: &ThreadFacts,
        root: Option<&Root<'_>>,
        dropping: Dropping<'_>,
        name_holds: &dyn Fn(&Dropped) -> Vec<Hold>,
    ) -> ThreadHolds {
        let Some(thread) = self.threads.get(&facts.tid) else { return ThreadHolds::default() };
        let mut found = self.in_frames(thread, root, dropping, name_holds).unwrap_or_default();
        for lock in self.owned_pthread_mutexes(facts.tid) {
            if !found.holds.iter().any(|hold| hold.resource == lock) {
                found.holds.push(Hold { resource: lock, how: HoldHow::Guard, amount: 1, site: None });
            }
        }
        found
    }

    fn in_frames(
        &self,
        thread: &BlockedThread<'_>,
        root: Option<&Root<'_>>,
        dropping: Dropping<'_>,
        name_holds: &dyn Fn(&Dropped) -> Vec<Hold>,
    ) -> Option<ThreadHolds> {
        // A root may wait for what the frames around it hold, and nothing else tells.
        if !self.is_any_waiting() && root.is_none() {
            return None;
        }
        let (registers, code) = (thread.registers?, dropping.code);
        let sp = registers.frame.sp()?;
        let fs_base =
            registers.fs_base.or_else(|| thread_pointer(self.world.memory, self.world.memory.mappings(), sp))?;
        let all = thread.frames.get_or_init(|| unwind(self.world, self.unwinder, Some(&registers)));
        let frames = root.map_or(&all[..], Root::around);
        let given_back = match (&thread.blocked, root) {
            (_, Some(_)) | (Blocked::Elsewhere | Blocked::Lock(_) | Blocked::Join { .. }, None) => None,
            (Blocked::Condition { word }, None) => Some(self.relocked(all, *word, code, fs_base)?),
            (Blocked::Unknown, None) => return None,
        };
        let polls = |frame: &FrameRegisters| {
            let functions = code.frames(self.world.modules, frame.ip - 1);
            functions.iter().any(|frame| threads::polls(&frame.frame.function))
        };
        let polls = frames.iter().rposition(polls).unwrap_or(0);
        let awaited = match &thread.blocked {
            Blocked::Lock(lock) => Some(lock.address),
            _ => None,
        };
        let (dropped, whole) =
            Dropping { fs_base, ..dropping }.thread(self.unwinder, self.world.modules, frames, polls, awaited);
        let mut holds = name_holds(&dropped);
        holds.retain(|hold| Some(hold.resource.address) != given_back);
        for hold in &mut holds {
            hold.site = hold.site.take().map(|site| on_stack(thread.stack, site));
        }
        Some(ThreadHolds { holds, whole })
    }

    /// The lock that a thread gave back to wait for a condition at the futex `word`.
    fn relocked(&self, frames: &[FrameRegisters], word: u64, code: &Code, fs_base: u64) -> Option<u64> {
        let mut machine = locks::machine_at(&code.cache, self.world.memory, root_limits(), &[], fs_base);
        let mut hooks = Plain::new(code);
        let role = |address| code.lock_role(address);
        locks::relocked(&mut machine, frames, word, &self.contended, &mut hooks, &role)
    }

    fn owned_pthread_mutexes(&self, tid: i32) -> impl Iterator<Item = ResourceKey> {
        self.contended.pthread_mutexes().filter(move |lock| {
            let owner = locks::pthread_owner(lock.address, self.world.memory);
            owner.and_then(|owner| self.by_own_tid.get(&owner)) == Some(&tid)
        })
    }
}

/// The frame of a thread's stack that has the function of `site`, with the line that it stands at.
fn on_stack(stack: &[Frame], site: Frame) -> Frame {
    stack.iter().find(|frame| frame.function == site.function).cloned().unwrap_or(site)
}

fn unwind(world: &World<'_>, unwinder: &RegisterUnwinder, registers: Option<&ThreadRegisters>) -> Vec<FrameRegisters> {
    let mut read = |address: u64| world.memory.read_u64(address).ok();
    registers.map(|registers| unwinder.unwind(world.modules, registers.frame, &mut read)).unwrap_or_default()
}

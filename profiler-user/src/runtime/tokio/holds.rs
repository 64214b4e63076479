//! The dry run of a task's destructor: what it would give back is what the task holds.

use std::ops::{ControlFlow, Range};

use rustc_hash::FxHashSet;

use super::{
    children,
    classify::{Channel, Role, Sink},
    code::Code,
    ends::{Ends, Share},
    heap::Header,
    policy::Policy,
    poll::root_limits,
    shape::{PermitWatch, PermitsBack, Waiter},
    upgradable::Upgradable,
    vtables::TaskVtable,
};
use crate::{
    debuginfo::{FrameRegisters, Module, RegisterUnwinder},
    dryrun::{Action, Atomic, CallFrame, Hooks, Limits, Machine, Outcome, Reg, Transfer},
    locks::{self, Contended, Landed, Release, Releases, Unwinding},
    target::Memory,
};

/// Something that the destructor gave back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// Call sites that led there, outermost first.
    pub(super) path: Vec<u64>,
    /// What was called.
    pub(super) sink: Sink,
    /// Its first argument; for channel ends and join handles, the word it points at.
    pub(super) address: u64,
    /// Its second argument: permits.
    pub(super) amount: u64,
    /// The queued acquire whose drop gave it back.
    pub(super) within: Option<u64>,
}

/// Permits that were given back by code that no name tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Released {
    /// Of the semaphore with this lock, if there is one.
    pub(super) release: PermitsBack,
    /// The queued acquire whose drop gave them back.
    pub(super) within: Option<u64>,
}

/// What a dry destructor has shown.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    pub(super) given: Vec<Given>,
    /// Locks made for threads.
    pub(super) locks: Vec<Release>,
    /// What may be ends of channels.
    pub(super) shares: Vec<Share>,
    /// Semaphores inside of channels, each with its channel.
    pub(super) rooms: Vec<(u64, u64)>,
    /// What may be channels of which it has ends in messages that nobody has received.
    pub(super) queued: Vec<u64>,
    /// Headers of tasks that were aborted.
    pub(super) aborted: Vec<u64>,
    /// Queued acquires that were dropped.
    pub(super) acquires: Vec<u64>,
    /// Leaf futures that were dropped: address, and the call sites that led there, outermost first.
    pub(super) leaves: Vec<(u64, Vec<u64>)>,
    /// What was handed to the allocator; empty where it was not said how much.
    pub(super) freed: Vec<Range<u64>>,
    /// What was given back by code without a name.
    pub(super) released: Vec<Released>,
    /// Flags of one byte that were clear and were swapped for set, and what was lowered by one meanwhile: a future that is
    /// taken out of its set is marked so, dropped, and given back.
    pub(super) marked: Vec<(u64, Vec<u64>)>,
    /// Where the notifications lie that the last senders of watches gave.
    pub(super) rung: Vec<Range<u64>>,
    /// Entries of the functions it called, in order: their names tell types. At most [`NAMED`].
    pub(super) functions: Vec<u64>,
    /// Loads of words that point into what was [`Dropping::tracked`], in order: from where, in the target or in the machine's own
    /// memory, and which word.
    pub(super) loads: Vec<(u64, u64)>,
    /// Why it is not the whole truth.
    pub(super) incomplete: Option<String>,
}

/// Calls whose names may tell the type of the future: the outermost ones.
const NAMED: usize = 8;

/// Instructions that a drop may take: a channel's receiver drops every message that nobody has received.
const STEPS: u64 = 2_000_000;

/// What a dry drop needs to know.
#[derive(Clone, Copy)]
pub(super) struct Dropping<'c> {
    pub(super) code: &'c Code,
    pub(super) memory: &'c dyn Memory,
    pub(super) fs_base: u64,
    /// Functions that free the cell of some task.
    pub(super) deallocs: &'c FxHashSet<u64>,
    /// Locks that threads wait for.
    pub(super) contended: &'c Contended,
    /// Places of which it is asked where the drop loads words from that point there: [`Dropped::loads`].
    pub(super) tracked: &'c [Range<u64>],
}

impl Dropping<'_> {
    /// Drops the task at `header` over a copy-on-write view. `waiters` are those that its poll has shown.
    pub(super) fn task(&self, vtable: &TaskVtable, header: &Header, waiters: &[Waiter]) -> Dropped {
        self.task_with_last(vtable, header, waiters, &[])
    }

    /// The same where each word of `counts` is taken to be 1: what it counts is the last of its kind.
    pub(super) fn task_with_last(
        &self,
        vtable: &TaskVtable,
        header: &Header,
        waiters: &[Waiter],
        counts: &[u64],
    ) -> Dropped {
        let mut machine = self.machine();
        for count in counts {
            machine.write(*count, &1_u64.to_le_bytes());
        }
        self.watch(&mut machine);
        let mut hooks = DropHooks { waiters: waiters.to_vec(), ..DropHooks::new(self, false) };
        let outcome = machine.call(vtable.dealloc, &[header.address], &mut hooks);
        let mut dropped = Dropped { loads: machine.tracks(), ..hooks.finish(incomplete(&outcome)) };
        if vtable.by_shape && dropped.freed.iter().all(|freed| freed.start != header.address) {
            dropped.incomplete.get_or_insert_with(|| "what was taken for its destructor did not free it".into());
        }
        dropped
    }

    fn machine(&self) -> Machine<'_> {
        let limits = Limits { steps: STEPS, ..Limits::default() };
        let mut machine = Machine::with_code_cache(self.memory, limits, &self.code.cache);
        machine.set_fs_base(self.fs_base);
        machine
    }

    /// Has it noticed what is asked of its loads, and which tasks are woken.
    fn watch(&self, machine: &mut Machine<'_>) {
        machine.track(self.tracked.to_vec());
        if let Some(functions) = self.code.task_waker() {
            machine.watch(functions, self.code.constants_around(functions));
        }
    }

    /// The hooks of one drop that goes on inside of the ends of channels, so that what was last is freed.
    pub(super) fn thorough(&self) -> DropHooks<'_> {
        DropHooks { thorough: true, ..DropHooks::new(self, false) }
    }

    /// Runs the landing pads of `frames` (of one thread, innermost first), as unwinding would, up to one that is not run to
    /// its end. `None` where none of them has one.
    pub(super) fn frames(
        &self,
        unwinder: &RegisterUnwinder,
        modules: &[Module],
        frames: &[FrameRegisters],
    ) -> Option<Dropped> {
        let mut machine = locks::machine_at(&self.code.cache, self.memory, root_limits(), &[], self.fs_base);
        self.watch(&mut machine);
        let mut hooks = DropHooks::new(self, false);
        let incomplete = match land_all(&mut machine, unwinder, modules, frames, &mut hooks) {
            Pads::None => return None,
            Pads::Run => None,
            Pads::Stuck(why) => Some(why),
        };
        Some(Dropped { loads: machine.tracks(), ..hooks.finish(incomplete) })
    }

    /// The same for all the frames of a blocked thread, whose locks do not wait for each other: what one frame does not
    /// show another may. Of `frames` those before `polls` are in the middle of a poll. There a future is in flux, and a
    /// frame that does not show what it owns ends it all: those around it would drop what that future was, not what it is.
    /// `awaited` is the lock that the thread waits for. Also returns whether everything was shown.
    pub(super) fn thread(
        &self,
        unwinder: &RegisterUnwinder,
        modules: &[Module],
        frames: &[FrameRegisters],
        polls: usize,
        awaited: Option<u64>,
    ) -> (Dropped, bool) {
        let limits = Limits { steps: THREAD_STEPS, ..root_limits() };
        let mut machine = locks::machine_at(&self.code.cache, self.memory, limits, &[], self.fs_base);
        let mut hooks = DropHooks::new(self, true);
        hooks.releases = hooks.releases.awaiting(awaited);
        let mut whole = true;
        locks::unwind(&mut machine, unwinder, modules, frames, &mut hooks, &mut |index, landed| {
            whole &= landed == Landed::Through;
            match landed {
                Landed::Stuck(_) | Landed::Unwritten if index < polls => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        whole &= !hooks.releases.waited();
        (hooks.finish(None), whole)
    }
}

/// What came of some frames' landing pads.
pub(super) enum Pads {
    /// There are none.
    None,
    /// All were run to their ends.
    Run,
    /// One was not; why.
    Stuck(String),
}

/// Runs landing pads, innermost frame first, up to one that is not run to its end.
pub(super) fn land_all(
    machine: &mut Machine<'_>,
    unwinder: &RegisterUnwinder,
    modules: &[Module],
    frames: &[FrameRegisters],
    hooks: &mut dyn Unwinding,
) -> Pads {
    let (mut pads, mut stuck) = (Pads::None, None);
    locks::unwind(machine, unwinder, modules, frames, hooks, &mut |_, landed| {
        match landed {
            Landed::Through => pads = Pads::Run,
            Landed::Stuck(outcome) => {
                stuck = incomplete(&outcome);
                return ControlFlow::Break(());
            }
            Landed::NoArea | Landed::Unwritten => {}
        }
        ControlFlow::Continue(())
    });
    stuck.map_or(pads, Pads::Stuck)
}

/// Instructions that the landing pads of a thread may take.
const THREAD_STEPS: u64 = 500_000;

/// Why a drop that ended so has not shown everything.
pub(super) fn incomplete(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Returned { .. } => None,
        Outcome::Stopped => Some("the destructor was not run to its end".into()),
        Outcome::Unknown(unknown) => Some(unknown.to_string()),
    }
}

/// What every dry drop does with the calls and accesses of a destructor.
pub(super) struct DropHooks<'c> {
    policy: Policy<'c>,
    memory: &'c dyn Memory,
    deallocs: &'c FxHashSet<u64>,
    /// Waiters of the task that still stand in their queues.
    waiters: Vec<Waiter>,
    permits: PermitWatch,
    /// Depth of the function that gives permits back and is known by name.
    named: Option<usize>,
    /// Queued acquires whose drop is being run: depth of its frame, address.
    acquire: Vec<(usize, u64)>,
    /// Depth of the function that notifies all receivers of a watch.
    ringing: Option<usize>,
    ends: Ends,
    upgradable: Upgradable,
    releases: Releases<'c>,
    dropped: Dropped,
    /// Goes on inside of the ends of channels.
    thorough: bool,
    /// The pad has done its work.
    unwound: bool,
}

impl<'c> DropHooks<'c> {
    fn new(dropping: &Dropping<'c>, patient: bool) -> Self {
        Self {
            policy: Policy::new(dropping.code),
            memory: dropping.memory,
            deallocs: dropping.deallocs,
            waiters: Vec::new(),
            permits: PermitWatch::default(),
            named: None,
            acquire: Vec::new(),
            ringing: None,
            ends: Ends::default(),
            upgradable: Upgradable::default(),
            releases: Releases::of(dropping.contended, patient),
            dropped: Dropped::default(),
            thorough: false,
            unwound: false,
        }
    }

    /// What a call of `target` means.
    pub(super) fn role(&self, target: u64) -> Option<Role> {
        self.policy.code.role(target)
    }

    /// What the drop has shown, where it ended so.
    pub(super) fn finish(mut self, incomplete: Option<String>) -> Dropped {
        let mut dropped = Dropped { locks: self.releases.into_released(), incomplete, ..self.dropped };
        // From the last on: what stands before keeps its place.
        for (given, shares) in self.upgradable.within(&dropped.freed).into_iter().rev() {
            dropped.given.drain(given);
            self.ends.forget(shares);
        }
        self.ends.finish(self.memory, &mut dropped);
        dropped
    }
}

impl Unwinding for DropHooks<'_> {
    fn begin_onward(&mut self, m: &Machine<'_>) {
        self.releases.begin_onward(m);
    }

    fn end_onward(&mut self, m: &mut Machine<'_>) {
        self.releases.end_onward(m);
    }

    fn begin(&mut self) {
        self.unwound = false;
    }

    fn is_through(&self) -> bool {
        self.unwound
    }
}

/// The calls that lead to where the machine stands, outermost first.
pub(super) fn path(m: &Machine<'_>) -> Vec<u64> {
    m.frames().iter().filter_map(|frame| frame.call_site).chain([m.ip()]).collect()
}

impl Hooks for DropHooks<'_> {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, how: Transfer) -> Action {
        // Another task's cell: what that one holds is not ours.
        if self.deallocs.contains(&target) && !m.frames().is_empty() {
            return Action::Return(Some(0));
        }
        if self.dropped.functions.len() < NAMED {
            self.dropped.functions.push(target);
        }
        let role = self.policy.code.role(target);
        if role == Some(Role::ResumeUnwinding) || self.policy.code.external(target) == Some("_Unwind_Resume") {
            self.unwound = true;
            return Action::Stop;
        }
        let frees = role == Some(Role::Deallocate) || self.policy.code.external(target) == Some("free");
        if let Some(start) = m.reg(Reg::Rdi).filter(|_| frees) {
            // Who frees for C does not say how much.
            let size = m.reg(Reg::Rsi).filter(|_| role == Some(Role::Deallocate)).unwrap_or(0);
            self.dropped.freed.push(start..start.saturating_add(size));
        }
        // To wake others changes nothing here, and ends in the kernel.
        if self.policy.code.is_nameless_waker(target) {
            return Action::Return(Some(0));
        }
        if let Some(role) = self.policy.code.lock_role(target) {
            return self.releases.on_call(m, role);
        }
        let sink = match role {
            Some(Role::Sink(sink)) => sink,
            Some(Role::Part(sink)) => {
                self.ends.part(m, sink);
                if let (Sink::Sender(Channel::Watch), Some(first)) = (sink, m.reg(Reg::Rdi)) {
                    self.ringing = Some(m.frames().len() - usize::from(how == Transfer::TailJump));
                    self.dropped.rung.push(first..first);
                }
                return Action::Continue;
            }
            Some(Role::Abort) => {
                let header = m.reg(Reg::Rdi).and_then(|handle| m.read_u64(handle).ok());
                self.dropped.aborted.extend(header);
                return Action::Return(Some(0));
            }
            // What else the drop of a sender calls is the waker of whoever receives.
            None | Some(Role::Wake) if self.ends.is_in_sender() => return Action::Return(Some(0)),
            _ => return self.policy.on_call(m, target, role),
        };
        let Some(this) = m.reg(Reg::Rdi) else {
            return Action::Unknown("what is given back here is not known".into());
        };
        if !matches!(sink, Sink::Release | Sink::AddPermits | Sink::Sender(_)) {
            self.dropped.leaves.push((this, path(m)));
        }
        let depth = m.frames().len() - usize::from(how == Transfer::TailJump);
        let within = self.acquire.last().map(|(_, address)| *address);
        // An `add_permits_locked` inside a `release` would say the same twice, but a release is not stepped into.
        let address = match sink {
            Sink::AcquireDrop => {
                self.dropped.acquires.push(this);
                self.acquire.push((depth, this));
                return Action::Continue;
            }
            Sink::Deregister => return Action::Return(Some(0)),
            // The room of the messages that the receiver drops.
            Sink::Release if self.ends.is_closed(this) => return Action::Return(Some(0)),
            Sink::AddPermits if self.ends.is_closed(this) => return Action::Continue,
            Sink::Release | Sink::AddPermits => this,
            Sink::Sender(_) | Sink::Receiver(_) | Sink::JoinHandle => match m.read_u64(this) {
                Ok(inner) => inner,
                Err(unknown) => return Action::Unknown(unknown.to_string()),
            },
        };
        let Some(amount) = m.reg(Reg::Rsi).or((!matches!(sink, Sink::Release | Sink::AddPermits)).then_some(1)) else {
            return Action::Unknown("how many permits are given back here is not known".into());
        };
        let amount = if matches!(sink, Sink::Release | Sink::AddPermits) { amount } else { 1 };
        // An end of a channel that was given away before: nothing is left in it.
        if address != 0 && amount != 0 {
            self.ends.given(address);
            self.dropped.given.push(Given { path: path(m), sink, address, amount, within });
        }
        match sink {
            Sink::Sender(_) | Sink::Receiver(_) if self.thorough => Action::Continue,
            Sink::AddPermits => {
                self.named.get_or_insert(depth);
                Action::Continue
            }
            // It wakes who receives, and that tells who does.
            Sink::Sender(Channel::Oneshot) => {
                self.ends.begin_sender(depth);
                Action::Continue
            }
            // What it has not received goes with it.
            Sink::Receiver(Channel::Mpsc | Channel::Oneshot) => {
                self.ends.begin_receiver(depth, address);
                Action::Continue
            }
            _ => Action::Return(Some(0)),
        }
    }

    fn is_function(&self, address: u64) -> bool {
        self.policy.code.is_function(address)
    }

    fn on_atomic(&mut self, m: &mut Machine<'_>, access: &Atomic) {
        self.releases.on_atomic(m, access);
        self.upgradable.on_atomic(access, (self.dropped.given.len(), self.ends.seen()));
        self.ends.atomic(m, access);
        if let (Some(_), Some(rung)) = (self.ringing, self.dropped.rung.last_mut()) {
            rung.end = rung.end.max(access.address + 1);
        }
        children::mark(&mut self.dropped.marked, access);
        let Some(release) = self.permits.on_atomic(access) else { return };
        // An acquire is taken out of the queue and gives back what was reserved for it under one lock.
        let left = self.waiters.iter().position(|waiter| waiter.lock == release.lock && !waiter.stands(m));
        let within = left.map(|at| self.waiters.swap_remove(at).acquire);
        if self.named.is_some() {
            if let Some(given) = self.dropped.given.last_mut() {
                given.within = given.within.or(within);
            }
        } else if release.permits > 0 {
            self.dropped.released.push(Released { release, within });
        }
    }

    fn on_return(&mut self, m: &mut Machine<'_>, _frame: &CallFrame) -> Action {
        let depth = m.frames().len() - 1;
        if self.named.is_some_and(|named| named >= depth) {
            self.named = None;
        }
        if self.ringing.is_some_and(|ringing| ringing >= depth) {
            self.ringing = None;
        }
        while self.acquire.pop_if(|(open, _)| *open >= depth).is_some() {}
        self.ends.end(depth);
        Action::Continue
    }
}

//! The dry run of a task's `poll`: which leaf futures it reaches, and by which calls.

use std::sync::Arc;

use super::{
    children::Woken,
    classify::{Leaf, Role},
    code::Code,
    heap::Header,
    policy::Policy,
    shape::{self, Watcher},
    state::{NOTIFIED, REFERENCE, RUNNING},
    vtables::TaskVtable,
    waker::{self, WakerSearch, receiver, takes_context},
};
use crate::{
    debuginfo::FrameRegisters,
    dryrun::{Action, Atomic, CallFrame, Hooks, Limits, Looked, Machine, Outcome, Reg, Transfer},
    locks,
    target::Memory,
};

/// Bytes of a leaf future, at most: `Acquire` has 64, `Notified` 64.
pub(super) const LEAF_SPAN: u64 = 96;
/// Words of a leaf future that are looked at, counted from its start.
const LEAF_WORDS: usize = 24;
/// Atomic accesses of a leaf that are kept: its resource is touched first.
const LEAF_ATOMICS: usize = 8;
/// Instructions that a root's poll or drop may take.
const ROOT_STEPS: u64 = 5_000_000;
/// Bytes of pages that it may write to: a page each for the tasks whose handles it drops, say.
const ROOT_BYTES: usize = 256 << 20;
/// More leaves than a task is shown with.
const MAX_HITS: usize = 512;

/// One call on the way to a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Step {
    /// Tells this invocation of the calling function from all others of the run.
    pub(super) invocation: u64,
    /// Address of the call instruction.
    pub(super) site: u64,
}

/// A leaf that was reached.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    /// The calls that led to it, outermost first.
    pub(super) path: Vec<Step>,
    /// Which, or `None` for one that no table knows.
    pub(super) leaf: Option<Leaf>,
    /// Entry of the function that was called, or, of a look at the waker, of the one that looked.
    pub(super) function: u64,
    /// It is known by its look at the task's waker: `path` leads into it.
    pub(super) looked: bool,
    /// Where it looked at copies of the waker, beside those that it makes.
    pub(super) copies: Looked,
    /// `self`: the future's address.
    pub(super) this: u64,
    /// The future's first words; shorter where they could not be read.
    pub(super) words: Vec<u64>,
    /// Its first atomic accesses.
    pub(super) atomics: Vec<Atomic>,
    /// The future in a set that waits in it: it is polled only where that was woken.
    pub(super) child: Option<Arc<Woken>>,
}

impl Hit {
    /// What tells which of two was polled where in the code.
    pub(super) fn order(&self) -> impl Iterator<Item = (u64, u64)> {
        self.path.iter().map(|step| (step.invocation, step.site))
    }
}

/// What a dry poll has shown.
#[derive(Debug)]
pub(super) struct Polled {
    pub(super) hits: Vec<Hit>,
    /// Invocations that chose between their children by `select!` or a timeout.
    pub(super) selects: Vec<u64>,
    /// Invocations that poll their children as those of a `join!` are polled, each with where it does so.
    pub(super) joins: Vec<(u64, u64)>,
    /// Functions between the scheduler and the future, made for its type alone.
    pub(super) poll_functions: Vec<u64>,
    /// Wakers of the task that somebody keeps and that were looked at: where they stand.
    pub(super) kept: Vec<u64>,
    /// Looks at its waker were noticed from its beginning: no leaf was passed by.
    pub(super) watched: bool,
    /// Why it is not the whole truth.
    pub(super) incomplete: Option<String>,
    /// The deepest call before any hit, for a task whose leaf was inlined: where it was made from tells the leaf.
    pub(super) deepest_call: Vec<Step>,
}

impl Polled {
    /// Leaves out the functions that are polls by their name and have not looked at the waker, unless nothing else is left:
    /// what they wait for, if anything, never comes.
    fn leave_out_the_deaf(&mut self) {
        let hears = |hit: &Hit| hit.leaf.is_some() || hit.looked;
        if self.hits.iter().any(hears) {
            self.hits.retain(hears);
        }
    }
}

/// Polls the task at `header` over a copy-on-write view. With `first_only` the run ends at the first leaf: what comes
/// after it in a task that has been woken is future, not present. `observe` sees the machine at the first leaf.
pub(super) fn run(
    code: &Code,
    memory: &dyn Memory,
    vtable: &TaskVtable,
    header: &Header,
    fs_base: u64,
    first_only: bool,
    observe: &mut dyn FnMut(&Machine<'_>),
) -> Polled {
    let mut poll = |known: Option<u64>| {
        let mut machine = machine_for(code, memory, header, fs_base);
        let task = Some(Polling { header: header.address, began: false });
        let waker = WakerSearch::new(Some(header.address));
        let mut hooks = PollHooks { observe: Some(&mut *observe), waker, task, ..PollHooks::new(code, first_only) };
        hooks.waker.begin(&mut machine, code, known);
        let outcome = machine.call(vtable.poll, &[header.address], &mut hooks);
        let began = hooks.task.as_ref().is_some_and(|task| task.began);
        let found = hooks.waker.found();
        let mut polled = hooks.finish(&outcome);
        let kept = found.map(|functions| waker::kept(&machine.looks(), memory, functions, header.address));
        polled.kept = kept.unwrap_or_default();
        if vtable.by_shape && !began {
            polled.hits.clear();
            polled.incomplete = Some("what was taken for its poll did not begin as one".into());
        }
        (polled, found)
    };
    let known = code.wakers_of.borrow().get(&vtable.poll).copied();
    let mut polled = from_the_beginning(&mut poll, known, |found| code.learn_waker(memory, vtable.poll, found));
    // What has not looked is woken by a waker that it has kept, or never. All that anyone keeps were looked at.
    if polled.watched && header.state.wakers() == polled.kept.len() as u64 {
        polled.leave_out_the_deaf();
    }
    polled
}

/// Polls once, or, where the functions of the waker were not `known` and the first poll has found them, once more: who looked
/// at the waker before it was found went unseen.
fn from_the_beginning(
    poll: &mut dyn FnMut(Option<u64>) -> (Polled, Option<u64>),
    known: Option<u64>,
    learn: impl FnOnce(u64),
) -> Polled {
    let (polled, found) = poll(known);
    let (polled, watched) = match (known, found) {
        (None, Some(found)) => {
            learn(found);
            (poll(Some(found)).0, true)
        }
        (known, _) => (polled, known.is_some()),
    };
    Polled { watched, ..polled }
}

/// Polls the task at `header` as it would be had this future in a set of its own been woken.
pub(super) fn run_woken(
    code: &Code,
    memory: &dyn Memory,
    vtable: &TaskVtable,
    header: &Header,
    fs_base: u64,
    woken: &Woken,
) -> (Polled, Turn) {
    let mut machine = machine_for(code, memory, header, fs_base);
    let task = Some(Polling { header: header.address, began: false });
    let mut hooks = PollHooks { task, ..PollHooks::woken(code, &mut machine, woken) };
    let outcome = machine.call(vtable.poll, &[header.address], &mut hooks);
    hooks.finish_turn(&outcome)
}

/// The same for a root whose thread waits in a `block_on`: see [`resume`].
pub(super) fn resume_woken(
    code: &Code,
    memory: &dyn Memory,
    frames: &[FrameRegisters],
    fs_base: u64,
    woken: &Woken,
) -> (Polled, Turn) {
    let mut machine = machine_in(code, memory, frames, fs_base);
    let hooks = PollHooks::woken(code, &mut machine, woken);
    let mut hooks = PollHooks { parking: true, ..hooks.inside(frames) };
    let outcome = machine.resume(&mut hooks);
    hooks.finish_turn(&outcome)
}

/// A machine in which the task at `header` can be polled.
pub(super) fn machine_for<'m>(code: &'m Code, memory: &'m dyn Memory, header: &Header, fs_base: u64) -> Machine<'m> {
    let mut machine = Machine::with_code_cache(memory, Limits::default(), &code.cache);
    machine.set_fs_base(fs_base);
    // A poll begins with the transition notified → running.
    machine.write_u64(header.address, header.state.0 & !RUNNING | NOTIFIED);
    machine
}

/// Goes on from the innermost of `frames` (innermost first) of a thread that waits in `block_on`, until it waits again.
/// Returns also the flags that were taken back and found clear; those of `set` are set first.
pub(super) fn resume(
    code: &Code,
    memory: &dyn Memory,
    frames: &[FrameRegisters],
    fs_base: u64,
    set: &[u64],
) -> (Polled, Vec<u64>) {
    let mut flags = Vec::new();
    let mut poll = |known: Option<u64>| {
        let mut machine = machine_in(code, memory, frames, fs_base);
        for flag in set {
            machine.write(*flag, &[1]);
        }
        let mut hooks = PollHooks { parking: true, ..PollHooks::new(code, false).inside(frames) };
        hooks.waker.begin(&mut machine, code, known);
        let outcome = machine.resume(&mut hooks);
        flags = std::mem::take(&mut hooks.clear_flags);
        let found = hooks.waker.found();
        (hooks.finish(&outcome), found)
    };
    let polled = from_the_beginning(&mut poll, None, |_| ());
    (polled, flags)
}

/// A machine in which the innermost of `frames` goes on from its call.
pub(super) fn machine_in<'m>(
    code: &'m Code,
    memory: &'m dyn Memory,
    frames: &[FrameRegisters],
    fs_base: u64,
) -> Machine<'m> {
    let mut machine = locks::machine_at(&code.cache, memory, root_limits(), frames, fs_base);
    // The system call that the thread is in returns nothing: no event, nobody woken.
    machine.set_reg(Reg::Rax, Some(0));
    machine
}

/// Bounds of a run from within a thread's frames: a root may own a great many things, and there are few roots.
pub(super) fn root_limits() -> Limits {
    Limits { steps: ROOT_STEPS, overlay_bytes: ROOT_BYTES, ..Limits::default() }
}

/// A poll function that is being run.
struct OpenPoll {
    depth: usize,
    hits_before: usize,
    hit: Hit,
}

/// A task that is being polled.
struct Polling {
    header: u64,
    /// It was seen to go over to running.
    began: bool,
}

/// What a future in a set did when it was its turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Its flag.
    flag: u64,
    /// Where the set took it from those that were woken, and how many leaves had been reached by then.
    pub(super) began: Option<(Vec<Step>, usize)>,
    /// Where the task woke itself: its set does so when it has polled all that it has.
    pub(super) woke_itself: Vec<Vec<Step>>,
    /// A future in a set was woken while it was polled: of those a set polls no more than two.
    pub(super) yielded: bool,
}

struct PollHooks<'c> {
    policy: Policy<'c>,
    observe: Option<&'c mut dyn FnMut(&Machine<'_>)>,
    /// The invocation number of each frame on the machine's call stack.
    invocations: Vec<u64>,
    next: u64,
    polls: Vec<OpenPoll>,
    /// Depth of the deepest call so far.
    deepest: usize,
    /// The leaf that is being run: its frame's depth.
    inside: Option<usize>,
    first_only: bool,
    /// The task that is polled, unless it is a root.
    task: Option<Polling>,
    /// Finds leaves that were inlined.
    watcher: Watcher,
    waker: WakerSearch,
    /// A `block_on` is run: its end is to go to wait again.
    parking: bool,
    /// It has.
    parked: bool,
    /// Invocations that run the tasks of a `LocalSet` besides a future.
    drivers: Vec<u64>,
    /// One-byte flags that were swapped for clear and were clear.
    clear_flags: Vec<u64>,
    /// A future in a set was woken before.
    turn: Option<Turn>,
    polled: Polled,
}

impl<'c> PollHooks<'c> {
    fn new(code: &'c Code, first_only: bool) -> Self {
        Self {
            policy: Policy::new(code),
            observe: None,
            invocations: vec![0],
            next: 1,
            polls: Vec::new(),
            deepest: 0,
            inside: None,
            first_only,
            task: None,
            watcher: Watcher::default(),
            waker: WakerSearch::new(None),
            parking: false,
            parked: false,
            drivers: Vec::new(),
            clear_flags: Vec::new(),
            turn: None,
            polled: Polled {
                hits: Vec::new(),
                selects: Vec::new(),
                joins: Vec::new(),
                poll_functions: Vec::new(),
                kept: Vec::new(),
                watched: false,
                incomplete: None,
                deepest_call: Vec::new(),
            },
        }
    }

    /// For a run in which a future in a set has been woken. Only those are noticed who look at its own waker.
    fn woken(code: &'c Code, machine: &mut Machine<'_>, woken: &Woken) -> Self {
        woken.prepare(machine);
        let turn = Some(Turn { flag: woken.flag(), ..Turn::default() });
        let mut hooks = Self { turn, ..Self::new(code, false) };
        hooks.waker.begin(machine, code, Some(woken.waker()));
        hooks
    }

    /// For a run that begins in the midst of these frames.
    fn inside(self, frames: &[FrameRegisters]) -> Self {
        let next = frames.len() as u64;
        Self { invocations: (0..next).collect(), next, ..self }
    }

    fn finish_turn(mut self, outcome: &Outcome) -> (Polled, Turn) {
        let turn = self.turn.take().unwrap_or_default();
        (self.finish(outcome), turn)
    }

    fn finish(mut self, outcome: &Outcome) -> Polled {
        self.pass_over_drivers();
        let mut polled = self.polled;
        polled.incomplete = match outcome {
            Outcome::Returned { .. } => None,
            Outcome::Stopped if self.parked => None,
            Outcome::Stopped if self.first_only => Some("woken: shown where it waited last".into()),
            Outcome::Stopped => Some(format!("more than {MAX_HITS} futures are awaited at once")),
            Outcome::Unknown(unknown) => Some(unknown.to_string()),
        };
        polled
    }

    /// Whether the code that runs is the poll of a `LocalSet` itself, which waits for its tasks.
    fn is_set(&self, m: &Machine<'_>) -> bool {
        m.frames().last().is_some_and(|frame| self.policy.code.role(frame.function) == Some(Role::Poll))
    }

    /// Takes out what is no wait of its own: who runs a `LocalSet` besides its future is polled again when a task of the set is
    /// woken, and sees to that before all else.
    ///
    /// Source: `RunUntil::poll` in tokio/src/task/local.rs, 1.38 to 1.54.
    fn pass_over_drivers(&mut self) {
        for driver in std::mem::take(&mut self.drivers) {
            let registers = |hit: &Hit| {
                let caller = hit.path.iter().rev().nth(1);
                self.policy.code.role(hit.function) == Some(Role::Registers)
                    && caller.is_some_and(|step| step.invocation == driver)
            };
            if let Some(at) = self.polled.hits.iter().position(registers) {
                self.polled.hits.remove(at);
            }
        }
    }

    fn path(&self, m: &Machine<'_>) -> Vec<Step> {
        let frames = m.frames();
        frames
            .iter()
            .skip(1)
            .map(|frame| frame.call_site)
            .chain([Some(m.ip())])
            .zip(&self.invocations)
            .filter_map(|(site, invocation)| Some(Step { invocation: *invocation, site: site? }))
            .collect()
    }

    fn hit(&self, m: &Machine<'_>, function: u64, leaf: Option<Leaf>) -> Hit {
        let this = match leaf {
            // `try_read_output(header, result, waker)`, `pop_notified(list, waker)`
            Some(Leaf::JoinOutput | Leaf::JoinSetList) => m.reg(Reg::Rdi).unwrap_or(0),
            _ => receiver(m, self.policy.code),
        };
        let words = (0..LEAF_WORDS as u64).map_while(|index| m.read_u64(this.wrapping_add(index * 8)).ok()).collect();
        let (path, atomics) = (self.path(m), Vec::new());
        Hit { path, leaf, function, looked: false, copies: Looked::Own, this, words, atomics, child: None }
    }

    /// Whatever is to be woken has to look at the task's waker: to keep a copy, or to see that it has one already. Who looks
    /// and is no leaf that a table knows is one all the same, also where no function of its own is left of it.
    fn notice(&mut self, m: &Machine<'_>) {
        if let Some(looked) = m.looked_at() {
            self.look(m, looked);
        }
    }

    /// Someone has looked at the waker, and at these copies of it beside that which was handed down.
    fn look(&mut self, m: &Machine<'_>, copies: Looked) {
        if self.inside.is_some() || self.polled.hits.len() >= MAX_HITS {
            return;
        }
        let Some(frame) = m.frames().last() else { return };
        let path = self.path(m);
        // It compares two words, clones, and drops the old one, each perhaps in a function of its own: one look.
        let inside = |outer: &[Step], inner: &[Step]| {
            outer.last().is_none_or(|step| inner.iter().any(|other| other.invocation == step.invocation))
        };
        // What was reached before a future's turn is not its own.
        let before = self.turn.as_ref().and_then(|turn| turn.began.as_ref()).map_or(0, |(_, hits)| *hits);
        let is_own = self.polled.hits.len() > before;
        let again =
            |last: &Hit| is_own && last.leaf.is_none() && (inside(&last.path, &path) || inside(&path, &last.path));
        if let Some(last) = self.polled.hits.last_mut().filter(|last| again(last)) {
            // Two that are to be woken may look as one.
            last.copies = last.copies.and(copies);
            last.looked = true;
            return;
        }
        let depth = m.frames().len() - 1;
        let this = self.polls.last().filter(|open| open.depth == depth).map_or(0, |open| open.hit.this);
        let function = frame.function;
        let (words, atomics) = (Vec::new(), Vec::new());
        let hit = Hit { path, leaf: None, function, looked: true, copies, this, words, atomics, child: None };
        self.polled.hits.push(hit);
    }

    /// An acquire without a name has been polled, up to the instruction at `ip`.
    fn queued(&mut self, m: &Machine<'_>, ip: u64, acquire: shape::QueuedAcquire) {
        // It looked at the waker under the lock of its queue.
        m.looked_at();
        if self.polled.hits.len() >= MAX_HITS {
            return;
        }
        if let Some(observe) = self.observe.take() {
            observe(m);
        }
        let shape::QueuedAcquire { this, words, atomics } = acquire;
        let (path, leaf) = (self.path(m), Some(Leaf::Acquire));
        self.polled.hits.push(Hit {
            path,
            leaf,
            function: ip,
            looked: true,
            copies: Looked::Own,
            this,
            words,
            atomics,
            child: None,
        });
    }
}

/// The C functions in which tokio's threads wait.
fn waits(function: &str) -> bool {
    matches!(function, "syscall" | "epoll_wait" | "epoll_pwait")
}

impl Hooks for PollHooks<'_> {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, how: Transfer) -> Action {
        let depth = m.frames().len();
        self.invocations.truncate(depth);
        let role = self.policy.code.role(target);
        let wakes_itself = || self.task.as_ref().is_none_or(|task| m.reg(Reg::Rdi) == Some(task.header));
        if role == Some(Role::Wake) && self.turn.is_some() && wakes_itself() {
            let path = self.path(m);
            self.turn.iter_mut().for_each(|turn| turn.woke_itself.push(path.clone()));
        }
        if role == Some(Role::WakeChild) {
            self.turn.iter_mut().for_each(|turn| turn.yielded = true);
        }
        self.notice(m);
        let caller = self.invocations.last().copied().unwrap_or(0);
        // A root is given its context by its first poll function.
        if self.task.is_some() || matches!(role, Some(Role::Poll | Role::PollUnpin | Role::Leaf(_))) {
            self.waker.find(m, self.policy.code);
        }
        // A root that waits again: its loop has come to the park function, or to the system call inside it.
        if role == Some(Role::Park)
            || (self.parking && self.inside.is_none() && self.policy.code.external(target).is_some_and(waits))
        {
            self.parked = true;
            return Action::Stop;
        }
        let action = self.policy.on_call(m, target, role);
        if role == Some(Role::TaskPoll) && self.polled.hits.is_empty() {
            self.polled.poll_functions.push(target);
        }
        if self.inside.is_none() {
            match role {
                Some(Role::Select | Role::Draw) => self.polled.selects.push(caller),
                Some(Role::Join) => self.polled.joins.push((caller, m.ip())),
                Some(Role::Tick) if !self.is_set(m) => self.drivers.push(caller),
                _ => {}
            }
            if self.polled.hits.is_empty() && depth > self.deepest {
                self.deepest = depth;
                self.polled.deepest_call = self.path(m);
            }
        }
        if action != Action::Continue {
            return action;
        }
        if role == Some(Role::Draw) {
            // The same at each read: two reads of a task at rest must be equal.
            return Action::Return(Some(0));
        }
        // The frame that this call opens stands at `depth`; a tail jump keeps the frame that it leaves.
        let opened = if how == Transfer::Call { depth } else { depth.saturating_sub(1) };
        if how == Transfer::Call {
            self.invocations.push(self.next);
            self.next += 1;
        }
        // What polls is a frame of its own for its children, whether it was called or jumped to.
        if role == Some(Role::Select) {
            self.polled.selects.extend(self.invocations.get(opened));
        }
        if self.inside.is_none() {
            match role {
                Some(Role::Leaf(leaf)) => {
                    if self.polled.hits.len() >= MAX_HITS {
                        return Action::Stop;
                    }
                    if let Some(observe) = self.observe.take() {
                        observe(m);
                    }
                    let hit = self.hit(m, target, Some(leaf));
                    self.polled.hits.push(hit);
                    self.inside = Some(opened);
                }
                Some(Role::Poll) if takes_context(m, self.policy.code) => {
                    let hit = self.hit(m, target, None);
                    self.polls.push(OpenPoll { depth: opened, hits_before: self.polled.hits.len(), hit });
                }
                _ => {}
            }
        }
        Action::Continue
    }

    fn is_function(&self, address: u64) -> bool {
        self.policy.code.is_function(address)
    }

    fn on_return(&mut self, m: &mut Machine<'_>, _frame: &CallFrame) -> Action {
        self.notice(m);
        let depth = m.frames().len() - 1;
        self.invocations.truncate(depth);
        if self.inside == Some(depth) {
            self.inside = None;
            if self.first_only {
                return Action::Stop;
            }
        }
        while let Some(open) = self.polls.pop_if(|open| open.depth >= depth) {
            // It polled nothing: it is a leaf itself, one that no table knows.
            if self.inside.is_none() && self.polled.hits.len() == open.hits_before {
                self.polled.hits.push(open.hit);
                if self.first_only {
                    return Action::Stop;
                }
            }
        }
        Action::Continue
    }

    fn on_atomic(&mut self, m: &mut Machine<'_>, access: &Atomic) {
        if self.parking && access.size == 1 && (access.old, access.new) == (Some(0), Some(0)) {
            self.clear_flags.push(access.address);
        }
        let taken = access.size == 1 && (access.old, access.new) == (Some(1), Some(0));
        if taken && self.turn.as_ref().is_some_and(|turn| turn.flag == access.address && turn.began.is_none()) {
            let began = Some((self.path(m), self.polled.hits.len()));
            self.turn.iter_mut().for_each(|turn| turn.began.clone_from(&began));
        }
        let mut clones = false;
        if let Some(task) = self.task.as_mut().filter(|task| task.header == access.address) {
            task.began |= access.new.is_some_and(|state| state & RUNNING != 0);
            clones = access.old.zip(access.new).is_some_and(|(old, new)| old.checked_add(REFERENCE) == Some(new));
        }
        if self.inside.is_none() {
            match self.watcher.on_atomic(m, access) {
                Some(acquire) => self.queued(m, access.ip, acquire),
                // Who copies the waker is to be woken by it, also where nothing had to be loaded for that.
                None if clones => self.look(m, Looked::Own),
                None => self.notice(m),
            }
        }
        if self.inside.is_some()
            && let Some(hit) = self.polled.hits.last_mut()
            && hit.atomics.len() < LEAF_ATOMICS
        {
            hit.atomics.push(*access);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polled(hits: &[(Option<Leaf>, bool)]) -> Polled {
        let hit = |&(leaf, looked): &(Option<Leaf>, bool)| Hit {
            path: Vec::new(),
            leaf,
            function: 0,
            looked,
            copies: Looked::Own,
            this: 0,
            words: Vec::new(),
            atomics: Vec::new(),
            child: None,
        };
        Polled {
            hits: hits.iter().map(hit).collect(),
            selects: Vec::new(),
            joins: Vec::new(),
            poll_functions: Vec::new(),
            kept: Vec::new(),
            watched: true,
            incomplete: None,
            deepest_call: Vec::new(),
        }
    }

    #[test]
    fn what_cannot_be_woken_is_left_out_beside_what_can() {
        let mut beside = polled(&[(Some(Leaf::Io), false), (None, false), (None, true)]);
        beside.leave_out_the_deaf();
        assert_eq!(beside.hits.len(), 2);
        let mut alone = polled(&[(None, false)]);
        alone.leave_out_the_deaf();
        assert_eq!(alone.hits.len(), 1);
    }
}

//! Questions to the code of a task that its poll alone does not answer: what would it do if …? Asked by a dry run in which
//! that is so. The answer belongs to the place in the code, so each place is asked once.

use std::{ops::Range, path::Path};

use super::{
    children::Woken,
    classify::{Role, Sink},
    code::Code,
    heap::Header,
    policy::Policy,
    poll,
    roots::Root,
    vtables::TaskVtable,
    waker,
};
use crate::{
    dryrun::{Action, Atomic, CallFrame, Hooks, Machine, Outcome, Reg, Transfer},
    target::{Memory, PAGE, Trail},
};

/// A task or root to ask, over a copy-on-write view.
pub(super) struct Probe<'a> {
    pub(super) code: &'a Code,
    pub(super) memory: &'a dyn Memory,
    pub(super) asked: Asked<'a>,
    /// Where the leaf is that of a future in a set: the process with that woken.
    pub(super) woken: Option<&'a Woken>,
}

/// Who is asked.
#[derive(Clone, Copy)]
pub(super) enum Asked<'a> {
    /// A task, on a thread with this thread pointer.
    Task { vtable: &'a TaskVtable, header: &'a Header, fs_base: u64 },
    /// What a thread waits for in `block_on`, if it can be asked.
    Root(&'a Root<'a>),
}

/// A leaf: where in the code it is polled, and which future it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Awaited {
    pub(super) site: u64,
    pub(super) this: u64,
}

/// An async function around a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Enclosing {
    /// Its source file.
    pub(super) file: String,
    /// Where it keeps how far it has come.
    pub(super) at: u64,
    /// How far.
    pub(super) state: u8,
}

/// How an async function keeps how far it has come, in a byte: it has returned, or it waits at the first or second of its awaits.
/// (0 and 2 are one that has not begun and one that has panicked.)
const RETURNED: u8 = 1;
const FIRST_AWAITS: Range<u8> = 3..5;
/// Bytes from a leaf to what an async function around it keeps of itself, at most.
const ENCLOSING_SPAN: u64 = 4096;
/// Bytes that are asked about, at most: each costs another poll.
const MOST_STATES: usize = 64;

impl Probe<'_> {
    /// Were `leaf` notified: among which notifications does the code ask for another at once, as one does who receives from a
    /// `watch`? The first one's address.
    ///
    /// Source: `changed_impl` in tokio/src/sync/watch.rs, 1.38 to 1.54, looks at the version only when it has asked.
    pub(super) fn asks_again(&self, leaf: Awaited) -> Option<u64> {
        const READY: u64 = 0;
        let mut hooks = ProbeHooks { told: Some((leaf, READY)), ..ProbeHooks::new(self.code) };
        let _ = self.run(&mut hooks, |_| ());
        hooks.asked_for
    }

    /// The async functions around `leaf` that wait at one of their first awaits, in no order.
    ///
    /// Each says where it stands in the source if it is polled after it has returned: what the panic names is in every
    /// build. So in one dry run after the other each byte that the poll looks at, and that may be such a state, is made
    /// that of one that has returned. The panic has to come in place of the leaf.
    pub(super) fn enclosing(&self, leaf: Awaited) -> Vec<Enclosing> {
        let trail = Trail::new(self.memory);
        let traced = Probe { memory: &trail, ..*self };
        let mut hooks = ProbeHooks { until: Some(leaf), ..ProbeHooks::new(self.code) };
        let _ = traced.run(&mut hooks, |_| ());
        if hooks.until.is_some() {
            return Vec::new();
        }
        let before = hooks.leaves;
        let states = looked_at(&trail, leaf.this).into_iter().filter_map(|at| {
            let mut state = [0];
            self.memory.read(at, &mut state).ok()?;
            FIRST_AWAITS.contains(&state[0]).then_some((at, state[0]))
        });
        let says = |(at, state): (u64, u8)| {
            let mut hooks = ProbeHooks { until: Some(leaf), ..ProbeHooks::new(self.code) };
            let _ = self.run(&mut hooks, |machine| machine.write(at, &[RETURNED]));
            let in_its_place = hooks.until.is_some() && hooks.leaves == before;
            hooks.panic_file.filter(|_| in_its_place).map(|file| Enclosing { file, at, state })
        };
        states.take(MOST_STATES).filter_map(says).collect()
    }

    /// Were `leaf` told that its semaphore is closed: would the async function around it return, without giving anything
    /// back or waiting for anything else?
    pub(super) fn gives_up_when_closed(&self, leaf: Awaited, around: &Enclosing) -> bool {
        /// `Poll::Ready(Err(AcquireError))`.
        const CLOSED: u64 = 1;
        let task = match self.asked {
            Asked::Task { header, .. } => Some(header.address),
            Asked::Root(_) => None,
        };
        let returns = Some((around.at, None));
        let mut hooks = ProbeHooks { told: Some((leaf, CLOSED)), returns, task, ..ProbeHooks::new(self.code) };
        let _ = self.run(&mut hooks, |_| ());
        match hooks.returns {
            Some((_, Some(returned))) => returned,
            // Unoptimised builds say that this cannot be.
            _ => hooks.panic_file.as_ref() == Some(&around.file),
        }
    }

    /// Were the semaphore closed whose count of free permits is `count` (address and value): in which source file does the
    /// code panic over it? `None` where it does not.
    ///
    /// Source: locks never close theirs, and say so with `unreachable!` (tokio/src/sync/{mutex,rwlock}.rs, 1.28 to 1.54).
    /// The place that a panic names is in every build.
    pub(super) fn file_of_panic_when_closed(&self, count: (u64, u64)) -> Option<String> {
        let mut hooks = ProbeHooks::new(self.code);
        // How the run ends does not matter: the first panic stops it.
        let _ = self.run(&mut hooks, |machine| machine.write_u64(count.0, count.1 | 1));
        hooks.panic_file
    }

    /// Were the child done that is polled at `site`: would the code poll its other children and go on waiting?
    ///
    /// Source: `join!` does, and looks at no output before all are done; `try_join!` looks at each at once, finds none that
    /// we have said to be there, and panics (tokio/src/macros/{join,try_join}.rs, 1.28 to 1.54).
    pub(super) fn waits_for_the_others(&self, site: u64) -> bool {
        let mut hooks = ProbeHooks { done_at: Some(site), ..ProbeHooks::new(self.code) };
        let outcome = self.run(&mut hooks, |_| ());
        hooks.panic_file.is_none() && hooks.done_at.is_none() && matches!(outcome, Outcome::Returned { .. })
    }

    /// Polls in a machine that is prepared so.
    fn run(&self, hooks: &mut ProbeHooks<'_>, prepare: impl FnOnce(&mut Machine<'_>)) -> Outcome {
        let prepare = |machine: &mut Machine<'_>| {
            self.woken.inspect(|woken| woken.prepare(machine));
            prepare(machine);
        };
        match &self.asked {
            Asked::Task { vtable, header, fs_base } => {
                let mut machine = poll::machine_for(self.code, self.memory, header, *fs_base);
                prepare(&mut machine);
                machine.call(vtable.poll, &[header.address], hooks)
            }
            Asked::Root(root) => {
                let mut machine = root.machine(self.code, self.memory);
                prepare(&mut machine);
                machine.resume(hooks)
            }
        }
    }
}

/// The bytes around `this` that were looked at, those nearest to it first.
fn looked_at(trail: &Trail<'_>, this: u64) -> Vec<u64> {
    let mut bytes = Vec::new();
    let near = this.saturating_sub(ENCLOSING_SPAN)..this.saturating_add(ENCLOSING_SPAN);
    trail.visit(|page, words| {
        if page >= near.end || page + PAGE <= near.start {
            return;
        }
        let word = |index: &u64| words[*index as usize / 64] >> (index % 64) & 1 == 1;
        let looked = (0..PAGE / 8).filter(word).flat_map(|index| (0..8).map(move |byte| page + index * 8 + byte));
        bytes.extend(looked.filter(|at| near.contains(at)));
    });
    bytes.sort_unstable_by_key(|at| at.abs_diff(this));
    bytes
}

struct ProbeHooks<'c> {
    policy: Policy<'c>,
    /// The child polled here is to be done.
    done_at: Option<u64>,
    /// The poll of this leaf is to return that.
    told: Option<(Awaited, u64)>,
    /// It has.
    was_told: bool,
    /// The word in the task's header that counts references to it.
    task: Option<u64>,
    /// The run ends at this leaf.
    until: Option<Awaited>,
    /// Leaves that were polled.
    leaves: usize,
    /// The first of the notifications of which another was asked for.
    asked_for: Option<u64>,
    /// The state of an async function, and whether, once the leaf was told, it has returned before all else.
    returns: Option<(u64, Option<bool>)>,
    /// Source file of the first panic, empty where it names none.
    panic_file: Option<String>,
}

impl<'c> ProbeHooks<'c> {
    fn new(code: &'c Code) -> Self {
        Self {
            policy: Policy::new(code),
            done_at: None,
            told: None,
            was_told: false,
            task: None,
            until: None,
            leaves: 0,
            asked_for: None,
            returns: None,
            panic_file: None,
        }
    }

    fn is_at(&self, m: &Machine<'_>, leaf: Awaited) -> bool {
        leaf.site == m.ip() && leaf.this == waker::receiver(m, self.policy.code)
    }

    /// A leaf is polled: what to do, if that is asked about.
    fn at_leaf(&mut self, m: &Machine<'_>) -> Option<Action> {
        if self.until.is_some_and(|until| self.is_at(m, until)) {
            self.until = None;
            return Some(Action::Stop);
        }
        self.leaves += 1;
        let (_, answer) = self.told.filter(|(leaf, _)| self.is_at(m, *leaf))?;
        self.told = None;
        self.was_told = true;
        Some(Action::Return(Some(answer)))
    }

    /// What follows where a leaf was told, on a call with this role.
    fn after_it(&mut self, m: &Machine<'_>, role: Option<Role>) -> Option<Action> {
        match role {
            // Its end would wait for the lock of its queue.
            Some(Role::Sink(Sink::Deregister | Sink::AcquireDrop)) => return Some(Action::Return(Some(0))),
            Some(Role::Notifications) => self.asked_for = m.reg(Reg::Rsi),
            Some(Role::Leaf(_) | Role::Poll | Role::Sink(_)) => {}
            _ => return None,
        }
        self.note_return(m);
        Some(Action::Stop)
    }

    /// Something happens after a leaf was told: has the async function returned before that?
    fn note_return(&mut self, m: &Machine<'_>) {
        if let Some((state, returned @ None)) = &mut self.returns {
            *returned = Some(m.read_u8(*state) == Ok(RETURNED));
        }
    }
}

impl Hooks for ProbeHooks<'_> {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, _how: Transfer) -> Action {
        /// `Poll::Ready(())`.
        const READY: u64 = 0;
        let role = self.policy.code.role(target);
        if role == Some(Role::Panic) {
            let file = Reg::ARGUMENTS.into_iter().find_map(|reg| source_file(m, m.reg(reg)?));
            self.panic_file = Some(file.unwrap_or_default());
            return Action::Stop;
        }
        let asked = match role {
            _ if self.was_told => self.after_it(m, role),
            Some(Role::Join) if self.done_at == Some(m.ip()) => {
                self.done_at = None;
                Some(Action::Return(Some(READY)))
            }
            Some(Role::Leaf(_)) => self.at_leaf(m),
            // The same order each time.
            Some(Role::Draw) => Some(Action::Return(Some(0))),
            _ => None,
        };
        asked.unwrap_or_else(|| self.policy.on_call(m, target, role))
    }

    fn is_function(&self, address: u64) -> bool {
        self.policy.code.is_function(address)
    }

    fn on_atomic(&mut self, m: &mut Machine<'_>, access: &Atomic) {
        // The leaf leaves its queue, under a lock, which takes fewer bytes than a count. The copy of its waker that it has kept
        // is a reference, to the task or to what a thread parks with.
        let given_back = access.old.is_some_and(|old| old.checked_sub(1) == access.new);
        if self.was_told && access.size == 8 && !given_back && self.task != Some(access.address) {
            self.note_return(m);
        }
    }

    fn on_return(&mut self, m: &mut Machine<'_>, _frame: &CallFrame) -> Action {
        if self.was_told
            && let Some((state, returned @ None)) = &mut self.returns
            && m.read_u8(*state) == Ok(RETURNED)
        {
            *returned = Some(true);
        }
        Action::Continue
    }
}

/// The file of the `core::panic::Location` at `address`: pointer and length of its name come first.
fn source_file(m: &Machine<'_>, address: u64) -> Option<String> {
    const LONGEST: u64 = 1024;
    let (name, length) = (m.read_u64(address).ok()?, m.read_u64(address.wrapping_add(8)).ok()?);
    if length > LONGEST {
        return None;
    }
    let mut bytes = vec![0; length as usize];
    m.read(name, &mut bytes).ok()?;
    String::from_utf8(bytes).ok().filter(|file| Path::new(file).extension().is_some_and(|extension| extension == "rs"))
}

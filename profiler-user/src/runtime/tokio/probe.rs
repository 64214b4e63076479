//! Questions to the code of a task that its poll alone does not answer: what would it do if …? Asked by a dry run in which
//! that is so. The answer belongs to the place in the code, so each place is asked once.

use std::path::Path;

use super::{classify::Role, code::Code, heap::Header, policy::Policy, poll, roots::Root, vtables::TaskVtable};
use crate::{
    dryrun::{Action, Hooks, Machine, Outcome, Reg, Transfer},
    target::Memory,
};

/// A task or root to ask, over a copy-on-write view.
pub(super) struct Probe<'a> {
    pub(super) code: &'a Code,
    pub(super) memory: &'a dyn Memory,
    pub(super) asked: Asked<'a>,
}

/// Who is asked.
pub(super) enum Asked<'a> {
    /// A task, on a thread with this thread pointer.
    Task { vtable: &'a TaskVtable, header: &'a Header, fs_base: u64 },
    /// What a thread waits for in `block_on`, if it can be asked.
    Root(&'a Root<'a>),
}

impl Probe<'_> {
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

struct ProbeHooks<'c> {
    policy: Policy<'c>,
    /// The child polled here is to be done.
    done_at: Option<u64>,
    /// Source file of the first panic, empty where it names none.
    panic_file: Option<String>,
}

impl<'c> ProbeHooks<'c> {
    fn new(code: &'c Code) -> Self {
        Self { policy: Policy::new(code), done_at: None, panic_file: None }
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
        if role == Some(Role::Join) && self.done_at == Some(m.ip()) {
            self.done_at = None;
            return Action::Return(Some(READY));
        }
        self.policy.on_call(m, target, role)
    }

    fn is_function(&self, address: u64) -> bool {
        self.policy.code.is_function(address)
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

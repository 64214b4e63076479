//! The target's code as dry runs need it: which function means what, where functions begin, and which frames a call site
//! lies in. Learned once; code does not change.

use std::{
    cell::{OnceCell, RefCell},
    ops::Range,
    sync::Arc,
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    classify::{self, Leaf, Role, Sink},
    resources::Around,
    strands,
};
use crate::{
    debuginfo::{Module, SymbolKind, name},
    dryrun::CodeCache,
    locks,
    model::Frame,
    target::Memory,
};

/// What gives permits back, and the public function that only calls it, on a struct with nothing else in it
/// (tokio/src/sync/{batch_semaphore,semaphore}.rs, 1.28 to 1.54).
const RELEASE: &str = "tokio::sync::batch_semaphore::Semaphore::release";
const ADD_PERMITS: &str = "tokio::sync::semaphore::Semaphore::add_permits";

/// One frame of a call site, inlined ones included.
#[derive(Clone, Debug)]
pub(super) struct SiteFrame {
    /// As users see it.
    pub(super) frame: Frame,
    /// The demangled name in full, which tells types.
    pub(super) raw: Arc<str>,
}

impl SiteFrame {
    /// A function of which nothing but its name is known.
    pub(super) fn named(function: &Arc<str>) -> Self {
        let frame = Frame { function: Arc::clone(function), file: None, line: None };
        Self { frame, raw: Arc::clone(function) }
    }
}

/// See the module's text.
pub(super) struct Code {
    roles: FxHashMap<u64, Role>,
    /// Of each module, where its constants lie.
    constants: Vec<Range<u64>>,
    functions: FxHashSet<u64>,
    externals: FxHashMap<u64, String>,
    sites: RefCell<FxHashMap<u64, Arc<[SiteFrame]>>>,
    /// Strands that have been built from frames.
    pub(super) strands: strands::Known,
    /// What the calls of destructors were made in: see `resources::around`.
    pub(super) drops: RefCell<FxHashMap<Box<[u64]>, Arc<Around>>>,
    /// Of a task's poll function, where the functions of the waker stand that it hands down.
    pub(super) wakers_of: RefCell<FxHashMap<u64, u64>>,
    /// `Semaphore::release(&self, permits)`, or what does the same by another name, where one of them was not inlined away.
    pub(super) release: Option<u64>,
    /// Whether frames have landing pads that say what they own.
    pub(super) unwinds: bool,
    /// Functions of locks made for threads.
    pub(super) locks: locks::Functions,
    /// The functions of tasks' wakers, where no symbol tells them.
    wakers: OnceCell<[u64; 4]>,
    /// See [`Code::child_wakers`].
    child_wakers: OnceCell<Vec<(u64, u64)>>,
    /// Some module has no symbols.
    nameless: bool,
    /// Decoded instructions, shared by all dry runs.
    pub(super) cache: CodeCache,
}

impl Code {
    pub(super) fn learn(modules: &[Module], memory: &dyn Memory) -> Self {
        let executable = modules.iter().flat_map(|module| module.executable_ranges().iter().cloned()).collect();
        let mut code = Self {
            roles: FxHashMap::default(),
            constants: modules.iter().map(constants).collect(),
            functions: FxHashSet::default(),
            externals: FxHashMap::default(),
            sites: RefCell::default(),
            strands: strands::Known::default(),
            drops: RefCell::default(),
            wakers_of: RefCell::default(),
            release: None,
            unwinds: modules.first().is_some_and(locks::unwinds),
            locks: locks::Functions::default(),
            wakers: OnceCell::new(),
            child_wakers: OnceCell::new(),
            nameless: false,
            // Only what belongs to a module is code; a call of a C library function is modelled, never run.
            cache: CodeCache::within(executable),
        };
        for module in modules {
            code.learn_module(module, memory);
        }
        code
    }

    /// The same, with all that has been learned, for another thread.
    pub(super) fn another(&self) -> Self {
        Self {
            roles: self.roles.clone(),
            constants: self.constants.clone(),
            functions: self.functions.clone(),
            externals: self.externals.clone(),
            sites: self.sites.clone(),
            strands: self.strands.clone(),
            drops: self.drops.clone(),
            wakers_of: self.wakers_of.clone(),
            release: self.release,
            unwinds: self.unwinds,
            locks: self.locks.clone(),
            wakers: self.wakers.clone(),
            child_wakers: self.child_wakers.clone(),
            nameless: self.nameless,
            cache: self.cache.another(),
        }
    }

    fn learn_module(&mut self, module: &Module, memory: &dyn Memory) {
        for symbol in module.symbols().filter(|symbol| symbol.kind == SymbolKind::Text) {
            self.functions.insert(symbol.address);
            if !classify::may_have_role(symbol.name) {
                continue;
            }
            let function = name::function(symbol.name);
            if function == RELEASE || (function == ADD_PERMITS && self.release.is_none()) {
                self.release = Some(symbol.address);
            }
            if let Some(role) = classify::role(&function) {
                self.roles.insert(symbol.address, role);
            }
        }
        self.locks.learn(module);
        if !module.has_symbols() {
            self.nameless = true;
            self.functions.extend(module.function_starts());
        }
        // A call that leaves the module goes through a slot; what stands in the slot now is where it goes.
        for (slot, symbol) in module.relocated_slots() {
            if let Ok(address) = memory.read_u64(slot)
                && !module.contains(address)
            {
                self.externals.insert(address, symbol.split('@').next().unwrap_or(symbol).to_owned());
            }
        }
    }

    /// What a call to `address` means.
    pub(super) fn role(&self, address: u64) -> Option<Role> {
        self.roles.get(&address).copied()
    }

    /// What a call to `address` means to locks made for threads.
    pub(super) fn lock_role(&self, address: u64) -> Option<locks::Role> {
        self.locks.role(address, self.external(address))
    }

    /// Whether a function of tasks' wakers is at `address`, which has no name.
    pub(super) fn is_nameless_waker(&self, address: u64) -> bool {
        self.wakers.get().is_some_and(|functions| functions.contains(&address))
    }

    /// Learns that the poll function `poll` hands down a waker whose functions stand at `table`.
    pub(super) fn learn_waker(&self, memory: &dyn Memory, poll: u64, table: u64) {
        self.wakers_of.borrow_mut().insert(poll, table);
        if self.nameless && self.wakers.get().is_none() {
            let function = |entry: u64| memory.read_u64(table.wrapping_add(entry * 8));
            if let (Ok(clone), Ok(wake), Ok(wake_by_ref), Ok(drop)) =
                (function(0), function(1), function(2), function(3))
            {
                self.wakers.get_or_init(|| [clone, wake, wake_by_ref, drop]);
            }
        }
    }

    /// Where the functions of tasks' wakers stand, which they share, once they are known.
    pub(super) fn task_waker(&self) -> Option<u64> {
        let known = self.wakers_of.borrow();
        let mut tables = known.values();
        tables.next().copied().filter(|first| tables.all(|table| table == first))
    }

    /// All that is known of the functions of tasks' wakers: where they stand, and whether they are known without a name.
    pub(super) fn known_wakers(&self) -> (Option<u64>, bool) {
        (self.task_waker(), self.wakers.get().is_some())
    }

    /// Where tasks begin to wait for each other, and where permits are handed over.
    pub(super) fn wait_functions(&self) -> Vec<u64> {
        let waits = |role: &Role| {
            matches!(role, Role::Leaf(Leaf::Acquire | Leaf::Notified | Leaf::Join) | Role::Sink(Sink::Release))
        };
        let mut functions: Vec<u64> =
            self.roles.iter().filter(|(_, role)| waits(role)).map(|(address, _)| *address).collect();
        functions.sort_unstable();
        functions
    }

    /// The functions of wakers of futures in sets: where they stand, and the one that wakes by reference.
    pub(super) fn child_wakers(&self, memory: &dyn Memory) -> &[(u64, u64)] {
        /// That function is the third of four.
        const WAKE_BY_REF: u64 = 16;
        self.child_wakers.get_or_init(|| {
            let mut found = Vec::new();
            if !self.roles.values().any(|role| *role == Role::WakeChild) {
                return found;
            }
            for range in &self.constants {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                if memory.read(range.start, &mut bytes).is_err() {
                    continue;
                }
                let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).enumerate();
                let wakes = words.filter(|(_, word)| self.role(*word) == Some(Role::WakeChild));
                found.extend(
                    wakes.map(|(index, word)| ((range.start + index as u64 * 8).wrapping_sub(WAKE_BY_REF), word)),
                );
            }
            found
        })
    }

    /// The constants of the module that `address` is one of.
    pub(super) fn constants_around(&self, address: u64) -> Range<u64> {
        self.constants.iter().find(|range| range.contains(&address)).cloned().unwrap_or_default()
    }

    /// The imported function at `address`.
    pub(super) fn external(&self, address: u64) -> Option<&str> {
        self.externals.get(&address).map(String::as_str)
    }

    /// Whether a function begins at `address`.
    pub(super) fn is_function(&self, address: u64) -> bool {
        self.functions.contains(&address) || self.externals.contains_key(&address)
    }

    /// The frames that the call instruction at `site` lies in, outermost first.
    pub(super) fn frames(&self, modules: &[Module], site: u64) -> Arc<[SiteFrame]> {
        if let Some(known) = self.sites.borrow().get(&site) {
            return Arc::clone(known);
        }
        let frames: Arc<[SiteFrame]> = modules
            .iter()
            .find(|module| module.contains(site))
            .map(|module| module.source_frames(site))
            .unwrap_or_default()
            .into_iter()
            .rev()
            .map(|frame| SiteFrame {
                frame: Frame { function: frame.function.into(), file: frame.file.map(Into::into), line: frame.line },
                raw: frame.raw.into(),
            })
            .collect();
        self.sites.borrow_mut().insert(site, Arc::clone(&frames));
        frames
    }
}

/// From the first to the last of a module's constants, those included that hold addresses; all of it where no section tells.
fn constants(module: &Module) -> Range<u64> {
    let sections = [".rodata", ".data.rel.ro", ".got"].into_iter().filter_map(|name| module.section(name));
    let ranges: Vec<Range<u64>> = sections.map(|section| section.address..section.address + section.size).collect();
    let (start, end) = (ranges.iter().map(|range| range.start).min(), ranges.iter().map(|range| range.end).max());
    start.zip(end).map_or_else(|| module.range(), |(start, end)| start..end)
}

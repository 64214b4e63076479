//! What stands at a program counter: functions with those that were inlined, and the frame that they share.

use std::{rc::Rc, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    bytes::{read_vec, u32_at},
    moduledata::ModuleData,
    pclntab::{FuncData, Function, INLINED_SIZE, PcData, Pclntab, varint},
    pointers::FrameMap,
};
use crate::{model::Frame, target::Memory};

/// Calls inlined into one another at most.
const DEEPEST_INLINING: usize = 64;
/// Where a signal may have interrupted code: what called these is not at a call (runtime/traceback.go).
const INJECTED: [&str; 3] = ["runtime.sigpanic", "runtime.asyncPreempt", "runtime.debugCallV2"];

/// `call`, with the distance in the four bytes that follow.
const CALL: u8 = 0xe8;

/// A source function at a program counter.
#[derive(Clone, Debug)]
pub(super) struct SourceCall {
    pub(super) frame: Frame,
    /// Whether Go's own tracebacks show it: not what belongs to the runtime, and no wrapper that the compiler made.
    pub(super) shown: bool,
}

/// All that is known of a program counter.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) function: Function,
    /// Name of the function whose frame it is.
    pub(super) name: Arc<str>,
    /// Bytes from the stack pointer up to the return address; `None` where the tables do not say.
    pub(super) frame_size: Option<u64>,
    /// The end of the stack.
    pub(super) top: bool,
    /// Its caller is not at a call but where a signal came.
    pub(super) injected: bool,
    /// Innermost first.
    pub(super) calls: Vec<SourceCall>,
    /// Which words of the frame are pointers; `None` where the maps cannot be read.
    pub(super) map: Option<FrameMap>,
    /// How far below the end of the variables the byte is that says which calls are deferred, and the closures of those.
    pub(super) open_defers: Option<(u64, u64)>,
}

/// The function that a goroutine was started with.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub(super) name: Arc<str>,
    /// The goroutine is the runtime's own (runtime/traceback.go, `isSystemGoroutine`).
    pub(super) system: bool,
    /// No function of the program: the main goroutine begins in the runtime, and a call with arguments in a wrapper.
    pub(super) foreign: bool,
}

/// The code of a program, with what was learned of it.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) modules: Vec<ModuleData>,
    /// The id of wrapper functions.
    wrapper: Option<u8>,
    /// By program counter, and whether it is that of an instruction that has yet to run.
    sites: FxHashMap<(u64, bool), Option<Rc<Site>>>,
    names: FxHashMap<u64, Arc<str>>,
    starts: FxHashMap<u64, Option<Start>>,
    callers: FxHashMap<u64, Option<Frame>>,
}

impl Code {
    /// The code of these modules.
    pub(super) fn new(modules: Vec<ModuleData>) -> Self {
        // The id of wrappers is the last of the list in internal/abi/symtab.go, after that of systemstack_switch.
        let wrapper = modules.first().and_then(|module| {
            let code = &module.code;
            let last = code.functions().find(|function| code.name(*function) == "runtime.systemstack_switch")?;
            code.id(last)?.checked_add(1)
        });
        Self {
            modules,
            wrapper,
            sites: FxHashMap::default(),
            names: FxHashMap::default(),
            starts: FxHashMap::default(),
            callers: FxHashMap::default(),
        }
    }

    /// The function that has its code at `pc`, and the module it is in.
    pub(super) fn find(&self, pc: u64) -> Option<(usize, Function)> {
        self.modules.iter().enumerate().find_map(|(index, module)| Some((index, module.code.find(pc)?)))
    }

    /// Whether `pc` is in the function of that name.
    pub(super) fn is_in(&self, pc: u64, name: &str) -> bool {
        self.find(pc).is_some_and(|(module, function)| self.modules[module].code.name(function) == name)
    }

    /// Name of the function at `pc`.
    pub(super) fn name(&mut self, pc: u64) -> Option<Arc<str>> {
        let (module, function) = self.find(pc)?;
        let code = &self.modules[module].code;
        Some(Arc::clone(self.names.entry(function.entry).or_insert_with(|| code.name(function).into())))
    }

    /// The function that begins at `pc`, of a goroutine that was started with it.
    pub(super) fn start(&mut self, pc: u64) -> Option<Start> {
        const NOT: [&str; 3] = ["runtime.main", "runtime.corostart", "runtime.handleAsyncEvent"];
        if let Some(known) = self.starts.get(&pc) {
            return known.clone();
        }
        let start = self.name(pc).map(|name| Start {
            system: name.starts_with("runtime.") && !NOT.contains(&&*name),
            foreign: name.starts_with("runtime.") || name.contains(".gowrap"),
            name,
        });
        self.starts.insert(pc, start.clone());
        start
    }

    /// Function, file and line of the call that returns to `pc`, without what was inlined.
    pub(super) fn caller(&mut self, pc: u64) -> Option<Frame> {
        if let Some(known) = self.callers.get(&pc) {
            return known.clone();
        }
        let caller = self.learn_caller(pc);
        self.callers.insert(pc, caller.clone());
        caller
    }

    fn learn_caller(&mut self, pc: u64) -> Option<Frame> {
        let (module, function) = self.find(pc)?;
        let at = if pc > function.entry { pc - 1 } else { pc };
        let (file, line) = self.modules[module].code.line(function, at).unzip();
        Some(Frame { function: self.name(pc)?, file: file.map(Into::into), line })
    }

    /// What stands at `pc`: a return address, or where `exact` that of an instruction that has yet to run.
    pub(super) fn site(&mut self, memory: &dyn Memory, pc: u64, exact: bool) -> Option<Rc<Site>> {
        if let Some(known) = self.sites.get(&(pc, exact)) {
            return known.clone();
        }
        let site = self.learn(memory, pc, exact).map(Rc::new);
        self.sites.insert((pc, exact), site.clone());
        site
    }

    /// Follows a stack by frame sizes alone: addresses for lookup, innermost first, and whether the root is among them.
    pub(super) fn addresses(
        &self,
        (mut pc, mut sp): (u64, u64),
        read: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> (Vec<u64>, bool) {
        /// Frames that are followed at most.
        const MOST: usize = 4096;
        let mut addresses = Vec::new();
        while addresses.len() < MOST {
            let Some((module, function)) = self.find(pc) else { break };
            // All but the innermost are return addresses.
            addresses.push(if addresses.is_empty() || pc == function.entry { pc } else { pc - 1 });
            let code = &self.modules[module].code;
            if code.is_top(function) {
                return (addresses, true);
            }
            let end = code.frame_size(function, pc).and_then(|size| sp.checked_add(size));
            let Some((end, caller)) = end.and_then(|end| Some((end, read(end)?))) else { break };
            (pc, sp) = (caller, end.saturating_add(8));
        }
        (addresses, false)
    }

    /// Where the function after this one begins.
    pub(super) fn end_of(&self, function: Function) -> Option<u64> {
        let (module, _) = self.find(function.entry)?;
        Some(self.modules[module].code.end_of(function))
    }

    /// Names of the functions that the instruction at `at` belongs to, innermost first, without the one that they were
    /// inlined into.
    pub(super) fn inlined_at(&self, memory: &dyn Memory, function: Function, at: u64) -> Vec<Arc<str>> {
        let Some((module, _)) = self.find(at) else { return Vec::new() };
        let mut calls = self.calls(memory, &self.modules[module].code, function, at, &Arc::from(""));
        calls.pop();
        calls.into_iter().map(|call| call.frame.function).collect()
    }

    /// Name of the function that the call which returns to `pc` calls, where the code says.
    pub(super) fn called_at(&self, memory: &dyn Memory, pc: u64) -> Option<String> {
        let at = pc.checked_sub(5)?;
        let bytes = read_vec(memory, at, 5, 5).ok().filter(|bytes| bytes[0] == CALL)?;
        let target = pc.wrapping_add_signed(i64::from(u32_at(&bytes, 1)?.cast_signed()));
        let (module, function) = self.find(target).filter(|(_, function)| function.entry == target)?;
        Some(self.modules[module].code.name(function))
    }

    /// Names of the functions that the one at `entry` calls or has inlined. Only short functions are looked at whole.
    pub(super) fn called_by(&mut self, memory: &dyn Memory, entry: u64) -> Vec<String> {
        const LONGEST: u64 = 4096;
        let Some((module, function)) = self.find(entry) else { return Vec::new() };
        let code = &self.modules[module].code;
        let length = code.end_of(function).saturating_sub(function.entry).min(LONGEST);
        let Ok(bytes) = read_vec(memory, function.entry, length, LONGEST) else { return Vec::new() };
        let mut names = Vec::new();
        for (offset, window) in bytes.windows(5).enumerate() {
            if window[0] == CALL {
                let distance = u32_at(window, 1).map_or(0, u32::cast_signed);
                let target = function.entry.wrapping_add(offset as u64 + 5).wrapping_add_signed(i64::from(distance));
                names.extend(code.find(target).filter(|found| found.entry == target).map(|found| code.name(found)));
            }
        }
        let Some(tree) = code.func_data(function, FuncData::InlineTree) else { return names };
        let mut seen = rustc_hash::FxHashSet::default();
        for pc in function.entry..function.entry.saturating_add(length) {
            let Some(index) = code.pc_data(function, PcData::InlinedCall, pc).filter(|index| seen.insert(*index))
            else {
                continue;
            };
            let entry = tree
                .checked_add(u64::from(index) * INLINED_SIZE)
                .and_then(|at| read_vec(memory, at, INLINED_SIZE, INLINED_SIZE).ok());
            names.extend(entry.and_then(|entry| u32_at(&entry, 4)).map(|name| code.name_at(name)));
        }
        names
    }

    fn learn(&mut self, memory: &dyn Memory, pc: u64, exact: bool) -> Option<Site> {
        let name = self.name(pc)?;
        let (module, function) = self.find(pc)?;
        let code = &self.modules[module].code;
        let at = if exact || pc == function.entry { pc } else { pc - 1 };
        let frame_size = code.frame_size(function, pc);
        let open_defers = code.func_data(function, FuncData::OpenDefers).and_then(|data| {
            let bytes = read_vec(memory, data, 10, 10).ok()?;
            let mut rest = bytes.as_slice();
            Some((u64::from(varint(&mut rest)?), u64::from(varint(&mut rest)?)))
        });
        Some(Site {
            function,
            map: FrameMap::read(memory, code, function, at, frame_size),
            open_defers,
            frame_size,
            top: code.is_top(function),
            injected: INJECTED.contains(&&*name),
            calls: self.calls(memory, code, function, at, &name),
            name,
        })
    }

    /// The source functions at `at`, innermost first.
    fn calls(
        &self,
        memory: &dyn Memory,
        code: &Pclntab,
        function: Function,
        at: u64,
        outermost: &Arc<str>,
    ) -> Vec<SourceCall> {
        let mut calls = Vec::new();
        let mut pc = at;
        let tree = code.func_data(function, FuncData::InlineTree);
        for _ in 0..DEEPEST_INLINING {
            let (file, line) = code.line(function, pc).unzip();
            let inlined = tree.zip(code.pc_data(function, PcData::InlinedCall, pc)).and_then(|(tree, index)| {
                // funcID u8, name i32 at 4, pc of the call relative to the function's entry at 8.
                let entry = tree.checked_add(u64::from(index) * INLINED_SIZE)?;
                let bytes = read_vec(memory, entry, INLINED_SIZE, INLINED_SIZE).ok()?;
                Some((bytes[0], u32_at(&bytes, 4)?, u32_at(&bytes, 8)?))
            });
            let (id, function_name) = match inlined {
                Some((id, name, _)) => (Some(id), code.name_at(name).into()),
                None => (code.id(function), Arc::clone(outermost)),
            };
            let shown = id.is_none() || id != self.wrapper;
            let shown = shown && is_shown(&function_name);
            calls
                .push(SourceCall { frame: Frame { function: function_name, file: file.map(Into::into), line }, shown });
            match inlined {
                Some((.., parent)) => pc = function.entry.wrapping_add(u64::from(parent)),
                None => break,
            }
        }
        calls
    }
}

/// Whether Go's tracebacks show a function of this name (runtime/traceback.go, `showfuncinfo`).
pub(super) fn is_shown(name: &str) -> bool {
    let exported = |rest: &str| rest.starts_with(|c: char| c.is_ascii_uppercase());
    name.contains('.') && name.strip_prefix("runtime.").is_none_or(exported)
}

//! Takes snapshots of one process: what is where in its code is learned once, its memory is read anew each time.

use std::{path::PathBuf, sync::Arc, time::Instant};

use rustc_hash::FxHashMap;

use super::{AttachError, stacks::Stacks};
use crate::{
    debuginfo::{Bytes, FrameRegisters, Module, Quality},
    model::{Frame, Snapshot, Target},
    probe::Sample,
    runtime::{Runtime, ThreadContext, ThreadRegisters, World, tokio::Tokio},
    target::{AddressSpace, Memory, ModuleFile, Process, SyscallState, TargetError},
};

/// A process and what was learned of its code.
pub(super) struct Inspector {
    process: Process,
    files: Vec<ModuleFile>,
    modules: Vec<Module>,
    runtimes: Vec<Box<dyn Runtime>>,
    stacks: Stacks,
    missing: Vec<String>,
}

impl Inspector {
    /// Takes hold of `pid` and looks for runtimes in its code.
    pub(super) fn open(pid: i32) -> Result<Self, AttachError> {
        let process = Process::open(pid)?;
        let mappings = process.mappings()?;
        let (files, mut missing) = process.modules(&mappings);
        let mut modules = Vec::new();
        for file in &files {
            match Module::load(file) {
                Ok(module) => modules.push(module),
                Err(error) => missing.push(format!("{}: {error}", file.path.display())),
            }
        }
        if let Some(vdso) = mappings.iter().find(|mapping| mapping.label.as_deref() == Some("vdso")) {
            let mut bytes = vec![0; (vdso.range.end - vdso.range.start) as usize];
            // The kernel's own code in the process: stacks that end in a clock call go through it.
            let start = vdso.range.start;
            let memory = process.memory(mappings.clone(), files.clone())?;
            if memory.read(start, &mut bytes).is_ok()
                && let Ok(module) = Module::parse(Bytes::new(Arc::new(bytes)), start, PathBuf::from("[vdso]"))
            {
                modules.push(module);
            }
        }
        let memory = process.memory(mappings, files.clone())?;
        let mut runtimes: Vec<Box<dyn Runtime>> = Vec::new();
        if let Some(tokio) = Tokio::find(&modules, &memory) {
            runtimes.push(Box::new(tokio));
        }
        if runtimes.is_empty() {
            process.check()?;
            return Err(no_runtime(&process, &modules));
        }
        let stacks = Stacks::new(&modules);
        Ok(Self { process, files, modules, runtimes, stacks, missing })
    }

    /// Whether the process still runs the program that was opened.
    pub(super) fn check(&self) -> Result<(), TargetError> {
        self.process.check()
    }

    /// Pid and executable.
    pub(super) fn target(&self) -> Target {
        Target { pid: self.process.pid(), exe: PathBuf::from(self.process.exe()) }
    }

    /// The code.
    pub(super) fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// What was found: library and version.
    pub(super) fn runtimes(&self) -> impl Iterator<Item = String> {
        self.runtimes.iter().map(|runtime| runtime.describe())
    }

    /// Where the first runtime that knows keeps what its threads are at.
    pub(super) fn thread_context(&self) -> Option<ThreadContext> {
        self.runtimes.iter().find_map(|runtime| runtime.thread_context())
    }

    /// Functions that begin or end a wait, by address.
    pub(super) fn wait_functions(&self) -> Vec<u64> {
        self.runtimes.iter().flat_map(|runtime| runtime.wait_functions()).collect()
    }

    /// The file that has the code at `address`, as gordian can open it, and where in it.
    pub(super) fn file_of(&self, address: u64) -> Option<(PathBuf, u64)> {
        let module = self.modules.iter().find(|module| module.contains(address))?;
        let root = PathBuf::from(format!("/proc/{}/root", self.process.pid()));
        let path = root.join(module.path().strip_prefix("/").ok()?);
        Some((path, module.file_offset(address)?))
    }

    /// The stack of a sample, innermost address first, and whether its root is there.
    pub(super) fn unwind_sample(&mut self, sample: &Sample) -> (Vec<u64>, bool) {
        self.stacks.unwind_sample(sample)
    }

    /// Frames of addresses as [`Self::unwind_sample`] gives them, root first.
    pub(super) fn name(&mut self, addresses: &[u64]) -> Vec<Frame> {
        self.stacks.name(&self.modules, addresses)
    }

    /// The type of the task whose poll is on a stack of code addresses (innermost first).
    pub(super) fn polled_type(&self, addresses: &[u64]) -> Option<Arc<str>> {
        self.runtimes.iter().find_map(|runtime| runtime.polled_type(&self.modules, addresses))
    }

    /// How many frames of a stack (root first) lie outside of the innermost poll; `None` where there is none.
    pub(super) fn inside_poll(&self, frames: &[Frame]) -> Option<usize> {
        self.runtimes.iter().find_map(|runtime| runtime.inside_poll(frames))
    }

    /// A fresh view of the memory.
    pub(super) fn memory(&self) -> Result<AddressSpace, TargetError> {
        self.process.memory(self.process.mappings()?, self.files.clone())
    }

    /// Everything as it is now. `registers` are those of blocked threads, by thread id, where the kernel programs gave
    /// them; without, procfs tells enough for most stacks.
    pub(super) fn snapshot(&mut self, registers: &FxHashMap<i32, ThreadRegisters>) -> Result<Snapshot, TargetError> {
        let mut snapshot = Snapshot::empty(self.target());
        snapshot.taken_at = Instant::now();
        snapshot.missing.clone_from(&self.missing);
        let memory = self.memory()?;
        let threads: Vec<_> = self
            .process
            .threads()?
            .into_iter()
            .map(|facts| {
                let known = registers.get(&facts.tid).copied().filter(|known| {
                    // Registers are of the block that procfs shows, or of another: the stack pointer tells.
                    facts.stack().is_some_and(|(sp, _)| known.frame.sp() == Some(sp))
                });
                let at = known.or_else(|| {
                    let (sp, ip) = facts.stack()?;
                    Some(ThreadRegisters { tid: facts.tid, frame: FrameRegisters::at(ip, sp), fs_base: None })
                });
                let frames = at.map(|at| self.stacks.frames(&self.modules, &memory, &at)).unwrap_or_default();
                (facts, at, frames)
            })
            .collect();
        if !threads.is_empty() && threads.iter().all(|(facts, ..)| facts.syscall == SyscallState::Unknown) {
            snapshot.missing.push(
                "the threads' stacks, with what block_on runs on them: the kernel shows them to the target's own user, or \
                 to CAP_DAC_READ_SEARCH"
                    .into(),
            );
        }
        let world = World { memory: &memory, modules: &self.modules, threads: &threads };
        for runtime in &mut self.runtimes {
            runtime.read(&world, &mut snapshot);
        }
        self.process.check()?;
        Ok(snapshot)
    }
}

fn no_runtime(process: &Process, modules: &[Module]) -> AttachError {
    let stripped = modules.first().is_some_and(|module| module.quality() == Quality::Stripped);
    let why = if stripped {
        "its symbols have been stripped, and without them tasks cannot be found; run the unstripped binary"
    } else {
        "no Tokio task type was found in its code; `gordian ps` lists the processes that can be read"
    };
    AttachError::NoRuntime {
        pid: process.pid(),
        name: process.exe().file_name().unwrap_or_default().to_string_lossy().into_owned(),
        why: why.into(),
    }
}

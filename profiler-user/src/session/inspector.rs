//! Takes snapshots of one process: what is where in its code is learned once, its memory is read anew each time.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{AttachError, stacks::Stacks};
use crate::{
    debuginfo::{Bytes, FrameRegisters, Module, Places, Quality, ReadFile, RegisterUnwinder},
    model::{Frame, PartyId, Snapshot, Target, WaitMode},
    probe::Sample,
    runtime::{self, Reads, Runtime, ThreadContext, ThreadRegisters, World},
    target::{
        self, AddressSpace, Frozen, Memory, ModuleFile, Place, Process, Recorder, Root, Subject, SyscallState,
        TargetError, ThreadFacts, UserRegisters,
    },
};

/// Who of a snapshot would be accused of never moving; it may note in it what is known of the time before.
pub(super) type Judge<'a> = &'a mut dyn FnMut(&mut Snapshot) -> Vec<PartyId>;

/// What a process is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To say what is going on in it: its debuginfo will be asked for.
    Names,
    /// To find out what is there, or to keep it.
    Bytes,
}

/// A process and what was learned of its code.
pub(super) struct Inspector {
    subject: Subject,
    /// Of a stored process: the clock at its first moment.
    opened: Instant,
    files: Vec<ModuleFile>,
    modules: Vec<Module>,
    runtimes: Vec<Box<dyn Runtime>>,
    stacks: Stacks,
    unwinder: RegisterUnwinder,
    missing: Vec<String>,
    /// Whether the process is stopped for each read.
    freezes: bool,
}

impl Inspector {
    /// Takes hold of what is at `place`, with debuginfo from `places` too, and looks for runtimes in its code.
    pub(super) fn open(place: &Place, places: &Places) -> Result<Self, AttachError> {
        Self::of(Subject::open(place)?, places, Purpose::Names)
    }

    /// The same of a process in which there may be nothing to look at.
    pub(super) fn glance(pid: i32) -> Result<Self, AttachError> {
        Self::of(Subject::open(&pid.into())?, &Places::default(), Purpose::Bytes)
    }

    /// Takes hold of process `pid` to keep what is read of it.
    pub(super) fn recording(pid: i32) -> Result<(Self, Recorder), AttachError> {
        let mut process = Process::open(pid)?;
        let recorder = Recorder::start(&mut process);
        Ok((Self::of(Subject::Live(process), &Places::default(), Purpose::Bytes)?, recorder))
    }

    fn of(process: Subject, places: &Places, purpose: Purpose) -> Result<Self, AttachError> {
        let read = files_of(match &process {
            Subject::Live(process) => Some(process.root()),
            Subject::Stored(_) => None,
        });
        let mappings = process.mappings()?;
        let (files, mut missing) = process.modules(&mappings);
        let mut modules = Vec::new();
        for file in &files {
            match Module::load(file) {
                Ok(mut module) => {
                    // Libraries have many frames that nobody asks for: no server is bothered for them.
                    let servers = places.servers && file.path == process.exe();
                    module.look_in(Places { servers, ..places.clone() }, Arc::clone(&read));
                    modules.push(module);
                }
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
        let runtimes = std::thread::scope(|scope| {
            if let (Purpose::Names, Some(program)) = (purpose, modules.first()) {
                // It takes about as long as the symbols take to be searched.
                scope.spawn(|| program.read_ahead());
            }
            runtime::find(&modules, &memory)
        });
        if runtimes.is_empty() {
            process.check()?;
            return Err(no_runtime(&process, &modules));
        }
        let (stacks, unwinder) = (Stacks::new(&modules), RegisterUnwinder::new(&modules));
        let opened = Instant::now();
        Ok(Self { subject: process, opened, files, modules, runtimes, stacks, unwinder, missing, freezes: false })
    }

    /// From now on stops the process for each read, if it runs.
    pub(super) fn freeze_reads(&mut self) {
        self.freezes = true;
    }

    /// Stops the process until what this returns is dropped; `None` where it does not run.
    pub(super) fn freeze(&self) -> Result<Option<Frozen>, TargetError> {
        match &self.subject {
            Subject::Live(process) => process.freeze().map(Some),
            Subject::Stored(_) => Ok(None),
        }
    }

    /// Whether the process still runs the program that was opened.
    pub(super) fn check(&self) -> Result<(), TargetError> {
        self.subject.check()
    }

    /// Pid and executable.
    pub(super) fn target(&self) -> Target {
        Target { pid: self.subject.pid(), exe: PathBuf::from(self.subject.exe()) }
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

    /// How far two looks must be apart to tell all.
    pub(super) fn apart(&self) -> Duration {
        self.runtimes.iter().map(|runtime| runtime.apart()).max().unwrap_or_default()
    }

    /// Whether threads of any runtime poll tasks.
    pub(super) fn polls(&self) -> bool {
        self.runtimes.iter().any(|runtime| runtime.polls())
    }

    /// Functions that begin or end a wait, by address.
    pub(super) fn wait_functions(&self) -> Vec<u64> {
        self.runtimes.iter().flat_map(|runtime| runtime.wait_functions()).collect()
    }

    /// The file that has the code at `address`, as gordian can open it, and where in it.
    pub(super) fn file_of(&self, address: u64) -> Option<(PathBuf, u64)> {
        let module = self.modules.iter().find(|module| module.contains(address))?;
        let root = PathBuf::from(format!("/proc/{}/root", self.subject.pid()));
        let path = root.join(module.path().strip_prefix("/").ok()?);
        Some((path, module.file_offset(address)?))
    }

    /// The stack of a sample, innermost address first, and whether its root is there.
    pub(super) fn unwind_sample(&mut self, sample: &Sample) -> (Vec<u64>, bool) {
        self.stacks.unwind_sample(&self.runtimes, sample)
    }

    /// Frames of addresses as [`Self::unwind_sample`] gives them, root first.
    pub(super) fn name(&mut self, addresses: &[u64]) -> Vec<Frame> {
        let Self { subject, files, stacks, runtimes, .. } = self;
        let memory = || subject.memory(subject.mappings().ok()?, files.clone()).ok();
        stacks.name_own(runtimes, memory, addresses);
        stacks.name(&self.modules, addresses)
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
        self.subject.memory(self.subject.mappings()?, self.files.clone())
    }

    /// Everything as it is now. `registers` are those of blocked threads, by thread id, where the kernel programs gave
    /// them; without, procfs tells enough for most stacks.
    pub(super) fn snapshot(&mut self, registers: &FxHashMap<i32, ThreadRegisters>) -> Result<Snapshot, TargetError> {
        self.judged(registers, &mut |_| Vec::new())
    }

    /// The same, with a second look at those whom `judge` accuses of never moving; it judges again where that has changed anything.
    pub(super) fn judged(
        &mut self,
        registers: &FxHashMap<i32, ThreadRegisters>,
        judge: Judge<'_>,
    ) -> Result<Snapshot, TargetError> {
        let frozen = if self.freezes { self.freeze()? } else { None };
        let mut snapshot = self.look(registers, frozen.as_ref(), judge)?;
        snapshot.stopped_for = frozen.map(Frozen::release);
        Ok(snapshot)
    }

    /// The same of a process that may have been stopped.
    pub(super) fn look(
        &mut self,
        registers: &FxHashMap<i32, ThreadRegisters>,
        frozen: Option<&Frozen>,
        judge: Judge<'_>,
    ) -> Result<Snapshot, TargetError> {
        let mut snapshot = Snapshot::empty(self.target());
        snapshot.taken_at = match &self.subject {
            Subject::Live(_) => Instant::now(),
            Subject::Stored(stored) => self.opened + stored.now(),
        };
        if let Subject::Live(process) = &self.subject {
            snapshot.cpu = process.cpu_time();
        }
        snapshot.missing.clone_from(&self.missing);
        snapshot.inlined_frames = self.modules.first().is_some_and(Module::has_lines);
        let memory = self.memory()?;
        let threads: Vec<_> = self
            .subject
            .threads()?
            .into_iter()
            .map(|facts| {
                let known = registers.get(&facts.tid).copied().filter(|known| {
                    // Registers are of the block that procfs shows, or of another: the stack pointer tells.
                    facts.stack().is_some_and(|(sp, _)| known.frame.sp() == Some(sp))
                });
                let at = known.or_else(|| kept_registers(&facts)).or_else(|| {
                    let (sp, ip) = facts.stack()?;
                    let mut read = |address: u64| memory.read_u64(address).ok();
                    let frame = FrameRegisters::at(ip, sp);
                    let frame = self.unwinder.with_frame_pointer(&self.modules, frame, &mut read);
                    Some(ThreadRegisters { tid: facts.tid, frame, fs_base: None })
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
        let kept: Vec<Option<UserRegisters>> = match frozen {
            Some(frozen) => frozen.registers()?.into_iter().map(|(_, registers)| Some(registers)).collect(),
            None => threads.iter().map(|(facts, ..)| facts.registers).collect(),
        };
        let all: Option<Vec<UserRegisters>> = kept.into_iter().collect();
        let reads = match (&self.subject, frozen, &all) {
            (Subject::Live(_), Some(_), Some(all)) => Reads::Still(all),
            (Subject::Live(_), ..) => Reads::Passing,
            (Subject::Stored(stored), _, Some(all)) if stored.is_still() => Reads::Still(all),
            (Subject::Stored(_), ..) => Reads::Torn,
        };
        let world = World { memory: &memory, modules: &self.modules, threads: &threads, reads };
        for runtime in &mut self.runtimes {
            runtime.read(&world, &mut snapshot);
        }
        let (mut accused, mut met) = (judge(&mut snapshot), FxHashSet::default());
        loop {
            let mut doubted = false;
            for runtime in &mut self.runtimes {
                doubted |= runtime.doubt(&world, &mut snapshot, &accused);
            }
            if !doubted {
                break;
            }
            met.extend(accused);
            accused = judge(&mut snapshot);
            // Who was only held up by others before may be one of them, by what is known now.
            accused.retain(|party| !met.contains(party));
            if accused.is_empty() {
                break;
            }
        }
        self.subject.check()?;
        if let Subject::Stored(stored) = &self.subject {
            stored.advance();
        }
        Ok(snapshot)
    }

    /// Looks up what the descriptors lead to that tasks wait for.
    pub(super) fn describe_descriptors(&self, snapshot: &mut Snapshot) {
        let Subject::Live(process) = &self.subject else { return };
        let waits = snapshot.tasks.iter().flat_map(|task| task.root.waits());
        let wanted: BTreeSet<i32> = waits
            .filter_map(|wait| match wait.mode {
                WaitMode::Ready { fd } => fd,
                _ => None,
            })
            .collect();
        if !wanted.is_empty() {
            snapshot.descriptors = process.descriptors(&wanted);
        }
    }

    /// Keeps what was read so far in `recorder`, as it is now; `registers` as for [`Self::snapshot`].
    pub(super) fn keep(
        &self,
        recorder: &mut Recorder,
        registers: &FxHashMap<i32, ThreadRegisters>,
        frozen: Option<&Frozen>,
        after: Duration,
    ) -> Result<usize, TargetError> {
        let Subject::Live(process) = &self.subject else { return Ok(0) };
        let stopped: FxHashMap<i32, UserRegisters> = match frozen {
            Some(frozen) => frozen.registers()?.into_iter().collect(),
            None => FxHashMap::default(),
        };
        let of_thread = |tid| {
            if frozen.is_some() {
                return stopped.get(&tid).copied();
            }
            let known = registers.get(&tid)?;
            let mut general = [0; 16];
            for (kept, value) in general.iter_mut().zip(known.frame.values) {
                *kept = value?;
            }
            Some(UserRegisters { ip: known.frame.ip, general, fs_base: known.fs_base.unwrap_or(0) })
        };
        recorder.keep(process, &self.files, &of_thread, frozen.is_some(), after)
    }

    /// Writes what `recorder` has kept; returns the length of the file in bytes.
    pub(super) fn write(&self, recorder: Recorder, path: &Path) -> Result<u64, TargetError> {
        let Subject::Live(process) = &self.subject else { return Ok(0) };
        recorder.write(process, &self.files, path)
    }
}

impl Drop for Inspector {
    /// What was worked out of the modules is kept when nobody waits for anything any more.
    fn drop(&mut self) {
        self.modules.iter().for_each(Module::keep);
    }
}

/// The registers that a thread was kept with.
fn kept_registers(facts: &ThreadFacts) -> Option<ThreadRegisters> {
    let kept = facts.registers?;
    let frame = FrameRegisters { ip: kept.ip, values: kept.general.map(Some) };
    Some(ThreadRegisters { tid: facts.tid, frame, fs_base: (kept.fs_base != 0).then_some(kept.fs_base) })
}

/// Reads files as the target sees them, if it is still there, and then as we do.
fn files_of(root: Option<Root>) -> ReadFile {
    Arc::new(move |path| {
        let files = [root.and_then(|root| root.read_file(path)), target::read_file(path)];
        files.into_iter().flatten().map(Bytes::from).collect()
    })
}

fn no_runtime(process: &Subject, modules: &[Module]) -> AttachError {
    let stripped = modules.first().is_some_and(|module| module.quality() == Quality::Stripped);
    let why = if stripped {
        "its symbols have been stripped, and no task type was found without; give its unstripped file to --debug-file"
    } else {
        "neither a Tokio task type nor the Go runtime was found in its code; `gordian ps` lists the processes that can be read"
    };
    AttachError::NoRuntime {
        pid: process.pid(),
        name: process.exe().file_name().unwrap_or_default().to_string_lossy().into_owned(),
        why: why.into(),
    }
}

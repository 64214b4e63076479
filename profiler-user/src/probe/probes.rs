//! The kernel programs of one target: loaded, attached, asked, and gone with this value.

use std::{os::fd::OwnedFd, time::Duration};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuArray},
    programs::{BtfTracePoint, Program},
    sys::{Stats, enable_stats},
};
use aya_log::EbpfLogger;
use profiler_common::{Config, ContextOffsets, PollCounter, ThreadState};

use super::{
    Kernel, KernelTarget, ProbeError, ThreadRegisters,
    counts::{Counts, ProgramCost},
    decode::{BlockedThread, blocked_thread},
    error,
    events::{EventStream, Logger, Ring},
    hit_cost::HitCost,
    object::{self, MapSizes, PAGE},
    sampling, tasks, waits,
};

/// Where a runtime keeps its per-thread context: offsets into the target's thread-local storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextLayout {
    /// From a thread's `fs` base to the context; negative on x86-64.
    pub tls_offset: i64,
    /// From there to the current task's id: 8 bytes, 0 for none.
    pub task_id: u32,
    /// From there to the byte that is 1 while a cooperative budget is set.
    pub budget: u32,
    /// From there to the pointer to the scheduler's context, null outside a worker.
    pub scheduler: u32,
    /// Where workers count their polls, where that is known.
    pub polls: Option<PollLayout>,
}

/// Where workers count their polls, for up to two kinds of scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollLayout {
    /// From the scheduler's context to the 4-byte tag that tells its kind.
    pub tag: u32,
    /// The kinds. A runtime with one kind gives it twice.
    pub kinds: [PollKind; 2],
}

/// Where workers of one kind of scheduler count their polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollKind {
    /// Value of the tag.
    pub tag: u32,
    /// From the scheduler's context to the pointer to its core.
    pub core: u32,
    /// From the core to the 4-byte counter.
    pub counter: u32,
}

/// What is wanted of the probes.
#[derive(Clone, Copy, Debug)]
pub struct ProbeOptions {
    /// Blocks shorter than this are not sent.
    pub min_block: Duration,
    /// Record and send every block, also of threads outside any poll: for off-CPU profiles.
    pub every_block: bool,
    /// Whether samples will be taken: they need a large ring buffer.
    pub sampling: bool,
    /// Whether the kernel is to measure the programs' run time, which itself costs some nanoseconds a run.
    pub run_stats: bool,
    /// Most severe to least: 0 no messages of the programs, 1 errors, 2 warnings, 3 information, 4 debugging, 5 all.
    pub log_level: u8,
}

impl Default for ProbeOptions {
    /// Blocks of a millisecond or more inside polls; no samples, no figures, no messages.
    fn default() -> Self {
        Self {
            min_block: Duration::from_millis(1),
            every_block: false,
            sampling: false,
            run_stats: false,
            log_level: 0,
        }
    }
}

/// Ring buffers and map sizes: memory that the kernel holds while probes are loaded.
const THREADS: u32 = 16 * 1024;
const EVENTS: u32 = 1 << 20;
const SAMPLES: u32 = 8 << 20;
const LOGS: u32 = 128 << 10;
/// Bytes waiting in a ring buffer from which on the reader is called: a quarter of the smaller one.
const WAKE_BYTES: u64 = 256 << 10;

/// How often a torn copy of a thread's slot is taken again.
const RETRIES: usize = 3;

/// Programs for one target. Everything is held by file descriptors of this process: when it ends, however it ends,
/// nothing stays attached.
pub struct Probes {
    pub(super) programs: Ebpf,
    pub(super) pid: u32,
    pub(super) sample: Result<(), ProbeError>,
    pub(super) waits: Result<(), ProbeError>,
    pub(super) wait_links: waits::Links,
    pub(super) hit_cost: Option<HitCost>,
    switch: Result<(), ProbeError>,
    tasks: Result<(), ProbeError>,
    threads: HashMap<MapData, u32, ThreadState>,
    counters: PerCpuArray<MapData, u64>,
    pub(super) wait_counts: PerCpuArray<MapData, u64>,
    pub(super) send_switch: Array<MapData, u32>,
    rings: Option<(Ring, Ring)>,
    logger: Option<Logger>,
    run_stats: Result<OwnedFd, ProbeError>,
}

impl Probes {
    /// Loads all programs for the process that this pid namespace calls `pid`; attaches none.
    ///
    /// A program that this kernel does not take costs its own feature only: the call that would attach it says why.
    pub fn load(pid: i32, layout: Option<&ContextLayout>, options: &ProbeOptions) -> Result<Self, ProbeError> {
        let kernel = Kernel::open()?;
        let target = kernel.resolve(pid)?;
        Self::load_for(&kernel, pid, target, layout, options)
    }

    /// Like [`Probes::load`], with what it found out on the way already there.
    pub fn load_for(
        kernel: &Kernel,
        pid: i32,
        target: KernelTarget,
        layout: Option<&ContextLayout>,
        options: &ProbeOptions,
    ) -> Result<Self, ProbeError> {
        let config = Config {
            min_block_ns: u64::try_from(options.min_block.as_nanos()).unwrap_or(u64::MAX),
            main_stack_end: main_stack_end(pid),
            wake_bytes: WAKE_BYTES,
            every_block: u32::from(options.every_block),
            context: layout.map_or(Ok(Config::EMPTY.context), context_offsets)?,
            polls: layout.and_then(|layout| layout.polls).map_or(Config::EMPTY.polls, poll_counter),
            ..object::config_for(kernel, target)
        };
        let sizes = MapSizes {
            threads: THREADS,
            events: EVENTS,
            samples: if options.sampling { SAMPLES } else { PAGE },
            logs: if options.log_level == 0 { PAGE } else { LOGS },
        };
        let mut programs = object::open(kernel, &config, sizes, options.log_level)?;
        // The programs name maps by descriptor: load all before any map is handed out and may be closed.
        let switch = load_switch(&mut programs, kernel);
        let sample = sampling::load(&mut programs);
        let waits = waits::load(&mut programs);
        let tasks = tasks::load(&mut programs, kernel);
        let logger = if options.log_level == 0 { None } else { Some(logger(&mut programs)?) };
        Ok(Self {
            pid: pid.cast_unsigned(),
            sample,
            waits,
            wait_links: waits::Links::default(),
            hit_cost: None,
            switch,
            tasks,
            threads: take(&mut programs, "THREADS", |map| HashMap::try_from(map).ok())?,
            counters: take(&mut programs, "COUNTERS", |map| PerCpuArray::try_from(map).ok())?,
            wait_counts: take(&mut programs, "WAIT_COUNTS", |map| PerCpuArray::try_from(map).ok())?,
            send_switch: take(&mut programs, "SEND_WAITS", |map| Array::try_from(map).ok())?,
            rings: Some((
                take(&mut programs, "EVENTS", |map| Ring::try_from(map).ok())?,
                take(&mut programs, "SAMPLES", |map| Ring::try_from(map).ok())?,
            )),
            logger,
            run_stats: run_stats(options),
            programs,
        })
    }

    /// From now on, blocks are recorded.
    pub fn attach_switch(&mut self) -> Result<(), ProbeError> {
        self.switch.clone()?;
        let program: &mut BtfTracePoint = program(&mut self.programs, SWITCH)?;
        program.attach().map_err(|error| ProbeError::from_program(SWITCH_WHAT, SWITCH_SINCE, &error))?;
        Ok(())
    }

    /// Threads that are blocked right now, of those that blocked after [`Probes::attach_switch`]: inside a poll, or
    /// anywhere where no context layout is known or every block is recorded.
    ///
    /// The kernel writes while this reads: a slot is taken only where two copies of it agree.
    pub fn blocked_now(&self) -> Vec<BlockedThread> {
        let copy = |tid: &u32| self.threads.get(tid, 0).ok();
        let stable = |tid: u32| {
            let mut first = copy(&tid)?;
            for _ in 0..RETRIES {
                if !first.is_blocked() && first.seq == first.seq_end {
                    return None;
                }
                let second = copy(&tid)?;
                if first == second && second.is_blocked() {
                    return Some(blocked_thread(&second));
                }
                first = second;
            }
            None
        };
        // A slot that goes while the keys are walked can start the walk anew: it is bounded by the map's size.
        let mut tids: Vec<u32> = self.threads.keys().take(THREADS as usize).filter_map(Result::ok).collect();
        tids.sort_unstable();
        tids.dedup();
        tids.into_iter().filter_map(stable).collect()
    }

    /// Registers of all threads now, also of those that blocked before gordian came.
    pub fn registers(&mut self) -> Result<Vec<ThreadRegisters>, ProbeError> {
        self.tasks.clone()?;
        tasks::registers(&mut self.programs)
    }

    /// The events, once. Needs a tokio runtime with I/O and time enabled.
    pub fn events(&mut self) -> Result<EventStream, ProbeError> {
        let (events, samples) =
            self.rings.take().ok_or_else(|| ProbeError::Events("they have been taken already".to_owned()))?;
        EventStream::new(events, samples, self.logger.take())
    }

    /// What the programs have counted so far, losses among it.
    pub fn counts(&self) -> Result<Counts, ProbeError> {
        Counts::read(&self.counters)
    }

    /// What each loaded program has cost so far. `Err` says why the kernel does not measure it.
    pub fn costs(&self) -> Result<Vec<ProgramCost>, ProbeError> {
        self.run_stats.as_ref().map_err(Clone::clone)?;
        let measured = |(name, program): (&str, &Program)| {
            let info = program.info().ok()?;
            let ns = u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX);
            Some(ProgramCost { name: name.to_owned(), runs: info.run_count(), ns })
        };
        Ok(self.programs.programs().filter_map(measured).collect())
    }
}

const SWITCH: &str = "sched_switch";
const SWITCH_WHAT: &str = "blocking events";
const SWITCH_SINCE: &str = "5.15";

fn load_switch(programs: &mut Ebpf, kernel: &Kernel) -> Result<(), ProbeError> {
    let program: &mut BtfTracePoint = program(programs, SWITCH)?;
    program.load(SWITCH, &kernel.btf).map_err(|error| ProbeError::from_program(SWITCH_WHAT, SWITCH_SINCE, &error))
}

/// A program of the object, by name and type.
pub(super) fn program<'a, T>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut T, ProbeError>
where
    &'a mut T: TryFrom<&'a mut Program>,
{
    programs
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| ProbeError::BadObject(format!("it has no program named {name}")))
}

/// Takes a map out of the object.
fn take<T>(programs: &mut Ebpf, name: &str, into: impl Fn(aya::maps::Map) -> Option<T>) -> Result<T, ProbeError> {
    programs
        .take_map(name)
        .and_then(into)
        .ok_or_else(|| ProbeError::BadObject(format!("it has no map named {name} of the right kind")))
}

/// Has the kernel measure run times for as long as the descriptor is open.
fn run_stats(options: &ProbeOptions) -> Result<OwnedFd, ProbeError> {
    const WHAT: &str = "run-time figures of kernel programs";
    if !options.run_stats {
        return Err(ProbeError::Refused { what: WHAT, reason: "they were not asked for".to_owned() });
    }
    match enable_stats(Stats::RunTime) {
        Ok(descriptor) => Ok(descriptor),
        // The one call that the lesser capabilities do not open.
        Err(refusal) if refusal.io_error.raw_os_error() == Some(libc::EPERM) => {
            Err(ProbeError::NotPermitted { what: "have kernel programs measured", missing: error::missing_admin() })
        }
        Err(error) => Err(ProbeError::from_io(WHAT, "5.8", &error.io_error)),
    }
}

fn logger(programs: &mut Ebpf) -> Result<Logger, ProbeError> {
    let mut logger = EbpfLogger::init(programs).map_err(|error| ProbeError::BadObject(error.to_string()))?;
    Ok(Box::new(move || logger.flush()))
}

/// End of the main thread's stack; 0 where it cannot be told.
fn main_stack_end(pid: i32) -> u64 {
    use procfs::process::{MMapPath, Process};
    let Ok(maps) = Process::new(pid).and_then(|process| process.maps()) else { return 0 };
    maps.iter().find(|map| map.pathname == MMapPath::Stack).map_or(0, |map| map.address.1)
}

fn context_offsets(layout: &ContextLayout) -> Result<ContextOffsets, ProbeError> {
    let end = |offset: u32, size| offset.checked_add(size).ok_or_else(|| ProbeError::BadLayout(format!("{layout:?}")));
    let size = end(layout.task_id, 8)?.max(end(layout.budget, 1)?).max(end(layout.scheduler, 8)?);
    if size > Config::MAX_CONTEXT {
        return Err(ProbeError::BadLayout(format!(
            "{size} bytes of context, at most {} are read",
            Config::MAX_CONTEXT
        )));
    }
    Ok(ContextOffsets {
        tls_offset: layout.tls_offset,
        size,
        task_id: layout.task_id,
        budget: layout.budget,
        scheduler: layout.scheduler,
    })
}

fn poll_counter(layout: PollLayout) -> PollCounter {
    PollCounter {
        known: 1,
        tag_offset: layout.tag,
        tags: layout.kinds.map(|kind| kind.tag),
        cores: layout.kinds.map(|kind| kind.core),
        counters: layout.kinds.map(|kind| kind.counter),
    }
}

//! Registers of the target's threads, through the kernel's iterator over tasks: none of them is stopped.

use std::io::Read as _;

use aya::{Ebpf, programs::Iter};
use profiler_common::{Config, Registers, TASK_ON_CPU, TaskRecord};

use super::{
    Kernel, KernelTarget, ProbeError,
    decode::read_pod,
    object::{self, MapSizes},
    probes,
};

const PROGRAM: &str = "tasks";
const WHAT: &str = "the iterator over tasks";
const SINCE: &str = "5.15";

/// One thread at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadRegisters {
    /// Thread id in gordian's own pid namespace, as in its `/proc`.
    pub tid: i32,
    /// Registers in user mode, as they were when the thread last entered the kernel.
    pub registers: Registers,
    /// Base of its thread-local storage.
    pub fs_base: u64,
    /// Whether it runs on a CPU right now: then its registers are out of date.
    pub on_cpu: bool,
    /// Whether it sleeps, as opposed to running or waiting for a CPU.
    pub asleep: bool,
    /// Times it left a CPU. Two reads with the same number, neither on a CPU, bracket a time in which it did not run.
    pub switches: u64,
    /// `CLOCK_MONOTONIC` nanoseconds of this read.
    pub at_ns: u64,
}

/// Reads the registers of a process' threads, as often as asked. It attaches nothing to the target.
pub struct TaskIterator {
    programs: Ebpf,
}

impl TaskIterator {
    /// Loads the iterator for one process.
    pub fn load(kernel: &Kernel, target: KernelTarget) -> Result<Self, ProbeError> {
        Self::with_config(kernel, &object::config_for(kernel, target))
    }

    /// Loads it for every process in this pid namespace.
    pub(super) fn load_for_all(kernel: &Kernel) -> Result<Self, ProbeError> {
        Self::with_config(kernel, &object::config_for(kernel, KernelTarget { tgid: 0, own_level: 0 }))
    }

    fn with_config(kernel: &Kernel, config: &Config) -> Result<Self, ProbeError> {
        let mut programs = object::open(kernel, config, MapSizes::LEAST, 0)?;
        load(&mut programs, kernel)?;
        Ok(Self { programs })
    }

    /// One pass over the threads. Threads of the kernel's own and those that have exited are left out.
    pub fn registers(&mut self) -> Result<Vec<ThreadRegisters>, ProbeError> {
        registers(&mut self.programs)
    }

    pub(super) fn records(&mut self) -> Result<Vec<TaskRecord>, ProbeError> {
        records(&mut self.programs)
    }
}

/// Loads the iterator of this object.
pub(super) fn load(programs: &mut Ebpf, kernel: &Kernel) -> Result<(), ProbeError> {
    let program: &mut Iter = probes::program(programs, PROGRAM)?;
    program.load("task", &kernel.btf).map_err(|error| ProbeError::from_program(WHAT, SINCE, &error))
}

/// Runs the iterator of this object over the threads it was configured for.
pub(super) fn registers(programs: &mut Ebpf) -> Result<Vec<ThreadRegisters>, ProbeError> {
    let in_user_mode = |record: &&TaskRecord| record.registers.cs & 3 == 3;
    Ok(records(programs)?.iter().filter(in_user_mode).map(thread_registers).collect())
}

fn records(programs: &mut Ebpf) -> Result<Vec<TaskRecord>, ProbeError> {
    let program: &mut Iter = probes::program(programs, PROGRAM)?;
    let refused = |error| ProbeError::from_program(WHAT, SINCE, &error);
    let link = program.attach().map_err(refused)?;
    let link = program.take_link(link).map_err(refused)?;
    let mut file = link.into_file().map_err(|error| ProbeError::Refused { what: WHAT, reason: error.to_string() })?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| ProbeError::from_io(WHAT, SINCE, &error))?;
    Ok(bytes.chunks(size_of::<TaskRecord>()).filter_map(read_pod).collect())
}

fn thread_registers(record: &TaskRecord) -> ThreadRegisters {
    ThreadRegisters {
        tid: record.tid.cast_signed(),
        registers: record.registers,
        fs_base: record.fs_base,
        on_cpu: record.on_cpu == TASK_ON_CPU,
        asleep: record.task_state != 0,
        switches: record.switches,
        at_ns: record.at_ns,
    }
}

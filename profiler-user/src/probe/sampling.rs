//! Samples of what runs, by the clock of every CPU.

use aya::{
    Ebpf,
    programs::{
        PerfEvent,
        perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
    util::online_cpus,
};

use super::{ProbeError, Probes, probes};

const PROGRAM: &str = "sample";
const WHAT: &str = "sampling";
const SINCE: &str = "5.15";

pub(super) fn load(programs: &mut Ebpf) -> Result<(), ProbeError> {
    let program: &mut PerfEvent = probes::program(programs, PROGRAM)?;
    program.load().map_err(|error| ProbeError::from_program(WHAT, SINCE, &error))
}

impl Probes {
    /// From now on, threads of the target that run are sampled `hz` times a second on each CPU.
    ///
    /// The probes must have been loaded with [`super::ProbeOptions::sampling`], or most samples find no room.
    pub fn attach_sampling(&mut self, hz: u64) -> Result<(), ProbeError> {
        self.sample.clone()?;
        let program: &mut PerfEvent = probes::program(&mut self.programs, PROGRAM)?;
        let cpus = online_cpus()
            .map_err(|(path, error)| ProbeError::Refused { what: WHAT, reason: format!("{path}: {error}") })?;
        for cpu in cpus {
            program
                .attach(
                    PerfEventConfig::Software(SoftwareEvent::CpuClock),
                    PerfEventScope::AllProcessesOneCpu { cpu },
                    SamplePolicy::Frequency(hz),
                    false,
                )
                .map_err(|error| ProbeError::from_program(WHAT, SINCE, &error))?;
        }
        Ok(())
    }
}

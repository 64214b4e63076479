//! *Trace waits*: uprobes where the target's runtime queues, hands over and wakes.
//!
//! The kernel puts a breakpoint there, and a hit costs the target 0.7 to 2 µs. So the hits are counted first, and
//! whoever attaches watches [`Probes::costs`] and [`Probes::wait_hits`] and detaches in time.

use std::{
    num::NonZeroU32,
    path::PathBuf,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    programs::{
        UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope},
    },
};
use profiler_common::WAIT_KINDS;

use super::{ProbeError, Probes, counts, probes};

const SEND: &str = "wait";
const COUNT: &str = "count_wait";
const WHAT: &str = "tracing of waits";
const SINCE: &str = "5.15";

/// A function of the target to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitPoint {
    /// Absolute path of the file that has it, as gordian sees it: under `/proc/PID/root` for a container.
    pub path: PathBuf,
    /// Where in that file its first instruction is.
    pub file_offset: u64,
    /// The number its events carry, below [`profiler_common::WAIT_KINDS`].
    pub kind: u32,
}

/// How often traced functions are entered.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitRates {
    /// How long they were counted for.
    pub window: Duration,
    /// Hits a second, by kind; kinds without a hit are left out.
    pub per_second: Vec<(u32, f64)>,
}

impl WaitRates {
    /// Hits a second in all.
    pub fn total(&self) -> f64 {
        self.per_second.iter().map(|(_, rate)| rate).sum()
    }
}

/// Attached uprobes.
#[derive(Default)]
pub(super) struct Links(Vec<UProbeLinkId>);

pub(super) fn load(programs: &mut Ebpf) -> Result<(), ProbeError> {
    for name in [SEND, COUNT] {
        let program: &mut UProbe = probes::program(programs, name)?;
        program.load().map_err(|error| ProbeError::from_program(WHAT, SINCE, &error))?;
    }
    Ok(())
}

impl Probes {
    /// Counts hits for a while, sending nothing. Blocks the calling thread for `window` and what attaching takes.
    pub fn count_waits(&mut self, points: &[WaitPoint], window: Duration) -> Result<WaitRates, ProbeError> {
        self.waits.clone()?;
        let mut links = Links::default();
        let attached = self.attach_points(COUNT, points, &mut links);
        let before = attached.and_then(|()| self.wait_hits());
        let start = Instant::now();
        if before.is_ok() {
            std::thread::sleep(window);
        }
        let after = self.wait_hits();
        let window = start.elapsed();
        self.detach_points(COUNT, &mut links)?;
        let (before, after) = (before?, after?);
        let rate = |before: &u64, after: &u64| (after - before) as f64 / window.as_secs_f64();
        let per_second = (0..).zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
        Ok(WaitRates { window, per_second: per_second.map(|(kind, (b, a))| (kind, rate(b, a))).collect() })
    }

    /// From now on, entries into these functions are sent as [`super::Event::Wait`]. Where one cannot be attached,
    /// none is.
    pub fn attach_waits(&mut self, points: &[WaitPoint]) -> Result<(), ProbeError> {
        self.waits.clone()?;
        let mut links = std::mem::take(&mut self.wait_links);
        let result = self.attach_points(SEND, points, &mut links);
        if result.is_err() {
            self.detach_points(SEND, &mut links)?;
        }
        self.wait_links = links;
        result
    }

    /// Takes all breakpoints away again.
    pub fn detach_waits(&mut self) -> Result<(), ProbeError> {
        let mut links = std::mem::take(&mut self.wait_links);
        self.detach_points(SEND, &mut links)
    }

    /// Hits so far, counted or sent, by kind.
    pub fn wait_hits(&self) -> Result<Vec<u64>, ProbeError> {
        (0..WAIT_KINDS).map(|kind| counts::sum(&self.wait_counts, kind)).collect()
    }

    fn attach_points(&mut self, name: &str, points: &[WaitPoint], links: &mut Links) -> Result<(), ProbeError> {
        let scope = NonZeroU32::new(self.pid).map(UProbeScope::OneProcess);
        let scope = scope.ok_or(ProbeError::NoProcess(0))?;
        let program: &mut UProbe = probes::program(&mut self.programs, name)?;
        for point in points {
            if point.kind >= WAIT_KINDS || !point.path.is_absolute() {
                return Err(ProbeError::BadLayout(format!("cannot trace {point:?}")));
            }
            let attach_point = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(point.file_offset),
                cookie: Some(u64::from(point.kind)),
            };
            let link = program
                .attach(attach_point, &point.path, scope)
                .map_err(|error| ProbeError::from_program(WHAT, SINCE, &error))?;
            links.0.push(link);
        }
        Ok(())
    }

    fn detach_points(&mut self, name: &str, links: &mut Links) -> Result<(), ProbeError> {
        let program: &mut UProbe = probes::program(&mut self.programs, name)?;
        for link in links.0.drain(..) {
            program.detach(link).map_err(|error| ProbeError::from_program(WHAT, SINCE, &error))?;
        }
        Ok(())
    }
}

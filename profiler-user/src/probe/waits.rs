//! *Trace waits*: uprobes where the target's runtime queues, hands over and wakes.
//!
//! The kernel puts a breakpoint there, and each hit costs the target a trap or two. So the hits are counted first and
//! valued at what a hit costs on this machine, and whoever attaches watches [`Probes::wait_rates`] and detaches in time.

use std::{
    cmp::Reverse,
    collections::HashMap,
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

use super::{ProbeError, Probes, counts, error, hit_cost::HitCost, probes, site};

const PROGRAM: &str = "wait";
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

/// How often traced functions were entered, and what that cost the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitRates {
    /// For how long they were counted.
    pub window: Duration,
    /// Hits by kind; kinds without a hit are left out.
    pub hits: Vec<(u32, u64)>,
    /// What they cost, at what a hit costs on this machine.
    pub cost: Duration,
}

impl WaitRates {
    /// Seconds of CPU a second: 0.01 is 1% of one CPU. 0 where nothing was counted yet.
    pub fn cpu_share(&self) -> f64 {
        let window = self.window.as_secs_f64();
        if window > 0.0 { self.cost.as_secs_f64() / window } else { 0.0 }
    }

    /// Hits in all.
    pub fn total(&self) -> u64 {
        self.hits.iter().map(|(_, hits)| hits).sum()
    }
}

/// Attached uprobes, and what is needed to value their hits.
#[derive(Default)]
pub(super) struct Links {
    /// By kind.
    ids: Vec<(u32, UProbeLinkId)>,
    values: KindCosts,
    hits_before: Vec<u64>,
    since: Option<Instant>,
}

/// What a hit of each kind costs: of the points that share a kind, the dearest.
type KindCosts = HashMap<u32, Duration>;

pub(super) fn load(programs: &mut Ebpf) -> Result<(), ProbeError> {
    program(programs)?.load().map_err(|error| ProbeError::from_program(WHAT, SINCE, &error))
}

pub(super) fn program(programs: &mut Ebpf) -> Result<&mut UProbe, ProbeError> {
    probes::program(programs, PROGRAM)
}

/// Attaches one uprobe to one process, `site` bytes behind the function's first instruction.
pub(super) fn attach(
    program: &mut UProbe,
    point: &WaitPoint,
    site: u64,
    pid: NonZeroU32,
) -> Result<UProbeLinkId, ProbeError> {
    if point.kind >= WAIT_KINDS || !point.path.is_absolute() {
        return Err(ProbeError::BadLayout(format!("cannot trace {point:?}")));
    }
    let attach_point = UProbeAttachPoint {
        location: UProbeAttachLocation::AbsoluteOffset(point.file_offset + site),
        cookie: Some(u64::from(point.kind)),
    };
    program.attach(attach_point, &point.path, UProbeScope::OneProcess(pid)).map_err(|error| {
        match ProbeError::from_program(WHAT, SINCE, &error) {
            // Linux 6.18 lets CAP_PERFMON load the program, and not set its breakpoints.
            ProbeError::NotPermitted { .. } => {
                ProbeError::NotPermitted { what: "trace waits", missing: error::missing_admin() }
            }
            other => other,
        }
    })
}

/// Detaches uprobes, on a thread of its own: the kernel waits a tenth of a second or so for each, one after another.
pub(super) fn detach(program: &mut UProbe, ids: Vec<UProbeLinkId>) -> Result<(), ProbeError> {
    let links: Result<Vec<_>, _> = ids.into_iter().map(|id| program.take_link(id)).collect();
    let links = links.map_err(|error| ProbeError::from_program(WHAT, SINCE, &error))?;
    std::thread::spawn(move || drop(links));
    Ok(())
}

impl Probes {
    /// Traces one function more: its entries are counted, and not sent yet.
    ///
    /// Takes some 20 ms. The first time, it also measures what a hit costs on this machine.
    pub fn attach_wait(&mut self, point: &WaitPoint) -> Result<(), ProbeError> {
        let hit_cost = self.hit_cost()?;
        let site = site::cheapest(&point.path, point.file_offset).map_err(|error| ProbeError::Refused {
            what: WHAT,
            reason: format!("{} cannot be read: {error}", point.path.display()),
        })?;
        if self.wait_links.since.is_none() {
            self.wait_links.hits_before = self.wait_hits()?;
            self.wait_links.since = Some(Instant::now());
        }
        let pid = NonZeroU32::new(self.pid).ok_or(ProbeError::NoProcess(0))?;
        let id = attach(program(&mut self.programs)?, point, site.offset, pid)?;
        self.wait_links.ids.push((point.kind, id));
        let dearest = self.wait_links.values.entry(point.kind).or_default();
        *dearest = hit_cost.at(site).max(*dearest);
        Ok(())
    }

    /// Whether entries into the traced functions are sent, as [`super::Event::Wait`], or counted only.
    pub fn send_waits(&mut self, send: bool) -> Result<(), ProbeError> {
        self.send_switch.set(0, u32::from(send), 0).map_err(|error| ProbeError::Refused {
            what: "a switch between sending and counting",
            reason: error.to_string(),
        })
    }

    /// How often the traced functions have been entered since the first [`Probes::attach_wait`], and at what cost.
    pub fn wait_rates(&self) -> Result<WaitRates, ProbeError> {
        let window = self.wait_links.since.map_or(Duration::ZERO, |since| since.elapsed());
        let hits = hits_since(&self.wait_links.hits_before, &self.wait_hits()?);
        let cost = cost(&self.wait_links.values, &hits);
        Ok(WaitRates { window, hits, cost })
    }

    /// Takes all breakpoints away again, in the background: the kernel takes a tenth of a second or so for each, so those
    /// that cost most go first.
    pub fn detach_waits(&mut self) -> Result<(), ProbeError> {
        self.send_waits(false)?;
        // What cannot be counted any more must go all the same.
        let hits = self.wait_rates().unwrap_or_default().hits;
        let mut links = std::mem::take(&mut self.wait_links);
        links.ids.sort_by_cached_key(|(kind, _)| {
            let hits = hits.iter().find(|(hit, _)| hit == kind);
            Reverse(cost(&links.values, hits.map_or(&[], std::slice::from_ref)))
        });
        detach(program(&mut self.programs)?, links.ids.into_iter().map(|(_, id)| id).collect())
    }

    /// What a hit costs on this machine; measured when it is first needed.
    pub fn hit_cost(&mut self) -> Result<HitCost, ProbeError> {
        self.waits.clone()?;
        let cost = self.hit_cost.map_or_else(|| HitCost::measure(&mut self.programs), Ok)?;
        self.hit_cost = Some(cost);
        Ok(cost)
    }

    /// Hits so far, by kind.
    fn wait_hits(&self) -> Result<Vec<u64>, ProbeError> {
        (0..WAIT_KINDS).map(|kind| counts::sum(&self.wait_counts, kind)).collect()
    }
}

/// Hits by kind between two counts; kinds without one are left out.
fn hits_since(before: &[u64], after: &[u64]) -> Vec<(u32, u64)> {
    let hits = before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before));
    (0..).zip(hits).filter(|(_, hits)| *hits > 0).collect()
}

fn cost(values: &KindCosts, hits: &[(u32, u64)]) -> Duration {
    let of_kind = |(kind, hits): &(u32, u64)| {
        let value = values.get(kind).copied().unwrap_or_default();
        Duration::from_nanos(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX).saturating_mul(*hits))
    };
    hits.iter().map(of_kind).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_valued_by_their_kind() {
        let hits = hits_since(&[5, 0, 7], &[5, 10, 9]);
        assert_eq!(hits, [(1, 10), (2, 2)]);
        let values = KindCosts::from([(1, Duration::from_micros(2)), (2, Duration::from_micros(30))]);
        assert_eq!(cost(&values, &hits), Duration::from_micros(80));
    }
}

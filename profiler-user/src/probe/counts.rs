//! What the kernel programs have counted, and what they have cost.

use aya::maps::{MapData, PerCpuArray};
use profiler_common::Counter;

use super::ProbeError;

/// All counters at one moment, summed over CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; Counter::COUNT as usize]);

impl Counts {
    /// One counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// Events of any kind that found no room in a ring buffer.
    pub fn ring_full(&self) -> u64 {
        [Counter::BlockRingFull, Counter::SampleRingFull, Counter::WaitRingFull].map(|c| self.get(c)).iter().sum()
    }

    /// Reads of the target's memory that failed.
    pub fn user_read(&self) -> u64 {
        self.get(Counter::ContextUnreadable) + self.get(Counter::StackUnreadable)
    }

    pub(super) fn read(map: &PerCpuArray<MapData, u64>) -> Result<Self, ProbeError> {
        let mut counts = Self::default();
        for (counter, slot) in Counter::ALL.into_iter().zip(&mut counts.0) {
            *slot = sum(map, counter as u32)?;
        }
        Ok(counts)
    }
}

/// A slot of a per-CPU array, summed over CPUs.
pub(super) fn sum(map: &PerCpuArray<MapData, u64>, index: u32) -> Result<u64, ProbeError> {
    let values = map
        .get(&index, 0)
        .map_err(|error| ProbeError::Refused { what: "a read of its counters", reason: error.to_string() })?;
    Ok(values.iter().sum())
}

/// What one kernel program has cost so far, by the kernel's own figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    /// Name of the program.
    pub name: String,
    /// Times it ran.
    pub runs: u64,
    /// Nanoseconds it ran for in all.
    pub ns: u64,
}

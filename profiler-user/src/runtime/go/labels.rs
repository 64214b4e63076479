//! The labels that a program gives to its goroutines for the profiler (package runtime/pprof, `labelMap`).
//!
//! Up to 1.23 they are a map from string to string (runtime/map.go); from 1.24 on a slice of pairs. Both are made once and never
//! changed; a goroutine inherits them from the one that started it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::bytes::{read_vec, u64_at};
use crate::{model::Labels, target::Memory};

/// The first minor version in which they are a slice.
const FIRST_WITH_SLICE: u32 = 24;
/// Labels of one goroutine, and bytes of a name or value, that are believed.
const MOST: u64 = 256;
const LONGEST: u64 = 4096;

/// A map's record: how many there are, the logarithm of the number of buckets, the buckets, and those that it is about to give up.
const MAP_COUNT: u64 = 0;
const MAP_LOG_BUCKETS: u64 = 9;
const MAP_BUCKETS: [u64; 2] = [16, 24];
const MAP_SIZE: u64 = 32;
/// A bucket of eight: a byte for each, names, values, and the next bucket in its chain. A byte below the smallest stands for a
/// place that is empty or has been moved to another bucket.
const IN_BUCKET: u64 = 8;
const SMALLEST_TOP: u8 = 5;
const BUCKET_NAMES: u64 = 8;
const BUCKET_VALUES: u64 = BUCKET_NAMES + IN_BUCKET * STRING;
const BUCKET_NEXT: u64 = BUCKET_VALUES + IN_BUCKET * STRING;
const BUCKET_SIZE: u64 = BUCKET_NEXT + 8;
/// Bytes of a string's record: where it is, and how long.
const STRING: u64 = 16;

/// Labels that were read, by the address of their record.
#[derive(Debug, Default)]
pub(super) struct Known(FxHashMap<u64, Option<Labels>>);

impl Known {
    /// The labels in the record at `address`, in a program of Go 1.`minor`; `None` where there are none or they cannot be read.
    pub(super) fn at(&mut self, memory: &dyn Memory, minor: u32, address: u64) -> Option<Labels> {
        if address == 0 {
            return None;
        }
        let read = || {
            let pairs = if minor < FIRST_WITH_SLICE { in_map(memory, address) } else { in_slice(memory, address) };
            pairs.map(Arc::from)
        };
        self.0.entry(address).or_insert_with(read).clone()
    }
}

fn in_slice(memory: &dyn Memory, address: u64) -> Option<Vec<(String, String)>> {
    let header = read_vec(memory, address, STRING, STRING).ok()?;
    let (first, count) = (u64_at(&header, 0)?, u64_at(&header, 8)?);
    if count > MOST {
        return None;
    }
    let list = read_vec(memory, first, count * 2 * STRING, u64::MAX).ok()?;
    (0..count)
        .map(|index| Some((text(memory, &list, index * 2 * STRING)?, text(memory, &list, (index * 2 + 1) * STRING)?)))
        .collect()
}

fn in_map(memory: &dyn Memory, address: u64) -> Option<Vec<(String, String)>> {
    let map = memory.read_u64(address).ok().filter(|map| *map != 0)?;
    let header = read_vec(memory, map, MAP_SIZE, MAP_SIZE).ok()?;
    let (count, log) = (u64_at(&header, MAP_COUNT)?, *header.get(MAP_LOG_BUCKETS as usize)?);
    if count > MOST || log > 8 {
        return None;
    }
    let mut pairs = Vec::new();
    for (field, log) in MAP_BUCKETS.into_iter().zip([log, log.saturating_sub(1)]) {
        let buckets = u64_at(&header, field)?;
        for number in 0..(1_u64 << log) {
            let mut bucket = if buckets == 0 { 0 } else { buckets.checked_add(number * BUCKET_SIZE)? };
            for _ in 0..MOST {
                if bucket == 0 {
                    break;
                }
                bucket = in_bucket(memory, bucket, &mut pairs)?;
            }
        }
    }
    pairs.sort_unstable();
    // Anything else would be a map in the middle of a change.
    (pairs.len() as u64 == count).then_some(pairs)
}

/// Adds the pairs of one bucket; returns the address of the next in its chain, 0 for none.
fn in_bucket(memory: &dyn Memory, bucket: u64, pairs: &mut Vec<(String, String)>) -> Option<u64> {
    let bytes = read_vec(memory, bucket, BUCKET_SIZE, BUCKET_SIZE).ok()?;
    for index in (0..IN_BUCKET).filter(|index| bytes[*index as usize] >= SMALLEST_TOP) {
        let name = text(memory, &bytes, BUCKET_NAMES + index * STRING)?;
        pairs.push((name, text(memory, &bytes, BUCKET_VALUES + index * STRING)?));
    }
    u64_at(&bytes, BUCKET_NEXT)
}

/// The string whose record is at `at`.
fn text(memory: &dyn Memory, bytes: &[u8], at: u64) -> Option<String> {
    let (start, length) = (u64_at(bytes, at)?, u64_at(bytes, at + 8)?);
    if length == 0 {
        return Some(String::new());
    }
    Some(String::from_utf8_lossy(&read_vec(memory, start, length, LONGEST).ok()?).into_owned())
}

//! Captures: what gordian read of a process, kept so that it can be read again elsewhere.
//!
//! A magic, a version, then one zstd frame: the length of the header, the header (postcard), and the pages it speaks of. A
//! page that did not change between two moments is there once; pages that a file has are not there at all.

use std::{
    io::{self, Read as _, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{
    Mappings, ThreadFacts,
    image::{Bytes, Image, Stretch},
    residency::PAGE,
    space::Page,
    stored::{Contents, ModuleRecord, Moment},
};

const MAGIC: &[u8; 8] = b"gordian\0";
const VERSION: u32 = 2;
/// zstd's own default: the pages of a heap shrink to a fifth at the speed of a disk.
const LEVEL: i32 = 3;
/// How much a capture may grow when it is unpacked: pages compress well, and a bomb better.
const GROWTH: u64 = 500;
const LEAST_LIMIT: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    pid: i32,
    exe: PathBuf,
    modules: Vec<ModuleRecord>,
    moments: Vec<MomentRecord>,
    /// Of each moment whether the process stood still.
    stopped: Vec<bool>,
}

#[derive(Serialize, Deserialize)]
struct MomentRecord {
    after: Duration,
    mappings: Mappings,
    threads: Vec<ThreadFacts>,
    /// Runs of pages: address of the first, how many, and which of the capture's pages the first is.
    pages: Vec<(u64, u32, u32)>,
}

/// A moment to be kept: its pages by address.
pub(super) struct Kept {
    pub(super) after: Duration,
    pub(super) mappings: Mappings,
    pub(super) threads: Vec<ThreadFacts>,
    /// It stood still while it was read.
    pub(super) stopped: bool,
    pub(super) pages: Vec<(u64, Page)>,
}

/// Whether a file that begins like this is a capture.
pub(super) fn is_one(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// Writes a capture.
pub(super) fn write(
    out: &mut impl Write,
    pid: i32,
    exe: PathBuf,
    modules: Vec<ModuleRecord>,
    moments: &[Kept],
) -> io::Result<()> {
    let mut blob: Vec<&Page> = Vec::new();
    let mut known: FxHashMap<&Page, u32> = FxHashMap::default();
    let mut runs = Vec::with_capacity(moments.len());
    for moment in moments {
        let mut pages: Vec<(u64, u32, u32)> = Vec::new();
        for (address, page) in &moment.pages {
            let index = *known.entry(page).or_insert_with(|| {
                blob.push(page);
                blob.len() as u32 - 1
            });
            match pages.last_mut() {
                Some((first, count, from))
                    if *first + u64::from(*count) * PAGE == *address && *from + *count == index =>
                {
                    *count += 1;
                }
                _ => pages.push((*address, 1, index)),
            }
        }
        runs.push(pages);
    }
    let records = moments.iter().zip(runs).map(|(moment, pages)| MomentRecord {
        after: moment.after,
        mappings: moment.mappings.clone(),
        threads: moment.threads.clone(),
        pages,
    });
    let stopped = moments.iter().map(|moment| moment.stopped).collect();
    let header = Header { pid, exe, modules, moments: records.collect(), stopped };
    let header = postcard::to_stdvec(&header).map_err(io::Error::other)?;
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    let mut packed = zstd::Encoder::new(out, LEVEL)?;
    packed.write_all(&(header.len() as u64).to_le_bytes())?;
    packed.write_all(&header)?;
    for page in blob {
        packed.write_all(&page[..])?;
    }
    packed.finish()?.flush()
}

/// Reads a capture.
pub(super) fn read(bytes: &[u8]) -> Result<Contents, String> {
    let broken = |what: &dyn std::fmt::Display| format!("a broken capture: {what}");
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| broken(&"no magic"))?;
    let (version, packed) = rest.split_first_chunk().ok_or_else(|| broken(&"cut short"))?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(format!(
            "a capture in format {version}, and this gordian reads format {VERSION}: use the gordian that wrote it"
        ));
    }
    let limit = (packed.len() as u64).saturating_mul(GROWTH).max(LEAST_LIMIT);
    let mut unpacked = Vec::new();
    let decoder = zstd::Decoder::new(packed).map_err(|error| broken(&error))?;
    decoder.take(limit).read_to_end(&mut unpacked).map_err(|error| broken(&error))?;
    if unpacked.len() as u64 == limit {
        return Err(broken(&"it grows without end"));
    }
    let (length, body) = unpacked.split_first_chunk().ok_or_else(|| broken(&"cut short"))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|error| broken(&error))?;
    let header = body.get(..length).ok_or_else(|| broken(&"cut short"))?;
    let header: Header = postcard::from_bytes(header).map_err(|error| broken(&error))?;
    if header.moments.is_empty() {
        return Err(broken(&"nothing was kept in it"));
    }
    let first = size_of_val(&0u64) + length;
    let pages = Arc::new(unpacked);
    let stopped = header.stopped;
    let moments = header.moments.into_iter().enumerate().map(|(index, moment)| {
        let stretches = moment.pages.iter().filter_map(|&(address, count, from)| {
            let offset = usize::try_from(u64::from(from) * PAGE).ok()?.checked_add(first)?;
            Some(Stretch { range: address..address.checked_add(u64::from(count) * PAGE)?, offset })
        });
        Moment {
            after: moment.after,
            mappings: moment.mappings,
            threads: moment.threads,
            stopped: stopped.get(index).copied().unwrap_or(false),
            image: Arc::new(Image::new(stretches.collect(), Bytes::Owned(Arc::clone(&pages)))),
        }
    });
    Ok(Contents { pid: header.pid, exe: header.exe, modules: header.modules, moments: moments.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Mapping;

    fn page(byte: u8) -> Page {
        Box::new([byte; PAGE as usize])
    }

    fn sample() -> Vec<u8> {
        let mapping = Mapping {
            range: 0x1000..0x9000,
            read: true,
            write: true,
            execute: false,
            shared: false,
            offset: 0,
            device: (0, 0),
            inode: 0,
            path: None,
            label: None,
        };
        let moment = |after, pages| Kept {
            after: Duration::from_millis(after),
            mappings: Mappings::new(vec![mapping.clone()]),
            threads: Vec::new(),
            stopped: after > 0,
            pages,
        };
        let moments = vec![
            moment(0, vec![(0x1000, page(1)), (0x2000, page(2)), (0x5000, page(1))]),
            moment(300, vec![(0x1000, page(1)), (0x2000, page(3))]),
        ];
        let mut bytes = Vec::new();
        write(&mut bytes, 7, "/srv/ledger".into(), Vec::new(), &moments).expect("a vector takes all");
        bytes
    }

    #[test]
    fn what_was_kept_is_read_again() {
        let contents = read(&sample()).expect("a capture");
        assert_eq!((contents.pid, contents.exe.to_str()), (7, Some("/srv/ledger")));
        let [first, second] = &contents.moments[..] else { panic!("two moments") };
        assert_eq!(first.image.at(0x1fff, 2), [1, 2]);
        assert_eq!((first.image.at(0x2000, 1), first.image.at(0x5000, 1)), (&[2][..], &[1][..]));
        assert_eq!((second.image.at(0x2fff, 2), second.image.at(0x5000, 1)), (&[3][..], &[][..]));
        assert_eq!((second.after, first.stopped, second.stopped), (Duration::from_millis(300), false, true));
    }

    #[test]
    fn damaged_captures_are_errors_or_less() {
        let good = sample();
        for length in 0..good.len() {
            assert!(read(&good[..length]).is_err(), "cut at {length}");
        }
        for at in MAGIC.len() + 4..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            // Whatever comes of it, nothing panics.
            let _ = read(&bad);
        }
    }

    #[test]
    fn another_format_is_named() {
        let mut other = sample();
        other[8] = 9;
        assert!(read(&other).expect_err("a later version").contains("format 9"));
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
        bytes.extend(zstd::encode_all(io::repeat(0).take(LEAST_LIMIT + 1), LEVEL).expect("zeros"));
        assert!(read(&bytes).expect_err("too much").contains("without end"));
    }
}

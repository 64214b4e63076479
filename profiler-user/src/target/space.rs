//! The memory of a process, read without stopping it, or as it was kept.

use std::{
    cell::RefCell,
    io::IoSliceMut,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Mapping, Mappings, Memory, MemoryError, ModuleFile,
    image::Image,
    joined::{Joined, PIECES, read_runs},
    residency::{PAGE, PageMap, Residency},
};

/// Bytes that one bulk read moves at most: keeps each hold of the target's mmap lock short.
const BULK: u64 = 1 << 20;

/// The bytes of one page.
pub(super) type Page = Box<[u8; PAGE as usize]>;

/// Addresses of the pages that were read, for those who keep them.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub(super) pages: FxHashSet<u64>,
    /// Those that were read in bulk, for looks that need all of a heap.
    pub(super) bulk: FxHashSet<u64>,
    /// How many of the latter are noted; once there are more, none is.
    pub(super) most_bulk: usize,
}

impl Noted {
    fn add_bulk(&mut self, pages: impl Iterator<Item = u64>) {
        if self.most_bulk > 0 {
            self.bulk.extend(pages);
            if self.bulk.len() > self.most_bulk {
                (self.most_bulk, self.bulk) = (0, FxHashSet::default());
            }
        }
    }
}

/// What is shared by all views of a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched(Arc<Mutex<Noted>>);

impl Touched {
    pub(super) fn lock(&self) -> MutexGuard<'_, Noted> {
        // Whoever panicked had added addresses, or had not.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where pages come from.
enum Source {
    Live { pid: Pid, residency: PageMap },
    Kept(Arc<Image>),
}

/// One view of a process' memory: pages are read once and kept until [`AddressSpace::refresh`], so that a walk over
/// them sees each page as it was at one moment.
pub struct AddressSpace {
    source: Source,
    mappings: Mappings,
    files: Vec<ModuleFile>,
    pages: RefCell<FxHashMap<u64, Option<Page>>>,
    /// Room for what is read scattered, to be used again.
    scratch: RefCell<Vec<u8>>,
    touched: Option<Touched>,
}

impl AddressSpace {
    /// A running process; the pages that are read are noted in `touched`.
    pub(super) fn live(
        pid: i32,
        mappings: Mappings,
        files: Vec<ModuleFile>,
        residency: PageMap,
        touched: Option<Touched>,
    ) -> Self {
        let source = Source::Live { pid: Pid::from_raw(pid), residency };
        Self { source, mappings, files, pages: RefCell::default(), scratch: RefCell::default(), touched }
    }

    /// A process as it was once.
    pub(super) fn kept(image: Arc<Image>, mappings: Mappings, files: Vec<ModuleFile>) -> Self {
        let (pages, scratch) = (RefCell::default(), RefCell::default());
        Self { source: Source::Kept(image), mappings, files, pages, scratch, touched: None }
    }

    /// Another view of the same process, with nothing read yet: for another thread.
    #[must_use]
    pub fn another(&self) -> Self {
        let source = match &self.source {
            Source::Live { pid, residency } => Source::Live { pid: *pid, residency: residency.another() },
            Source::Kept(image) => Source::Kept(Arc::clone(image)),
        };
        Self {
            source,
            mappings: self.mappings.clone(),
            files: self.files.clone(),
            pages: RefCell::default(),
            scratch: RefCell::default(),
            touched: self.touched.clone(),
        }
    }

    /// The same process as it is now, with what it has mapped since; `None` where that cannot be asked.
    #[must_use]
    pub fn afresh(&self) -> Option<Self> {
        let mut now = self.another();
        if let Some(pid) = self.pid() {
            let maps = procfs::process::Process::new(pid).and_then(|process| process.maps()).ok()?;
            now.mappings = Mappings::new(maps.into_iter().map(Into::into).collect());
        }
        Some(now)
    }

    /// The process whose memory it is, where it still runs.
    pub fn pid(&self) -> Option<i32> {
        match &self.source {
            Source::Live { pid, .. } => Some(pid.as_raw()),
            Source::Kept(_) => None,
        }
    }

    /// The address space as it was when this view was made.
    pub fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    /// Forgets every page, so that the next reads see the target anew.
    pub fn refresh(&self) {
        self.pages.borrow_mut().clear();
        if let Source::Live { residency, .. } = &self.source {
            residency.forget();
        }
    }

    /// Forgets the pages of `range` only, so that they are read anew together.
    pub fn forget(&self, range: Range<u64>) {
        let mut pages = self.pages.borrow_mut();
        let mut at = range.start & !(PAGE - 1);
        while at < range.end {
            pages.remove(&at);
            at += PAGE;
        }
    }

    /// Reads the pages of some pieces anew, all at once where they are in memory; the others when they are asked for.
    pub fn renew(&self, pieces: impl Iterator<Item = Range<u64>>) {
        let mut bases = Vec::new();
        pieces.for_each(|piece| bases.extend(pages(&piece)));
        bases.sort_unstable();
        bases.dedup();
        let mut kept = self.pages.borrow_mut();
        for base in &bases {
            kept.remove(base);
        }
        let private = |base: u64| self.mappings.at(base).is_some_and(|map| map.read && map.inode == 0 && !map.shared);
        bases.retain(|base| private(*base) && self.is_resident(&(*base..base + PAGE)));
        let mut runs: Vec<Range<u64>> = Vec::new();
        for base in &bases {
            match runs.last_mut().filter(|run| run.end == *base) {
                Some(run) => run.end += PAGE,
                None => runs.push(*base..base + PAGE),
            }
        }
        runs.truncate(PIECES);
        let mut buf = self.scratch.take();
        let total = runs.iter().map(|run| (run.end - run.start) as usize).sum();
        if buf.len() < total {
            buf.resize(total, 0);
        }
        let got = self.read_vectored(&runs, &mut buf[..total]);
        let read = bases.iter().zip(buf[..got].as_chunks::<{ PAGE as usize }>().0);
        kept.extend(read.map(|(base, bytes)| (*base, Some(Box::new(*bytes)))));
        drop(kept);
        self.scratch.replace(buf);
        self.note(runs.into_iter());
    }

    /// Reads past the kept pages, straight from the target: what is there now.
    pub fn read_now(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        if self.resident_runs(address..address + buf.len() as u64).next().map(|run| run.end - run.start)
            == Some(buf.len() as u64)
        {
            return self.read_remote(address, buf);
        }
        self.read(address, buf)
    }

    /// Fills `buf` from `address` on with what is there now: in bounded pieces, unkept, and without fetching what is not
    /// in memory. Private memory that was never touched is zero.
    pub fn read_bulk(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let end = address.checked_add(buf.len() as u64).ok_or(MemoryError::Unmapped(address))?;
        if let Some(touched) = &self.touched {
            touched.lock().add_bulk(pages(&(address..end)));
        }
        let mut at = address;
        for run in self.resident_runs(address..end) {
            self.zero_untouched(at..run.start, address, buf)?;
            let mut from = run.start;
            while from < run.end {
                let length = BULK.min(run.end - from);
                let place = (from - address) as usize;
                self.read_remote(from, &mut buf[place..place + length as usize])?;
                from += length;
            }
            at = run.end;
        }
        self.zero_untouched(at..end, address, buf)
    }

    /// Takes note of pieces for whoever keeps what was read, where it was read otherwise.
    pub fn note(&self, pieces: impl Iterator<Item = Range<u64>>) {
        if let Some(touched) = &self.touched {
            let mut noted = touched.lock();
            pieces.for_each(|piece| noted.pages.extend(pages(&piece)));
        }
    }

    /// Reads many pieces as they are now and calls `visit` with the number and the bytes of each, in order; `None` for what is
    /// not there or not in memory.
    pub fn scattered(&self, pieces: &[Range<u64>], visit: impl FnMut(usize, Option<&[u8]>)) {
        self.note(pieces.iter().cloned());
        self.scattered_bulk(pieces, visit);
    }

    /// The same for so much that whoever keeps what was read may not keep it.
    pub fn scattered_bulk(&self, pieces: &[Range<u64>], mut visit: impl FnMut(usize, Option<&[u8]>)) {
        if let Some(touched) = &self.touched {
            touched.lock().add_bulk(pieces.iter().flat_map(pages));
        }
        let (mut buf, mut read) = (self.scratch.take(), Vec::new());
        let (mut joined, mut first) = (Joined::default(), 0);
        while first < pieces.len() {
            joined.join(&pieces[first..]);
            if buf.len() < joined.total {
                buf.resize(joined.total, 0);
            }
            read.clear();
            self.read_group(&joined.runs, &mut buf, &mut read);
            for (index, (run, place)) in joined.places.iter().enumerate() {
                let piece = &pieces[first + index];
                let bytes = &mut buf[*place..*place + piece.end.saturating_sub(piece.start) as usize];
                let mut there = read[*run];
                if !there && joined.runs[*run] != *piece {
                    // What lies between the pieces may be what cannot be read.
                    there = self.read_alone(piece.start, bytes);
                }
                visit(first + index, there.then_some(&*bytes));
            }
            first += joined.places.len();
        }
        self.scratch.replace(buf);
    }

    /// Fills `buf` with what is there now, or else with what was there when it was read first.
    fn read_alone(&self, address: u64, buf: &mut [u8]) -> bool {
        self.read_bulk(address, buf).or_else(|_| self.read(address, buf)).is_ok()
    }

    /// Fills `buf` with the pieces one behind the other, and notes in `read` of each whether that succeeded.
    fn read_group(&self, pieces: &[Range<u64>], buf: &mut [u8], read: &mut Vec<bool>) {
        let mut rest = buf;
        while read.len() < pieces.len() {
            let left = &pieces[read.len()..];
            let together = left.iter().take_while(|piece| self.is_resident(piece)).count();
            let mut got = self.read_vectored(&left[..together], rest);
            for piece in &left[..together] {
                let length = (piece.end - piece.start) as usize;
                if length > got {
                    break;
                }
                got -= length;
                rest = &mut rest[length..];
                read.push(true);
            }
            // What stopped the kernel is asked for by itself.
            if let Some(piece) = pieces.get(read.len()) {
                let (bytes, after) = rest.split_at_mut(piece.end.saturating_sub(piece.start) as usize);
                read.push(self.read_alone(piece.start, bytes));
                rest = after;
            }
        }
    }

    /// The process, where it runs, all of the pieces are in memory, and nobody notes what is read.
    pub(super) fn live_and_resident(&self, pieces: &[Range<u64>]) -> Option<Pid> {
        let Source::Live { pid, .. } = &self.source else { return None };
        (self.touched.is_none() && pieces.iter().all(|piece| self.is_resident(piece))).then_some(*pid)
    }

    /// Whether all pages of a piece are in memory.
    fn is_resident(&self, piece: &Range<u64>) -> bool {
        let Source::Live { residency, .. } = &self.source else { return false };
        piece.start <= piece.end && pages(piece).all(|at| residency.at(at) == Some(Residency::Present))
    }

    /// How many bytes of the pieces, one behind the other, the kernel reads at once.
    fn read_vectored(&self, pieces: &[Range<u64>], buf: &mut [u8]) -> usize {
        match &self.source {
            Source::Live { pid, .. } => read_runs(*pid, pieces, buf),
            Source::Kept(_) => 0,
        }
    }

    /// Zeroes the part of `buf` for `range`; an error where that is not what the target would see there.
    fn zero_untouched(&self, range: Range<u64>, start: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let mut at = range.start;
        while at < range.end {
            let private = self.mappings.at(at).is_some_and(|map| map.read && map.inode == 0 && !map.shared);
            let untouched = match &self.source {
                Source::Live { residency, .. } => residency.at(at) == Some(Residency::Absent),
                // What was not kept is not known to be zero.
                Source::Kept(_) => false,
            };
            if !private || !untouched {
                return Err(MemoryError::Unmapped(at));
            }
            at = (at / PAGE + 1).saturating_mul(PAGE);
        }
        buf[(range.start - start) as usize..(range.end - start) as usize].fill(0);
        Ok(())
    }

    /// Calls `visit` with the address and bytes of every resident stretch of `range`, in bounded pieces, unkept. Whether that
    /// is all of what is resident: nothing vanished meanwhile, nothing was left out by who kept it.
    pub fn scan(&self, range: Range<u64>, mut visit: impl FnMut(u64, &[u8])) -> bool {
        let mut buf = Vec::new();
        let runs = match &self.source {
            Source::Live { .. } => self.resident_runs(range),
            Source::Kept(image) => {
                let mut kept = 0;
                for run in image.runs(range.clone()) {
                    kept += run.end - run.start;
                    visit(run.start, image.at(run.start, run.end - run.start));
                }
                return kept == range.end - range.start;
            }
        };
        let mut whole = true;
        for run in runs {
            let mut at = run.start;
            while at < run.end {
                let length = BULK.min(run.end - at);
                buf.resize(length as usize, 0);
                // A stretch that vanished meanwhile holds nothing to find.
                match self.read_remote(at, &mut buf) {
                    Ok(()) => visit(at, &buf),
                    Err(_) => whole = false,
                }
                at += length;
            }
        }
        whole
    }

    /// Whether a page of `range` is in swap, or may be.
    pub fn is_swapped(&self, range: Range<u64>) -> bool {
        let Source::Live { residency, .. } = &self.source else { return false };
        let mut pages = range.step_by(PAGE as usize);
        pages.any(|page| !matches!(residency.at(page), Some(Residency::Present | Residency::Absent)))
    }

    /// What the page at `base` has that its file has not: `None` where it is the file's own, or could not be read.
    pub(super) fn own_page(&self, base: u64) -> Option<Page> {
        let page = self.load(base).ok().flatten()?;
        let from_file = self.mappings.at(base).and_then(|mapping| self.file_page(mapping, base));
        (from_file.as_ref() != Some(&page)).then_some(page)
    }

    /// The stretches of `range` whose pages are in memory.
    fn resident_runs(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let resident = move |at| match &self.source {
            Source::Live { residency, .. } => residency.at(at) == Some(Residency::Present),
            Source::Kept(image) => !image.at(at, 1).is_empty(),
        };
        let mut at = range.start;
        std::iter::from_fn(move || {
            let page_end = |at: u64| (at / PAGE + 1).saturating_mul(PAGE);
            while at < range.end && !resident(at) {
                at = page_end(at);
            }
            let start = at;
            while at < range.end && resident(at) {
                at = page_end(at);
            }
            (start < range.end).then(|| start..at.min(range.end))
        })
    }

    fn read_remote(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let want = buf.len();
        let pid = match &self.source {
            Source::Live { pid, .. } => *pid,
            Source::Kept(image) => {
                let bytes = image.at(address, want as u64);
                buf[..bytes.len()].copy_from_slice(bytes);
                return if bytes.len() == want { Ok(()) } else { Err(MemoryError::Unmapped(address)) };
            }
        };
        let remote = [RemoteIoVec { base: address as usize, len: want }];
        match process_vm_readv(pid, &mut [IoSliceMut::new(buf)], &remote) {
            Ok(got) if got == want => Ok(()),
            Err(Errno::ESRCH) => Err(MemoryError::Gone),
            Err(Errno::EPERM) => Err(MemoryError::Denied),
            _ => Err(MemoryError::Unmapped(address)),
        }
    }

    fn load(&self, base: u64) -> Result<Option<Page>, MemoryError> {
        let Some(mapping) = self.mappings.at(base).filter(|mapping| mapping.read) else {
            return Ok(None);
        };
        // Code is its file's: in memory it may carry breakpoints, our own uprobes' among them.
        if mapping.execute
            && !mapping.write
            && let Some(page) = self.file_page(mapping, base)
        {
            return Ok(Some(page));
        }
        let mut page: Page = Box::new([0; PAGE as usize]);
        let residency = match &self.source {
            Source::Live { residency, .. } => residency.at(base),
            Source::Kept(image) if !image.at(base, PAGE).is_empty() => Some(Residency::Present),
            // Whoever keeps memory leaves out what a file has.
            Source::Kept(_) => return Ok(self.file_page(mapping, base)),
        };
        match residency {
            Some(Residency::Present) => match self.read_remote(base, &mut page[..]) {
                Ok(()) => Ok(Some(page)),
                Err(MemoryError::Unmapped(_)) => Ok(None),
                Err(other) => Err(other),
            },
            // Never touched since it was mapped: the file's bytes, or zeros.
            Some(Residency::Absent) if mapping.inode != 0 => Ok(self.file_page(mapping, base)),
            Some(Residency::Absent) if mapping.write && !mapping.shared => Ok(Some(page)),
            _ => Ok(None),
        }
    }

    /// The page at `base` as the file of `mapping` has it.
    fn file_page(&self, mapping: &Mapping, base: u64) -> Option<Page> {
        if mapping.inode == 0 {
            return None;
        }
        let bytes = self.files.iter().find_map(|file| file.page(mapping, base))?;
        let mut page: Page = Box::new([0; PAGE as usize]);
        page[..bytes.len()].copy_from_slice(bytes);
        Some(page)
    }
}

/// The addresses of the pages of a piece.
fn pages(piece: &Range<u64>) -> impl Iterator<Item = u64> {
    (piece.start & !(PAGE - 1)..piece.end).step_by(PAGE as usize)
}

impl Memory for AddressSpace {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let mut pages = self.pages.borrow_mut();
        let mut done = 0;
        while done < buf.len() {
            let at = address.checked_add(done as u64).ok_or(MemoryError::Unmapped(address))?;
            let base = at & !(PAGE - 1);
            let page = match pages.entry(base) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    let page = self.load(base)?;
                    if let (Some(touched), Some(_)) = (&self.touched, &page) {
                        touched.lock().pages.insert(base);
                    }
                    entry.insert(page)
                }
            };
            let bytes = page.as_ref().ok_or(MemoryError::Unmapped(at))?;
            let from = (at - base) as usize;
            let length = (buf.len() - done).min(bytes.len() - from);
            buf[done..done + length].copy_from_slice(&bytes[from..from + length]);
            done += length;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use memmap2::MmapMut;

    use super::{
        super::{Process, TargetError, residency::Residency},
        *,
    };

    fn this_process() -> (Process, AddressSpace) {
        let process = Process::open(std::process::id() as i32).expect("own process");
        let mappings = process.mappings().expect("own mappings");
        let (files, _) = process.modules(&mappings);
        let memory = process.memory(mappings, files).expect("own memory");
        (process, memory)
    }

    fn residency(memory: &AddressSpace, at: u64) -> Option<Residency> {
        match &memory.source {
            Source::Live { residency, .. } => residency.at(at),
            Source::Kept(_) => None,
        }
    }

    #[test]
    fn reads_what_is_there() {
        let words: Vec<u64> = (0..4096).collect();
        let (_, memory) = this_process();
        for (index, word) in words.iter().enumerate() {
            assert_eq!(memory.read_u64(words.as_ptr() as u64 + index as u64 * 8), Ok(*word));
        }
        assert_eq!(memory.read_u64(8), Err(MemoryError::Unmapped(8)));
    }

    #[test]
    fn reading_untouched_memory_does_not_make_it_resident() {
        let pages = MmapMut::map_anon(1 << 20).expect("a fresh mapping");
        let at = pages.as_ptr() as u64 + 5 * PAGE;
        let (_, memory) = this_process();
        assert_eq!(memory.read_u64(at), Ok(0));
        memory.refresh();
        assert_eq!(residency(&memory, at), Some(Residency::Absent));
    }

    #[test]
    fn a_bulk_read_touches_nothing() {
        let mut pages = MmapMut::map_anon(1 << 20).expect("a fresh mapping");
        let at = pages.as_ptr() as u64;
        pages[3 * PAGE as usize] = 7;
        let (_, memory) = this_process();
        let mut read = vec![1; 1 << 20];
        memory.read_bulk(at, &mut read).expect("all of it");
        assert_eq!(read.iter().position(|byte| *byte != 0), Some(3 * PAGE as usize));
        memory.refresh();
        assert_eq!(residency(&memory, at), Some(Residency::Absent));
        assert_eq!(memory.read_bulk(8, &mut read), Err(MemoryError::Unmapped(8)));
    }

    #[test]
    fn scattered_pieces_come_in_order_with_those_that_are_not_there() {
        let words: Vec<u64> = (0..4096).collect();
        let start = words.as_ptr() as u64;
        let (_, memory) = this_process();
        let mut pieces: Vec<Range<u64>> = (0..2048).map(|index| start + index * 16..start + index * 16 + 8).collect();
        pieces[7] = 8..16;
        pieces[1500] = 0..0;
        let mut seen = 0;
        memory.scattered(&pieces, |index, bytes| {
            assert_eq!(index, seen);
            seen += 1;
            let expected = (2 * index as u64).to_le_bytes();
            let expected: Option<&[u8]> = match index {
                7 => None,
                1500 => Some(&[]),
                _ => Some(&expected),
            };
            assert_eq!(bytes, expected, "{index}");
        });
        assert_eq!(seen, pieces.len());
    }

    #[test]
    fn a_scan_visits_resident_pages_only() {
        let mut pages = MmapMut::map_anon(1 << 20).expect("a fresh mapping");
        let at = pages.as_ptr() as u64;
        pages[3 * PAGE as usize] = 7;
        pages[9 * PAGE as usize] = 9;
        let (_, memory) = this_process();
        let mut seen = Vec::new();
        memory.scan(at..at + (1 << 20), |start, bytes| seen.push(((start - at) / PAGE, bytes.len() as u64 / PAGE)));
        assert_eq!(seen, [(3, 1), (9, 1)]);
    }

    #[test]
    fn code_that_was_never_run_is_read_from_its_file() {
        let (process, memory) = this_process();
        let mappings = process.mappings().expect("own mappings");
        let code = mappings.iter().find(|mapping| mapping.execute && mapping.inode != 0).expect("code").range.clone();
        let mut buf = vec![0; (code.end - code.start) as usize];
        memory.read(code.start, &mut buf).expect("all of it");
        assert!(buf.iter().any(|byte| *byte != 0));
    }

    #[test]
    fn a_process_that_is_not_there_is_said_to_be() {
        assert!(matches!(Process::open(i32::MAX - 1), Err(TargetError::NoSuchProcess(_))));
    }

    #[test]
    fn an_exited_process_is_noticed() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().expect("sleep");
        let process = Process::open(child.id() as i32).expect("the child");
        assert!(process.check().is_ok());
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(matches!(process.check(), Err(TargetError::Exited(_))));
    }
}

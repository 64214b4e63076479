//! A real program's memory, of Tokio or Go, with words of it changed: wild pointers, lists in a circle, counts that lie.
//!
//! `GORDIAN_FUZZ_CAPTURE` is the path of a capture of it; the files that it ran must be where they were.
#![no_main]

use std::{cell::RefCell, path::Path, sync::Arc};

use gordian_fuzz::CAPTURE;
use libfuzzer_sys::fuzz_target;
use profiler_user::{
    analysis::{Thresholds, analyse},
    debuginfo::Module,
    model::{Snapshot, Target},
    runtime::{self, Reads, Runtime, World},
    target::{ModuleFile, Stored},
};

/// What is the same for each input.
struct Subject {
    /// What the capture holds, unpacked.
    contents: Vec<u8>,
    /// Where the pages begin in it.
    pages: usize,
    files: Vec<ModuleFile>,
    modules: Vec<Module>,
    runtimes: Vec<Box<dyn Runtime>>,
}

impl Subject {
    fn load() -> Self {
        let path = std::env::var_os("GORDIAN_FUZZ_CAPTURE").expect("GORDIAN_FUZZ_CAPTURE names a capture");
        let bytes = std::fs::read(&path).expect("it can be read");
        let contents = zstd::decode_all(&bytes[CAPTURE.len()..]).expect("gordian wrote it");
        let (header, _) = contents.split_first_chunk().expect("it has a header");
        let pages = 8 + usize::try_from(u64::from_le_bytes(*header)).expect("it fits");
        let stored = Stored::open(Path::new(&path)).expect("gordian wrote it");
        let (files, missing) = stored.modules();
        assert!(missing.is_empty(), "{missing:?}");
        let modules: Vec<Module> = files.iter().map(|file| Module::load(file).expect("it ran")).collect();
        let runtimes = runtime::find(&modules, &stored.memory(stored.mappings(), files.clone()));
        assert!(!runtimes.is_empty(), "no runtime in {}", path.display());
        Self { contents, pages, files, modules, runtimes }
    }

    /// Reads the process with its memory changed as `input` says, twice, and looks for findings.
    fn read(&mut self, input: &[u8]) {
        let mut contents = self.contents.clone();
        let words = (contents.len() - self.pages) / 8;
        for change in input.chunks_exact(CHANGE).take(64) {
            let (place, rest) = change.split_first_chunk().expect("four bytes");
            let (kind, value) = rest.split_first_chunk::<1>().expect("one byte");
            let at = self.pages + 8 * (u32::from_le_bytes(*place) as usize % words);
            let value = u64::from_le_bytes(value.try_into().expect("eight bytes"));
            let old = u64::from_le_bytes(contents[at..at + 8].try_into().expect("eight bytes"));
            let new = match kind[0] % 4 {
                0 => value,
                1 => {
                    let from = self.pages + 8 * (value as usize % words);
                    u64::from_le_bytes(contents[from..from + 8].try_into().expect("eight bytes"))
                }
                2 => old.wrapping_add(value as u8 as i8 as u64),
                _ => old ^ (1 << (value % 64)),
            };
            contents[at..at + 8].copy_from_slice(&new.to_le_bytes());
        }
        let stored = gordian_fuzz::open(&gordian_fuzz::pack(&contents)).expect("only pages were changed");
        let mut looks = [(); 2].map(|()| {
            let memory = stored.memory(stored.mappings(), self.files.clone());
            let threads: Vec<_> = stored.threads().into_iter().map(|facts| (facts, None, Vec::new())).collect();
            let registers: Option<Vec<_>> = threads.iter().map(|(facts, ..)| facts.registers).collect();
            // Both ways of reading: of one moment, and again and again.
            let still = registers.as_deref().filter(|_| input.len().is_multiple_of(2));
            let reads = still.map_or(Reads::Passing, Reads::Still);
            let world = World { memory: &memory, modules: &self.modules, threads: &threads, reads };
            let mut snapshot = Snapshot::empty(Target { pid: stored.pid(), exe: stored.exe().to_owned() });
            for runtime in &mut self.runtimes {
                runtime.read(&world, &mut snapshot);
            }
            let mut seen: Vec<_> = snapshot.tasks.iter().map(|task| task.party).collect();
            seen.sort_unstable();
            assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "a task was reported twice");
            stored.advance();
            Arc::new(snapshot)
        });
        looks.reverse();
        analyse(&looks[0], Some(&looks[1]), &[], &Thresholds::default());
    }
}

/// Bytes of a change: place, kind, value.
const CHANGE: usize = 13;

thread_local! {
    static SUBJECT: RefCell<Option<Subject>> = const { RefCell::new(None) };
}

fuzz_target!(|input: &[u8]| {
    SUBJECT.with_borrow_mut(|subject| subject.get_or_insert_with(Subject::load).read(input));
});

//! What is looked at: a process that runs, or one that was kept.

use std::{
    fs::OpenOptions,
    io::BufWriter,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    AddressSpace, Mappings, ModuleFile, Process, Stored, TargetError, ThreadFacts, UserRegisters,
    build_id::build_id,
    capture::{self, Kept},
    space::Touched,
    stored::ModuleRecord,
};

/// Where a target is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A process, by its pid.
    Process(i32),
    /// A capture or a core file.
    File(PathBuf),
}

impl From<i32> for Place {
    fn from(pid: i32) -> Self {
        Self::Process(pid)
    }
}

/// A target that was opened.
pub enum Subject {
    /// It runs.
    Live(Process),
    /// It was kept.
    Stored(Stored),
}

impl Subject {
    /// Takes hold of what is at `place`.
    pub fn open(place: &Place) -> Result<Self, TargetError> {
        Ok(match place {
            Place::Process(pid) => Self::Live(Process::open(*pid)?),
            Place::File(path) => Self::Stored(Stored::open(path)?),
        })
    }

    /// The pid that it has or had.
    pub fn pid(&self) -> i32 {
        match self {
            Self::Live(process) => process.pid(),
            Self::Stored(stored) => stored.pid(),
        }
    }

    /// Path of its executable, as the target sees it.
    pub fn exe(&self) -> &Path {
        match self {
            Self::Live(process) => process.exe(),
            Self::Stored(stored) => stored.exe(),
        }
    }

    /// Whether it still runs the program that it ran when it was opened.
    pub fn check(&self) -> Result<(), TargetError> {
        match self {
            Self::Live(process) => process.check(),
            Self::Stored(_) => Ok(()),
        }
    }

    /// Its mappings now.
    pub fn mappings(&self) -> Result<Mappings, TargetError> {
        match self {
            Self::Live(process) => process.mappings(),
            Self::Stored(stored) => Ok(stored.mappings()),
        }
    }

    /// The files it runs code from, and one sentence for each that cannot be had.
    pub fn modules(&self, mappings: &Mappings) -> (Vec<ModuleFile>, Vec<String>) {
        match self {
            Self::Live(process) => process.modules(mappings),
            Self::Stored(stored) => stored.modules(),
        }
    }

    /// A view of its memory as of now.
    pub fn memory(&self, mappings: Mappings, files: Vec<ModuleFile>) -> Result<AddressSpace, TargetError> {
        match self {
            Self::Live(process) => process.memory(mappings, files),
            Self::Stored(stored) => Ok(stored.memory(mappings, files)),
        }
    }

    /// Its threads now.
    pub fn threads(&self) -> Result<Vec<ThreadFacts>, TargetError> {
        match self {
            Self::Live(process) => process.threads(),
            Self::Stored(stored) => Ok(stored.threads()),
        }
    }
}

/// A capture in the making: notes what is read of a process, and keeps it.
pub struct Recorder {
    touched: Touched,
    moments: Vec<Kept>,
}

impl Recorder {
    /// From now on notes what is read of `process`.
    pub fn start(process: &mut Process) -> Self {
        Self { touched: process.note_touched(), moments: Vec::new() }
    }

    /// From now on notes as well what is read in bulk, unless that is more than so many pages.
    pub fn note_bulk(&mut self, most: usize) {
        self.touched.lock().most_bulk = most;
    }

    /// Whether there was too much of that.
    pub fn has_left_out(&self) -> bool {
        self.touched.lock().most_bulk == 0
    }

    /// Keeps all that has been read so far as it is now, all at once, so that it is of one moment as nearly as can be had.
    /// `registers` are those of its threads, by id; `stopped` says that it stands still. `after` is the time since the first moment. Returns how many pages.
    pub fn keep(
        &mut self,
        process: &Process,
        files: &[ModuleFile],
        registers: &dyn Fn(i32) -> Option<UserRegisters>,
        stopped: bool,
        after: Duration,
    ) -> Result<usize, TargetError> {
        let mappings = process.mappings()?;
        let mut bases: Vec<u64> = {
            let noted = self.touched.lock();
            noted.pages.union(&noted.bulk).copied().collect()
        };
        bases.sort_unstable();
        let memory = process.memory(mappings.clone(), files.to_vec())?;
        let mut threads = process.threads()?;
        let pages: Vec<_> = bases.into_iter().filter_map(|base| Some((base, memory.own_page(base)?))).collect();
        for thread in &mut threads {
            let sp = thread.stack().map(|(sp, _)| sp);
            // Registers of another block are of no use.
            thread.registers = registers(thread.tid).filter(|known| stopped || Some(known.general[7]) == sp);
        }
        let kept = pages.len();
        self.moments.push(Kept { after, mappings, threads, stopped, pages });
        Ok(kept)
    }

    /// Writes the capture to a new file at `path`, which only its owner may read: it holds the target's memory. Returns its
    /// length in bytes.
    pub fn write(self, process: &Process, files: &[ModuleFile], path: &Path) -> Result<u64, TargetError> {
        let failed = |error: std::io::Error| TargetError::Unusable { path: path.to_owned(), cause: error.to_string() };
        let modules = files.iter().map(|file| ModuleRecord {
            path: file.path.clone(),
            start: file.start,
            device: file.device,
            inode: file.inode,
            build_id: build_id(&file.bytes),
            length: Some(file.bytes.len() as u64),
        });
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let mut out = BufWriter::new(&file);
        capture::write(&mut out, process.pid(), process.exe().to_owned(), modules.collect(), &self.moments)
            .map_err(failed)?;
        drop(out);
        file.metadata().map(|data| data.len()).map_err(failed)
    }
}

//! A process as it was kept in a file: a capture of gordian's, or a core file.

use std::{
    cell::Cell,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::{
    AddressSpace, Mappings, ModuleFile, TargetError, ThreadFacts, build_id::build_id, capture, core_file, image::Image,
};

/// A module of the process, and how its file is told from others of that name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ModuleRecord {
    /// Path as the target saw it.
    pub(super) path: PathBuf,
    /// Address at which offset 0 of the file lay.
    pub(super) start: u64,
    /// Device and inode, as the mappings name it.
    pub(super) device: (i32, i32),
    /// See `device`.
    pub(super) inode: u64,
    /// The linker's note of what was built; `None` where the file has none.
    pub(super) build_id: Option<Vec<u8>>,
    /// Bytes of the file, where that is known.
    pub(super) length: Option<u64>,
}

/// What was kept of one moment.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    /// Since the first.
    pub(super) after: Duration,
    pub(super) mappings: Mappings,
    pub(super) threads: Vec<ThreadFacts>,
    /// It stood still while all of it was kept.
    pub(super) stopped: bool,
    pub(super) image: Arc<Image>,
}

/// What a file holds, whichever sort it is of.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    pub(super) pid: i32,
    pub(super) exe: PathBuf,
    pub(super) modules: Vec<ModuleRecord>,
    /// One at least.
    pub(super) moments: Vec<Moment>,
}

/// A process that is read from a file.
pub struct Stored {
    /// The file.
    path: PathBuf,
    contents: Contents,
    /// Index of the moment that reads show.
    at: Cell<usize>,
}

impl Stored {
    /// Whether the file at `path` begins as a capture or a core file does.
    pub fn is_one(path: &Path) -> bool {
        let mut start = [0; 32];
        let read = File::open(path).and_then(|mut file| file.read(&mut start)).unwrap_or(0);
        capture::is_one(&start[..read]) || core_file::is_one(&start[..read])
    }

    /// Reads a capture or a core file.
    pub fn open(path: &Path) -> Result<Self, TargetError> {
        let failed = |cause: String| TargetError::Unusable { path: path.to_owned(), cause };
        let file = File::open(path).map_err(|error| failed(error.to_string()))?;
        // SAFETY: the mapping is private and read-only; whoever shortens the file meanwhile ends gordian, and nothing else.
        let bytes = unsafe { Mmap::map(&file) }.map_err(|error| failed(error.to_string()))?;
        let contents = if capture::is_one(&bytes) {
            capture::read(&bytes).map_err(failed)?
        } else if core_file::is_one(&bytes) {
            core_file::read(&Arc::new(bytes)).map_err(failed)?
        } else {
            return Err(failed("it is neither a capture nor a core file of an x86-64 program".into()));
        };
        Ok(Self { path: path.to_owned(), contents, at: Cell::new(0) })
    }

    /// The pid that it had.
    pub fn pid(&self) -> i32 {
        self.contents.pid
    }

    /// Path of its executable, as the target saw it.
    pub fn exe(&self) -> &Path {
        &self.contents.exe
    }

    /// Goes on to the next moment; the last one stays: nothing in it moves any more.
    pub fn advance(&self) {
        self.at.set((self.at.get() + 1).min(self.contents.moments.len() - 1));
    }

    /// The time of the moment that reads show, since the first.
    pub fn now(&self) -> Duration {
        self.moment().after
    }

    /// Whether what reads show was kept while the process stood still.
    pub fn is_still(&self) -> bool {
        self.moment().stopped
    }

    fn moment(&self) -> &Moment {
        &self.contents.moments[self.at.get()]
    }

    /// Its mappings.
    pub fn mappings(&self) -> Mappings {
        self.moment().mappings.clone()
    }

    /// Its threads.
    pub fn threads(&self) -> Vec<ThreadFacts> {
        self.moment().threads.clone()
    }

    /// A view of its memory.
    pub fn memory(&self, mappings: Mappings, files: Vec<ModuleFile>) -> AddressSpace {
        AddressSpace::kept(Arc::clone(&self.moment().image), mappings, files)
    }

    /// The files it ran code from, as far as they are at hand here, and one sentence for each that is not.
    pub fn modules(&self) -> (Vec<ModuleFile>, Vec<String>) {
        let (mut files, mut missing) = (Vec::new(), Vec::new());
        for record in &self.contents.modules {
            match self.find(record) {
                Ok((bytes, sure)) => {
                    if !sure {
                        missing.push(format!(
                            "whether {} is the file that ran: it has no build-id",
                            record.path.display()
                        ));
                    }
                    files.push(ModuleFile {
                        path: record.path.clone(),
                        start: record.start,
                        device: record.device,
                        inode: record.inode,
                        bytes: Arc::new(bytes),
                    });
                }
                Err(why) => missing.push(why),
            }
        }
        (files, missing)
    }

    /// The file of a module, and whether it is known to be the very one: where it was, or beside the stored process.
    fn find(&self, record: &ModuleRecord) -> Result<(Mmap, bool), String> {
        let beside = self.path.parent().zip(record.path.file_name()).map(|(folder, name)| folder.join(name));
        for path in [Some(record.path.clone()), beside].into_iter().flatten() {
            let Ok(file) = File::open(&path) else { continue };
            // SAFETY: as above.
            let Ok(bytes) = (unsafe { Mmap::map(&file) }) else { continue };
            if record.length.is_some_and(|length| length != bytes.len() as u64) {
                continue;
            }
            let found = build_id(&bytes);
            if record.build_id == found {
                return Ok((bytes, found.is_some()));
            }
        }
        let id = record.build_id.as_ref().map_or_else(String::new, |id| format!(" (build-id {})", hex(id)));
        Err(format!(
            "the code of {}{id}: that file is not here; copy it into the folder of {}",
            record.path.display(),
            self.path.display()
        ))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

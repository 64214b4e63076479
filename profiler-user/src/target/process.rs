//! A running process, held by a pidfd so that its pid cannot come to mean another.

use std::{
    collections::BTreeSet,
    fs::File,
    os::fd::{AsFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    AddressSpace, Frozen, Mappings, ModuleFile, Root, TargetError, ThreadFacts, descriptors, files, residency::PageMap,
    space::Touched, threads,
};

/// What changes when a process calls exec: its stack and its program's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Image {
    start_stack: u64,
    start_code: u64,
}

/// A process that may be read.
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
    exe: PathBuf,
    image: Image,
    proc: procfs::process::Process,
    touched: Option<Touched>,
}

impl Process {
    /// Takes hold of process `pid`. Fails where it could not be read: see [`TargetError`].
    pub fn open(pid: i32) -> Result<Self, TargetError> {
        let pidfd = pidfd_open(pid)?;
        let proc =
            procfs::process::Process::new(pid).map_err(|error| TargetError::from_proc(pid, "its directory", error))?;
        let exe = match proc.exe() {
            Ok(exe) => exe,
            Err(procfs::ProcError::NotFound(_)) => return Err(TargetError::NoMemory(pid)),
            Err(error) => return Err(TargetError::from_proc(pid, "the executable's name", error)),
        };
        let image = image(&proc).map_err(|error| TargetError::from_proc(pid, "its state", error))?;
        Ok(Self { pid, pidfd, exe, image, proc, touched: None })
    }

    /// From now on notes which pages are read, in any view of its memory.
    pub(super) fn note_touched(&mut self) -> Touched {
        self.touched.get_or_insert_default().clone()
    }

    /// The pid that it was opened by.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Path of its executable, as the target sees it.
    pub fn exe(&self) -> &Path {
        &self.exe
    }

    /// Whether it still runs the program that it ran when it was opened.
    pub fn check(&self) -> Result<(), TargetError> {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::ZERO).unwrap_or(0) > 0 {
            return Err(TargetError::Exited(self.pid));
        }
        match image(&self.proc) {
            Ok(now) if now == self.image => Ok(()),
            Ok(_) => Err(TargetError::Execed(self.pid)),
            Err(_) => Err(TargetError::Exited(self.pid)),
        }
    }

    /// Stops it until what this returns is dropped; see [`Frozen`] for what that does to it.
    pub fn freeze(&self) -> Result<Frozen, TargetError> {
        Frozen::stop(self.pid)
    }

    /// Its mappings now.
    pub fn mappings(&self) -> Result<Mappings, TargetError> {
        let maps = self.proc.maps().map_err(|error| TargetError::from_proc(self.pid, "the memory map", error))?;
        Ok(Mappings::new(maps.into_iter().map(Into::into).collect()))
    }

    /// The files it runs code from, and one sentence for each that cannot be had.
    pub fn modules(&self, mappings: &Mappings) -> (Vec<ModuleFile>, Vec<String>) {
        files::open_all(self.pid, &self.exe, mappings)
    }

    /// The file system that it sees.
    pub fn root(&self) -> Root {
        Root::of(self.pid)
    }

    /// A view of its memory as of now.
    pub fn memory(&self, mappings: Mappings, files: Vec<ModuleFile>) -> Result<AddressSpace, TargetError> {
        let pagemap = match File::open(format!("/proc/{}/pagemap", self.pid)) {
            Ok(file) => Some(file),
            // Another user's: see `PageMap`. Whether its memory may be read, the first read tells.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => None,
            Err(error) => return Err(TargetError::from_io(self.pid, "the page map", &error)),
        };
        Ok(AddressSpace::live(self.pid, mappings, files, PageMap::new(pagemap), self.touched.clone()))
    }

    /// What descriptors of its lead to, by number: which peer a socket has.
    pub fn descriptors(&self, wanted: &BTreeSet<i32>) -> Vec<(i32, String)> {
        descriptors::describe(&self.proc, wanted)
    }

    /// Its threads now.
    pub fn threads(&self) -> Result<Vec<ThreadFacts>, TargetError> {
        threads::list(&self.proc).map_err(|error| TargetError::from_proc(self.pid, "the threads", error))
    }

    /// Processor time that all its threads have used so far; `None` where the kernel did not say.
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = self.proc.stat().ok()?;
        Some(Duration::from_millis((stat.utime + stat.stime).saturating_mul(1000) / procfs::ticks_per_second()))
    }
}

fn image(proc: &procfs::process::Process) -> procfs::ProcResult<Image> {
    let stat = proc.stat()?;
    Ok(Image { start_stack: stat.startstack, start_code: stat.startcode })
}

fn pidfd_open(pid: i32) -> Result<OwnedFd, TargetError> {
    // SAFETY: the call takes two integers and returns a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        let error = std::io::Error::last_os_error();
        // A thread id that is no process' answers EINVAL (ENOENT from 6.9 on).
        return Err(match error.raw_os_error() {
            Some(libc::ESRCH | libc::EINVAL | libc::ENOENT) => TargetError::NoSuchProcess(pid),
            _ => TargetError::from_io(pid, "a handle", &error),
        });
    }
    // SAFETY: the descriptor is new and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

//! The directory with the entries: ours alone, and never larger than it may be.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The largest entry, in bytes.
pub(super) const LARGEST: u64 = 8 << 20;
/// All entries together, in bytes.
pub(super) const MOST: u64 = 64 << 20;

/// A directory that is open: whatever happens to its path, it stays the one that was looked at.
#[derive(Debug)]
pub(super) struct Folder {
    directory: File,
}

impl Folder {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// When it is not there, is a link, or is not ours: of another user, or one that others may write. The directory that it
    /// stands in must be ours too, or root would litter what users have.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let around = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        owned(&std::fs::metadata(around)?)?;
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
        let directory = options.open(path)?;
        ours(&directory.metadata()?)?;
        Ok(Self { directory })
    }

    /// The same, and makes it where it is not there, with the directory that it stands in.
    ///
    /// # Errors
    /// As [`Folder::open`], and when it cannot be made.
    pub(super) fn make(path: &Path) -> io::Result<Self> {
        let around = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        for (path, around) in [(around, around.parent()), (path, Some(around))] {
            // Only in what is ours: one that root made in a user's home would be of no use to either.
            if !path.exists()
                && around.is_some_and(|around| std::fs::metadata(around).is_ok_and(|at| owned(&at).is_ok()))
            {
                DirBuilder::new().mode(0o700).create(path)?;
            }
        }
        Self::open(path)
    }

    /// The bytes of an entry, which is now the one used last.
    ///
    /// # Errors
    /// When it is not there, or is anything but a regular file of ours that no one else may write.
    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut options = File::options();
        // Whatever stands there is not waited for.
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(self.path(name))?;
        let data = file.metadata()?;
        ours(&data)?;
        if !data.is_file() || data.len() > LARGEST {
            return Err(io::Error::other("it is no entry"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(data.len()).unwrap_or(0));
        (&file).take(LARGEST).read_to_end(&mut bytes)?;
        // Only the order in which entries go depends on it.
        let _ = file.set_modified(SystemTime::now());
        Ok(bytes)
    }

    /// Puts an entry in the place of the one that had the name: whoever reads sees the one or the other, and whole.
    ///
    /// # Errors
    /// When it is too large or cannot be written; then nothing has changed.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > LARGEST {
            return Err(io::Error::other("the entry would be too large"));
        }
        let (new, place) = (self.path(format!("{name}.{}", std::process::id())), self.path(name));
        let written = write_new(&new, bytes).and_then(|()| std::fs::rename(&new, place));
        if written.is_err() {
            // It may never have been made.
            let _ = std::fs::remove_file(&new);
        }
        written?;
        self.shrink()
    }

    /// Removes what was not used for longest, until no more is left than there may be.
    fn shrink(&self) -> io::Result<()> {
        let mut entries: Vec<(SystemTime, u64, OsString)> = Vec::new();
        for entry in std::fs::read_dir(self.path(""))? {
            let entry = entry?;
            let data = entry.metadata()?;
            entries.push((data.modified()?, data.len(), entry.file_name()));
        }
        entries.sort_unstable();
        let mut total: u64 = entries.iter().map(|(_, length, _)| *length).sum();
        for (_, length, name) in entries {
            if total <= MOST {
                break;
            }
            std::fs::remove_file(self.path(&name))?;
            total -= length;
        }
        Ok(())
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string()).join(name)
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(path)?;
    // Whatever the umask says.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)
}

fn owned(data: &Metadata) -> io::Result<()> {
    if data.uid() == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    Err(io::Error::other("it belongs to another user"))
}

/// Ours, and writable by nobody else.
fn ours(data: &Metadata) -> io::Result<()> {
    owned(data)?;
    if data.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other("others may write it"))
}

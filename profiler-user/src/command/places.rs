//! Flags that say where debuginfo is.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;

use crate::debuginfo::Places;

/// Where debuginfo is that the target's own files do not have.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct Debuginfo {
    /// Read symbols and debuginfo from this file: an unstripped copy, what was split off by strip or objcopy, or a .dwp.
    /// It is used only where it belongs to the target, by build-id or layout. May be given more than once.
    #[arg(long = "debug-file", value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Look for such files in this directory, by build-id and by name. May be given more than once. The usual places are
    /// searched without it, and servers where DEBUGINFOD_URLS names some.
    #[arg(long = "symbol-path", value_name = "DIR")]
    pub directories: Vec<PathBuf>,

    /// Keep nothing of what is worked out of debuginfo, and use nothing that was kept. Otherwise it is kept for the next time
    /// in $XDG_CACHE_HOME/gordian, or else in ~/.cache/gordian.
    #[arg(long)]
    pub no_cache: bool,
}

impl Debuginfo {
    /// All places to look in.
    ///
    /// # Errors
    /// One line, where a place that was given cannot be read: nobody should wonder why it had no effect.
    pub fn places(&self) -> anyhow::Result<Places> {
        for path in &self.files {
            let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(file.metadata()?.is_file(), "cannot read {}: it is no regular file", path.display());
        }
        for path in &self.directories {
            ensure!(path.is_dir(), "cannot search {}: there is no such directory", path.display());
        }
        let cache = if self.no_cache { None } else { cache() };
        Ok(Places { files: self.files.clone(), directories: self.directories.clone(), servers: true, cache })
    }
}

/// The user's directory for what may be lost, by the XDG Base Directory Specification, and ours in it.
fn cache() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?;
    Some(directory.join("gordian"))
}

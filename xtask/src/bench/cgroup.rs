//! A cgroup of its own for a service: what it is charged with, and a limit.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Where systems mount the second version of cgroups.
const ROOT: &str = "/sys/fs/cgroup";

/// A cgroup (version 2) with the memory controller; removed when dropped, when nobody is in it any more.
pub(super) struct Cgroup {
    directory: PathBuf,
}

impl Cgroup {
    /// Makes one below the root; `Err` says in a sentence why that cannot be.
    pub(super) fn create(name: &str) -> Result<Self, String> {
        Self::create_in(Path::new(ROOT), name)
    }

    fn create_in(root: &Path, name: &str) -> Result<Self, String> {
        let enabled = fs::read_to_string(root.join("cgroup.subtree_control"))
            .map_err(|_| format!("no cgroups of version 2 at {}", root.display()))?;
        if !enabled.split_whitespace().any(|controller| controller == "memory") {
            return Err(format!("the memory controller is not enabled below {}", root.display()));
        }
        let directory = root.join(name);
        fs::create_dir(&directory).map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        Ok(Self { directory })
    }

    /// The file by which a process joins: by writing 0.
    pub(super) fn joining(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// Bytes that it is charged with now.
    pub(super) fn charged(&self) -> Result<u64> {
        let text = fs::read_to_string(self.directory.join("memory.current")).context("no memory.current")?;
        text.trim().parse().with_context(|| format!("memory.current says {text:?}"))
    }

    /// Lets it be charged with so many bytes at most.
    pub(super) fn limit(&self, bytes: u64) -> Result<()> {
        fs::write(self.directory.join("memory.max"), bytes.to_string()).context("cannot write memory.max")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel's files in it go with it.
        let _in_use = fs::remove_dir(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::{Cgroup, fs};

    #[test]
    fn without_the_memory_controller_there_is_none_and_the_reason_is_said() {
        let root = std::env::temp_dir().join(format!("gordian-cgroup-{}", std::process::id()));
        let made = || Cgroup::create_in(&root, "service").map(|made| made.directory.exists());
        assert!(made().unwrap_err().starts_with("no cgroups"));
        fs::create_dir_all(&root).expect("a directory of our own");
        fs::write(root.join("cgroup.subtree_control"), "cpu pids\n").expect("a file of our own");
        assert!(made().unwrap_err().starts_with("the memory controller"));
        fs::write(root.join("cgroup.subtree_control"), "cpu memory\n").expect("a file of our own");
        assert_eq!(made(), Ok(true));
        assert!(!root.join("service").exists());
        fs::remove_dir_all(&root).expect("it is ours");
    }
}

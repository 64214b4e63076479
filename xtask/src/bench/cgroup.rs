//! A cgroup of its own for a service: what it is charged with, and a limit.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Where systems mount cgroups.
const ROOT: &str = "/sys/fs/cgroup";

/// The files of the memory controller, by version (Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst).
#[derive(Clone, Copy)]
struct Files {
    charged: &'static str,
    limit: &'static str,
}

const VERSION_2: Files = Files { charged: "memory.current", limit: "memory.max" };
const VERSION_1: Files = Files { charged: "memory.usage_in_bytes", limit: "memory.limit_in_bytes" };

/// A cgroup with the memory controller; removed when dropped, when nobody is in it any more.
pub(super) struct Cgroup {
    directory: PathBuf,
    files: Files,
}

impl Cgroup {
    /// Makes one below the root; `Err` says in a sentence why that cannot be.
    pub(super) fn create(name: &str) -> Result<Self, String> {
        Self::create_in(Path::new(ROOT), name)
    }

    fn create_in(root: &Path, name: &str) -> Result<Self, String> {
        let enabled = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
        // The first version has a hierarchy for each controller.
        let first = root.join("memory");
        let (parent, files) = if enabled.split_whitespace().any(|controller| controller == "memory") {
            (root, VERSION_2)
        } else if first.join(VERSION_1.limit).exists() {
            (first.as_path(), VERSION_1)
        } else {
            return Err(format!("no cgroups with the memory controller below {}", root.display()));
        };
        let directory = parent.join(name);
        fs::create_dir(&directory).map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        Ok(Self { directory, files })
    }

    /// The file by which a process joins: by writing 0.
    pub(super) fn joining(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// Bytes that it is charged with now.
    pub(super) fn charged(&self) -> Result<u64> {
        let name = self.files.charged;
        let text = fs::read_to_string(self.directory.join(name)).with_context(|| format!("no {name}"))?;
        text.trim().parse().with_context(|| format!("{name} says {text:?}"))
    }

    /// Lets it be charged with so many bytes at most.
    pub(super) fn limit(&self, bytes: u64) -> Result<()> {
        let name = self.files.limit;
        fs::write(self.directory.join(name), bytes.to_string()).with_context(|| format!("cannot write {name}"))
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
    use super::{Cgroup, VERSION_1, VERSION_2, fs};

    #[test]
    fn each_version_has_its_files_and_without_the_controller_the_reason_is_said() {
        let root = std::env::temp_dir().join(format!("gordian-cgroup-{}", std::process::id()));
        let made = || Cgroup::create_in(&root, "service").map(|made| (made.directory.exists(), made.files.limit));
        assert!(made().unwrap_err().starts_with("no cgroups"));
        fs::create_dir_all(root.join("memory")).expect("a directory of our own");
        fs::write(root.join("cgroup.subtree_control"), "cpu pids\n").expect("a file of our own");
        assert!(made().unwrap_err().starts_with("no cgroups"));
        fs::write(root.join("memory").join(VERSION_1.limit), "9223372036854771712\n").expect("a file of our own");
        assert_eq!(made(), Ok((true, VERSION_1.limit)));
        fs::write(root.join("cgroup.subtree_control"), "cpu memory\n").expect("a file of our own");
        assert_eq!(made(), Ok((true, VERSION_2.limit)));
        assert!(!root.join("service").exists());
        fs::remove_dir_all(&root).expect("it is ours");
    }
}

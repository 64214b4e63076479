//! What the object was built from, in a few bytes.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Everything that goes into the object: sources, manifests, lock and the linker's flags.
const INPUTS: [&str; 6] = [
    "profiler-common/Cargo.toml",
    "profiler-common/src",
    "profiler-ebpf/.cargo/config.toml",
    "profiler-ebpf/Cargo.lock",
    "profiler-ebpf/Cargo.toml",
    "profiler-ebpf/src",
];

/// Hashes of the inputs and of what came out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inputs: u64,
    object: u64,
}

impl Stamp {
    /// The stamp of an object built from the repository at `root`.
    pub(super) fn of(root: &Path, object: &[u8]) -> Result<Self> {
        let mut inputs = Fnv::new();
        for file in files(root)? {
            let content = fs::read(root.join(&file)).with_context(|| format!("cannot read {}", file.display()))?;
            // Each part with its length: moving bytes from one file to the next is a change too.
            inputs.part(file.to_string_lossy().as_bytes());
            inputs.part(&content);
        }
        let mut out = Fnv::new();
        out.part(object);
        Ok(Self { inputs: inputs.0, object: out.0 })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inputs {:016x}\nobject {:016x}\n", self.inputs, self.object)
    }
}

/// Paths of all inputs from `root`, sorted.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = INPUTS.iter().map(PathBuf::from).collect();
    while let Some(path) = open.pop() {
        let full = root.join(&path);
        if full.is_dir() {
            for entry in fs::read_dir(&full)? {
                open.push(path.join(entry?.file_name()));
            }
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// 64-bit FNV-1a: against forgetting to rebuild, not against an adversary.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn part(&mut self, bytes: &[u8]) {
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("gordian-stamp-{}-{number}", std::process::id()));
        for input in INPUTS {
            let path = root.join(input);
            let file = if input.ends_with("src") { path.join("main.rs") } else { path };
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, input).unwrap();
        }
        root
    }

    #[test]
    fn any_input_counts_and_so_does_a_new_file() {
        let root = tree();
        let before = Stamp::of(&root, b"object").unwrap();
        assert_eq!(Stamp::of(&root, b"object").unwrap(), before);
        for input in ["profiler-ebpf/src/main.rs", "profiler-ebpf/Cargo.lock", "profiler-common/src/new.rs"] {
            let path = root.join(input);
            let old = fs::read(&path).ok();
            fs::write(&path, "changed").unwrap();
            assert_ne!(Stamp::of(&root, b"object").unwrap(), before, "{input}");
            old.map_or_else(|| fs::remove_file(&path), |old| fs::write(&path, old)).unwrap();
        }
        assert_eq!(Stamp::of(&root, b"object").unwrap(), before);
        assert_ne!(Stamp::of(&root, b"another").unwrap(), before);
        fs::remove_dir_all(root).unwrap();
    }
}

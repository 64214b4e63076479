//! What is worked out of debuginfo is kept for the next time, and the next time says the same.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use gordian_tests::{
    Fixture, Gordian, Profile,
    capability::Need,
    json::{essence, list},
    require,
};
use serde_json::Value;
use tempfile::TempDir;

struct Cached {
    fixture: Fixture,
    cache: TempDir,
}

impl Cached {
    fn new() -> Self {
        let fixture = Fixture::start_with("deadlock", Profile::Debuginfo, &[]);
        Self { fixture, cache: tempfile::tempdir().expect("a temporary directory") }
    }

    fn gordian(&self, command: &str) -> Gordian {
        Gordian::new([command, &self.fixture.pid_argument(), "--json"]).env("XDG_CACHE_HOME", self.cache.path())
    }

    fn check(&self) -> Value {
        self.gordian("check").run().expect(1).json()
    }

    /// Entries and their bytes.
    fn entries(&self) -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.cache.path().join("gordian")).into_iter().flatten();
        let paths = entries.map(|entry| entry.expect("it can be listed").path());
        paths.map(|path| (path.clone(), fs::read(path).expect("it is ours"))).collect()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn a_second_check_with_kept_answers_says_the_same() {
    require!(Need::Ptrace);
    let cached = Cached::new();
    let plain = essence(&cached.gordian("check").arg("--no-cache").run().expect(1).json());
    assert_eq!(cached.entries(), [], "--no-cache keeps nothing");
    assert!(!cached.cache.path().join("gordian").exists());
    assert_eq!(essence(&cached.check()), plain);
    // One for the program; the C library has one where its debuginfo is installed.
    let entries = cached.entries();
    assert!(!entries.is_empty());
    for (entry, _) in &entries {
        assert_eq!((mode(entry), mode(entry.parent().expect("it is in a directory"))), (0o600, 0o700));
    }
    assert_eq!(essence(&cached.check()), plain);
    // Nor does it matter what has become of the entries.
    for (entry, bytes) in &entries {
        fs::write(entry, &bytes[..bytes.len() / 2]).expect("it is ours");
    }
    assert_eq!(essence(&cached.check()), plain);
    for (entry, bytes) in &entries {
        assert!(fs::read(entry).expect("it is ours").len() > bytes.len() / 2, "it was replaced");
    }
}

#[test]
fn tasks_with_kept_answers_are_the_same() {
    require!(Need::Ptrace);
    let cached = Cached::new();
    let of = |document: &Value| -> Vec<Value> {
        list(&document["tasks"])
            .iter()
            .map(|task| serde_json::json!([task["id"], task["name"], task["awaits"]]))
            .collect()
    };
    let all = || cached.gordian("tasks").arg("--all").run().expect(0).json();
    let first = all();
    assert!(!of(&first).is_empty() && !cached.entries().is_empty());
    let second = all();
    assert_eq!(of(&second), of(&first));
    assert_eq!(second["target"]["inlined_frames"], true);
    assert_eq!(second["complete"], first["complete"]);
}

//! Counting what `cargo test` prints.

use std::collections::{BTreeMap, BTreeSet};

/// What has been read so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Tests that libtest calls passed; those that were skipped are among them.
    ok: usize,
    /// Test executable whose output is being read.
    binary: String,
    /// Names of failed tests, with their executable.
    pub(super) failed: BTreeSet<String>,
    /// Names of skipped tests, with their executable, and why.
    pub(super) skipped: BTreeMap<String, String>,
    /// What failed tests have said, to be repeated at the end of a long run.
    pub(super) told: Vec<String>,
    telling: Telling,
}

/// Whose own lines are being read: libtest repeats those of all tests that passed, then those of all that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Telling {
    #[default]
    Nobody,
    Passed,
    Failed,
}

impl Tally {
    /// Takes one line. Says whether somebody who waits for the result wants to see it.
    pub(super) fn line(&mut self, line: &str) -> bool {
        let text = line.trim_start();
        if let Some(binary) = text.strip_prefix("Running ").or_else(|| text.strip_prefix("Doc-tests ")) {
            binary.split(" (").next().unwrap_or(binary).clone_into(&mut self.binary);
            self.telling = Telling::Nobody;
            return true;
        }
        if let Some((test, why)) = text.strip_prefix("SKIPPED ").and_then(|rest| rest.split_once(": ")) {
            let first = self.skipped.insert(self.named(test), why.to_owned()).is_none();
            return first;
        }
        // With output shown, a test's own lines stand under `---- name stdout ----`; results have their own form.
        if let Some((test, result)) = text.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            match result {
                "FAILED" => {
                    self.failed.insert(self.named(test));
                }
                result if result == "ok" || result.starts_with("ok ") => self.ok += 1,
                _ => {}
            }
            return result == "FAILED";
        }
        match text {
            "successes:" => self.telling = Telling::Passed,
            "failures:" => self.telling = Telling::Failed,
            _ if text.starts_with("test result: ") => self.telling = Telling::Nobody,
            _ if self.telling == Telling::Failed && !text.is_empty() => self.told.push(line.to_owned()),
            _ => {}
        }
        self.telling != Telling::Passed && !text.is_empty() && !is_chatter(text)
    }

    fn named(&self, test: &str) -> String {
        format!("{} {test}", self.binary).trim_start().to_owned()
    }

    /// The last line of the run.
    pub(super) fn summary(&self) -> String {
        let passed = self.ok.saturating_sub(self.skipped.len());
        format!("{passed} passed, {} failed, {} skipped", self.failed.len(), self.skipped.len())
    }
}

/// Lines of libtest that carry nothing when all is well.
fn is_chatter(text: &str) -> bool {
    (text.starts_with("running ") && (text.ends_with(" tests") || text.ends_with(" test")))
        || text.starts_with("test result: ok.")
        || text == "successes:"
}

#[cfg(test)]
mod tests {
    use super::Tally;

    fn tally(output: &str) -> (Tally, Vec<&str>) {
        let mut tally = Tally::default();
        let shown = output.lines().filter(|line| tally.line(line)).collect();
        (tally, shown)
    }

    #[test]
    fn counts_and_names() {
        let (tally, shown) = tally(
            "     Running tests/check.rs (target/debug/deps/check-1)\n\
             running 3 tests\n\
             SKIPPED finds_it: needs root: run it as root\n\
             test finds_it ... ok\n\
             test serves - should panic ... ok\n\
             test breaks ... FAILED\n\
             successes:\n\
             ---- serves stdout ----\n\
             all is well\n\
             failures:\n\
             ---- breaks stdout ----\n\
             thread 'breaks' panicked at tests/check.rs:1:1:\n\
             test result: FAILED. 2 passed; 1 failed; 0 ignored\n",
        );
        assert_eq!(tally.summary(), "1 passed, 1 failed, 1 skipped");
        assert_eq!(tally.failed.iter().collect::<Vec<_>>(), ["tests/check.rs breaks"]);
        assert_eq!(tally.skipped["tests/check.rs finds_it"], "needs root: run it as root");
        assert!(shown.contains(&"thread 'breaks' panicked at tests/check.rs:1:1:"), "{shown:?}");
        assert!(!shown.contains(&"test finds_it ... ok") && !shown.contains(&"all is well"), "{shown:?}");
        assert_eq!(tally.told, ["---- breaks stdout ----", "thread 'breaks' panicked at tests/check.rs:1:1:"]);
    }

    #[test]
    fn a_skip_that_is_said_twice_counts_once() {
        let (tally, shown) = tally(
            "Running unittests src/lib.rs (target/x)\nSKIPPED a::b: no BPF\ntest a::b ... ok\n---- a::b stdout ----\nSKIPPED a::b: no BPF\n",
        );
        assert_eq!(tally.summary(), "0 passed, 0 failed, 1 skipped");
        assert_eq!(shown.iter().filter(|line| line.starts_with("SKIPPED")).count(), 1);
    }

    #[test]
    fn the_same_name_in_two_executables_is_two_tests() {
        let (tally, _) = tally(
            "Running tests/a.rs (x)\nSKIPPED t: no\ntest t ... ok\nRunning tests/b.rs (y)\nSKIPPED t: no\ntest t ... ok\n",
        );
        assert_eq!(tally.summary(), "0 passed, 0 failed, 2 skipped");
    }
}

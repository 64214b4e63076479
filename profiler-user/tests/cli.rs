//! The command line from outside: what cannot be done is one line on standard error and exit status 2.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output},
};

/// Ends its process when it goes.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // A child that has ended already needs no ending.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gordian(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gordian")).args(args).output().unwrap()
}

/// The one line that was said when gordian could not look.
#[track_caller]
fn refusal(args: &[&str]) -> String {
    let output = gordian(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// A program without an async runtime, under a name of its own.
fn sleeper(directory: &Path, name: &str) -> Running {
    let program = directory.join(name);
    if !program.exists() {
        let sleep = ["/usr/bin/sleep", "/bin/sleep"].into_iter().find(|path| Path::new(path).exists()).unwrap();
        fs::copy(sleep, &program).unwrap();
    }
    Running(Command::new(program).arg("600").spawn().unwrap())
}

#[test]
fn no_such_pid() {
    for command in ["check", "tasks"] {
        let said = refusal(&[command, "2147483647"]);
        assert!(said.starts_with("gordian: no process 2147483647: "), "{said}");
        assert!(said.contains("gordian ps"), "{said}");
    }
    assert!(refusal(&["2147483647"]).contains("no process 2147483647"));
}

#[test]
fn no_such_name() {
    assert!(refusal(&["check", "no-such-program"]).contains("no process is named `no-such-program`"));
}

#[test]
fn an_ambiguous_name_lists_the_matches() {
    let directory = tempfile::tempdir().unwrap();
    let two = [sleeper(directory.path(), "gordian-twin"), sleeper(directory.path(), "gordian-twin")];
    let said = refusal(&["check", "gordian-twin"]);
    assert!(said.contains("2 processes match `gordian-twin`"), "{said}");
    for child in &two {
        assert!(said.contains(&format!("{} gordian-twin", child.0.id())), "{said}");
    }
}

#[test]
fn a_name_with_control_characters_is_escaped() {
    let directory = tempfile::tempdir().unwrap();
    let name = "evil\x1b[2Jname";
    let _two = [sleeper(directory.path(), name), sleeper(directory.path(), name)];
    let said = refusal(&["check", name]);
    assert!(said.contains(r"evil\u{1b}[2Jname"), "{said}");
    assert!(!said.contains('\x1b'));
}

#[test]
fn a_process_without_a_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let child = sleeper(directory.path(), "gordian-sleeper");
    for target in [child.0.id().to_string().as_str(), "gordian-sleeper"] {
        assert!(refusal(&["check", target]).contains("no async runtime"));
        assert!(refusal(&["tasks", target]).contains("no async runtime"));
    }
}

#[test]
fn flags_that_make_no_sense() {
    for args in [
        &["check", "1", "--fail-on", "deadlok"][..],
        &["check", "1", "--for", "never"],
        &["tasks", "1", "--bogus"],
        &[],
    ] {
        let output = gordian(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_and_version_are_results() {
    for args in [["--help"], ["--version"]] {
        let output = gordian(&args);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().to_lowercase().contains("gordian"));
    }
}

#[test]
fn a_flamegraph_that_could_not_be_written_is_refused_before_the_sampling() {
    let said = refusal(&["flame", "1", "-o", "/no-such-directory/out.svg"]);
    assert!(said.contains("/no-such-directory/out.svg") && said.contains("a directory that exists"), "{said}");
}

#[test]
fn doctor_says_yes_or_no_to_each_feature() {
    let output = gordian(&["doctor"]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    for feature in ["reading any process", "kernel programs (BPF)", "sampling"] {
        let row =
            said.lines().find(|line| line.contains(&format!("  {feature}")) || line.contains(&format!(" {feature}  ")));
        assert!(row.is_some_and(|row| row.starts_with("yes ") || row.starts_with("no ")), "{said}");
    }
}

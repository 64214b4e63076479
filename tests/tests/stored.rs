//! Processes that are looked at after they have gone: captures and core files.

use std::{os::unix::fs::MetadataExt, os::unix::process::CommandExt, path::Path, process::Command};

use gordian_tests::{
    capability::Need,
    fixture::Fixture,
    gordian::Gordian,
    json::{essence, one, text},
    programs::{self, Profile},
    require,
};

fn path(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

#[test]
fn a_capture_tells_what_the_process_told() {
    require!(Need::Ptrace);
    for profile in [Profile::Release, Profile::Debuginfo] {
        let mut fixture = Fixture::start_with("deadlock", profile, &[]);
        let folder = tempfile::tempdir().expect("a temporary directory");
        let kept = folder.path().join("stuck.capture");
        let said = Gordian::new(["capture", &fixture.pid_argument(), "-o", path(&kept)]).run().expect(0).stdout;
        assert!(said.contains("gordian check"), "{said}");
        let facts = kept.metadata().expect("it was written");
        assert_eq!(facts.mode() & 0o777, 0o600, "others may not read it");
        assert!(facts.size() < 4 << 20, "{} bytes of a small program", facts.size());
        let live = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run().expect(1).json();
        let live_tasks = Gordian::new(["tasks", &fixture.pid_argument(), "--json"]).run().expect(0).json();
        fixture.kill();
        let later = Gordian::new(["check", path(&kept), "--json"]).run().expect(1).json();
        assert_eq!(essence(&later), essence(&live));
        assert_eq!(text(&one(&later["findings"], "kind", "deadlock")["certainty"]), "proved");
        let later_tasks = Gordian::new(["tasks", path(&kept), "--json"]).run().expect(0).json();
        assert_eq!(later_tasks["groups"].as_array().map(Vec::len), live_tasks["groups"].as_array().map(Vec::len));
        assert_eq!(later_tasks["coverage"], live_tasks["coverage"]);
    }
}

/// The file that the process ran has been replaced, as after a deploy: it is not taken for the one that was captured.
#[test]
fn another_build_is_not_taken_for_the_one_that_ran() {
    require!(Need::Ptrace);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (program, kept) = (folder.path().join("ledger"), folder.path().join("kept"));
    std::fs::copy(programs::fixture("deadlock", Profile::Release), &program).expect("it can be copied");
    let mut fixture = Fixture::spawn("deadlock", Command::new(&program));
    let _said = Gordian::new(["capture", &fixture.pid_argument(), "-o", path(&kept)]).run().expect(0);
    fixture.kill();
    std::fs::remove_file(&program).expect("it is ours");
    std::fs::copy(programs::fixture("healthy", Profile::Release), &program).expect("it can be copied");
    let refused = Gordian::new(["check", path(&kept)]).run().expect(2);
    assert!(refused.error_line().contains("ledger"), "{}", refused.stderr);
    // Another path, and the right file beside the capture.
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let moved = elsewhere.path().join("kept");
    std::fs::rename(&kept, &moved).expect("both are on one file system");
    std::fs::copy(programs::fixture("deadlock", Profile::Release), elsewhere.path().join("ledger")).expect("a copy");
    let _found = Gordian::new(["check", path(&moved)]).run().expect(1);
}

/// The kernel's own core file of a process that was aborted while it hung.
#[test]
fn a_core_file_tells_the_same() {
    require!(Need::Ptrace, Need::CoreFiles);
    for profile in [Profile::Release, Profile::Debuginfo] {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(programs::fixture("deadlock", profile));
        command.current_dir(folder.path());
        // SAFETY: setrlimit(2) is async-signal-safe and reads one struct of ours.
        unsafe {
            command.pre_exec(|| {
                let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
                libc::setrlimit(libc::RLIMIT_CORE, &raw const all);
                Ok(())
            });
        }
        let mut fixture = Fixture::spawn("deadlock", command);
        let live = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run().expect(1).json();
        let pid = nix::unistd::Pid::from_raw(fixture.pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGABRT).expect("it lives");
        fixture.wait();
        let written = std::fs::read_dir(folder.path()).expect("it is ours").flatten().next().expect("a core file");
        let later = Gordian::new(["check", path(&written.path()), "--json"]).run().expect(1).json();
        assert_eq!(essence(&later), essence(&live));
    }
}

#[test]
fn what_is_no_stored_process_is_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let other = folder.path().join("notes.txt");
    for (content, told) in [
        (&b"nothing of the sort"[..], "neither a capture nor a core file"),
        (&b"gordian\0\x02\0\0\0torn"[..], "a broken capture"),
        (&b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0"[..], "a broken core file"),
    ] {
        std::fs::write(&other, content).expect("it is ours");
        let refused = Gordian::new(["check", path(&other)]).run().expect(2);
        assert!(refused.error_line().contains(told), "{}", refused.stderr);
    }
    let refused = Gordian::new(["tasks", "/nowhere/core"]).run().expect(2);
    assert!(refused.error_line().contains("/nowhere/core"), "{}", refused.stderr);
}

#[test]
fn a_file_that_is_there_is_not_written_over() {
    require!(Need::Ptrace);
    let fixture = Fixture::start("deadlock");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let there = folder.path().join("there");
    std::fs::write(&there, "precious").expect("it is ours");
    let refused = Gordian::new(["capture", &fixture.pid_argument(), "-o", path(&there)]).run().expect(2);
    assert!(refused.error_line().contains("exists"), "{}", refused.stderr);
    assert_eq!(std::fs::read(&there).expect("it is ours"), b"precious");
}

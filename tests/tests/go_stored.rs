//! Go programs at one moment: captured, in a core file, or stopped while they are read.

use std::{os::unix::process::CommandExt, path::Path, process::Command};

use gordian_tests::{
    Finished, Fixture, Gordian, capability,
    capability::Need,
    go::{self, Link},
    json::{list, number, text},
    require,
};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;

/// How often a program is looked at until all that is stuck in it has been found.
const LOOKS: usize = 5;
/// How often a program that moves its pointers all the time is looked at, each time at another moment.
const MOMENTS: usize = 3;

fn path(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// Builds and starts a program of the newest version; `None` where there is no toolchain.
fn start(test: &str, name: &str, family: &str, prepare: impl FnOnce(&mut Command)) -> Option<Fixture> {
    match go::program(name, go::NEWEST, Link::Stripped) {
        Ok(program) => {
            let mut command = Command::new(program);
            command.arg(family);
            prepare(&mut command);
            Some(Fixture::spawn(name, command))
        }
        Err(why) => {
            capability::skip(test, &why);
            None
        }
    }
}

/// Tasks in the permanent findings of a document, with those that wait because of them.
fn stuck(document: &Value) -> u64 {
    let findings = list(&document["findings"]);
    findings.iter().map(|finding| list(&finding["tasks"]).len() as u64 + number(&finding["effects"])).sum()
}

#[test]
fn a_capture_of_a_stopped_program_has_the_verdicts() {
    require!(Need::Ptrace);
    for (family, certainty) in
        [("lock-order", "proved"), ("pool-exhausted", "proved"), ("package-lock-order", "likely")]
    {
        let test = "a_capture_of_a_stopped_program_has_the_verdicts";
        let Some(mut fixture) = start(test, "guilty", family, |_| ()) else { return };
        let expected = number(&fixture.ready["stuck"]);
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut document = Value::Null;
        // A stack that is in use may have what another has left there: at another moment it has not.
        for moment in 0..LOOKS {
            let kept = folder.path().join(format!("kept-{moment}"));
            let arguments = ["capture", &fixture.pid_argument(), "--freeze", "-o", path(&kept)];
            let _said = Gordian::new(arguments).run().expect(0);
            document = Gordian::new(["check", path(&kept), "--json"]).run().json();
            if stuck(&document) == expected {
                break;
            }
        }
        fixture.kill();
        assert_eq!((stuck(&document), &document["complete"]), (expected, &true.into()), "{family}: {document:#}");
        assert!(list(&document["findings"]).iter().all(|finding| finding["certainty"] == certainty), "{document:#}");
    }
}

#[test]
fn a_capture_of_a_running_program_has_its_lock_cycles_and_says_what_it_lacks() {
    require!(Need::Ptrace);
    for (family, code) in [("package-lock-order", 1), ("receive-without-sender", 3)] {
        let test = "a_capture_of_a_running_program_has_its_lock_cycles_and_says_what_it_lacks";
        let Some(fixture) = start(test, "guilty", family, |_| ()) else { return };
        let folder = tempfile::tempdir().expect("a temporary directory");
        let kept = folder.path().join("kept");
        let _said = Gordian::new(["capture", &fixture.pid_argument(), "-o", path(&kept)]).run().expect(0);
        let document = Gordian::new(["check", path(&kept), "--json"]).run().expect(code).json();
        let missing = list(&document["missing"]);
        assert!(missing.iter().any(|why| text(why).contains("its heap was not kept")), "{family}: {document:#}");
        if code == 1 {
            let finding = &list(&document["findings"])[0];
            assert_eq!((&finding["kind"], &finding["certainty"]), (&"deadlock".into(), &"likely".into()));
        }
    }
}

/// Ends the program as it would after a fatal error, and looks at what the kernel kept of it.
fn check_core(fixture: &mut Fixture, folder: &Path) -> Finished {
    nix::sys::signal::kill(Pid::from_raw(fixture.pid), Signal::SIGABRT).expect("it lives");
    fixture.wait();
    let written = std::fs::read_dir(folder).expect("it is ours").flatten().next().expect("a core file");
    Gordian::new(["check", path(&written.path()), "--json"]).run()
}

fn leaves_a_core(command: &mut Command, folder: &Path) {
    command.current_dir(folder).env("GOTRACEBACK", "crash").stderr(std::process::Stdio::null());
    // SAFETY: setrlimit(2) is async-signal-safe and reads one struct of ours.
    unsafe {
        command.pre_exec(|| {
            let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const all);
            Ok(())
        });
    }
}

#[test]
fn a_core_file_has_the_verdicts() {
    require!(Need::Ptrace, Need::CoreFiles);
    for family in ["lock-order", "pool-exhausted", "lock-abandoned"] {
        let (mut found, mut expected, mut document) = (0, u64::MAX, Value::Null);
        // As above: who ends at another moment leaves other things on his stacks.
        for _moment in 0..LOOKS {
            let folder = tempfile::tempdir().expect("a temporary directory");
            let prepare = |command: &mut Command| leaves_a_core(command, folder.path());
            let Some(mut fixture) = start("a_core_file_has_the_verdicts", "guilty", family, prepare) else { return };
            expected = number(&fixture.ready["stuck"]);
            document = check_core(&mut fixture, folder.path()).json();
            found = stuck(&document);
            if found == expected {
                break;
            }
        }
        assert_eq!(found, expected, "{family}: {document:#}");
    }
}

#[test]
fn nothing_is_said_of_a_busy_program_at_any_moment() {
    require!(Need::Ptrace, Need::CoreFiles);
    let test = "nothing_is_said_of_a_busy_program_at_any_moment";
    for _moment in 0..MOMENTS {
        for family in ["moving-pointers", "token-ring"] {
            let folder = tempfile::tempdir().expect("a temporary directory");
            let prepare = |command: &mut Command| leaves_a_core(command, folder.path());
            let Some(mut fixture) = start(test, "healthy", family, prepare) else { return };
            let arguments = ["check", &fixture.pid_argument(), "--freeze", "--for", "1", "--json"];
            let document = Gordian::new(arguments).run().expect(0).json();
            assert!(list(&document["findings"]).is_empty(), "{family}, stopped: {document:#}");
            let document = check_core(&mut fixture, folder.path()).expect(0).json();
            assert!(list(&document["findings"]).is_empty(), "{family}, its core file: {document:#}");
        }
    }
}

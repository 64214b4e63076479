//! What cannot be looked at is said in one line, with what to do; never a panic, nothing left behind.

use std::{fs, process::Command, time::Duration};

use gordian_tests::{
    Finished, Fixture, Gordian, Profile, Watching,
    capability::Need,
    json::{list, number, one, text},
    programs, require,
};

#[test]
fn no_such_process() {
    let mut child = Command::new("true").spawn().expect("true runs");
    child.wait().expect("and ends");
    let pid = child.id().to_string();
    for command in [
        Gordian::new(["check", &pid]),
        Gordian::new(["check", &pid, "--json"]),
        Gordian::new(["tasks", &pid]),
        Gordian::new(["flame", &pid, "-d", "1", "-o", "/dev/null"]),
        Gordian::new([&pid]),
        Gordian::new(["check", "no-such-program-here"]),
    ] {
        let finished = command.run().expect(2);
        let line = finished.error_line();
        assert!(line.contains(&pid) || line.contains("no-such-program-here"), "{line}");
        assert_eq!(finished.stdout, "");
    }
}

#[test]
fn an_ambiguous_name_lists_the_matches() {
    let services = [Fixture::start("plain"), Fixture::start("plain")];
    let finished = Gordian::new(["check", "plain"]).run().expect(2);
    for service in &services {
        assert!(finished.stderr.contains(&service.pid_argument()), "{}", finished.stderr);
    }
}

/// gordian as a user who owns nothing and may do nothing.
fn as_nobody(fixture: &Fixture, command: &str) -> Finished {
    let (_directory, gordian) = programs::gordian_for_everyone();
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
    setpriv.arg(&gordian).args([command, &fixture.pid_argument()]);
    Gordian::from_command(setpriv).run()
}

#[test]
fn not_allowed_says_what_would_be() {
    require!(Need::Root);
    let fixture = Fixture::start("deadlock");
    for command in ["check", "tasks"] {
        let finished = as_nobody(&fixture, command).expect(2);
        let line = finished.error_line();
        assert!(line.contains("CAP_SYS_PTRACE"), "{line}");
        assert!(line.contains("sudo") && line.contains(&format!("{command} {}", fixture.pid)), "{line}");
        if std::path::Path::new("/proc/sys/kernel/yama/ptrace_scope").exists() {
            assert!(line.contains("ptrace_scope"), "{line}");
        }
    }
}

#[test]
fn a_process_without_tokio() {
    require!(Need::Ptrace);
    let fixture = Fixture::start("plain");
    for command in [
        Gordian::new(["check", &fixture.pid_argument()]),
        Gordian::new(["tasks", &fixture.pid_argument()]),
        Gordian::new([&fixture.pid_argument()]),
    ] {
        let finished = command.run().expect(2);
        let line = finished.error_line().to_lowercase();
        assert!(line.contains("tokio") || line.contains("async runtime"), "{line}");
    }
}

#[test]
fn a_process_that_is_no_rust_at_all() {
    require!(Need::Ptrace);
    let mut sleep = Command::new("sleep").arg("60").spawn().expect("sleep runs");
    let finished = Gordian::new(["check", &sleep.id().to_string()]).run();
    sleep.kill().expect("it sleeps");
    sleep.wait().expect("it ends");
    assert_eq!(finished.code, 2, "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
}

#[test]
fn a_kernel_thread_and_a_zombie() {
    require!(Need::Root);
    let mut zombie = Command::new("true").spawn().expect("true runs");
    std::thread::sleep(Duration::from_millis(100));
    // Pid 2 is kthreadd where the PID namespace is the first one.
    for pid in ["2".to_owned(), zombie.id().to_string()] {
        let finished = Gordian::new(["check", &pid]).run().expect(2);
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    }
    zombie.wait().expect("it has ended");
}

/// No names at all: gordian may know less, but what it does not know it must not call healthy.
#[test]
fn a_stripped_binary() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("deadlock", Profile::Stripped, &[]);
    let finished = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run();
    match finished.code {
        1 => {
            let document = finished.json();
            let finding = one(&document["findings"], "kind", "deadlock");
            assert_eq!(list(&finding["tasks"]).len(), 2, "{finding:#}");
        }
        2 => assert!(finished.error_line().contains("symbol"), "{}", finished.stderr),
        3 => {
            let document = finished.json();
            assert_eq!(document["complete"], false, "{document:#}");
            assert!(document["missing"].to_string().contains("symbol"), "{document:#}");
        }
        code => panic!("exit status {code} for a stripped program with a deadlock: {finished:?}"),
    }
}

/// Watches for a long time; what happens to the target meanwhile ends it.
fn watch(fixture: &Fixture) -> Watching {
    Watching::start(Gordian::new(["check", &fixture.pid_argument(), "--json", "--for", "60"]))
}

#[test]
fn a_target_that_exits_in_the_middle() {
    require!(Need::Ptrace);
    let mut fixture = Fixture::start("healthy");
    let watching = watch(&fixture);
    fixture.kill();
    let finished = watching.finish();
    assert!(matches!(finished.code, 2 | 3), "nothing can be said of the whole time: {finished:?}");
    let document = finished.json();
    assert!(text(&document["ended"]).contains("exited"), "{document:#}");
}

#[test]
fn a_target_that_becomes_another_program() {
    require!(Need::Ptrace);
    let mut fixture = Fixture::start("changeling");
    let watching = watch(&fixture);
    fixture.command();
    let finished = watching.finish();
    assert!(matches!(finished.code, 2 | 3), "nothing can be said of the whole time: {finished:?}");
    let document = finished.json();
    assert!(text(&document["ended"]).contains("exec"), "{document:#}");
}

#[test]
fn a_kernel_without_bpf() {
    require!(Need::Root);
    let fixture = Fixture::start_with("deadlock", Profile::Debuginfo, &[]);
    let without = programs::fixture("without_bpf", Profile::Release);
    let without = without.to_str().expect("a plain path");
    let check = ["check", &fixture.pid_argument(), "--json"];
    let document = Gordian::under([without], check).run().expect(1).json();
    one(&document["findings"], "kind", "deadlock");
    assert_eq!(document["probes"]["switch"], "missing", "{document:#}");
    assert!(!list(&document["missing"]).is_empty(), "{document:#}");
    let flame = ["flame", &fixture.pid_argument(), "-d", "1", "-o", "/dev/null"];
    let finished = Gordian::under([without], flame).run().expect(2);
    finished.error_line();
}

#[test]
fn a_kernel_without_btf() {
    require!(Need::Root, Need::Namespaces);
    let fixture = Fixture::start_with("deadlock", Profile::Debuginfo, &[]);
    let hide = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"";
    let wrapper = ["unshare", "--mount", "sh", "-c", hide];
    let check = ["check", &fixture.pid_argument(), "--json"];
    let document = Gordian::under(wrapper, check).run().expect(1).json();
    one(&document["findings"], "kind", "deadlock");
    assert_eq!(document["probes"]["switch"], "missing", "{document:#}");
    assert!(document["missing"].to_string().contains("BTF"), "{document:#}");
}

#[test]
fn nonsense_on_the_command_line() {
    for arguments in [["check", "--for=never", "1"], ["tasks", "1", "--state=asleep"], ["chekc", "1", "2"]] {
        let finished = Gordian::new(arguments).run().expect(2);
        assert!(finished.stderr.contains("--help") || finished.stderr.contains("Usage"), "{}", finished.stderr);
        assert_eq!(finished.stdout, "");
    }
}

/// An executable that is there no more, as after an upgrade.
#[test]
fn a_deleted_executable() {
    require!(Need::Ptrace);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let copy = directory.path().join("deadlock");
    fs::copy(programs::fixture("deadlock", Profile::Debuginfo), &copy).expect("it can be copied");
    let fixture = Fixture::spawn("deadlock", Command::new(&copy));
    fs::remove_file(&copy).expect("it is ours");
    let document = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run().expect(1).json();
    let finding = one(&document["findings"], "kind", "deadlock");
    assert_eq!(number(&finding["effects"]), 0);
}

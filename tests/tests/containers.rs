//! Targets in namespaces of their own, gordian inside them, and gordian with few capabilities.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use gordian_tests::{
    Fixture, Gordian, Profile,
    capability::Need,
    json::{list, number, one, text},
    programs, require,
};
use serde_json::Value;

/// A deadlock in a container: own PID and mount namespaces, and an executable that only exists in there.
struct Container {
    fixture: Fixture,
    /// Pid of the service as the test sees it; inside it is 1.
    service: i32,
    /// Where the executable is, inside.
    _root: tempfile::TempDir,
}

impl Container {
    fn start() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let inside = root.path().join("service");
        let program = programs::fixture("deadlock", Profile::Debuginfo);
        // The file system is mounted in the new namespace alone: outside, the directory stays empty.
        let script = format!(
            "mount -t tmpfs none {root} && cp {program} {inside} && exec {inside}",
            root = root.path().display(),
            program = program.display(),
            inside = inside.display(),
        );
        let mut command = Command::new("unshare");
        command.args(["--pid", "--mount", "--fork", "--mount-proc", "--kill-child=KILL", "sh", "-c", &script]);
        let fixture = Fixture::spawn("deadlock", command);
        assert!(!inside.exists(), "the executable is visible outside");
        assert_eq!(number(&fixture.ready["pid"]), 1, "it is the first process of its namespace");
        let service = child_of(fixture.pid);
        Self { fixture, service, _root: root }
    }
}

fn child_of(pid: i32) -> i32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it lives");
    children.trim().parse().unwrap_or_else(|_| panic!("one child of {pid}: {children:?}"))
}

/// Names, lines and the verdict, as for a process of one's own namespace.
fn assert_names_the_deadlock(fixture: &Fixture, document: &Value) {
    let finding = one(&document["findings"], "kind", "deadlock");
    assert_eq!(finding["certainty"], "proved", "{finding:#}");
    for task in ["settle_order", "nightly_report"] {
        let found = one(&finding["tasks"], "id", fixture.task_id(task));
        assert_eq!(found["name"], format!("deadlock::{task}"));
        let lines: Vec<&Value> = list(&found["awaits"]).iter().map(|frame| &frame["line"]).collect();
        assert!(lines.contains(&&Value::from(fixture.line(task))), "{found:#}");
    }
}

#[test]
fn the_target_in_a_container_and_gordian_outside() {
    require!(Need::Ptrace, Need::Namespaces);
    let container = Container::start();
    let pid = container.service.to_string();
    let document = Gordian::new(["check", &pid, "--json"]).run().expect(1).json();
    assert_names_the_deadlock(&container.fixture, &document);
    assert_eq!(number(&document["target"]["pid"]), u64::from(container.service.cast_unsigned()));
    assert_eq!(document["complete"], true, "{document:#}");
    container.fixture.service().request();
}

#[test]
fn gordian_in_the_targets_namespaces() {
    require!(Need::Ptrace, Need::Namespaces);
    let container = Container::start();
    let target = container.service.to_string();
    let enter = ["nsenter", "--target", &target, "--pid", "--mount"];
    let document = Gordian::under(enter, ["check", "1", "--json"]).run().expect(1).json();
    assert_names_the_deadlock(&container.fixture, &document);
    assert_eq!(number(&document["target"]["pid"]), 1);
    let workers = list(&one(&document["target"]["runtimes"], "kind", "tokio multi_thread")["worker_threads"]);
    assert!(workers.iter().all(|tid| number(tid) < 10), "thread ids as the namespace counts them: {workers:?}");
}

/// The kernel's ids are not those of the namespace: the events must be of the right process all the same.
#[test]
fn events_in_the_targets_namespaces() {
    require!(Need::Ptrace, Need::Bpf, Need::Namespaces);
    let program = programs::fixture("blocked_worker", Profile::Debuginfo);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--mount", "--fork", "--mount-proc", "--kill-child=KILL"]).arg(program).arg("sleep");
    let fixture = Fixture::spawn("blocked_worker", command);
    let target = child_of(fixture.pid).to_string();
    let flags = ["check", "1", "--json", "--for", "3", "--fail-on", "blocked-worker"];
    let inside = ["nsenter", "--target", &target, "--pid", "--mount"];
    let mut outside_flags = flags;
    outside_flags[1] = &target;
    for run in [Gordian::under(inside, flags), Gordian::new(outside_flags)] {
        let document = run.run().expect(1).json();
        let finding = one(&document["findings"], "kind", "blocked-worker");
        assert_eq!(list(&finding["tasks"])[0]["id"], fixture.ready["task"], "{finding:#}");
        assert_eq!(document["probes"]["switch"], "on", "{document:#}");
    }
}

/// A service's user and gordian's are the same, as in a container with `SYS_PTRACE` added: all is read.
#[test]
fn with_the_ptrace_capability_alone() {
    require!(Need::Root);
    let fixture = Fixture::start_with("deadlock", Profile::Debuginfo, &[]);
    let document = with_ptrace_alone(&fixture, &[]);
    assert_eq!(document["complete"], true, "the verdict needs no kernel programs: {document:#}");
}

/// Another user's process: its memory may be read, what its threads are at may not. The verdict is the same.
#[test]
fn with_the_ptrace_capability_alone_as_another_user() {
    require!(Need::Root);
    let fixture = Fixture::start_with("deadlock", Profile::Debuginfo, &[]);
    let document = with_ptrace_alone(&fixture, &["--reuid=65534", "--regid=65534", "--clear-groups"]);
    assert_eq!(document["complete"], false, "no stack of a thread could be read: {document:#}");
    let missing: Vec<&str> = list(&document["missing"]).iter().map(text).collect();
    assert!(missing.iter().any(|line| line.contains("CAP_DAC_READ_SEARCH")), "{missing:?}");
}

fn with_ptrace_alone(fixture: &Fixture, user: &[&str]) -> Value {
    let (_directory, gordian) = programs::gordian_for_everyone();
    let only_ptrace = "-all,+sys_ptrace";
    let mut command = Command::new("setpriv");
    command.args(user);
    command.args([format!("--inh-caps={only_ptrace}"), format!("--ambient-caps={only_ptrace}")]);
    command.arg(format!("--bounding-set={only_ptrace}"));
    command.arg(gordian).args(["check", &fixture.pid_argument(), "--json"]);
    let document = Gordian::from_command(command).run().expect(1).json();
    assert_names_the_deadlock(fixture, &document);
    assert_eq!(document["findings"][0]["certainty"], "proved", "{document:#}");
    assert_eq!(document["probes"]["switch"], "missing", "{document:#}");
    let missing: Vec<&str> = list(&document["missing"]).iter().map(text).collect();
    assert!(missing.iter().any(|line| line.contains("CAP_BPF")), "{missing:?}");
    document
}

/// A container that is started while gordian lists, and one that ends: `ps` must not trip over either.
#[test]
fn ps_sees_into_containers() {
    require!(Need::Ptrace, Need::Namespaces);
    let container = Container::start();
    let start = Instant::now();
    loop {
        let document = Gordian::new(["ps", "--json"]).run().expect(0).json();
        let found = list(&document["candidates"]).iter().any(|candidate| candidate["pid"] == container.service);
        if found {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{} is not in {document:#}", container.service);
    }
}

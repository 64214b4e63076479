//! `--freeze`: the one thing that stops a target, and what is left of it afterwards.

use gordian_tests::{
    capability::Need,
    fixture::Fixture,
    gordian::Gordian,
    json::{list, number, one},
    programs::Profile,
    require,
};
use nix::{sys::ptrace, unistd::Pid};

/// State and tracer of each thread of a process.
fn threads(pid: i32) -> Vec<(String, String)> {
    let field = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().unwrap_or_default().to_owned()
    };
    let directory = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let status = directory.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
    status.map(|status| (field(&status, "State:"), field(&status, "TracerPid:"))).collect()
}

fn assert_runs_on(pid: i32) {
    for (state, tracer) in threads(pid) {
        assert!(!["T", "t"].contains(&state.as_str()), "a thread is still stopped");
        assert_eq!(tracer, "0", "a thread is still traced");
    }
}

#[test]
fn nothing_moves_while_it_is_read() {
    require!(Need::Ptrace);
    // Some thousand sessions end in a second.
    let fixture = Fixture::start_with("many", Profile::Release, &["2000", "1"]);
    for _ in 0..3 {
        let document = Gordian::new(["tasks", &fixture.pid_argument(), "--freeze", "--json"]).run().expect(0).json();
        assert_eq!(number(&document["coverage"]["unstable"]), 0, "{}", document["coverage"]);
        assert!(document["stopped_ms"].as_f64().is_some_and(|stopped| stopped > 0.0), "{}", document["stopped_ms"]);
        assert!(list(&document["groups"]).iter().any(|group| group["name"] == "many::session"), "{document:#}");
        assert_runs_on(fixture.pid);
    }
    let free = Gordian::new(["tasks", &fixture.pid_argument(), "--json"]).run().expect(0).json();
    assert!(free["stopped_ms"].is_null(), "nobody asked for it");
}

#[test]
fn a_deadlock_of_tasks_is_proved_and_its_front_serves_on() {
    require!(Need::Ptrace);
    let fixture = Fixture::start("deadlock");
    let before = fixture.service().request();
    let document = Gordian::new(["check", &fixture.pid_argument(), "--freeze", "--json"]).run().expect(1).json();
    assert_eq!(one(&document["findings"], "kind", "deadlock")["certainty"], "proved");
    assert_runs_on(fixture.pid);
    assert!(fixture.service().request() > before, "it counts its requests");

    let folder = tempfile::tempdir().expect("a temporary directory");
    let kept = folder.path().join("stuck.capture");
    let kept = kept.to_str().expect("a plain path");
    let said = Gordian::new(["capture", &fixture.pid_argument(), "--freeze", "-o", kept]).run().expect(0).stdout;
    assert!(said.contains("stopped for"), "{said}");
    assert_runs_on(fixture.pid);
    let later = Gordian::new(["check", kept, "--json"]).run().expect(1).json();
    assert_eq!(one(&later["findings"], "kind", "deadlock")["certainty"], "proved");
}

#[test]
fn a_process_that_somebody_else_traces_is_left_alone() {
    require!(Need::Ptrace);
    let fixture = Fixture::start("deadlock");
    ptrace::seize(Pid::from_raw(fixture.pid), ptrace::Options::empty()).expect("nobody else traces it");
    let failed = Gordian::new(["tasks", &fixture.pid_argument(), "--freeze"]).run().expect(2);
    assert!(failed.stderr.contains("debugger") && failed.stderr.contains("--freeze"), "{}", failed.stderr);
}

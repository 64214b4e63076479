//! The same answers for every tokio from 1.38 on; the newest is that of all other tests.

use gordian_tests::{
    Build, Fixture, Gordian,
    capability::Need,
    json::{list, one, text},
    require,
};

#[track_caller]
fn assert_version_is_read(version: Build) {
    let fixture = Fixture::start_build("holders", version);
    let document = Gordian::new(["tasks", &fixture.pid_argument(), "--all", "--json"]).run().expect(0).json();
    let runtime = &document["target"]["runtimes"][0];
    assert_eq!(runtime["kind"], "tokio multi_thread", "{document:#}");
    assert!(text(&runtime["version"]).starts_with(&format!("{version}.")), "{runtime}");
    assert_eq!(list(&runtime["worker_threads"]).len(), 2, "{runtime}");
    assert_eq!(document["complete"], true, "{document:#}");
    for (name, kind, held) in [
        ("unload", "tokio::sync::Notify", Some("crane")),
        ("load", "tokio::sync::Mutex", Some("berths")),
        ("moor", "tokio::sync::Semaphore", Some("berths")),
        ("survey", "tokio::sync::Notify", Some("chart")),
        ("redraw", "tokio::sync::RwLock", Some("chart")),
        ("consult", "tokio::sync::RwLock", None),
        ("guard_key", "tokio::sync::Notify", Some("key")),
        ("want_key", "tokio::sync::Mutex", None),
        ("receive", "tokio::sync::mpsc", None),
        ("ask", "tokio::sync::oneshot", None),
        ("await_pilot", "JoinHandle", None),
        ("doze", "timer", None),
    ] {
        let task = one(&document["tasks"], "id", fixture.task_id(name));
        assert_eq!((&task["state"], &task["wait"]["kind"]), (&"suspended".into(), &kind.into()), "{name}: {task:#}");
        if let Some(held) = held {
            one(&task["holds"], "address", text(&fixture.ready["resources"][held]));
        }
    }

    let fixture = Fixture::start_build("deadlock", version);
    let document = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run().expect(1).json();
    assert_eq!(one(&document["findings"], "kind", "deadlock")["certainty"], "proved", "{document:#}");
}

#[test]
fn tokio_1_38() {
    require!(Need::Ptrace);
    assert_version_is_read("1.38");
}

#[test]
fn tokio_1_40() {
    require!(Need::Ptrace);
    assert_version_is_read("1.40");
}

#[test]
fn tokio_1_43() {
    require!(Need::Ptrace);
    assert_version_is_read("1.43");
}

#[test]
fn tokio_1_44() {
    require!(Need::Ptrace);
    assert_version_is_read("1.44");
}

#[test]
fn tokio_1_47() {
    require!(Need::Ptrace);
    assert_version_is_read("1.47");
}

#[test]
fn tokio_1_50() {
    require!(Need::Ptrace);
    assert_version_is_read("1.50");
}

//! The fixtures do what they say. Where one of these fails, the other tests have nothing to stand on.

use std::collections::BTreeSet;

use gordian_tests::{Fixture, json, observe::Watch, programs::fixture_source};

#[test]
fn services_serve() {
    for (name, arguments) in [
        ("deadlock", &[] as &[&str]),
        ("healthy", &[]),
        ("late_deadlock", &[]),
        ("http", &[]),
        ("blocked_worker", &["sleep"]),
        ("blocked_worker", &["mutex"]),
        ("blocked_worker", &["read"]),
    ] {
        let fixture = Fixture::start_with(name, gordian_tests::Profile::Release, arguments);
        if name == "http" {
            continue;
        }
        let service = fixture.service();
        assert_eq!((service.request(), service.request()), (1, 2), "{name} {arguments:?}");
    }
}

#[test]
fn the_late_deadlock_forms_on_command() {
    let mut fixture = Fixture::start("late_deadlock");
    let before = json::list(&fixture.ready["mutexes"]).len();
    assert_eq!(before, 2);
    fixture.command();
    let formed = fixture.next_line();
    let tasks: BTreeSet<&str> = json::list(&formed["tasks"]).iter().map(json::text).collect();
    assert_eq!(tasks.len(), 2);
    assert!(json::number(&formed["formed_realtime_ns"]) > json::number(&formed["formed_monotonic_ns"]));
    fixture.service().request();
}

#[test]
fn the_museum_names_every_exhibit() {
    let fixture = Fixture::start("primitives");
    let source = std::fs::read_to_string(fixture_source("primitives")).expect("it has a source");
    let exhibits: BTreeSet<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("async fn "))
        .filter_map(|line| line.split_once('(').map(|(name, _)| name))
        .filter(|name| name.starts_with("wait_"))
        .collect();
    let shown = fixture.ready["tasks"].as_object().expect("tasks by name");
    for exhibit in exhibits {
        assert!(shown.contains_key(exhibit), "{exhibit} is written and not shown");
    }
}

#[test]
fn a_stop_is_seen() {
    let fixture = Fixture::start("plain");
    let watch = Watch::start(fixture.pid);
    let target = nix::unistd::Pid::from_raw(fixture.pid);
    nix::sys::signal::kill(target, nix::sys::signal::Signal::SIGSTOP).expect("a child can be stopped");
    std::thread::sleep(std::time::Duration::from_millis(50));
    nix::sys::signal::kill(target, nix::sys::signal::Signal::SIGCONT).expect("and go on");
    let seen = watch.finish();
    assert!(seen.states.contains(&'T'), "{seen:?}");
}

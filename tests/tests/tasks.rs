//! `gordian tasks` and `gordian ps`.

use std::collections::BTreeMap;

use gordian_tests::{
    Fixture, Gordian, Profile,
    capability::Need,
    json::{list, number, one, text},
    require,
};
use serde_json::Value;

fn tasks_of(fixture: &Fixture, more: &[&str]) -> Value {
    let pid = fixture.pid_argument();
    let mut command = Gordian::new(["tasks", &pid, "--json"]);
    for flag in more {
        command = command.arg(flag);
    }
    command.run().expect(0).json()
}

#[test]
fn equal_tasks_are_one_group() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("many", Profile::Release, &["10000"]);
    let document = tasks_of(&fixture, &[]);
    let sessions = one(&document["groups"], "name", "many::session");
    assert_eq!(number(&sessions["count"]), 10_000, "{document:#}");
    assert_eq!(sessions["states"]["suspended"], 10_000, "{sessions:#}");
    assert!(number(&document["coverage"]["decoded"]) >= 10_000, "{document:#}");
    let said = Gordian::new(["tasks", &fixture.pid_argument()]).run().expect(0).stdout;
    assert!(said.contains("10000") || said.contains("10,000"), "{said}");
    assert!(said.contains("many::session"), "{said}");
}

#[test]
fn filters_leave_what_was_asked_for() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("primitives", Profile::Release, &[]);
    let some = tasks_of(&fixture, &["--all", "--type", "wait_rwlock"]);
    let names: Vec<&str> = list(&some["tasks"]).iter().map(|task| text(&task["name"])).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|name| name.contains("wait_rwlock")), "{names:?}");
    assert_eq!(list(&tasks_of(&fixture, &["--all", "--limit", "3"])["tasks"]).len(), 3);
    let running = tasks_of(&fixture, &["--all", "--state", "running"]);
    assert!(list(&running["tasks"]).is_empty(), "{running:#}");
}

#[test]
fn stuck_tasks_alone() {
    require!(Need::Ptrace);
    let fixture = Fixture::start("deadlock");
    let stuck = tasks_of(&fixture, &["--all", "--stuck"]);
    let mut ids: Vec<&str> = list(&stuck["tasks"]).iter().map(|task| text(&task["id"])).collect();
    ids.sort_unstable();
    let mut wanted = [fixture.task_id("settle_order"), fixture.task_id("nightly_report")];
    wanted.sort_unstable();
    assert_eq!(ids, wanted, "{stuck:#}");
}

#[test]
fn every_kind_of_task_is_told_apart() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("healthy", Profile::Debuginfo, &[]);
    let document = tasks_of(&fixture, &["--all"]);
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for task in list(&document["tasks"]) {
        *counts.entry(text(&task["name"])).or_default() += 1;
    }
    assert_eq!(counts.get("healthy::clerk"), Some(&3), "{counts:?}");
    assert_eq!(counts.get("healthy::customer"), Some(&12), "{counts:?}");
    assert_eq!(counts.get("healthy::reprice"), Some(&1), "{counts:?}");
}

#[test]
fn ps_lists_what_can_be_attached_to() {
    require!(Need::Ptrace);
    let services = [Fixture::start("deadlock"), Fixture::start_with("many", Profile::Debuginfo, &["7"])];
    let none = Fixture::start("plain");
    let document = Gordian::new(["ps", "--json"]).run().expect(0).json();
    let of = |pid: i32| list(&document["candidates"]).iter().find(|candidate| candidate["pid"] == pid);
    for service in &services {
        let candidate = of(service.pid).unwrap_or_else(|| panic!("{} is not in {document:#}", service.pid));
        assert!(candidate.to_string().contains("1.54.1"), "{candidate:#}");
    }
    assert!(of(none.pid).is_none(), "{document:#}");
    let said = Gordian::new(["ps"]).run().expect(0).stdout;
    for service in &services {
        assert!(said.lines().any(|line| line.contains(&service.pid_argument()) && line.contains("tokio")), "{said}");
    }
}

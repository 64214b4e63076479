//! `gordian tasks` and `gordian ps`.

use std::collections::BTreeMap;

use gordian_tests::{
    Fixture, Gordian, Profile,
    capability::Need,
    json::{all_frames, functions, list, number, one, text},
    require,
};
use serde_json::Value;

/// What the leaf of an exhibit of the museum waits for.
const EXHIBITS: &[(&str, &str)] = &[
    ("wait_mutex", "tokio::sync::Mutex"),
    ("wait_rwlock_read", "tokio::sync::RwLock"),
    ("wait_rwlock_write", "tokio::sync::RwLock"),
    ("wait_semaphore", "tokio::sync::Semaphore"),
    ("wait_notify", "tokio::sync::Notify"),
    ("wait_mpsc_recv", "tokio::sync::mpsc"),
    ("wait_mpsc_send", "tokio::sync::mpsc"),
    ("wait_oneshot", "tokio::sync::oneshot"),
    ("wait_join_handle", "JoinHandle"),
    ("wait_sleep", "timer"),
    ("wait_interval", "timer"),
    ("wait_boxed_dyn", "tokio::sync::Notify"),
];

/// What these are made of: all that can be told where the functions around have been inlined and no line table says so.
const MADE_OF: &[(&str, &str)] = &[
    ("tokio::sync::Mutex", "tokio::sync::batch_semaphore::Semaphore"),
    ("tokio::sync::RwLock", "tokio::sync::batch_semaphore::Semaphore"),
    ("tokio::sync::mpsc", "tokio::sync::batch_semaphore::Semaphore"),
];

fn tasks_of(fixture: &Fixture, more: &[&str]) -> Value {
    let pid = fixture.pid_argument();
    let mut command = Gordian::new(["tasks", &pid, "--json"]);
    for flag in more {
        command = command.arg(flag);
    }
    command.run().expect(0).json()
}

/// Kinds of everything that a task waits for, also in its branches.
fn wait_kinds(task: &Value) -> Vec<String> {
    let mut kinds: Vec<String> = task["wait"]["kind"].as_str().map(str::to_owned).into_iter().collect();
    for frame in all_frames(&task["awaits"]) {
        for branch in frame["children"].as_array().into_iter().flatten() {
            kinds.extend(wait_kinds(branch));
        }
    }
    kinds
}

/// Whether the task is that exhibit, by its type or by the function at the root of its await stack. Where the linker has
/// folded equal code of two types into one, only the latter tells them apart.
fn is_named(task: &Value, exhibit: &str) -> bool {
    let root = functions(&task["awaits"]).first().copied().unwrap_or_default();
    [text(&task["name"]), root].iter().any(|name| name.ends_with(exhibit))
}

fn assert_whole_museum(profile: Profile) {
    let fixture = Fixture::start_with("primitives", profile, &[]);
    let document = tasks_of(&fixture, &["--all"]);
    let shown = fixture.ready["tasks"].as_object().expect("tasks by name");
    // A LocalSet runs in a runtime of its own, whose ids may equal those of the other.
    let tasks = |id: &str| -> Vec<&Value> { list(&document["tasks"]).iter().filter(|task| task["id"] == id).collect() };
    for (exhibit, id) in shown {
        let found = tasks(text(id));
        assert!(!found.is_empty(), "{exhibit} ({id}) is missing in {document:#}");
        if exhibit.starts_with("wait_") {
            assert!(found.iter().any(|task| is_named(task, exhibit)), "{exhibit} ({id}) is {found:#?}");
        }
        for task in found {
            // A leaf that is not understood is named all the same, or the task says what is missing.
            let kinds = wait_kinds(task);
            let told = !kinds.is_empty() && !kinds.iter().any(String::is_empty);
            assert!(told || task["incomplete"].is_string(), "{exhibit} waits for nothing: {task:#}");
        }
    }
    for (exhibit, kind) in EXHIBITS {
        let found = tasks(fixture.task_id(exhibit));
        let task = found.iter().find(|task| is_named(task, exhibit)).expect("found above");
        let kinds = wait_kinds(task);
        let made_of = MADE_OF.iter().find(|(whole, _)| whole == kind).map(|(_, part)| *part);
        let part_will_do = profile == Profile::Release && kinds.iter().map(String::as_str).eq(made_of);
        assert!(kinds == [*kind] || part_will_do, "{exhibit}: {task:#}");
        if let Some(address) = fixture.ready["resources"][exhibit].as_str() {
            assert_eq!(task["wait"]["address"], address, "{exhibit}: {task:#}");
        }
    }
    // Both runtimes, and the main task, which is in no list of any runtime.
    assert!(list(&document["target"]["runtimes"]).len() >= 2, "{:#}", document["target"]);
    let main = format!("block_on:{}", fixture.pid);
    assert_eq!(one(&document["tasks"], "id", &main)["name"], "primitives::main");
}

#[test]
fn every_primitive_is_in_the_list() {
    require!(Need::Ptrace);
    assert_whole_museum(Profile::Debuginfo);
}

#[test]
fn every_primitive_is_in_the_list_without_debuginfo() {
    require!(Need::Ptrace);
    assert_whole_museum(Profile::Release);
}

#[test]
fn branches_are_shown_apart() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("primitives", Profile::Debuginfo, &[]);
    let document = tasks_of(&fixture, &["--all"]);
    for (exhibit, branches) in [("wait_select", 2), ("wait_join_macro", 2), ("wait_timeout", 2), ("wait_join_all", 3)] {
        let task = list(&document["tasks"]).iter().find(|task| is_named(task, exhibit)).expect("it is in the list");
        assert_eq!(wait_kinds(task).len(), branches, "{exhibit}: {task:#}");
    }
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

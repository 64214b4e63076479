//! One program, built in every ordinary way: the same tasks, waits and holders everywhere, and await stacks as good as
//! what the build tells.

use std::process::Command;

use gordian_tests::{
    Build, Fixture, Gordian,
    capability::Need,
    json::{functions, list, number, one, text},
    programs::{built, objcopy},
    require,
};
use serde_json::Value;

/// Kind and name of a resource.
type Named = (&'static str, &'static str);

/// Of each task of `holders`: what it waits for, and what it holds of the resources that have a name.
const HOLDERS: &[(&str, Named, &[Named])] = &[
    ("unload", ("tokio::sync::Notify", "bell"), &[("tokio::sync::Mutex", "crane")]),
    ("load", ("tokio::sync::Mutex", "crane"), &[("tokio::sync::Semaphore", "berths")]),
    ("moor", ("tokio::sync::Semaphore", "berths"), &[("tokio::sync::Semaphore", "berths")]),
    ("survey", ("tokio::sync::Notify", "bell"), &[("tokio::sync::RwLock", "chart")]),
    ("redraw", ("tokio::sync::RwLock", "chart"), &[("tokio::sync::RwLock", "chart")]),
    ("consult", ("tokio::sync::RwLock", "chart"), &[]),
    ("guard_key", ("tokio::sync::Notify", "bell"), &[("tokio::sync::Mutex", "key")]),
    ("want_key", ("tokio::sync::Mutex", "key"), &[]),
    ("order", ("tokio::sync::Notify", "bell"), &[]),
    ("answer", ("tokio::sync::Notify", "bell"), &[]),
];

/// Of each task of `holders` that waits for a channel, a timer or a task: what.
const OTHERS: &[(&str, &str)] = &[
    ("receive", "tokio::sync::mpsc"),
    ("ask", "tokio::sync::oneshot"),
    ("await_pilot", "JoinHandle"),
    ("doze", "timer"),
];

/// Functions of some tasks of `holders` with the marks of their lines, root first.
const CHAINS: &[(&str, &[&str])] = &[
    ("unload", &["unload", "lift", "hear"]),
    ("load", &["load", "swing"]),
    ("moor", &["moor", "tie_up"]),
    ("survey", &["survey", "hear"]),
    ("redraw", &["redraw"]),
    ("consult", &["consult"]),
    ("guard_key", &["guard_key", "hear"]),
    ("want_key", &["want_key"]),
    ("order", &["order", "hear"]),
    ("ask", &["ask"]),
    ("answer", &["answer", "hear"]),
    ("await_pilot", &["await_pilot"]),
];

fn tasks_of(fixture: &Fixture) -> Value {
    Gordian::new(["tasks", &fixture.pid_argument(), "--all", "--json"]).run().expect(0).json()
}

/// Semaphores are what locks are made of: all that is left to see where the functions around them were inlined.
fn is_kind(found: &Value, kind: &str) -> bool {
    let lock = ["tokio::sync::Mutex", "tokio::sync::RwLock", "tokio::sync::Semaphore"].contains(&kind);
    found == kind || lock && found == "tokio::sync::batch_semaphore::Semaphore"
}

/// Fails where a task is not what every build must show; what it waits for only where the build shows that kind.
#[track_caller]
fn assert_same_tasks_and_holders(fixture: &Fixture, document: &Value, shows: &dyn Fn(&str) -> bool) {
    let named = fixture.ready["tasks"].as_object().expect("tasks by name");
    for (name, (kind, resource), holds) in HOLDERS {
        let task = one(&document["tasks"], "id", fixture.task_id(name));
        let address = &fixture.ready["resources"][resource];
        assert_eq!(task["state"], "suspended", "{name}: {task:#}");
        if shows(kind) {
            assert!(is_kind(&task["wait"]["kind"], kind), "{name}: {task:#}");
            assert_eq!(&task["wait"]["address"], address, "{name}: {task:#}");
        }
        for (held, resource) in *holds {
            let address = text(&fixture.ready["resources"][resource]);
            let hold = one(&task["holds"], "address", address);
            assert!(is_kind(&hold["kind"], held), "{name}: {task:#}");
            // What a queued acquire has got so far it does not use yet.
            let queued = ["moor", "redraw"].contains(name);
            assert_eq!(hold["how"], if queued { "reserved" } else { "guard" }, "{name}: {task:#}");
        }
        let locks = list(&task["holds"]).iter().filter(|hold| hold["how"] == "guard" || hold["how"] == "reserved");
        assert_eq!(locks.count(), holds.len(), "{name} holds more locks: {task:#}");
    }
    // Besides these there are the one whom `await_pilot` waits for, and the root.
    let spawned = list(&document["tasks"]).iter().filter(|task| !text(&task["id"]).starts_with("block_on"));
    assert_eq!(spawned.count(), named.len() + 1, "{document:#}");
}

/// Fails unless everything else is known too.
#[track_caller]
fn assert_everything_is_read(fixture: &Fixture, document: &Value) {
    assert_eq!(document["complete"], true, "{document:#}");
    for (name, kind) in OTHERS {
        let task = one(&document["tasks"], "id", fixture.task_id(name));
        assert_eq!(task["wait"]["kind"], *kind, "{name}: {task:#}");
    }
    let pilot = text(&one(&document["tasks"], "id", fixture.task_id("await_pilot"))["wait"]["address"]);
    assert_eq!(one(&document["tasks"], "address", pilot)["state"], "suspended");
    let root = list(&document["tasks"]).iter().filter(|task| text(&task["id"]).starts_with("block_on"));
    assert_eq!(root.count(), 1, "{document:#}");
}

/// Own functions of a task's await stack, without the program's name.
fn own_functions(task: &Value) -> Vec<&str> {
    functions(&task["awaits"]).into_iter().filter_map(|function| function.strip_prefix("holders::")).collect()
}

/// Fails unless the stacks are what symbols alone can show: some of the functions, in their order, from the root on.
#[track_caller]
fn assert_stacks_by_symbols(fixture: &Fixture, document: &Value) {
    assert_eq!(document["target"]["inlined_frames"], false);
    for (name, chain) in CHAINS {
        let task = one(&document["tasks"], "id", fixture.task_id(name));
        let own = own_functions(task);
        let mut rest = chain.iter();
        assert!(own.iter().all(|function| rest.any(|known| known == function)), "{name}: {task:#}");
        assert_eq!(own.first(), Some(name), "{name}: {task:#}");
        for frame in list(&task["awaits"]) {
            assert!(frame["line"].is_null(), "{name}: {frame}");
        }
    }
}

/// Fails unless the stacks have every function with its line.
#[track_caller]
fn assert_stacks_by_lines(fixture: &Fixture, document: &Value) {
    assert_eq!(document["target"]["inlined_frames"], true);
    for (name, chain) in CHAINS {
        let task = one(&document["tasks"], "id", fixture.task_id(name));
        let of_file = |frame: &&Value| frame["file"].as_str().is_some_and(|file| file.ends_with("bin/holders.rs"));
        let lines: Vec<u64> =
            list(&task["awaits"]).iter().filter(of_file).map(|frame| number(&frame["line"])).collect();
        let wanted: Vec<u64> = chain.iter().map(|marker| fixture.line(marker)).collect();
        assert_eq!(lines, wanted, "{name}: {task:#}");
        assert_eq!(own_functions(task).first(), Some(name), "{name}: {task:#}");
    }
}

/// Everything that a build with symbols, without line tables, must show.
#[track_caller]
fn assert_symbols_suffice(build: Build) {
    let fixture = Fixture::start_build("holders", build);
    let document = tasks_of(&fixture);
    assert_same_tasks_and_holders(&fixture, &document, &|_| true);
    assert_everything_is_read(&fixture, &document);
    assert_stacks_by_symbols(&fixture, &document);
    assert_finds_the_deadlock(&Fixture::start_build("deadlock", build));
}

/// Everything that a build with line tables must show.
#[track_caller]
fn assert_lines_are_shown(fixture: &Fixture) {
    let document = tasks_of(fixture);
    assert_same_tasks_and_holders(fixture, &document, &|_| true);
    assert_everything_is_read(fixture, &document);
    assert_stacks_by_lines(fixture, &document);
}

/// Fails unless the one finding is the deadlock, proved, with both its tasks and locks.
#[track_caller]
fn assert_finds_the_deadlock(fixture: &Fixture) {
    let document = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run().expect(1).json();
    let finding = one(&document["findings"], "kind", "deadlock");
    assert_eq!(list(&document["findings"]).len(), 1, "{document:#}");
    assert_eq!(finding["certainty"], "proved", "{finding:#}");
    for (task, waits_for, holds) in [("settle_order", "ledger", "accounts"), ("nightly_report", "accounts", "ledger")] {
        let found = one(&finding["tasks"], "id", fixture.task_id(task));
        let held = one(&found["holds"], "address", text(&fixture.ready["mutexes"][holds]));
        assert_eq!(held["how"], "guard", "{found:#}");
        assert_eq!(found["wait"]["address"], fixture.ready["mutexes"][waits_for], "{found:#}");
    }
}

#[test]
fn cargos_own_release() {
    require!(Need::Ptrace);
    assert_symbols_suffice("release");
}

#[test]
fn v0_mangling() {
    require!(Need::Ptrace);
    assert_symbols_suffice("v0");
}

#[test]
fn static_pie() {
    require!(Need::Ptrace);
    assert_symbols_suffice("static-pie");
}

#[test]
fn jemalloc() {
    require!(Need::Ptrace);
    assert_symbols_suffice("jemalloc");
}

#[test]
fn mimalloc() {
    require!(Need::Ptrace);
    assert_symbols_suffice("mimalloc");
}

/// Much is inlined into the futures themselves. Not every leaf can be told then, but who holds what can.
#[test]
fn fat_lto_and_panic_abort() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_build("holders", "fat-lto");
    let document = tasks_of(&fixture);
    assert_same_tasks_and_holders(&fixture, &document, &|_| true);
    assert_finds_the_deadlock(&Fixture::start_build("deadlock", "fat-lto"));
}

/// Nothing has a name. What is left: tasks, their states, and who holds which semaphore that others wait for.
#[test]
fn stripped() {
    require!(Need::Ptrace);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let strip = |name: &str| {
        let program = directory.path().join(name);
        objcopy(&["--strip-all"], &built(name, "release"), &program);
        Fixture::spawn(name, Command::new(program))
    };
    let fixture = strip("holders");
    let document = tasks_of(&fixture);
    assert_eq!(document["complete"], false, "{document:#}");
    assert!(document["missing"].to_string().contains("symbols"), "{document:#}");
    assert_same_tasks_and_holders(&fixture, &document, &|kind| kind != "tokio::sync::Notify");

    let fixture = strip("deadlock");
    let document = tasks_of(&fixture);
    for (task, waits_for, holds) in [("settle_order", "ledger", "accounts"), ("nightly_report", "accounts", "ledger")] {
        let found = one(&document["tasks"], "id", fixture.task_id(task));
        assert_eq!(found["wait"]["address"], fixture.ready["mutexes"][waits_for], "{found:#}");
        one(&found["holds"], "address", text(&fixture.ready["mutexes"][holds]));
    }
    // Whether these are locks or semaphores with more permits nothing says, so there is no verdict, and that is said.
    let document = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run().expect(3).json();
    assert_eq!(document["complete"], false, "{document:#}");
}

#[test]
fn line_tables() {
    require!(Need::Ptrace);
    assert_lines_are_shown(&Fixture::start_build("holders", "line-tables"));
    assert_finds_the_deadlock(&Fixture::start_build("deadlock", "line-tables"));
}

#[test]
fn full_debuginfo() {
    require!(Need::Ptrace);
    assert_lines_are_shown(&Fixture::start_build("holders", "full"));
}

#[test]
fn split_debuginfo_in_a_package() {
    require!(Need::Ptrace);
    assert_lines_are_shown(&Fixture::start_build("holders", "split-packed"));
}

#[test]
fn split_debuginfo_in_its_own_files() {
    require!(Need::Ptrace);
    assert_lines_are_shown(&Fixture::start_build("holders", "split-unpacked"));
}

//! A museum of everything that a task can wait for, and what `gordian tasks` says of each piece.

use gordian_tests::{
    Fixture, Gordian, Profile,
    capability::Need,
    json::{functions, list, one, text},
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
    ("wait_barrier", "tokio::sync::Barrier"),
    ("wait_once_cell", "tokio::sync::OnceCell"),
    ("wait_mpsc_recv", "tokio::sync::mpsc"),
    ("wait_mpsc_send", "tokio::sync::mpsc"),
    ("wait_unbounded_recv", "tokio::sync::mpsc"),
    ("wait_oneshot", "tokio::sync::oneshot"),
    ("wait_watch", "tokio::sync::watch"),
    ("wait_broadcast", "tokio::sync::broadcast"),
    ("wait_join_handle", "JoinHandle"),
    ("wait_join_set", "JoinHandle"),
    ("wait_sleep", "timer"),
    ("wait_interval", "timer"),
    ("wait_tcp_accept", "io"),
    ("wait_tcp_read", "io"),
    ("wait_udp", "io"),
    ("wait_unix", "io"),
    ("wait_spawn_blocking", "spawn_blocking"),
    ("wait_boxed_dyn", "tokio::sync::Notify"),
    ("wait_in_local_set", "tokio::sync::Notify"),
];

/// Whose wait nobody but themselves understands, and which are read whole all the same.
const NOT_UNDERSTOOD: &[&str] = &["wait_pending", "wait_hand_written", "wait_shared", "wait_futures_mutex"];

/// Of which the optimiser leaves nothing that has a name.
const NAMELESS: &str = "wait_pending";

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
    for frame in task["awaits"].as_array().into_iter().flatten() {
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

/// The task of an exhibit.
#[track_caller]
fn exhibit_in<'a>(document: &'a Value, exhibit: &str) -> &'a Value {
    let mut tasks = list(&document["tasks"]).iter();
    tasks.find(|task| is_named(task, exhibit)).unwrap_or_else(|| panic!("{exhibit} is not in {document:#}"))
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
        if exhibit.starts_with("wait_") && exhibit != NAMELESS {
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
        assert_eq!(kinds, [*kind], "{exhibit}: {task:#}");
        if let Some(address) = fixture.ready["resources"][exhibit].as_str() {
            assert_eq!(task["wait"]["address"], address, "{exhibit}: {task:#}");
        }
    }
    for exhibit in NOT_UNDERSTOOD {
        for task in tasks(fixture.task_id(exhibit)) {
            assert!(task["incomplete"].is_null(), "{exhibit}: {task:#}");
            assert_ne!(wait_kinds(task), [""; 0], "{exhibit}: {task:#}");
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

/// A notification or semaphore of the program's own is none of a primitive, whatever stands beside it or waits around it.
#[test]
fn parts_of_primitives_are_told_from_what_is_the_programs_own() {
    require!(Need::Ptrace);
    assert_waits_for_what_it_says("parts");
}

/// A set polls only those of its futures that were woken; what the others wait for is told all the same.
#[test]
fn futures_in_sets_are_told() {
    require!(Need::Ptrace);
    assert_waits_for_what_it_says("sets");
}

fn assert_waits_for_what_it_says(program: &str) {
    for profile in [Profile::Debuginfo, Profile::Release] {
        let fixture = Fixture::start_with(program, profile, &[]);
        let document = tasks_of(&fixture, &["--all"]);
        for (name, said) in fixture.ready["tasks"].as_object().expect("tasks by name") {
            let task = one(&document["tasks"], "id", text(&said["id"]));
            let (mut found, mut wanted) =
                (wait_kinds(task), list(&said["waits_for"]).iter().map(text).collect::<Vec<_>>());
            found.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(found, wanted, "{name} ({}): {task:#}", profile.name());
        }
        let findings = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run().expect(0).json();
        assert_eq!(list(&findings["findings"]).len(), 0, "{findings:#}");
    }
}

#[test]
fn branches_are_shown_apart() {
    require!(Need::Ptrace);
    let branches = [
        ("wait_select", 2),
        ("wait_join_macro", 2),
        ("wait_timeout", 2),
        ("wait_join_all", 3),
        ("wait_try_join", 2),
        ("wait_futures_unordered", 3),
    ];
    for profile in [Profile::Debuginfo, Profile::Release] {
        let fixture = Fixture::start_with("primitives", profile, &[]);
        let document = tasks_of(&fixture, &["--all"]);
        for (exhibit, branches) in branches {
            let task = exhibit_in(&document, exhibit);
            assert_eq!(wait_kinds(task).len(), branches, "{exhibit}: {task:#}");
        }
        // A lock is not all that this one waits for: the other branch may be rung at any time.
        let task = exhibit_in(&document, "wait_lock_or_bell");
        let kinds = wait_kinds(task);
        assert!(kinds.len() == 2 && kinds.iter().any(|kind| kind == "tokio::sync::Mutex"), "{task:#}");
    }
}

/// Who waits at one end of a channel and who owns the other name the same object.
#[test]
fn both_ends_of_a_channel_have_one_address() {
    require!(Need::Ptrace);
    let ends = [
        ("wait_mpsc_recv", "tokio::sync::mpsc", "sender"),
        ("wait_unbounded_recv", "tokio::sync::mpsc", "sender"),
        ("wait_mpsc_send", "tokio::sync::mpsc", "receiver"),
        ("wait_oneshot", "tokio::sync::oneshot", "sender"),
    ];
    for profile in [Profile::Debuginfo, Profile::Release] {
        let fixture = Fixture::start_with("primitives", profile, &[]);
        let document = tasks_of(&fixture, &["--all"]);
        let main = one(&document["tasks"], "id", &format!("block_on:{}", fixture.pid));
        for (exhibit, kind, how) in ends {
            let wait = &exhibit_in(&document, exhibit)["wait"];
            assert_eq!(wait["kind"], kind, "{exhibit}: {wait:#}");
            let owns = |hold: &&Value| hold["address"] == wait["address"] && hold["how"] == how && hold["kind"] == kind;
            assert_eq!(list(&main["holds"]).iter().filter(owns).count(), 1, "{exhibit} {wait:#}: {main:#}");
        }
    }
}

/// How long a sleep has left, and which descriptor is waited for.
#[test]
fn timers_and_descriptors_are_told() {
    require!(Need::Ptrace);
    for profile in [Profile::Debuginfo, Profile::Release] {
        let fixture = Fixture::start_with("primitives", profile, &[]);
        let listing = |exhibit| {
            let command = Gordian::new(["tasks", &fixture.pid_argument(), "--all", "--type", exhibit]);
            command.run().expect(0).stdout
        };
        for exhibit in ["wait_sleep", "wait_interval", "wait_timeout"] {
            assert!(listing(exhibit).contains("left"), "{exhibit}: {}", listing(exhibit));
        }
        for exhibit in ["wait_tcp_accept", "wait_tcp_read", "wait_udp", "wait_unix"] {
            let said = listing(exhibit);
            let fd = said.split_once("waits for descriptor ").and_then(|(_, rest)| rest.split(' ').next());
            let fd = fd.unwrap_or_else(|| panic!("{exhibit}: {said}"));
            let link = std::fs::read_link(format!("/proc/{}/fd/{fd}", fixture.pid)).expect("it is open");
            assert!(link.to_string_lossy().starts_with("socket:"), "{exhibit} waits for {}", link.display());
        }
    }
}

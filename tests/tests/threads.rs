//! Threads that wait for one another and for tasks, over locks that are made for threads; and roots of `block_on`.

use gordian_tests::{
    Fixture, Gordian, Profile,
    capability::Need,
    json::{list, number, one, text},
    programs, require,
};
use serde_json::Value;

/// What `check` says of a program with nothing wrong in it, however long it looks.
#[track_caller]
fn assert_healthy(fixture: &Fixture) {
    let document = Gordian::new(["check", &fixture.pid_argument(), "--json", "--for", "3"]).run().json();
    let permanent = |finding: &&Value| ["deadlock", "orphaned", "undriven"].contains(&text(&finding["kind"]));
    let found: Vec<&Value> = list(&document["findings"]).iter().filter(permanent).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// The one finding of a program with one deadlock, which must be proved.
#[track_caller]
fn proved(fixture: &Fixture) -> Value {
    let document = Gordian::new(["check", &fixture.pid_argument(), "--json", "--for", "3"]).run().expect(1).json();
    let deadlock = one(&document["findings"], "kind", "deadlock").clone();
    assert_eq!(deadlock["certainty"], "proved", "{deadlock:#}");
    assert_eq!(deadlock["unknowns"], Value::Array(Vec::new()), "{deadlock:#}");
    deadlock
}

/// Names of a finding's threads, sorted.
fn threads(finding: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = list(&finding["threads"]).iter().map(|thread| text(&thread["name"])).collect();
    names.sort_unstable();
    names
}

/// Ids of a finding's tasks, sorted.
fn tasks(finding: &Value) -> Vec<&str> {
    let mut ids: Vec<&str> = list(&finding["tasks"]).iter().map(|task| text(&task["id"])).collect();
    ids.sort_unstable();
    ids
}

/// Every edge of a cycle of two leads over one of the two locks, each lock once.
#[track_caller]
fn assert_goes_over_both_locks(fixture: &Fixture, finding: &Value, kind: &str) {
    let edges = list(&finding["edges"]);
    assert_eq!(edges.len(), 2, "{finding:#}");
    for lock in ["accounts", "ledger"] {
        let address = text(&fixture.ready["locks"][lock]);
        let over = edges.iter().filter(|edge| edge["resource"]["address"] == address);
        assert_eq!(over.clone().count(), 1, "{lock}: {finding:#}");
        assert!(over.clone().all(|edge| edge["resource"]["kind"] == kind), "{finding:#}");
    }
}

/// Two plain threads that lock in opposite order.
#[track_caller]
fn assert_two_threads(case: &str, profile: Profile, names: [&str; 2], kind: &str) {
    let fixture = Fixture::start_with("locks", profile, &[case]);
    let finding = proved(&fixture);
    assert_eq!(threads(&finding), names, "{finding:#}");
    assert_eq!(tasks(&finding), [""; 0], "{finding:#}");
    assert_goes_over_both_locks(&fixture, &finding, kind);
}

#[test]
fn std_mutexes() {
    require!(Need::Ptrace);
    assert_two_threads("std", Profile::Release, ["report", "settle"], "std::sync::Mutex");
    assert_two_threads("std", Profile::Debuginfo, ["report", "settle"], "std::sync::Mutex");
}

#[test]
fn a_thread_at_a_condition_has_not_got_its_mutex() {
    require!(Need::Ptrace);
    assert_two_threads("with-condvar", Profile::Release, ["report", "settle"], "std::sync::Mutex");
}

#[test]
fn std_rwlocks() {
    require!(Need::Ptrace);
    assert_two_threads("rwlock", Profile::Release, ["reader", "writer"], "std::sync::RwLock");
}

#[test]
fn parking_lot() {
    require!(Need::Ptrace);
    assert_two_threads("parking-lot", Profile::Release, ["report", "settle"], "parking_lot::Mutex");
    assert_two_threads("parking-lot-rwlock", Profile::Release, ["reader", "writer"], "parking_lot::RwLock");
}

#[test]
fn mutexes_of_the_c_library() {
    require!(Need::Ptrace);
    assert_two_threads("pthread", Profile::Release, ["report", "settle"], "pthread_mutex_t");
}

#[test]
fn initialisers_that_wait_for_each_other() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("locks", Profile::Release, &["lazy"]);
    assert_eq!(threads(&proved(&fixture)), ["report", "settle"]);
}

#[test]
fn a_thread_that_waits_for_another_s_end() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("locks", Profile::Release, &["join"]);
    assert_eq!(threads(&proved(&fixture)), ["child", "parent"]);
}

#[test]
fn a_thread_that_waits_for_itself() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("locks", Profile::Release, &["itself"]);
    assert_eq!(threads(&proved(&fixture)), ["twice"]);
}

#[test]
fn two_workers_in_the_middle_of_polls() {
    require!(Need::Ptrace);
    for profile in [Profile::Release, Profile::Debuginfo] {
        let fixture = Fixture::start_with("locks", profile, &["workers"]);
        let finding = proved(&fixture);
        assert_eq!(threads(&finding).len(), 2, "{finding:#}");
        assert_goes_over_both_locks(&fixture, &finding, "std::sync::Mutex");
    }
}

#[test]
fn a_guard_across_an_await_stops_the_only_worker() {
    require!(Need::Ptrace);
    for case in ["across-await", "across-await-current-thread"] {
        for profile in [Profile::Release, Profile::Debuginfo] {
            let fixture = Fixture::start_with("locks", profile, &[case]);
            let finding = proved(&fixture);
            assert_eq!(threads(&finding).len(), 1, "{case}: {finding:#}");
            assert!(tasks(&finding).contains(&fixture.task_id("holder")), "{case}: {finding:#}");
        }
    }
}

#[test]
fn a_cycle_passes_through_a_thread_and_a_task() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("locks", Profile::Debuginfo, &["thread-and-task"]);
    let finding = proved(&fixture);
    assert_eq!(threads(&finding), ["settle"], "{finding:#}");
    assert_eq!(tasks(&finding), [fixture.task_id("report")], "{finding:#}");
    assert_eq!(list(&finding["edges"]).len(), 2, "{finding:#}");
}

#[test]
fn a_task_awaits_blocking_work_that_wants_its_guard() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("locks", Profile::Release, &["blocking-pool"]);
    let finding = proved(&fixture);
    assert_eq!(threads(&finding).len(), 1, "{finding:#}");
    assert_eq!(tasks(&finding), [fixture.task_id("outer")], "{finding:#}");
}

#[test]
fn what_ends_by_itself_is_no_deadlock() {
    require!(Need::Ptrace);
    for case in ["timeouts", "condvar", "busy"] {
        assert_healthy(&Fixture::start_with("locks", Profile::Release, &[case]));
    }
}

/// What `tasks` tells of the fixture's locks: fates whose holder was found, and those of whom nothing was. Fails where a thread
/// is said to hold what it does not.
#[track_caller]
fn fates(fixture: &Fixture, gordian: Gordian) -> (Vec<&str>, Vec<&str>) {
    let document = gordian.run().expect(0).json();
    let found = list(&document["threads"]);
    let (mut right, mut unknown) = (Vec::new(), Vec::new());
    for truth in list(&fixture.ready["fates"]) {
        let (fate, holder) = (text(&truth["fate"]), truth["holder"].as_u64());
        let waiter = found.iter().find(|thread| thread["tid"] == truth["waiter"]);
        let Some(lock) = waiter.and_then(|waiter| waiter["wait"]["address"].as_str()) else {
            unknown.push(fate);
            continue;
        };
        let has = |thread: &&Value| list(&thread["holds"]).iter().any(|hold| hold["address"] == lock);
        let holders: Vec<u64> = found.iter().filter(has).map(|thread| number(&thread["tid"])).collect();
        match holders.as_slice() {
            [one] if Some(*one) == holder => right.push(fate),
            [] if holder.is_none() => right.push(fate),
            [] => unknown.push(fate),
            _ => panic!("{fate}: {lock} is held by {holder:?}, not by {holders:?}: {document:#}"),
        }
    }
    (right, unknown)
}

fn tasks_of(fixture: &Fixture) -> Gordian {
    Gordian::new(["tasks", &fixture.pid_argument(), "--json"])
}

#[test]
fn guards_are_found_whatever_became_of_them() {
    require!(Need::Ptrace, Need::Bpf);
    for profile in [Profile::Release, Profile::Debuginfo] {
        let fixture = Fixture::start_with("fates", profile, &[]);
        let (_, unknown) = fates(&fixture, tasks_of(&fixture));
        assert_eq!(unknown, [""; 0], "{profile:?}");
        assert_healthy(&fixture);
    }
}

/// Without the kernel's word some registers are unknown, and what hangs on those.
#[test]
fn most_guards_are_found_without_kernel_programs() {
    require!(Need::Ptrace);
    let fixture = Fixture::start("fates");
    let without = programs::fixture("without_bpf", Profile::Release);
    let without = without.to_str().expect("a plain path");
    let gordian = Gordian::under([without], ["tasks", &fixture.pid_argument(), "--json"]);
    let (right, unknown) = fates(&fixture, gordian);
    assert!(right.len() >= 9 * unknown.len(), "unknown: {unknown:?}");

    let fixture = Fixture::start_with("locks", Profile::Release, &["std"]);
    let check = ["check", &fixture.pid_argument(), "--json"];
    let document = Gordian::under([without], check).run().expect(1).json();
    assert_eq!(threads(one(&document["findings"], "kind", "deadlock")), ["report", "settle"]);
}

/// Nobody is accused, and what is not known is said.
#[test]
fn holders_that_no_landing_pad_tells_are_unknown() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("locks", Profile::FatLto, &["std"]);
    let document = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run().expect(3).json();
    assert_eq!(list(&document["findings"]).len(), 0, "{document:#}");
    let missing = list(&document["missing"]);
    assert!(missing.iter().any(|why| text(why).contains("panic=abort")), "{missing:#?}");
}

/// A root of a `block_on` and the task `partner`, each with the lock that the other waits for.
#[track_caller]
fn assert_root_and_partner(case: &str, profile: Profile) {
    let fixture = Fixture::start_with("roots", profile, &[case]);
    let finding = proved(&fixture);
    let tasks = list(&finding["tasks"]);
    assert_eq!(tasks.len(), 2, "{case}: {finding:#}");
    let is_root = |task: &&Value| text(&task["party"]).starts_with("block_on:");
    let root = tasks.iter().find(is_root).unwrap_or_else(|| panic!("{case}: no root in {finding:#}"));
    let partner = one(&finding["tasks"], "id", text(&fixture.ready["partner"]));
    for (task, has, wants) in [(root, "accounts", "ledger"), (partner, "ledger", "accounts")] {
        assert_eq!(task["wait"]["kind"], "tokio::sync::Mutex", "{case}: {finding:#}");
        assert_eq!(task["wait"]["address"], fixture.ready["mutexes"][wants], "{case}: {finding:#}");
        // The guard of a `blocking_lock` is its thread's.
        if case != "blocking-lock" || has == "ledger" {
            assert_eq!(one(&task["holds"], "how", "guard")["address"], fixture.ready["mutexes"][has], "{case}");
        }
    }
}

#[test]
fn main_is_part_of_the_deadlock() {
    require!(Need::Ptrace);
    for case in ["multi-thread", "current-thread"] {
        assert_root_and_partner(case, Profile::Release);
        assert_root_and_partner(case, Profile::Debuginfo);
    }
}

#[test]
fn a_root_and_a_task_of_another_runtime() {
    require!(Need::Ptrace);
    assert_root_and_partner("two-runtimes", Profile::Release);
}

#[test]
fn a_root_and_a_local_task() {
    require!(Need::Ptrace);
    assert_root_and_partner("local-set", Profile::Release);
}

#[test]
fn a_root_inside_a_worker() {
    require!(Need::Ptrace);
    assert_root_and_partner("block-in-place", Profile::Release);
}

#[test]
fn a_root_that_is_a_blocking_lock() {
    require!(Need::Ptrace);
    assert_root_and_partner("blocking-lock", Profile::Release);
    assert_root_and_partner("blocking-lock", Profile::Debuginfo);
}

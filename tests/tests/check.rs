//! `gordian check` on a process that was stuck before gordian came.

use gordian_tests::{
    Fixture, Gordian, Profile,
    capability::Need,
    json::{functions, list, number, one, text},
    observe::{Traffic, Watch, text_of},
    require,
};
use serde_json::Value;

/// What must stand in the one finding about the `deadlock` fixture, whatever the build.
fn assert_names_the_deadlock<'a>(fixture: &Fixture, document: &'a Value) -> &'a Value {
    let finding = one(&document["findings"], "kind", "deadlock");
    assert_eq!(list(&document["findings"]).len(), 1, "one root cause is one finding: {document:#}");
    assert_eq!(finding["certainty"], "proved", "{finding:#}");
    assert!(list(&finding["unknowns"]).is_empty(), "{finding:#}");
    assert!(finding["formed_at"].is_null(), "it formed before gordian came: {finding:#}");

    assert_eq!(list(&finding["tasks"]).len(), 2, "{finding:#}");
    for (task, waits_for, holds) in [("settle_order", "ledger", "accounts"), ("nightly_report", "accounts", "ledger")] {
        let waits_for = &fixture.ready["mutexes"][waits_for];
        let holds = &fixture.ready["mutexes"][holds];
        let found = one(&finding["tasks"], "id", fixture.task_id(task));
        assert_eq!(found["name"], format!("deadlock::{task}"));
        assert_eq!(found["state"], "suspended");
        assert_eq!(found["wait"]["kind"], "tokio::sync::Mutex", "{found:#}");
        assert_eq!(&found["wait"]["address"], waits_for, "{found:#}");
        // Where the function is inlined that serves the queue, nothing tells who is next.
        let position = &found["wait"]["position"];
        assert!(*position == 0 || position.is_null() && document["complete"] == false, "{found:#}");
        let hold = one(&found["holds"], "how", "guard");
        assert_eq!((&hold["kind"], &hold["address"]), (&found["wait"]["kind"], holds), "{found:#}");
        assert_eq!(functions(&found["awaits"])[0], format!("deadlock::{task}"), "{found:#}");
    }

    let (settle, report) = ("settle_order", "nightly_report");
    assert_eq!(list(&finding["edges"]).len(), 2, "{finding:#}");
    for (from, to, mutex) in [(settle, report, "ledger"), (report, settle, "accounts")] {
        let party = |task| text(&one(&finding["tasks"], "id", fixture.task_id(task))["party"]).to_owned();
        let edge = one(&finding["edges"], "from", &party(from));
        assert_eq!(text(&edge["to"]), party(to), "{edge:#}");
        assert_eq!(edge["resource"]["address"], fixture.ready["mutexes"][mutex], "{edge:#}");
    }
    finding
}

/// Looks at a service that is busy, at most, until everything could be read.
const LOOKS: u32 = 5;

/// Runs `check --json` while the service is kept busy and watched. Who has just been given a connection cannot be read whole, so it
/// looks again until everything could be.
fn check_while_serving(fixture: &Fixture) -> Value {
    let before = text_of(fixture.pid);
    let watch = Watch::start(fixture.pid);
    let traffic = Traffic::start(fixture.service());
    let look = || Gordian::new(["check", &fixture.pid_argument(), "--json"]).run().expect(1).json();
    let document = (1..LOOKS).map(|_| look()).find(|document| document["complete"] == true).unwrap_or_else(look);
    traffic.assert_served();
    watch.assert_never_stopped();
    assert!(text_of(fixture.pid) == before, "the target's text was written");
    document
}

#[test]
fn names_the_deadlock_with_every_line() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("deadlock", Profile::Debuginfo, &[]);
    let document = check_while_serving(&fixture);
    let finding = assert_names_the_deadlock(&fixture, &document);
    assert_eq!(document["complete"], true, "{document:#}");
    assert_eq!(number(&document["target"]["pid"]), u64::from(fixture.pid.cast_unsigned()));

    for (task, chain) in [
        ("settle_order", ["settle_order", "charge_account", "append_entry"]),
        ("nightly_report", ["nightly_report", "summarise", "total_of_accounts"]),
    ] {
        let found = one(&finding["tasks"], "id", fixture.task_id(task));
        let own: Vec<&Value> =
            list(&found["awaits"]).iter().filter(|frame| text(&frame["function"]).starts_with("deadlock::")).collect();
        assert_eq!(own.len(), 3, "{found:#}");
        for (frame, function) in own.iter().zip(chain) {
            assert_eq!(frame["function"], format!("deadlock::{function}"), "{found:#}");
            assert!(text(&frame["file"]).ends_with("src/bin/deadlock.rs"), "{frame}");
            assert_eq!(number(&frame["line"]), fixture.line(function), "{function}: {found:#}");
        }
        // The guard lives in the function in the middle, not in the one that waits.
        let site = &one(&found["holds"], "how", "guard")["site"];
        assert_eq!(site["function"], format!("deadlock::{}", chain[1]), "{found:#}");
        assert_eq!(number(&site["line"]), fixture.line(chain[1]), "{found:#}");
        let edge = one(&finding["edges"], "from", text(&found["party"]));
        assert_eq!(number(&edge["wait_site"]["line"]), fixture.line(chain[2]), "{edge:#}");
    }
}

/// What Cargo builds by default has no debuginfo: no lines, and functions that were inlined away have no name.
#[test]
fn names_the_deadlock_without_debuginfo() {
    require!(Need::Ptrace);
    let fixture = Fixture::start("deadlock");
    let document = check_while_serving(&fixture);
    assert_names_the_deadlock(&fixture, &document);
    assert_eq!(document["complete"], true, "{document:#}");
}

/// Everything inlined, and no landing pads: what gordian cannot read it must say, and never call it healthy.
#[test]
fn fat_lto_and_panic_abort_are_read_or_said() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("deadlock", Profile::FatLto, &[]);
    let finished = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run();
    let document = finished.json();
    match finished.code {
        1 => drop(assert_names_the_deadlock(&fixture, &document)),
        3 => assert_eq!(document["complete"], false, "{document:#}"),
        code => panic!("exit status {code} for a program with a deadlock: {document:#}"),
    }
}

/// Reading alone is enough: without kernel programs the verdict is the same.
#[test]
fn names_the_deadlock_without_kernel_programs() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("deadlock", Profile::Debuginfo, &[]);
    let document = Gordian::new(["check", &fixture.pid_argument(), "--json", "--no-bpf"]).run().expect(1).json();
    assert_names_the_deadlock(&fixture, &document);
    assert_eq!(document["probes"]["switch"], "off");
}

#[test]
fn says_it_in_words() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("deadlock", Profile::Debuginfo, &[]);
    let said = Gordian::new(["check", &fixture.pid_argument()]).run().expect(1).stdout;
    let line = |marker| format!("deadlock.rs:{}", fixture.line(marker));
    for wanted in [
        "deadlock::settle_order",
        "deadlock::nightly_report",
        fixture.task_id("settle_order"),
        fixture.task_id("nightly_report"),
        "deadlock::append_entry",
        "deadlock::total_of_accounts",
        &line("append_entry"),
        &line("total_of_accounts"),
        &line("charge_account"),
        &line("summarise"),
        text(&fixture.ready["mutexes"]["accounts"]),
        text(&fixture.ready["mutexes"]["ledger"]),
        "tokio::sync::Mutex",
    ] {
        assert!(said.contains(wanted), "{wanted} is not in:\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "no colour into a pipe:\n{said}");
}

#[test]
fn the_same_deadlock_has_the_same_id() {
    require!(Need::Ptrace);
    let fixture = Fixture::start("deadlock");
    let [first, second] = [(), ()].map(|()| {
        let document = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run().expect(1).json();
        text(&one(&document["findings"], "kind", "deadlock")["id"]).to_owned()
    });
    assert_eq!(first, second);
}

/// In a quiet process: of a worker that is on a CPU all the time no stack can be read that would say what it is.
#[test]
fn the_runtime_is_told_with_version_and_workers() {
    require!(Need::Ptrace);
    let fixture = Fixture::start("deadlock");
    let document = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run().expect(1).json();
    let runtime = one(&document["target"]["runtimes"], "kind", "tokio multi_thread");
    assert_eq!((text(&runtime["version"]), number(&runtime["workers"])), ("1.54.1", 2), "{runtime:#}");
    assert_eq!(list(&runtime["worker_threads"]).len(), 2, "{runtime:#}");
}

#[test]
fn lines_of_json_each_stand_alone() {
    require!(Need::Ptrace);
    let fixture = Fixture::start("deadlock");
    let said = Gordian::new(["check", &fixture.pid_argument(), "--jsonl"]).run().expect(1).stdout;
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    lines.iter().for_each(gordian_tests::gordian::assert_valid);
    let types: Vec<&str> = lines.iter().map(|line| text(&line["type"])).collect();
    assert_eq!(types, ["finding", "end"], "{said}");
    assert_eq!(lines[0]["id"], lines[1]["findings"][0]["id"]);
}

/// `--fail-on` decides what is a failure.
#[test]
fn the_exit_status_follows_fail_on() {
    require!(Need::Ptrace);
    let fixture = Fixture::start("deadlock");
    let check = ["check", &fixture.pid_argument(), "--fail-on", "orphaned"];
    let finished = Gordian::new(check).run();
    assert_eq!(finished.code, 0, "{}", finished.stdout);
    assert!(finished.stdout.contains("deadlock::settle_order"), "it is still shown:\n{}", finished.stdout);
}

#[test]
fn a_healthy_busy_program_shows_nothing() {
    require!(Need::Ptrace);
    for profile in [Profile::Debuginfo, Profile::Release] {
        let fixture = Fixture::start_with("healthy", profile, &[]);
        let said = Gordian::new(["check", &fixture.pid_argument()]).run().expect(0).stdout;
        assert!(said.contains("no deadlock"), "{said}");
        let long = ["check", &fixture.pid_argument(), "--json", "--for", "4", "--fail-on", "all"];
        let document = Gordian::new(long).run().expect(0).json();
        let wrong: Vec<&Value> =
            list(&document["findings"]).iter().filter(|finding| finding["kind"] != "stalled").collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(number(&document["coverage"]["seen"]) > 15, "{document:#}");
        assert_eq!(document["complete"], true, "{document:#}");
        fixture.service().request();
    }
}

/// Everything that can be waited for, with somebody alive at the other end of each.
#[test]
fn a_museum_of_waits_is_no_deadlock() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("primitives", Profile::Debuginfo, &[]);
    let finished = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run();
    let document = finished.json();
    let wrong: Vec<&Value> =
        list(&document["findings"]).iter().filter(|finding| finding["kind"] != "stalled").collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(matches!(finished.code, 0 | 3), "{}", finished.code);
    assert_eq!(finished.code == 0, document["complete"] == true, "{document:#}");
}

#[test]
fn the_target_may_be_named() {
    require!(Need::Ptrace);
    // A name that only this process has: its executable is a copy.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let name = format!("ledger-{}", std::process::id());
    let copy = directory.path().join(&name);
    std::fs::copy(gordian_tests::programs::fixture("deadlock", Profile::Release), &copy).expect("it can be copied");
    let fixture = Fixture::spawn("deadlock", std::process::Command::new(&copy));
    let document = Gordian::new(["check", &name, "--json"]).run().expect(1).json();
    assert_eq!(number(&document["target"]["pid"]), u64::from(fixture.pid.cast_unsigned()));
}

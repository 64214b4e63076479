//! What happens while gordian is attached: blocked workers, and a deadlock that forms.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gordian_tests::{
    Fixture, Gordian, Profile, Watching,
    capability::Need,
    json::{all_frames, list, number, one, text},
    observe::Watch,
    require,
};
/// The task, the function that blocks, and the system call it blocks in.
fn assert_names_the_blocked_worker(mode: &str, function: &str, calls: &[&str], profile: Profile) {
    let fixture = Fixture::start_with("blocked_worker", profile, &[mode]);
    let watch = Watch::start(fixture.pid);
    let check = ["check", &fixture.pid_argument(), "--json", "--for", "3", "--fail-on", "blocked-worker"];
    let document = Gordian::new(check).run().expect(1).json();
    watch.assert_never_stopped();
    let finding = one(&document["findings"], "kind", "blocked-worker");
    assert_eq!(list(&finding["tasks"])[0]["id"], fixture.ready["task"], "{finding:#}");
    let cause = text(&finding["cause"]);
    assert!(calls.iter().any(|call| cause.contains(call)), "none of {calls:?} is in: {cause}");
    let frames = &list(&finding["threads"])[0]["frames"];
    let frame = list(frames).iter().find(|frame| text(&frame["function"]).ends_with(function));
    let frame = frame.unwrap_or_else(|| panic!("{function} is not in {finding:#}"));
    if profile == Profile::Debuginfo {
        assert_eq!(number(&frame["line"]), fixture.line(mode), "{frame}");
    }
    assert!(list(&document["findings"]).iter().all(|finding| finding["kind"] != "deadlock"), "{document:#}");
}

#[test]
fn a_sleep_inside_a_poll() {
    require!(Need::Ptrace, Need::Bpf);
    for profile in [Profile::Debuginfo, Profile::Release] {
        assert_names_the_blocked_worker("sleep", "blocked_worker::throttle", &["nanosleep"], profile);
    }
}

#[test]
fn a_std_mutex_inside_a_poll() {
    require!(Need::Ptrace, Need::Bpf);
    for profile in [Profile::Debuginfo, Profile::Release] {
        assert_names_the_blocked_worker("mutex", "blocked_worker::look_up", &["futex"], profile);
    }
}

#[test]
fn a_blocking_read_inside_a_poll() {
    require!(Need::Ptrace, Need::Bpf);
    for profile in [Profile::Debuginfo, Profile::Release] {
        assert_names_the_blocked_worker("read", "blocked_worker::fetch", &["recvfrom", "read"], profile);
    }
}

/// Nanoseconds since 1970 of an RFC 3339 time in UTC, by the calendar of date(1).
fn nanoseconds(moment: &str) -> u128 {
    let output = std::process::Command::new("date").args(["-u", "-d", moment, "+%s%N"]).output().expect("date runs");
    let digits = String::from_utf8(output.stdout).expect("digits");
    digits.trim().parse().unwrap_or_else(|_| panic!("date(1) does not read {moment:?}: {digits:?}"))
}

/// A deadlock forms while gordian watches; `flags` say how it watches.
fn assert_reports_the_late_deadlock(flags: &[&str]) {
    let mut fixture = Fixture::start_with("late_deadlock", Profile::Debuginfo, &[]);
    let pid = fixture.pid_argument();
    let command = Gordian::new(["check", &pid, "--jsonl", "--for", "20"]);
    let mut watching = Watching::start(flags.iter().fold(command, |command, flag| command.arg(flag)));
    std::thread::sleep(Duration::from_millis(500));
    fixture.command();
    let truth = fixture.next_line();
    let finding = watching.next_line();
    let reported = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_nanos();
    let log = watching.end();

    assert_eq!((&finding["type"], &finding["kind"]), (&"finding".into(), &"deadlock".into()), "{finding:#}\n{log}");
    let mut ids: Vec<&str> = list(&finding["tasks"]).iter().map(|task| text(&task["id"])).collect();
    let mut wanted: Vec<&str> = list(&truth["tasks"]).iter().map(text).collect();
    ids.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(ids, wanted, "{finding:#}\n{log}");
    let waits = list(&finding["tasks"]).iter().flat_map(|task| all_frames(&task["awaits"]));
    assert!(waits.clone().any(|frame| frame["function"] == "late_deadlock::put"), "{finding:#}");

    let formed = u128::from(number(&truth["formed_realtime_ns"]));
    let told = nanoseconds(text(&finding["formed_at"]));
    // The promise is a second from forming to report, on a machine that has a CPU for gordian. Where ten test
    // processes share two, the same event may have to wait for its turn; it never has to wait this long.
    let generous = Duration::from_secs(10).as_nanos();
    assert!(reported - formed < generous, "formed {formed}, reported {reported}\n{log}");
    assert!(told < reported, "formed_at {told} is later than the report {reported}");
    // Between two snapshots nobody knows more exactly; the kernel's events, if there are any, do.
    assert!(told.abs_diff(formed) < generous / 2, "formed {formed}, and gordian says {told}\n{log}");
}

#[test]
fn a_deadlock_that_forms_is_reported_with_its_moment() {
    require!(Need::Ptrace, Need::Bpf);
    assert_reports_the_late_deadlock(&[]);
}

#[test]
fn a_deadlock_that_forms_is_reported_without_kernel_programs() {
    require!(Need::Ptrace);
    assert_reports_the_late_deadlock(&["--no-bpf"]);
}

#[test]
fn a_deadlock_that_forms_is_reported_while_waits_are_traced() {
    require!(Need::Ptrace, Need::Bpf);
    assert_reports_the_late_deadlock(&["--trace-waits"]);
}

#[test]
fn what_was_lost_is_counted() {
    require!(Need::Ptrace, Need::Bpf);
    let fixture = Fixture::start("healthy");
    let document = Gordian::new(["check", &fixture.pid_argument(), "--json", "--for", "1"]).run().expect(0).json();
    let by_way: u64 = document["lost_by"].as_object().expect("ways of losing").values().map(number).sum();
    assert_eq!(number(&document["lost"]), by_way, "{document:#}");
    assert_eq!(document["probes"]["switch"], "on", "{document:#}");
}

//! The live view in a real terminal.

use gordian_tests::{Fixture, Profile, Terminal, capability::Need, json::text, observe::Watch, require};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[test]
fn shows_the_deadlock_and_leaves_the_terminal_as_it_was() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("deadlock", Profile::Debuginfo, &[]);
    let watch = Watch::start(fixture.pid);
    let mut terminal = Terminal::start([&fixture.pid_argument()], 40, 160);
    let screen = terminal.wait_until("the deadlock", |screen| screen.contains("DEADLOCK"));
    assert!(screen.contains("settle_order") && screen.contains("nightly_report"), "{screen}");
    // The stuck ones come first: one of them is selected, and its graph is beside the list.
    terminal.type_keys("\r");
    let detail = terminal.wait_for("held by");
    for wanted in ["accounts", "ledger"].map(|mutex| text(&fixture.ready["mutexes"][mutex])) {
        assert!(detail.contains(wanted), "{wanted} is not in:\n{detail}");
    }
    terminal.type_keys("q");
    assert_eq!(terminal.wait().code(), Some(0));
    terminal.assert_restored();
    watch.assert_never_stopped();
    fixture.service().request();
}

#[test]
fn finds_its_way_among_ten_thousand() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("many", Profile::Release, &["10000"]);
    let mut terminal = Terminal::start([&fixture.pid_argument()], 30, 120);
    terminal.wait_for("10,001 tasks");
    terminal.type_keys("/no such type");
    terminal.wait_for("no such type");
    terminal.type_keys("\u{1b}");
    terminal.wait_until("the list again", |screen| screen.matches("many::session").count() > 5);
    terminal.type_keys("g");
    terminal.wait_until("one group", |screen| screen.contains("10,000") && screen.matches("many::session").count() < 5);
    terminal.type_keys("q");
    assert_eq!(terminal.wait().code(), Some(0));
    terminal.assert_restored();
}

#[test]
fn the_workers_are_shown() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("blocked_worker", Profile::Debuginfo, &["sleep"]);
    let mut terminal = Terminal::start([&fixture.pid_argument()], 50, 180);
    terminal.wait_for("tokio-rt-worker");
    terminal.wait_until("a worker blocked in the poll", |screen| screen.contains("BLOCKED in a poll"));
    terminal.type_keys("q");
    assert_eq!(terminal.wait().code(), Some(0));
    terminal.assert_restored();
}

#[test]
fn signals_restore_the_terminal() {
    require!(Need::Ptrace);
    let fixture = Fixture::start("deadlock");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut terminal = Terminal::start([&fixture.pid_argument()], 24, 80);
        terminal.wait_for("DEADLOCK");
        kill(Pid::from_raw(terminal.pid()), signal).expect("it runs");
        terminal.wait();
        terminal.assert_restored();
    }
}

#[test]
fn a_target_that_goes_away_is_said() {
    require!(Need::Ptrace);
    let mut fixture = Fixture::start("deadlock");
    let mut terminal = Terminal::start([&fixture.pid_argument()], 24, 100);
    terminal.wait_for("DEADLOCK");
    fixture.kill();
    terminal.wait_until("the end of the target", |screen| screen.contains("exited"));
    terminal.type_keys("q");
    terminal.wait();
    terminal.assert_restored();
}

#[test]
fn a_target_that_is_not_there_leaves_the_terminal_alone() {
    let mut terminal = Terminal::start(["2147483647"], 24, 80);
    assert_eq!(terminal.wait().code(), Some(2));
    terminal.assert_restored();
}

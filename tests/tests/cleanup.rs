//! Killing gordian at any moment leaves nothing behind.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use gordian_tests::{
    Fixture, Gordian, Profile, Watching,
    capability::Need,
    observe::{Watch, text_of},
    require,
};

/// What of the kernel's BPF a process has in hand: pairs of `prog` or `link`, and the id.
fn in_hand(pid: u32) -> BTreeSet<(&'static str, String)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten() {
        // A descriptor that was closed meanwhile is not in hand.
        let info = fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(|id| id.trim().to_owned());
        // A link's own entry names its program too.
        match field("link_id:") {
            Some(id) => found.insert(("link", id)),
            None => field("prog_id:").is_some_and(|id| found.insert(("prog", id))),
        };
    }
    found
}

fn is_in_kernel((kind, id): &(&'static str, String)) -> bool {
    let show = Command::new("bpftool").args([kind, "show", "id", id]).output().expect("bpftool runs");
    show.status.success()
}

fn kill_and_look(flags: &[&str]) {
    let fixture = Fixture::start_with("healthy", Profile::Debuginfo, &[]);
    let before = text_of(fixture.pid);
    let watch = Watch::start(fixture.pid);
    let pid = fixture.pid_argument();
    let command = Gordian::new(["check", &pid, "--for", "60"]);
    let mut gordian = Watching::start(flags.iter().fold(command, |command, flag| command.arg(flag)));
    std::thread::sleep(Duration::from_secs(1));
    let attached = in_hand(gordian.pid());
    assert!(attached.iter().any(|(kind, _)| *kind == "link"), "nothing was attached: {attached:?}\n{}", gordian.end());
    assert!(attached.iter().all(is_in_kernel), "{attached:?}");

    gordian.end();
    // The kernel frees what nobody holds after a grace period of its own.
    let start = Instant::now();
    while attached.iter().any(is_in_kernel) {
        assert!(start.elapsed() < Duration::from_secs(20), "still there: {attached:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(text_of(fixture.pid) == before, "something is left in the target's text");
    watch.assert_never_stopped();
    fixture.service().request();
}

#[test]
fn a_kill_leaves_nothing_attached() {
    require!(Need::Ptrace, Need::Bpf, Need::Program("bpftool"));
    kill_and_look(&[]);
}

#[test]
fn a_kill_while_waits_are_traced_leaves_no_breakpoint() {
    require!(Need::Ptrace, Need::Bpf, Need::Program("bpftool"));
    kill_and_look(&["--trace-waits"]);
}

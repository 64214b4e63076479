//! Tests that need a process of their own: to be killed, to lack capabilities, to live in a pid namespace.

use std::{hint::black_box, path::PathBuf, process::Command, thread};

use super::{
    super::{Counter, Event, ProbeOptions, Probes, WaitPoint},
    ContextLayout, Function, PATIENCE, able, find, first_byte, layout, load, own_pid, point, until,
};

/// A function to trace: another than the other tests', so that tests that run at the same time do not see each other's breakpoints.
#[inline(never)]
extern "C" fn traced_and_killed(resource: u64) -> u64 {
    black_box(resource.rotate_left(7))
}

/// Names the process in which this test's other half attaches and waits to be killed.
const HOLD: &str = "GORDIAN_TEST_HOLD";

#[test]
fn a_kill_leaves_no_program_and_no_breakpoint() {
    let name = "probe::a_kill_leaves_no_program_and_no_breakpoint";
    if let Ok(pid) = std::env::var(HOLD) {
        let mut probes =
            Probes::load(pid.parse().unwrap(), None, &ProbeOptions { sampling: true, ..ProbeOptions::default() })
                .unwrap();
        probes.attach_switch().unwrap();
        probes.attach_sampling(99).unwrap();
        let point = point(traced_and_killed as Function, 1);
        let path = PathBuf::from(format!("/proc/{pid}/exe"));
        probes.attach_wait(&WaitPoint { path, ..point }).unwrap();
        eprintln!("attached");
        thread::sleep(PATIENCE * 2);
        return;
    }
    let Some(mut probes) = load(name, &ProbeOptions::default()) else { return };
    if able(name, probes.hit_cost()).is_none() {
        return;
    }
    drop(probes);
    black_box(traced_and_killed(1));
    let original = first_byte(traced_and_killed as Function);
    let ids = || -> Vec<u32> {
        aya::programs::loaded_programs().filter_map(Result::ok).map(|program| program.id()).collect()
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "probe::tests::apart::a_kill_leaves_no_program_and_no_breakpoint"])
        .env(HOLD, own_pid().to_string())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("attached")), "the other half did not attach");
    let theirs: Vec<u32> = programs_of(child.id());
    assert!(theirs.len() >= 3, "it holds {theirs:?}");
    assert!(theirs.iter().all(|id| ids().contains(id)));
    assert_ne!(first_byte(traced_and_killed as Function), original);
    child.kill().unwrap();
    child.wait().unwrap();
    until(|| (!theirs.iter().any(|id| ids().contains(id))).then_some(()));
    assert_eq!(first_byte(traced_and_killed as Function), original);
}

/// Ids of the BPF programs that a process has open.
fn programs_of(pid: u32) -> Vec<u32> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let text = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    text.filter_map(|text| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())).collect()
}

/// Whether this program runs here, with these arguments, what it is told to run.
fn runs(program: &str, arguments: &[&str]) -> Result<(), String> {
    match Command::new(program).args(arguments).arg("true").output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("{program}: {error}; it is in the package util-linux")),
    }
}

/// Runs tests of the probes, by their names below `probe::tests`, in a process of their own.
fn again(command: &mut Command, tests: &[&str]) -> std::process::Output {
    let names = tests.iter().map(|test| format!("probe::tests::{test}"));
    command.arg(std::env::current_exe().unwrap()).args(["--exact", "--nocapture"]).args(names);
    command.env("GORDIAN_REQUIRE", "all").output().unwrap()
}

#[test]
fn all_of_it_holds_inside_a_pid_namespace() {
    let name = "probe::all_of_it_holds_inside_a_pid_namespace";
    if load(name, &ProbeOptions::default()).is_none() || able(name, runs("unshare", &["--pid", "--fork"])).is_none() {
        return;
    }
    let tests = [
        "a_block_inside_a_poll_is_sent_with_its_task_and_system_call",
        "who_is_blocked_now_is_known_with_registers_as_in_proc",
        "registers_of_a_thread_that_blocked_earlier_are_those_in_proc",
        "what_spins_is_sampled_with_its_stack",
        "traced_functions_are_counted_then_sent_then_left_alone",
    ];
    let output = again(Command::new("unshare").args(["--pid", "--fork", "--kill-child", "--mount-proc"]), &tests);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("5 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_target_in_a_pid_namespace_is_seen_from_outside() {
    let name = "probe::a_target_in_a_pid_namespace_is_seen_from_outside";
    if load(name, &ProbeOptions::default()).is_none() || able(name, runs("unshare", &["--pid", "--fork"])).is_none() {
        return;
    }
    let mut target = Command::new("unshare").args(["--pid", "--fork", "--kill-child", "sleep", "600"]).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", target.id());
    let pid: i32 = until(|| {
        let pid: i32 = std::fs::read_to_string(&children).ok()?.trim().parse().ok()?;
        std::fs::read_to_string(format!("/proc/{pid}/comm")).ok().filter(|comm| comm == "sleep\n").map(|_| pid)
    });
    let mut probes = Probes::load(pid, None, &ProbeOptions::default()).unwrap();
    let number = until(|| {
        let threads = probes.registers().unwrap();
        assert_eq!(threads.iter().map(|thread| thread.tid).collect::<Vec<_>>(), [pid]);
        threads[0].registers.syscall().filter(|_| threads[0].asleep).map(|(number, _)| number)
    });
    target.kill().unwrap();
    target.wait().unwrap();
    assert!([libc::SYS_nanosleep, libc::SYS_clock_nanosleep].contains(&number), "system call {number}");
}

/// Marks the half of the next test that logs.
const LOG: &str = "GORDIAN_TEST_LOG";

#[test]
fn messages_of_the_kernel_programs_reach_the_log() {
    let name = "probe::messages_of_the_kernel_programs_reach_the_log";
    if std::env::var(LOG).is_ok() {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
        // No thread has anything there.
        let nowhere = ContextLayout { tls_offset: i64::MIN / 2, ..layout() };
        let options = ProbeOptions { log_level: 4, every_block: true, ..ProbeOptions::default() };
        let mut probes = Probes::load(own_pid(), Some(&nowhere), &options).unwrap();
        probes.attach_switch().unwrap();
        find(&mut probes, || (), |event| matches!(event, Event::Block(_)).then_some(()));
        assert!(probes.counts().unwrap().get(Counter::ContextUnreadable) > 0);
        return;
    }
    if load(name, &ProbeOptions::default()).is_none() {
        return;
    }
    let output = again(Command::new("env").env(LOG, "1"), &["apart::messages_of_the_kernel_programs_reach_the_log"]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.contains("runtime context at") && log.contains("is not readable"), "{log}");
}

/// Marks the half of the next test that lacks capabilities.
const BARE: &str = "GORDIAN_TEST_BARE";

#[test]
fn without_capabilities_the_error_names_them_and_the_line_to_type() {
    let name = "without_capabilities_the_error_names_them_and_the_line_to_type";
    if std::env::var(BARE).is_ok() {
        let refusal = match Probes::load(own_pid(), None, &ProbeOptions::default()) {
            Err(error) => error.to_string(),
            Ok(mut probes) => probes.attach_switch().and_then(|()| probes.hit_cost()).unwrap_err().to_string(),
        };
        eprintln!("<{refusal}>");
        return;
    }
    let full_name = format!("probe::{name}");
    let may_drop = runs("setpriv", &["--inh-caps", "-all", "--bounding-set", "-all"]);
    let Some(mut probes) = load(&full_name, &ProbeOptions::default()) else { return };
    // What one does not have, one cannot give to the other half.
    if able(&full_name, probes.hit_cost()).is_none() || able(&full_name, may_drop).is_none() {
        return;
    }
    drop(probes);
    for (kept, missing) in [
        ("-all", "CAP_BPF and CAP_PERFMON"),
        ("-all,+bpf", "needs CAP_PERFMON"),
        ("-all,+bpf,+perfmon", "trace waits: needs CAP_SYS_ADMIN"),
    ] {
        let mut bare = Command::new("setpriv");
        bare.args(["--inh-caps", kept, "--bounding-set", kept]).env(BARE, "1");
        let output = again(&mut bare, &[&format!("apart::{name}")]);
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| line.starts_with("<not allowed to ") && line.ends_with('>'));
        assert!(
            line.is_some_and(|line| line.contains(missing) && line.contains("start it with --cap-add=")),
            "{kept}: {text}"
        );
    }
}

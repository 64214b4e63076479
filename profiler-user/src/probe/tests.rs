//! The programs against a real process: this one. It has what a runtime has, a thread-local context with a task id, a
//! budget and a scheduler, at offsets only this test knows.

use std::{
    arch::asm,
    cell::Cell,
    hint::black_box,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Block, ContextLayout, Counter, Event, Kernel, Placement, PollKind, PollLayout, ProbeError, ProbeOptions, Probes,
    Sample, Wait, WaitPoint, testing::able,
};

/// How long a thing that must happen may take on a machine under load.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stands for a runtime's per-thread context.
#[repr(C)]
struct Context {
    padding: Cell<u64>,
    scheduler: Cell<u64>,
    task_id: Cell<u64>,
    budget: Cell<u8>,
}

#[repr(C)]
struct Scheduler {
    tag: u32,
    padding: u32,
    core: *const Core,
}

#[repr(C)]
struct Core {
    padding: u64,
    polls: u32,
}

thread_local! {
    static CONTEXT: Context =
        const { Context { padding: Cell::new(1), scheduler: Cell::new(0), task_id: Cell::new(0), budget: Cell::new(0) } };
}

fn fs_base() -> u64 {
    let base: u64;
    // SAFETY: glibc and musl keep the thread control block's own address in its first word, on x86-64.
    unsafe { asm!("mov {}, fs:0", out(reg) base, options(nostack, readonly, preserves_flags)) };
    base
}

fn layout() -> ContextLayout {
    let context = CONTEXT.with(|context| std::ptr::from_ref(context) as u64);
    let kind = |tag| PollKind { tag, core: 8, counter: 8 };
    ContextLayout {
        tls_offset: context.wrapping_sub(fs_base()).cast_signed(),
        task_id: 16,
        budget: 24,
        scheduler: 8,
        polls: Some(PollLayout { tag: 0, kinds: [kind(3), kind(5)] }),
    }
}

fn set_context(task_id: u64, budget: bool, scheduler: u64) {
    CONTEXT.with(|context| {
        context.padding.set(2);
        context.task_id.set(task_id);
        context.budget.set(u8::from(budget));
        context.scheduler.set(scheduler);
    });
}

fn gettid() -> i32 {
    nix::unistd::gettid().as_raw()
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

fn load(name: &str, options: &ProbeOptions) -> Option<Probes> {
    able(name, Probes::load(own_pid(), Some(&layout()), options))
}

/// Runs `act` until `take` finds what it looks for among the events.
fn find<T>(probes: &mut Probes, mut act: impl FnMut(), mut take: impl FnMut(Event) -> Option<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut events = probes.events().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "the event did not come");
            act();
            let batch = tokio::time::timeout(Duration::from_secs(1), events.next_batch()).await;
            for event in batch.map(Result::unwrap).unwrap_or_default() {
                if let Some(found) = take(event) {
                    assert_eq!(events.unknown_records(), 0);
                    return found;
                }
            }
        }
    })
}

/// System call, stack pointer and program counter of a blocked thread, as `/proc` has them.
fn proc_syscall(tid: i32) -> Option<(i64, u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).ok()?;
    let fields: Vec<&str> = text.split_whitespace().collect();
    let hex = |field: &str| u64::from_str_radix(field.strip_prefix("0x")?, 16).ok();
    match fields[..] {
        [number, .., sp, ip] => Some((number.parse().ok()?, hex(sp)?, hex(ip)?)),
        _ => None,
    }
}

/// A thread blocked for as long as this lives.
struct Blocked {
    tid: i32,
    release: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Blocked {
    fn new(prepare: impl FnOnce() + Send + 'static) -> Self {
        let (release, wait) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            prepare();
            tell.send(gettid()).unwrap();
            let _ = wait.recv();
        });
        Self { tid: told.recv().unwrap(), release: Some(release), thread: Some(thread) }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.release.take();
        self.thread.take().map(thread::JoinHandle::join);
    }
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it did not come to pass");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_block_inside_a_poll_is_sent_with_its_task_and_system_call() {
    let name = "probe::a_block_inside_a_poll_is_sent_with_its_task_and_system_call";
    let Some(mut probes) = load(name, &ProbeOptions::default()) else { return };
    probes.attach_switch().unwrap();
    let tid = Arc::new(Mutex::new(0));
    let sleep = {
        let tid = Arc::clone(&tid);
        move || {
            let tid = Arc::clone(&tid);
            let sleeper = thread::spawn(move || {
                let core = Core { padding: 1, polls: 77 };
                let scheduler = Scheduler { tag: 5, padding: 1, core: &raw const core };
                *tid.lock().unwrap() = gettid();
                set_context(42, true, &raw const scheduler as u64);
                thread::sleep(Duration::from_millis(20));
                set_context(0, false, 0);
                black_box((core.padding, scheduler.padding));
            });
            sleeper.join().unwrap();
        }
    };
    let block: Block = find(&mut probes, sleep, |event| match event {
        Event::Block(block) if block.thread.tid == *tid.lock().unwrap() && block.duration_ns >= 20_000_000 => {
            Some(block)
        }
        _ => None,
    });
    assert_eq!(block.thread.task_id, Some(42));
    assert_eq!(block.thread.placement, Placement::Polling);
    assert_eq!(block.thread.polls, Some(77));
    let (number, _) = block.thread.registers.syscall().unwrap();
    assert!([libc::SYS_nanosleep, libc::SYS_clock_nanosleep].contains(&number), "system call {number}");
    assert!(probes.counts().unwrap().get(Counter::BlockedInPoll) > 0);
}

#[test]
fn who_is_blocked_now_is_known_with_registers_as_in_proc() {
    let name = "probe::who_is_blocked_now_is_known_with_registers_as_in_proc";
    let Some(mut probes) = load(name, &ProbeOptions::default()) else { return };
    probes.attach_switch().unwrap();
    let polling = Blocked::new(|| set_context(7, true, 0));
    // Between polls: it still carries the id of the task that launched it, and has a scheduler.
    let idle = Blocked::new(|| set_context(8, false, 0x10));
    let (sp, ip) = until(|| proc_syscall(polling.tid).map(|(_, sp, ip)| (sp, ip)));
    let thread = until(|| probes.blocked_now().into_iter().find(|thread| thread.tid == polling.tid));
    assert_eq!((thread.task_id, thread.placement), (Some(7), Placement::Polling));
    assert_eq!((thread.registers.rsp, thread.registers.rip), (sp, ip));
    assert_eq!(thread.registers.syscall().unwrap().0, libc::SYS_futex);
    until(|| proc_syscall(idle.tid));
    assert!(!probes.blocked_now().iter().any(|thread| thread.tid == idle.tid));
    let tid = polling.tid;
    drop(polling);
    assert!(!probes.blocked_now().iter().any(|thread| thread.tid == tid));
}

#[test]
fn registers_of_a_thread_that_blocked_earlier_are_those_in_proc() {
    let blocked = Blocked::new(|| ());
    let (number, sp, ip) = until(|| proc_syscall(blocked.tid));
    let name = "probe::registers_of_a_thread_that_blocked_earlier_are_those_in_proc";
    let Some(mut probes) = load(name, &ProbeOptions::default()) else { return };
    let all = probes.registers().unwrap();
    let thread = all.iter().find(|thread| thread.tid == blocked.tid).unwrap();
    assert_eq!((thread.registers.rsp, thread.registers.rip), (sp, ip));
    assert_eq!(thread.registers.syscall().unwrap().0, number);
    assert!(thread.asleep && !thread.on_cpu);
    let me = all.iter().find(|thread| thread.tid == gettid()).unwrap();
    assert!(me.on_cpu);
    assert_eq!(me.fs_base, fs_base());
    assert!(
        probes.registers().unwrap().iter().any(|again| again.tid == thread.tid && again.switches == thread.switches)
    );
}

#[test]
fn what_spins_is_sampled_with_its_stack() {
    let name = "probe::what_spins_is_sampled_with_its_stack";
    let Some(mut probes) = load(name, &ProbeOptions { sampling: true, ..ProbeOptions::default() }) else { return };
    probes.attach_sampling(199).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, told) = mpsc::channel();
    let spinner = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            set_context(99, true, 0);
            let mark = black_box([0x1234_5678_9abc_def0_u64; 4]);
            tell.send((gettid(), fs_base())).unwrap();
            while !stop.load(Ordering::Relaxed) {
                black_box(&mark);
            }
        })
    };
    let (tid, fs_base) = told.recv().unwrap();
    let sample: Sample = find(
        &mut probes,
        || (),
        |event| match event {
            Event::Sample(sample) if sample.tid == tid && !sample.in_kernel => Some(sample),
            _ => None,
        },
    );
    stop.store(true, Ordering::Relaxed);
    spinner.join().unwrap();
    assert_eq!((sample.task_id, sample.placement, sample.fs_base), (Some(99), Placement::Polling, fs_base));
    assert!(!sample.stack_incomplete);
    assert_eq!(sample.registers.rsp + sample.stack.len() as u64, fs_base);
    let words = sample.stack.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    assert!(words.filter(|word| *word == 0x1234_5678_9abc_def0).count() >= 4);
}

/// A function to trace: in no other use.
#[inline(never)]
extern "C" fn traced(resource: u64, permits: u64, third: u64, fourth: u64) -> u64 {
    black_box(resource ^ permits ^ third ^ fourth)
}

/// Another one, so that tests that run at the same time do not see each other's breakpoints.
#[inline(never)]
extern "C" fn traced_and_killed(resource: u64) -> u64 {
    black_box(resource.rotate_left(7))
}

type Function = *const ();

/// First byte of a function: a breakpoint shows there.
fn first_byte(function: Function) -> u8 {
    // SAFETY: this program's own text.
    unsafe { function.cast::<u8>().read_volatile() }
}

/// Where a function is in the file of this test.
fn point(function: Function, kind: u32) -> WaitPoint {
    let address = function as u64;
    let maps = procfs::process::Process::myself().unwrap().maps().unwrap();
    let map = maps.iter().find(|map| map.address.0 <= address && address < map.address.1).unwrap();
    WaitPoint { path: PathBuf::from("/proc/self/exe"), file_offset: address - map.address.0 + map.offset, kind }
}

#[test]
fn traced_functions_are_counted_then_sent_then_left_alone() {
    let name = "probe::traced_functions_are_counted_then_sent_then_left_alone";
    let Some(mut probes) = load(name, &ProbeOptions { run_stats: true, ..ProbeOptions::default() }) else { return };
    let function = traced as Function;
    let original = first_byte(function);
    let stop = Arc::new(AtomicBool::new(false));
    let caller = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            set_context(5, true, 0);
            while !stop.load(Ordering::Relaxed) {
                black_box(traced(0xabc0, 3, 0x33, 0x44));
                thread::sleep(Duration::from_millis(1));
            }
        })
    };
    probes.attach_waits(&[point(function, 12)]).unwrap();
    assert_ne!(first_byte(function), original);
    let rates = until(|| probes.wait_rates().ok().filter(|rates| rates.total() > 2));
    assert_eq!(rates.hits.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [12]);
    assert!(rates.cpu_share() > 0.0, "{rates:?}");
    assert_eq!(probes.counts().unwrap().get(Counter::Waits), 0);
    probes.send_waits(true).unwrap();
    let wait: Wait = find(
        &mut probes,
        || (),
        |event| match event {
            Event::Wait(wait) => Some(wait),
            _ => None,
        },
    );
    assert_eq!((wait.kind, wait.task_id, wait.placement), (12, Some(5), Placement::Polling));
    assert_eq!(wait.arguments, [0xabc0, 3, 0x33, 0x44]);
    let costs = probes.costs().unwrap();
    let cost = costs.iter().find(|cost| cost.name == "wait").unwrap();
    assert!(cost.runs > 0 && cost.ns > 0, "{cost:?}");
    probes.detach_waits().unwrap();
    until(|| (first_byte(function) == original).then_some(()));
    stop.store(true, Ordering::Relaxed);
    caller.join().unwrap();
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
        probes.attach_waits(&[WaitPoint { path, ..point }]).unwrap();
        eprintln!("attached");
        thread::sleep(PATIENCE * 2);
        return;
    }
    if load(name, &ProbeOptions::default()).is_none() {
        return;
    }
    black_box(traced_and_killed(1));
    let original = first_byte(traced_and_killed as Function);
    let ids = || -> Vec<u32> {
        aya::programs::loaded_programs().filter_map(Result::ok).map(|program| program.id()).collect()
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "probe::tests::a_kill_leaves_no_program_and_no_breakpoint"])
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

#[test]
fn a_process_that_is_not_there_is_an_error() {
    let name = "probe::a_process_that_is_not_there_is_an_error";
    let Some(kernel) = able(name, Kernel::open()) else { return };
    for pid in [0, -1] {
        assert!(matches!(kernel.resolve(pid), Err(ProbeError::NoProcess(found)) if found == pid));
    }
}

#[test]
fn a_context_layout_beyond_what_is_read_is_an_error() {
    let name = "probe::a_context_layout_beyond_what_is_read_is_an_error";
    for task_id in [121, u32::MAX - 3] {
        let wild = ContextLayout { task_id, ..layout() };
        match Probes::load(own_pid(), Some(&wild), &ProbeOptions::default()) {
            Err(ProbeError::BadLayout(_)) => {}
            other => assert!(able(name, other).is_none(), "offset {task_id} was taken"),
        }
    }
}

/// Runs tests of this file again, in a process of its own.
fn again(command: &mut Command, tests: &[&str]) -> std::process::Output {
    let names = tests.iter().map(|test| format!("probe::tests::{test}"));
    command.arg(std::env::current_exe().unwrap()).args(["--exact", "--nocapture"]).args(names);
    command.env("GORDIAN_REQUIRE", "all").output().unwrap()
}

#[test]
fn all_of_it_holds_inside_a_pid_namespace() {
    let name = "probe::all_of_it_holds_inside_a_pid_namespace";
    if load(name, &ProbeOptions::default()).is_none() {
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
    if load(name, &ProbeOptions::default()).is_none() {
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
    let output = again(Command::new("env").env(LOG, "1"), &["messages_of_the_kernel_programs_reach_the_log"]);
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
            Ok(mut probes) => probes.attach_switch().unwrap_err().to_string(),
        };
        eprintln!("<{refusal}>");
        return;
    }
    if load(&format!("probe::{name}"), &ProbeOptions::default()).is_none() {
        return;
    }
    for (kept, missing) in [("-all", "CAP_BPF and CAP_PERFMON"), ("-all,+bpf", "needs CAP_PERFMON")] {
        let mut bare = Command::new("setpriv");
        bare.args(["--inh-caps", kept, "--bounding-set", kept]).env(BARE, "1");
        let output = again(&mut bare, &[name]);
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| line.starts_with("<not allowed to ") && line.ends_with('>'));
        assert!(line.is_some_and(|line| line.contains(missing) && line.contains("; try: sudo ")), "{kept}: {text}");
    }
}

#[test]
fn each_feature_is_there_or_says_why_not() {
    let features = super::features();
    let missing: Vec<_> = features.iter().filter(|feature| feature.state.is_err()).collect();
    for feature in &features {
        if let Err(reason) = &feature.state {
            assert!(!reason.is_empty() && !reason.contains('\n'), "{feature:?}");
        }
    }
    if load("probe::each_feature_is_there_or_says_why_not", &ProbeOptions::default()).is_some() {
        assert!(features.iter().any(|feature| feature.state.is_ok()), "{missing:?}");
    }
}

#[test]
fn probes_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Probes>();
    is_send::<super::EventStream>();
    is_send::<super::TaskIterator>();
}

//! The programs against a real process: this one. It has what a runtime has, a thread-local context with a task id, a
//! budget and a scheduler, at offsets only this test knows.

use std::{
    arch::asm,
    cell::Cell,
    hint::black_box,
    path::PathBuf,
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

mod apart;

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
    if able(name, probes.hit_cost()).is_none() {
        return;
    }
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
    probes.attach_wait(&point(function, 12)).unwrap();
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

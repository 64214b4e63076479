//! The kernel programs of one session: which tiers are at work, and what they say.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::{Options, ProbeState};
use crate::{
    debuginfo::FrameRegisters,
    model::LostCounts,
    probe::{
        BlockedThread, ContextLayout, Event, EventStream, Kernel, KernelTarget, ProbeError, ProbeOptions, Probes,
        TaskIterator, ThreadRegisters, WAIT_KINDS, WaitPoint, WaitRates,
    },
    runtime::{self, ThreadContext},
};

/// What reaches the snapshot thread.
pub(super) enum Message {
    /// Look again, or stop.
    Wake,
    /// What the kernel programs sent.
    Events(Vec<Event>),
}

/// How long hits are counted after each function that is attached, and after the last.
const COUNTED_EACH: Duration = Duration::from_millis(20);
const COUNTED: Duration = Duration::from_millis(100);
/// A target that does less than this share of a CPU is taken to do this much: a budget of nothing allows nothing.
const LEAST_LOAD: f64 = 0.1;
/// The budget is looked at with each snapshot, over this time at least.
const WATCHED: Duration = Duration::from_millis(200);

/// Probes, and the pump that brings their events.
pub(super) struct Probing {
    probes: Option<Probes>,
    pub(super) switch: ProbeState,
    pub(super) waits: ProbeState,
    pump: Option<Pump>,
    budget: Budget,
}

/// What *trace waits* may cost, and how that is going.
struct Budget {
    pid: i32,
    share: f64,
    looked: Instant,
    seen: WaitRates,
    cpu_s: f64,
}

impl Probing {
    /// No kernel programs at all, because nobody asked.
    pub(super) fn off() -> Self {
        Self {
            probes: None,
            switch: ProbeState::Off,
            waits: ProbeState::Off,
            pump: None,
            budget: Budget { pid: 0, share: 0.0, looked: Instant::now(), seen: WaitRates::default(), cpu_s: 0.0 },
        }
    }

    /// Loads and attaches what `options` ask for. What cannot be had is said in `switch` and `waits`.
    pub(super) fn start(
        pid: i32,
        on: Result<OnKernel, ProbeError>,
        options: &Options,
        context: Option<ThreadContext>,
        points: &[u64],
        file_of: impl Fn(u64) -> Option<(PathBuf, u64)>,
        to: mpsc::SyncSender<Message>,
    ) -> Self {
        let mut probing = Self::off();
        if !options.probes {
            return probing;
        }
        let layout = context.map(context_layout);
        let probe_options = ProbeOptions {
            min_block: options.thresholds.blocked_worker.min(Duration::from_millis(20)),
            run_stats: true,
            log_level: options.kernel_log_level,
            ..ProbeOptions::default()
        };
        let loaded = on.and_then(|OnKernel { kernel, target, .. }| {
            let mut probes = Probes::load_for(&kernel, pid, target, layout.as_ref(), &probe_options)?;
            probes.attach_switch()?;
            Ok(probes)
        });
        let mut probes = match loaded {
            Ok(probes) => probes,
            Err(error) => {
                probing.switch = ProbeState::Missing(error.to_string());
                if options.trace_waits {
                    probing.waits = ProbeState::Missing(error.to_string());
                }
                return probing;
            }
        };
        match Pump::start(&mut probes, to) {
            Ok(pump) => probing.pump = Some(pump),
            Err(error) => {
                probing.switch = ProbeState::Missing(error);
                return probing;
            }
        }
        probing.switch = ProbeState::On;
        probing.probes = Some(probes);
        probing.budget.pid = pid;
        probing.budget.share = options.max_overhead;
        if options.trace_waits {
            let points: Vec<WaitPoint> = points
                .iter()
                .filter_map(|address| file_of(*address))
                .zip(0..WAIT_KINDS)
                .map(|((path, file_offset), kind)| WaitPoint { path, file_offset, kind })
                .collect();
            probing.waits = probing.trace(&points);
        }
        probing
    }

    /// Attaches the uprobes, and keeps them if what they cost is within the budget.
    fn trace(&mut self, points: &[WaitPoint]) -> ProbeState {
        let Some(probes) = &mut self.probes else { return ProbeState::Off };
        if points.is_empty() {
            return ProbeState::Missing("the functions to trace were not found in the target's symbols".into());
        }
        let (begun, cpu_before) = (Instant::now(), cpu_seconds(self.budget.pid));
        let mut rates = WaitRates::default();
        // One after the other, so that the first hot one ends it, and hits are paid for where they are rare.
        for (point, last) in points.iter().zip((1..=points.len()).map(|number| number == points.len())) {
            if let Err(error) = probes.attach_wait(point) {
                return detached(probes, &error.to_string());
            }
            let counted = if last { COUNTED } else { COUNTED_EACH };
            std::thread::sleep(counted);
            let before = rates;
            rates = match probes.wait_rates() {
                Ok(rates) => rates,
                Err(error) => return detached(probes, &error.to_string()),
            };
            let load = (cpu_seconds(self.budget.pid) - cpu_before) / begun.elapsed().as_secs_f64();
            if let Err(why) = affordable(&before, &rates, load, self.budget.share) {
                return detached(probes, &why);
            }
        }
        if let Err(error) = probes.send_waits(true) {
            return detached(probes, &error.to_string());
        }
        (self.budget.looked, self.budget.seen, self.budget.cpu_s) =
            (Instant::now(), rates, cpu_seconds(self.budget.pid));
        ProbeState::On
    }

    /// Detaches the uprobes when they cost more than they may.
    pub(super) fn keep_budget(&mut self) {
        let Some(probes) = &mut self.probes else { return };
        let passed = self.budget.looked.elapsed();
        if self.waits != ProbeState::On || passed < WATCHED {
            return;
        }
        let rates = match probes.wait_rates() {
            Ok(rates) => rates,
            Err(error) => {
                self.waits = detached(probes, &error.to_string());
                return;
            }
        };
        let cpu_s = cpu_seconds(self.budget.pid);
        let load = (cpu_s - self.budget.cpu_s) / passed.as_secs_f64();
        if let Err(why) = affordable(&self.budget.seen, &rates, load, self.budget.share) {
            self.waits = detached(probes, &why);
        }
        (self.budget.looked, self.budget.seen, self.budget.cpu_s) = (Instant::now(), rates, cpu_s);
    }

    /// Registers of blocked threads, by thread id; empty where the kernel does not give them.
    pub(super) fn registers(&mut self) -> FxHashMap<i32, runtime::ThreadRegisters> {
        by_thread(self.probes.as_mut().and_then(|probes| probes.registers().ok()).unwrap_or_default())
    }

    /// Threads that the kernel says are blocked inside a poll now.
    pub(super) fn blocked(&self) -> Vec<BlockedThread> {
        self.probes.as_ref().map(Probes::blocked_now).unwrap_or_default()
    }

    /// What was lost on the way, each way counted.
    pub(super) fn lost(&self) -> LostCounts {
        let counts = self.probes.as_ref().and_then(|probes| probes.counts().ok()).unwrap_or_default();
        LostCounts {
            ring_full: counts.ring_full(),
            user_read: counts.user_read(),
            channel_full: self.pump.as_ref().map_or(0, |pump| pump.dropped.load(Ordering::Relaxed)),
            stack_moved: 0,
        }
    }
}

/// What has to be there before a kernel program can run for a process, and the one that reads registers.
pub(super) struct OnKernel {
    kernel: Kernel,
    target: KernelTarget,
    iterator: Result<TaskIterator, ProbeError>,
}

impl OnKernel {
    /// For process `pid`.
    pub(super) fn prepare(pid: i32) -> Result<Self, ProbeError> {
        let kernel = Kernel::open()?;
        let target = kernel.resolve(pid)?;
        let iterator = TaskIterator::load(&kernel, target);
        Ok(Self { kernel, target, iterator })
    }

    /// Registers of the threads that are blocked now, by one pass of the kernel's iterator over tasks: nothing is attached.
    /// Empty where that is not to be had.
    pub(super) fn registers(&mut self) -> FxHashMap<i32, runtime::ThreadRegisters> {
        let read = self.iterator.as_mut().ok().and_then(|iterator| iterator.registers().ok());
        by_thread(read.unwrap_or_default())
    }
}

/// Registers of the threads of `pid` that are blocked now, as [`OnKernel::registers`]; nothing stays.
pub(super) fn registers_once(pid: i32) -> FxHashMap<i32, runtime::ThreadRegisters> {
    OnKernel::prepare(pid).map(|mut on| on.registers()).unwrap_or_default()
}

fn by_thread(read: Vec<ThreadRegisters>) -> FxHashMap<i32, runtime::ThreadRegisters> {
    read.into_iter()
        .filter(|thread| !thread.on_cpu)
        .map(|thread| {
            let r = &thread.registers;
            let values = [
                r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14,
                r.r15,
            ];
            let frame = FrameRegisters { ip: r.rip, values: values.map(Some) };
            let fs_base = (thread.fs_base != 0).then_some(thread.fs_base);
            (thread.tid, runtime::ThreadRegisters { tid: thread.tid, frame, fs_base })
        })
        .collect()
}

/// The kernel programs read three fields; tokio's scheduler field tells blocking closures from workers, and where it is
/// not known the task id stands in for it: then a closure counts as a worker between polls.
pub(super) fn context_layout(context: ThreadContext) -> ContextLayout {
    ContextLayout {
        tls_offset: context.tls_offset,
        task_id: context.task_id,
        budget: context.budget,
        scheduler: context.task_id,
        polls: None,
    }
}

/// Whether a target that uses `load` CPUs may pay for the hits between two counts; if not, why.
fn affordable(before: &WaitRates, now: &WaitRates, load: f64, share: f64) -> Result<(), String> {
    let seconds = now.window.saturating_sub(before.window).as_secs_f64();
    if seconds <= 0.0 {
        return Ok(());
    }
    let rate = now.total().saturating_sub(before.total()) as f64 / seconds;
    let cost = now.cost.saturating_sub(before.cost).as_secs_f64() / seconds;
    if cost <= share * load.max(LEAST_LOAD) {
        return Ok(());
    }
    Err(format!(
        "{rate:.0} waits and wakes a second would cost the target {:.1}% of its CPU time, more than the {:.1}% of \
         --max-overhead",
        100.0 * cost / load.max(LEAST_LOAD),
        100.0 * share,
    ))
}

/// Takes the uprobes away, and says why.
fn detached(probes: &mut Probes, why: &str) -> ProbeState {
    ProbeState::Missing(match probes.detach_waits() {
        Ok(()) => format!("detached: {why}"),
        Err(error) => format!("{why}, and they could not be detached: {error}"),
    })
}

/// CPU time that the process has used so far, in seconds; 0 where it has ended.
fn cpu_seconds(pid: i32) -> f64 {
    let used = nix::time::clock_getcpuclockid(Pid::from_raw(pid)).and_then(nix::time::ClockId::now);
    used.map_or(0.0, |used| Duration::from(used).as_secs_f64())
}

/// Takes events out of the ring buffers, on a thread of its own that never waits for anything else.
struct Pump {
    stop: Arc<Notify>,
    dropped: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    fn start(probes: &mut Probes, to: mpsc::SyncSender<Message>) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the event loop: {error}"))?;
        let stream = {
            let _inside = runtime.enter();
            probes.events().map_err(|error| error.to_string())?
        };
        let (stop, dropped) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
        let (stopped, drops) = (Arc::clone(&stop), Arc::clone(&dropped));
        let thread = std::thread::Builder::new()
            .name("gordian-events".into())
            .spawn(move || runtime.block_on(pump(stream, &to, &stopped, &drops)))
            .map_err(|error| format!("cannot start the event thread: {error}"))?;
        Ok(Self { stop, dropped, thread: Some(thread) })
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn pump(mut stream: EventStream, to: &mpsc::SyncSender<Message>, stop: &Notify, dropped: &AtomicU64) {
    loop {
        let batch = tokio::select! {
            batch = stream.next_batch() => batch,
            () = stop.notified() => return,
        };
        let Ok(events) = batch else { return };
        match to.try_send(Message::Events(events)) {
            Ok(()) => {}
            Err(mpsc::TrySendError::Full(Message::Events(events))) => {
                dropped.fetch_add(events.len() as u64, Ordering::Relaxed);
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many hits in a second, at 1.5 µs each.
    fn second_with(hits: u64) -> WaitRates {
        WaitRates { window: Duration::from_secs(1), hits: vec![(0, hits)], cost: Duration::from_nanos(1_500 * hits) }
    }

    #[test]
    fn the_budget_is_a_share_of_what_the_target_does() {
        let nothing = WaitRates::default();
        assert!(affordable(&nothing, &second_with(1_000), 1.0, 0.01).is_ok(), "1.5 ms of 1 s");
        assert!(affordable(&nothing, &second_with(10_000), 1.0, 0.01).is_err(), "15 ms of 1 s");
        assert!(affordable(&nothing, &second_with(10_000), 2.0, 0.01).is_ok(), "15 ms of 2 s");
        assert!(affordable(&nothing, &second_with(100), 0.0, 0.01).is_ok(), "an idle target may be traced");
    }

    #[test]
    fn what_was_paid_before_does_not_count_again() {
        let before = second_with(10_000);
        let now = WaitRates { window: Duration::from_secs(2), ..second_with(10_100) };
        assert!(affordable(&before, &now, 1.0, 0.01).is_ok());
    }

    #[test]
    fn a_refusal_names_the_rate_and_the_flag() {
        let why = affordable(&WaitRates::default(), &second_with(100_000), 1.0, 0.01).expect_err("far above");
        assert!(why.contains("100000") && why.contains("--max-overhead"), "{why}");
    }
}

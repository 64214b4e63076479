//! A running session: one thread takes snapshots and publishes views.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use rustc_hash::FxHashMap;
use tokio::sync::watch;

use super::{
    AttachError, Options, View,
    blocking::Blocking,
    history::History,
    inspector::Inspector,
    probing::{Message, OnKernel, Probing},
};
use crate::{
    analysis::{self, Trends},
    model::{BlockedPoll, Finding, Snapshot},
    probe::Event,
    target::Place,
};

/// An attachment to one process. Dropping it detaches: nothing stays behind in the target or the kernel.
pub struct Session {
    live: bool,
    views: watch::Receiver<Arc<View>>,
    stop: Arc<AtomicBool>,
    wake: mpsc::SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Session {
    /// Attaches to the process at `place` and takes the first snapshot. The views that follow are published until the
    /// session is dropped or the target ends.
    pub fn attach(place: impl Into<Place>, options: Options) -> Result<Self, AttachError> {
        let place = place.into();
        let live = matches!(place, Place::Process(_));
        let stop = Arc::new(AtomicBool::new(false));
        let (wake, messages) = mpsc::sync_channel(MESSAGES);
        let events = wake.clone();
        let (ready, first) = mpsc::sync_channel(1);
        let stopping = Arc::clone(&stop);
        // The inspector stays on the thread that uses it: its caches are not shared.
        let thread = std::thread::Builder::new()
            .name("gordian-snap".into())
            .spawn(move || match Observer::open(&place, options, Some(events)) {
                Ok((observer, view)) => {
                    let (publish, views) = watch::channel(Arc::new(view));
                    if ready.send(Ok(views)).is_ok() {
                        observer.run(&publish, &stopping, &messages);
                    }
                }
                Err(error) => {
                    // Nobody is left to tell when the receiver has gone.
                    let _ = ready.send(Err(error));
                }
            })
            .map_err(|error| AttachError::Setup(format!("cannot start the snapshot thread: {error}")))?;
        let views = first
            .recv()
            .map_err(|_| AttachError::Setup("the snapshot thread ended before its first snapshot".into()))??;
        Ok(Self { live, views, stop, wake, thread: Some(thread) })
    }

    /// Whether the target runs: one that was kept in a file never changes, however long it is watched.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// The views, newest always at hand.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.views.clone()
    }

    /// One view of the process at `place`, taken now: tasks, without findings that need a second look.
    pub fn look_once(place: impl Into<Place>, options: Options) -> Result<View, AttachError> {
        let options = Options { probes: false, ..options };
        Observer::open(&place.into(), options, None).map(|(_, view)| view)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.wake.try_send(Message::Wake);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Batches of events that may wait for the snapshot thread; more are counted as lost.
const MESSAGES: usize = 256;

/// The least time between two snapshots when events call for one.
const SOONEST: Duration = Duration::from_millis(50);

/// The snapshot thread's own.
struct Observer {
    inspector: Inspector,
    options: Options,
    history: History,
    trends: Trends,
    probing: Probing,
    blocking: Blocking,
    sequence: u64,
    last: Arc<Snapshot>,
    /// When the first look was over: what came after it counts as time between it and the second.
    looked: Instant,
    /// Findings that ended lately.
    ended: Arc<[Finding]>,
}

impl Observer {
    fn open(
        place: &Place,
        options: Options,
        events: Option<mpsc::SyncSender<Message>>,
    ) -> Result<(Self, View), AttachError> {
        // A process that was kept has its registers with it, and no kernel to ask.
        let pid = match place {
            Place::Process(pid) => Some(*pid),
            Place::File(_) => None,
        };
        // The kernel's types take as long to read as the program's symbols.
        let (inspector, kernel) = std::thread::scope(|scope| {
            let kernel = pid.map(|pid| scope.spawn(move || OnKernel::prepare(pid)));
            let inspector = Inspector::open(place, &options.places);
            (inspector, kernel.map(|kernel| kernel.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
        });
        let (mut inspector, mut kernel) = (inspector?, kernel);
        if options.freeze {
            inspector.freeze_reads();
        }
        let mut history = History::default();
        let registers = match &mut kernel {
            Some(Ok(kernel)) => kernel.registers(),
            _ => FxHashMap::default(),
        };
        let mut snapshot = inspector.snapshot(&registers)?;
        let looked = Instant::now();
        if events.is_none() {
            // One look: whoever asks for it wants all there is to be told of its tasks.
            History::date_alone(&mut snapshot);
            inspector.describe_descriptors(&mut snapshot);
        } else {
            history.date(&mut snapshot);
        }
        // Where nothing is polled there is no poll to block in: the kernel programs would run at each switch of a thread for nothing.
        let polled = pid.zip(kernel).zip(events).filter(|_| inspector.polls());
        let probing = polled.map_or_else(Probing::off, |((pid, kernel), to)| {
            let file_of = |address| inspector.file_of(address);
            let (context, points) = (inspector.thread_context(), inspector.wait_functions());
            Probing::start(pid, kernel, &options, context, &points, file_of, to)
        });
        let last = Arc::new(snapshot);
        let blocking = Blocking::default();
        let trends = Trends::default();
        let mut observer = Self {
            inspector,
            options,
            history,
            trends,
            probing,
            blocking,
            sequence: 0,
            last,
            looked,
            ended: Arc::from([]),
        };
        let view = observer.view(Vec::new(), Vec::new());
        tracing::info!(
            tasks = view.snapshot.tasks.len(),
            switch = ?view.switch_probe,
            waits = ?view.wait_probe,
            "attached: first snapshot taken"
        );
        Ok((observer, view))
    }

    fn view(&mut self, findings: Vec<Finding>, blocked: Vec<BlockedPoll>) -> View {
        self.sequence += 1;
        View {
            sequence: self.sequence,
            snapshot: Arc::clone(&self.last),
            findings: findings.into(),
            ended_findings: Arc::clone(&self.ended),
            blocked: blocked.into(),
            switch_probe: self.probing.switch.clone(),
            wait_probe: self.probing.waits.clone(),
            ended: None,
        }
    }

    fn run(mut self, publish: &watch::Sender<Arc<View>>, stop: &AtomicBool, messages: &mpsc::Receiver<Message>) {
        let mut took = Duration::ZERO;
        let mut begun = self.looked;
        while !stop.load(Ordering::Acquire) {
            // A target that takes long to read is read less often.
            let rest = took.div_f64(self.options.snapshot_share.clamp(0.01, 1.0));
            self.listen(messages, begun + self.options.interval.max(rest), begun + SOONEST.max(rest), stop);
            if stop.load(Ordering::Acquire) {
                return;
            }
            begun = Instant::now();
            match self.step() {
                Ok(view) => publish.send_replace(Arc::new(view)),
                Err(error) => {
                    let mut view = self.view(Vec::new(), Vec::new());
                    view.findings = Arc::clone(&publish.borrow().findings);
                    view.ended = Some(error.to_string());
                    publish.send_replace(Arc::new(view));
                    return;
                }
            };
            took = begun.elapsed();
        }
    }

    /// Takes in events until it is time for the next snapshot: at `until`, or from `soonest` on when a wait was seen.
    fn listen(&mut self, messages: &mpsc::Receiver<Message>, until: Instant, soonest: Instant, stop: &AtomicBool) {
        let mut until = until;
        while !stop.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            match messages.recv_timeout(left) {
                Ok(Message::Events(events)) => {
                    if self.take_in(&events) {
                        until = until.min(soonest.max(Instant::now()));
                    }
                }
                Ok(Message::Wake) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => return,
                // The pump is gone and nobody can wake us: the clock still can.
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(left);
                    return;
                }
            }
        }
    }

    /// Whether a task began to wait.
    fn take_in(&mut self, events: &[Event]) -> bool {
        let (now, now_ns) = (Instant::now(), monotonic_ns());
        let mut waited = false;
        for event in events {
            match event {
                Event::Block(block) => self.blocking.ended(block, &self.last),
                Event::Wait(wait) => {
                    if let Some(id) = wait.task_id {
                        let ago = Duration::from_nanos(now_ns.saturating_sub(wait.at_ns));
                        self.history.waited(id, now.checked_sub(ago).unwrap_or(now));
                        waited = true;
                    }
                }
                // Samples are asked for by profiles only.
                Event::Sample(_) => {}
            }
        }
        waited
    }

    fn step(&mut self) -> Result<View, AttachError> {
        self.inspector.check()?;
        let registers = self.probing.registers();
        let Self { inspector, history, blocking, probing, last, options, .. } = self;
        let (mut blocked, mut findings) = (None, Vec::new());
        let snapshot = inspector.judged(&registers, &mut |snapshot| {
            let blocked = blocked.get_or_insert_with(|| {
                snapshot.lost = probing.lost();
                history.excuse(snapshot);
                history.date(snapshot);
                blocking.observe(snapshot, &probing.blocked(), monotonic_ns())
            });
            findings = analysis::analyse(snapshot, Some(last), blocked, &options.thresholds);
            analysis::accused(&findings)
        })?;
        self.trends.observe(&snapshot, &self.options.thresholds, &mut findings);
        self.ended = self.history.recognise(&mut findings, &snapshot, SystemTime::now());
        self.probing.keep_budget();
        self.last = Arc::new(snapshot);
        Ok(self.view(findings, blocked.unwrap_or_default()))
    }
}

/// `CLOCK_MONOTONIC`, the clock of the kernel programs.
fn monotonic_ns() -> u64 {
    let now = nix::time::ClockId::CLOCK_MONOTONIC.now();
    now.map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

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

use super::{AttachError, Options, ProbeState, View, history::History, inspector::Inspector};
use crate::{
    analysis,
    model::{Finding, Snapshot},
};

/// An attachment to one process. Dropping it detaches: nothing stays behind in the target or the kernel.
pub struct Session {
    views: watch::Receiver<Arc<View>>,
    stop: Arc<AtomicBool>,
    wake: mpsc::SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Session {
    /// Attaches to process `pid` and takes the first snapshot. The views that follow are published until the session is
    /// dropped or the target ends.
    pub fn attach(pid: i32, options: Options) -> Result<Self, AttachError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (wake, woken) = mpsc::sync_channel(1);
        let (ready, first) = mpsc::sync_channel(1);
        let stopping = Arc::clone(&stop);
        // The inspector stays on the thread that uses it: its caches are not shared.
        let thread = std::thread::Builder::new()
            .name("gordian-snap".into())
            .spawn(move || match Observer::open(pid, options) {
                Ok((observer, view)) => {
                    let (publish, views) = watch::channel(Arc::new(view));
                    if ready.send(Ok(views)).is_ok() {
                        observer.run(&publish, &stopping, &woken);
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
        Ok(Self { views, stop, wake, thread: Some(thread) })
    }

    /// The views, newest always at hand.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.views.clone()
    }

    /// One view of process `pid`, taken now: tasks, without findings that need a second look.
    pub fn look_once(pid: i32) -> Result<View, AttachError> {
        let options = Options { probes: false, ..Options::default() };
        Observer::open(pid, options).map(|(_, view)| view)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.wake.try_send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The snapshot thread's own.
struct Observer {
    inspector: Inspector,
    options: Options,
    history: History,
    sequence: u64,
    last: Arc<Snapshot>,
}

impl Observer {
    fn open(pid: i32, options: Options) -> Result<(Self, View), AttachError> {
        let mut inspector = Inspector::open(pid)?;
        let mut history = History::default();
        let mut snapshot = inspector.snapshot(&FxHashMap::default())?;
        history.date(&mut snapshot);
        let last = Arc::new(snapshot);
        let mut observer = Self { inspector, options, history, sequence: 0, last };
        let view = observer.view(Vec::new());
        Ok((observer, view))
    }

    fn view(&mut self, findings: Vec<Finding>) -> View {
        self.sequence += 1;
        View {
            sequence: self.sequence,
            snapshot: Arc::clone(&self.last),
            findings: findings.into(),
            blocked: Arc::default(),
            switch_probe: ProbeState::Off,
            wait_probe: ProbeState::Off,
            ended: None,
        }
    }

    fn run(mut self, publish: &watch::Sender<Arc<View>>, stop: &AtomicBool, woken: &mpsc::Receiver<()>) {
        let mut took = Duration::ZERO;
        while !stop.load(Ordering::Acquire) {
            // A target that takes long to read is read less often.
            let rest = took.div_f64(self.options.snapshot_share.clamp(0.01, 1.0));
            let pause = self.options.interval.max(rest).saturating_sub(took);
            let _ = woken.recv_timeout(pause);
            if stop.load(Ordering::Acquire) {
                return;
            }
            let begin = Instant::now();
            match self.step() {
                Ok(view) => publish.send_replace(Arc::new(view)),
                Err(error) => {
                    let mut view = self.view(Vec::new());
                    view.findings = Arc::clone(&publish.borrow().findings);
                    view.ended = Some(error.to_string());
                    publish.send_replace(Arc::new(view));
                    return;
                }
            };
            took = begin.elapsed();
        }
    }

    fn step(&mut self) -> Result<View, AttachError> {
        self.inspector.check()?;
        let mut snapshot = self.inspector.snapshot(&FxHashMap::default())?;
        self.history.date(&mut snapshot);
        let mut findings = analysis::analyse(&snapshot, Some(&self.last), &[], &self.options.thresholds);
        self.history.recognise(&mut findings, SystemTime::now(), snapshot.taken_at);
        self.last = Arc::new(snapshot);
        Ok(self.view(findings))
    }
}

//! Watches a session and keeps what it finds.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use anyhow::bail;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch::Receiver,
    time::Instant,
};

use crate::{
    model::{Finding, Snapshot},
    session::View,
};

/// No verdict on what is permanent rests on one read.
pub(super) const LEAST_READS: u64 = 2;

/// How long to watch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// From the first view on.
    pub(super) duration: Duration,
    /// How many times the target is read at least, however long that takes.
    pub(super) reads: u64,
    /// Whether a permanent finding is enough.
    pub(super) stop_at_permanent: bool,
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The time was over.
    Elapsed,
    /// A permanent finding was made.
    Permanent,
    /// The target exited or called exec.
    Ended,
    /// A signal asked for it.
    Interrupted,
}

/// What was seen and found.
#[derive(Debug)]
pub(super) struct Gathered {
    /// The last view.
    pub(super) view: Arc<View>,
    /// How many times the target was read.
    pub(super) reads: u64,
    /// How long, from the first view to the last.
    pub(super) watched: Duration,
    found: Vec<(Finding, Arc<Snapshot>)>,
    by_id: HashMap<String, usize>,
}

impl Gathered {
    fn new(view: Arc<View>) -> Self {
        Self { view, reads: 1, watched: Duration::ZERO, found: Vec::new(), by_id: HashMap::new() }
    }

    /// The findings in the order in which they were first seen, each as it was last seen, with its snapshot.
    pub(super) fn findings(&self) -> impl Iterator<Item = (&Finding, &Snapshot)> {
        self.found.iter().map(|(finding, snapshot)| (finding, &**snapshot))
    }

    /// Takes a view in. Returns the places in `found` of what is new in it, has become more certain, has ended or come back.
    fn take(&mut self, view: Arc<View>) -> Vec<usize> {
        if !Arc::ptr_eq(&view.snapshot, &self.view.snapshot) {
            self.reads += 1;
        }
        let mut news = Vec::new();
        // What has ended is told before what came back: oldest first.
        for finding in view.ended_findings.iter().rev().chain(view.findings.iter()) {
            let seen = (finding.clone(), Arc::clone(&view.snapshot));
            if let Some(&at) = self.by_id.get(&finding.id) {
                let known = &self.found[at].0;
                let stage = |finding: &Finding| (finding.returned, finding.ended_at.is_some());
                if stage(finding) < stage(known) {
                    continue;
                }
                if stage(finding) != stage(known) || finding.certainty > known.certainty {
                    news.push(at);
                }
                // What has ended is shown as it last stood.
                let snapshot = if finding.ended_at.is_some() { Arc::clone(&self.found[at].1) } else { seen.1 };
                self.found[at] = (seen.0, snapshot);
            } else {
                news.push(self.found.len());
                self.by_id.insert(finding.id.clone(), self.found.len());
                self.found.push(seen);
            }
        }
        self.view = view;
        news
    }
}

/// Watches until the plan is done; `news` is called with each finding when it is new, has become more certain, has ended or
/// come back.
pub(super) async fn gather(
    mut views: Receiver<Arc<View>>,
    plan: Plan,
    mut news: impl FnMut(&Finding, &Snapshot) -> io::Result<()>,
) -> anyhow::Result<(Gathered, Stop)> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let begin = Instant::now();
    let mut view = Arc::clone(&views.borrow_and_update());
    let mut gathered = Gathered::new(Arc::clone(&view));
    let stop = loop {
        for at in gathered.take(view) {
            let (finding, snapshot) = &gathered.found[at];
            news(finding, snapshot)?;
        }
        gathered.watched = begin.elapsed();
        if plan.stop_at_permanent && gathered.found.iter().any(|(finding, _)| finding.kind.is_permanent()) {
            break Stop::Permanent;
        }
        if gathered.view.ended.is_some() {
            break Stop::Ended;
        }
        let elapsed = gathered.watched >= plan.duration;
        if elapsed && gathered.reads >= plan.reads {
            break Stop::Elapsed;
        }
        let rest = async {
            if elapsed { std::future::pending().await } else { tokio::time::sleep_until(begin + plan.duration).await }
        };
        view = tokio::select! {
            changed = views.changed() => {
                if changed.is_err() {
                    bail!("the thread that reads the target has ended unexpectedly; --verbose tells more");
                }
                Arc::clone(&views.borrow_and_update())
            }
            () = rest => Arc::clone(&gathered.view),
            _ = interrupt.recv() => break Stop::Interrupted,
            _ = terminate.recv() => break Stop::Interrupted,
        };
    };
    Ok((gathered, stop))
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::{
        export::samples,
        model::{Certainty, FindingKind},
    };

    const LONG: Duration = Duration::from_hours(1);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn plan(duration: Duration, stop_at_permanent: bool) -> Plan {
        Plan { duration, reads: LEAST_READS, stop_at_permanent }
    }

    #[test]
    fn a_permanent_finding_ends_it_early() {
        runtime().block_on(async {
            let (_sender, views) = watch::channel(Arc::new(samples::ring(2)));
            let mut seen = Vec::new();
            let news = |finding: &Finding, snapshot: &Snapshot| {
                seen.push((finding.kind, snapshot.tasks.len()));
                Ok(())
            };
            let (gathered, stop) = gather(views, plan(LONG, true), news).await.unwrap();
            assert_eq!(stop, Stop::Permanent);
            assert_eq!(gathered.findings().count(), 1);
            assert_eq!(seen, [(FindingKind::Deadlock, 2)]);
        });
    }

    #[test]
    fn time_is_over_only_after_a_second_read() {
        runtime().block_on(async {
            let (sender, views) = watch::channel(Arc::new(samples::healthy()));
            let watching =
                tokio::spawn(async { gather(views, plan(Duration::from_millis(5), true), |_, _| Ok(())).await });
            // Past the plan's end: had it not to read twice, it would be over by now.
            tokio::time::sleep(Duration::from_millis(50)).await;
            sender.send(Arc::new(samples::healthy())).unwrap();
            let (gathered, stop) = watching.await.unwrap().unwrap();
            assert_eq!((stop, gathered.reads), (Stop::Elapsed, 2));
        });
    }

    #[test]
    fn what_is_gone_by_the_end_is_kept_and_news_comes_once() {
        runtime().block_on(async {
            let mut likely = samples::ring(2);
            let mut finding = likely.findings[0].clone();
            finding.certainty = Certainty::Likely;
            likely.findings = vec![finding].into();
            let (sender, views) = watch::channel(Arc::new(likely.clone()));
            let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
            let watching = tokio::spawn(async move {
                let news = |finding: &Finding, _: &Snapshot| {
                    told.send(finding.certainty).unwrap();
                    Ok(())
                };
                gather(views, plan(LONG, false), news).await
            });
            assert_eq!(hear.recv().await, Some(Certainty::Likely));
            sender.send(Arc::new(likely)).unwrap();
            tokio::task::yield_now().await;
            sender.send(Arc::new(samples::ring(2))).unwrap();
            assert_eq!(hear.recv().await, Some(Certainty::Proved));
            let mut last = samples::healthy();
            last.ended = Some("process 4242 exited".into());
            sender.send(Arc::new(last)).unwrap();
            let (gathered, stop) = watching.await.unwrap().unwrap();
            assert_eq!(stop, Stop::Ended);
            assert_eq!(gathered.findings().map(|(_, snapshot)| snapshot.tasks.len()).collect::<Vec<_>>(), [2]);
            assert_eq!(hear.recv().await, None);
        });
    }

    #[test]
    fn a_session_that_dies_is_an_error() {
        runtime().block_on(async {
            let (sender, views) = watch::channel(Arc::new(samples::healthy()));
            drop(sender);
            let died = gather(views, plan(LONG, true), |_, _| Ok(())).await.unwrap_err();
            assert!(died.to_string().contains("--verbose"), "{died}");
        });
    }
}

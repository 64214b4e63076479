//! On-CPU profiles: samples of the kernel programs, unwound and put under the type of the task that was polled.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{AttachError, inspector::Inspector, probing::context_layout};
use crate::{
    debuginfo::Places,
    model::{Frame, PartyId},
    probe::{Event, ProbeOptions, Probes, Sample},
    profile::Profile,
};

/// What to sample.
#[derive(Clone, Debug)]
pub struct ProfileOptions {
    /// For how long.
    pub duration: Duration,
    /// Samples a second on each CPU.
    pub hz: u64,
    /// Where debuginfo may be that the program does not have itself.
    pub places: Places,
}

impl Default for ProfileOptions {
    /// Five seconds at 99 Hz: a prime, so that it keeps step with no timer.
    fn default() -> Self {
        Self { duration: Duration::from_secs(5), hz: 99, places: Places::default() }
    }
}

/// An on-CPU profile of one process.
#[derive(Clone, Debug)]
pub struct OnCpuProfile {
    /// Stacks, weighted by samples.
    pub profile: Profile,
    /// How long was sampled, in seconds.
    pub seconds: f64,
    /// Runtimes that were found: library and version.
    pub runtimes: Vec<String>,
    /// The process ended before the time was over: why.
    pub ended: Option<String>,
}

/// Samples what process `pid` runs on CPU, and folds its stacks with the polled task's type at the root.
pub fn on_cpu_profile(pid: i32, options: &ProfileOptions) -> Result<OnCpuProfile, AttachError> {
    let setup = |error: &dyn std::fmt::Display| AttachError::Setup(format!("no on-CPU profile: {error}"));
    let mut inspector = Inspector::open(&pid.into(), &options.places)?;
    // One look at the tasks tells where threads keep what they poll, and which code polls which type.
    let snapshot = inspector.snapshot(&FxHashMap::default())?;
    let mut names: FxHashMap<u64, Arc<str>> = snapshot
        .tasks
        .iter()
        .filter_map(|task| match task.party {
            PartyId::Task { id, .. } => Some((id, Arc::clone(&task.name))),
            _ => None,
        })
        .collect();
    let threads: FxHashMap<i32, String> =
        snapshot.threads.into_iter().map(|thread| (thread.tid, thread.name)).collect();
    let layout = inspector.thread_context().map(context_layout);
    let probe_options = ProbeOptions { sampling: true, ..ProbeOptions::default() };
    let mut probes = Probes::load(pid, layout.as_ref(), &probe_options).map_err(|error| setup(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| setup(&error))?;
    let mut stream = {
        let _inside = runtime.enter();
        probes.events().map_err(|error| setup(&error))?
    };
    probes.attach_sampling(options.hz).map_err(|error| setup(&error))?;
    let begin = Instant::now();
    let (mut profile, mut ended) = (Profile::default(), None);
    while begin.elapsed() < options.duration && ended.is_none() {
        let left = options.duration.saturating_sub(begin.elapsed());
        let batch = runtime.block_on(async { tokio::time::timeout(left.min(TICK), stream.next_batch()).await });
        match batch {
            Ok(Ok(events)) => fold(&mut inspector, &mut names, &threads, &events, &mut profile),
            Ok(Err(error)) => return Err(setup(&error)),
            // Nothing ran for a while; it may have ended.
            Err(_) => ended = inspector.check().err().map(|error| error.to_string()),
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    fold(&mut inspector, &mut names, &threads, &stream.drain(), &mut profile);
    let counts = probes.counts().map_err(|error| setup(&error))?;
    profile.lost = counts.ring_full();
    Ok(OnCpuProfile { profile, seconds, runtimes: inspector.runtimes().collect(), ended })
}

/// How long a silent target is waited for before it is asked whether it still runs.
const TICK: Duration = Duration::from_millis(200);

fn fold(
    inspector: &mut Inspector,
    names: &mut FxHashMap<u64, Arc<str>>,
    threads: &FxHashMap<i32, String>,
    events: &[Event],
    profile: &mut Profile,
) {
    for event in events {
        let Event::Sample(sample) = event else { continue };
        let (addresses, complete) = inspector.unwind_sample(sample);
        let frames = inspector.name(&addresses);
        // The poll frame in the sample itself tells the type; a frame that is gone leaves the task's id.
        let by_code = inspector.polled_type(&addresses);
        if let (Some(id), Some(name)) = (sample.task_id, &by_code) {
            names.entry(id).or_insert_with(|| Arc::clone(name));
        }
        let polled = by_code.or_else(|| sample.task_id.and_then(|id| names.get(&id).cloned()));
        let poll = inspector.inside_poll(&frames).filter(|inside| *inside < frames.len()).map(|inside| {
            // A type that the binary does not name is called by the function that it runs first.
            (polled.unwrap_or_else(|| Arc::clone(&frames[inside].function)), inside)
        });
        let stack = stack(sample, &frames, poll, threads);
        if complete {
            profile.add(stack, 1);
        } else {
            profile.add_incomplete(stack, 1);
        }
    }
}

/// The stack as it is drawn: in a poll the task's type and what it runs, else the thread's name and all of its stack.
fn stack(
    sample: &Sample,
    frames: &[Frame],
    poll: Option<(Arc<str>, usize)>,
    threads: &FxHashMap<i32, String>,
) -> Vec<Arc<str>> {
    let (root, from) = poll.unwrap_or_else(|| {
        let name = threads.get(&sample.tid).map_or("thread", String::as_str);
        (format!("[{name}]").into(), 0)
    });
    let mut stack = vec![root];
    stack.extend(frames[from..].iter().map(|frame| Arc::clone(&frame.function)));
    if sample.in_kernel {
        stack.push("[kernel]".into());
    }
    stack
}

//! Watching a target while gordian looks at it: is it stopped, is it traced, was it written.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::fixture::Service;

/// Samples every thread's state until it is finished.
pub struct Watch {
    stop: Arc<AtomicBool>,
    sampler: JoinHandle<Seen>,
}

/// What a [`Watch`] saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How often it looked.
    pub samples: u64,
    /// Every state letter of any thread.
    pub states: BTreeSet<char>,
    /// Every `TracerPid` but 0.
    pub tracers: BTreeSet<String>,
}

impl Watch {
    /// Begins to watch.
    pub fn start(pid: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let sampler = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !until.load(Ordering::Relaxed) {
                sample(pid, &mut seen);
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        Self { stop, sampler }
    }

    /// Ends watching.
    pub fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.sampler.join().expect("the sampler does not panic")
    }

    /// Ends watching and fails where the process was ever stopped or traced.
    #[track_caller]
    pub fn assert_never_stopped(self) {
        let seen = self.finish();
        assert!(seen.samples > 0, "the watch never looked");
        assert!(!seen.states.contains(&'t') && !seen.states.contains(&'T'), "the target was stopped: {seen:?}");
        assert!(seen.tracers.is_empty(), "the target was traced: {seen:?}");
    }
}

fn sample(pid: i32, seen: &mut Seen) {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return };
    for task in tasks.flatten() {
        // A thread that has just ended has nothing to say.
        let Ok(status) = std::fs::read_to_string(task.path().join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        seen.states.extend(field("State:").and_then(|state| state.chars().next()));
        seen.tracers.extend(field("TracerPid:").filter(|&tracer| tracer != "0").map(str::to_owned));
    }
    seen.samples += 1;
}

/// Requests, one after the other, until it is finished.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    client: Option<JoinHandle<Vec<u64>>>,
}

impl Traffic {
    /// Begins to send requests.
    pub fn start(service: Service) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let client = std::thread::spawn(move || {
            let mut answers = Vec::new();
            while !until.load(Ordering::Relaxed) {
                answers.push(service.request());
            }
            answers
        });
        Self { stop, client: Some(client) }
    }

    /// Ends it, and fails unless every request was answered, in order.
    #[track_caller]
    pub fn assert_served(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let client = self.client.take().expect("it runs until now");
        let answers = client.join().expect("every request is answered");
        assert!(answers.len() > 1 && answers.is_sorted(), "{answers:?}");
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The target's code as it stands in its memory: what nobody may write.
pub fn text_of(pid: i32) -> Vec<u8> {
    use std::{fs::File, os::unix::fs::FileExt};
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the target lives");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("its memory may be read");
    let mut bytes = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" r-xp ") && line.contains('/')) {
        let range = line.split_once(' ').map_or("", |(range, _)| range);
        let (start, end) = range.split_once('-').expect("a range of addresses");
        let address = |hex| u64::from_str_radix(hex, 16).expect("an address");
        let (start, end) = (address(start), address(end));
        let from = bytes.len();
        bytes.resize(from + usize::try_from(end - start).expect("64 bits"), 0);
        memory.read_exact_at(&mut bytes[from..], start).expect("text is readable");
    }
    assert!(!bytes.is_empty(), "no text in {maps}");
    bytes
}

//! `blocked-worker`: a thread that blocks in the kernel inside a poll, and with it every task that it could poll.

use rustc_hash::FxHashMap;

use crate::{
    analysis::{Thresholds, graph::Parties, identity, names},
    model::{BlockedPoll, Certainty, Finding, FindingKind, FindingThread, Snapshot},
};

/// System calls by which an allocator gets and gives back memory (x86-64 numbers): `mmap`, `mprotect`, `munmap`, `brk`, `mremap`,
/// `madvise`. Any code allocates; that these take long says something of the machine.
const OF_MEMORY: [i64; 6] = [9, 10, 11, 12, 25, 28];

/// One finding for each place in the program that blocks at least as long as the threshold says; those of threads that
/// stand in one of `permanent` are its effects and not said twice.
pub(in crate::analysis) fn find(
    now: &Snapshot,
    blocked: &[BlockedPoll],
    thresholds: &Thresholds,
    permanent: &[Finding],
) -> Vec<Finding> {
    let limit = u64::try_from(thresholds.blocked_worker.as_nanos()).unwrap_or(u64::MAX);
    let explained = |poll: &BlockedPoll| {
        poll.ongoing && permanent.iter().any(|finding| finding.threads.iter().any(|thread| thread.tid == poll.tid))
    };
    let mut places: FxHashMap<String, Vec<&BlockedPoll>> = FxHashMap::default();
    let is_meant = |poll: &&BlockedPoll| poll.blocked_ns >= limit && !OF_MEMORY.contains(&poll.syscall.number);
    for poll in blocked.iter().filter(is_meant).filter(|poll| !explained(poll)) {
        places.entry(place(poll)).or_default().push(poll);
    }
    if places.is_empty() {
        return Vec::new();
    }
    let parties = Parties::of(now);
    places.into_iter().map(|(place, polls)| explain(now, &parties, &place, &polls)).collect()
}

/// What two blocked polls have in common when their cause is one: system call and stack, or else the task.
fn place(poll: &BlockedPoll) -> String {
    let mut place = poll.syscall.number.to_string();
    if poll.frames.is_empty() {
        place.push_str(&poll.party.map_or_else(|| format!("thread:{}", poll.tid), |party| party.to_string()));
    }
    for frame in &poll.frames {
        place.push('\n');
        place.push_str(&frame.function);
    }
    place
}

fn explain(now: &Snapshot, parties: &Parties, place: &str, polls: &[&BlockedPoll]) -> Finding {
    // A place is only made with a poll in it; the longest speaks for the others.
    let longest = polls.iter().copied().max_by_key(|poll| poll.blocked_ns).unwrap_or(polls[0]);
    let mut tasks: Vec<_> = polls.iter().filter_map(|poll| poll.party).collect();
    tasks.sort_unstable();
    tasks.dedup();
    let cause = cause(longest.syscall.number);
    let task = longest.party.and_then(|party| parties.task(party)).map(|index| names::task(&now.tasks[index]));
    let who = match (task, longest.party) {
        (Some(task), _) => task,
        (None, Some(party)) => party.to_string(),
        (None, None) => "a task".to_owned(),
    };
    let site = names::site(&longest.frames).map_or_else(String::new, |frame| format!(" in {}", frame.function));
    let verb = if longest.ongoing { "blocks" } else { "blocked" };
    let times = if polls.len() > 1 { format!(" ({} polls in all)", polls.len()) } else { String::new() };
    let id = identity::id(FindingKind::BlockedWorker, [place.to_owned()]);
    let summary = format!(
        "{who} {verb} thread {} ({}) for {} ms{site}: {cause}{times}",
        longest.tid,
        longest.thread_name,
        longest.blocked_ns / 1_000_000,
    );
    Finding {
        cause: Some(cause),
        tasks,
        threads: vec![FindingThread {
            tid: longest.tid,
            name: longest.thread_name.clone(),
            frames: longest.frames.clone(),
        }],
        ..Finding::new(id, FindingKind::BlockedWorker, Certainty::Observed, summary)
    }
}

/// What a thread does in a system call (x86-64 numbers).
fn cause(syscall: i64) -> String {
    let (name, what) = match syscall {
        0 => ("read", "reads a file"),
        1 => ("write", "writes a file"),
        7 => ("poll", "waits for a descriptor"),
        17 => ("pread64", "reads a file"),
        18 => ("pwrite64", "writes a file"),
        19 => ("readv", "reads a file"),
        20 => ("writev", "writes a file"),
        23 => ("select", "waits for a descriptor"),
        35 => ("nanosleep", "sleeps"),
        42 => ("connect", "connects"),
        43 => ("accept", "waits for a connection"),
        44 => ("sendto", "sends"),
        45 => ("recvfrom", "receives"),
        46 => ("sendmsg", "sends"),
        47 => ("recvmsg", "receives"),
        61 => ("wait4", "waits for a process"),
        72 => ("fcntl", "waits for a file lock"),
        73 => ("flock", "waits for a file lock"),
        74 => ("fsync", "flushes a file"),
        75 => ("fdatasync", "flushes a file"),
        202 => ("futex", "waits for a lock or a thread"),
        230 => ("clock_nanosleep", "sleeps"),
        232 => ("epoll_wait", "waits for a descriptor"),
        247 => ("waitid", "waits for a process"),
        257 => ("openat", "opens a file"),
        270 => ("pselect6", "waits for a descriptor"),
        271 => ("ppoll", "waits for a descriptor"),
        281 => ("epoll_pwait", "waits for a descriptor"),
        288 => ("accept4", "waits for a connection"),
        other => return format!("blocks in system call {other}"),
    };
    format!("{what} ({name})")
}

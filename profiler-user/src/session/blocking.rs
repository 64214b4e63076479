//! Threads that block inside a poll: what snapshots show, sharpened by what the kernel programs timed.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::{
    model::{BlockedPoll, Frame, PartyId, Snapshot, Syscall, Thread, ThreadActivity},
    probe::{Block, BlockedThread},
};

/// How long a block that has ended is still told of.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Ended blocks that are remembered, at most.
const MOST: usize = 256;

/// A block that goes on, as snapshots have seen it.
struct Ongoing {
    party: PartyId,
    /// The thread as it was seen last.
    thread: Thread,
    first_seen: Instant,
    frames: Vec<Frame>,
    since_ns: Option<u64>,
}

/// Blocked polls over the life of a session.
#[derive(Default)]
pub(super) struct Blocking {
    ongoing: FxHashMap<i32, Ongoing>,
    ended: Vec<(Instant, BlockedPoll)>,
    /// A thread was seen to block where it may: another block whose place was not seen may be one too.
    in_place: bool,
}

impl Blocking {
    /// Takes in a snapshot and what the kernel says is blocked now; returns all blocked polls, newest first.
    ///
    /// Without kernel programs a block's beginning is when a snapshot first saw it: a lower bound.
    pub(super) fn observe(&mut self, snapshot: &Snapshot, kernel: &[BlockedThread], now_ns: u64) -> Vec<BlockedPoll> {
        let mut present = FxHashMap::default();
        for thread in &snapshot.threads {
            let ThreadActivity::BlockedIn(party) = thread.activity else { continue };
            if thread.in_place {
                self.in_place = true;
                continue;
            }
            let timed = kernel.iter().find(|blocked| blocked.tid == thread.tid);
            let stack_pointer = thread.stack_pointer;
            let ongoing = match self.ongoing.remove(&thread.tid) {
                Some(known) if known.party == party && same_block(thread, &known.thread) => known,
                _ => Ongoing {
                    party,
                    thread: thread.clone(),
                    first_seen: snapshot.taken_at,
                    frames: thread.frames.clone(),
                    since_ns: None,
                },
            };
            let since_ns = timed.filter(|timed| stack_pointer == Some(timed.registers.rsp)).map(|timed| timed.since_ns);
            present.insert(thread.tid, (Ongoing { since_ns: since_ns.or(ongoing.since_ns), ..ongoing }, thread));
        }
        let mut polls: Vec<BlockedPoll> = present
            .values()
            .filter_map(|(ongoing, thread)| Some(describe(ongoing, thread, thread.syscall?, snapshot, now_ns)))
            .collect();
        self.ongoing = present.into_iter().map(|(tid, (ongoing, _))| (tid, ongoing)).collect();
        self.ended.retain(|(at, _)| at.elapsed() < REMEMBERED);
        // One that a snapshot still shows is not told of twice.
        let over =
            |poll: &&BlockedPoll| !polls.iter().any(|shown| shown.tid == poll.tid && shown.since_ns == poll.since_ns);
        // One of which nothing but the thread is known adds nothing to what else is known of that thread.
        let telling = |poll: &&BlockedPoll| {
            let others = polls.iter().chain(self.ended.iter().map(|(_, poll)| poll));
            poll.party.is_some() || !others.clone().any(|other| other.tid == poll.tid && other.party.is_some())
        };
        let ended: Vec<BlockedPoll> =
            self.ended.iter().map(|(_, poll)| poll).filter(over).filter(telling).cloned().collect();
        polls.extend(ended);
        polls.sort_by_key(|poll| std::cmp::Reverse(poll.since_ns));
        polls
    }

    /// Takes in a block that has ended.
    pub(super) fn ended(&mut self, block: &Block, snapshot: &Snapshot) {
        let thread = &block.thread;
        // Who is stopped blocks in nothing, whichever system call he was about to come back from.
        if thread.stopped {
            return;
        }
        let Some((number, args)) = thread.registers.syscall() else { return };
        // A snapshot that saw it has its stack and knows its task; the kernel alone knows the runtime's id.
        let seen = self.ongoing.get(&thread.tid).filter(|ongoing| {
            ongoing.since_ns == Some(thread.since_ns) || ongoing.thread.stack_pointer == Some(thread.registers.rsp)
        });
        let by_id = || {
            let id = thread.task_id?;
            snapshot
                .tasks
                .iter()
                .map(|task| task.party)
                .find(|party| matches!(party, PartyId::Task { id: known, .. } if *known == id))
        };
        if seen.is_none() && self.in_place {
            return;
        }
        let party = seen.map(|seen| seen.party).or_else(by_id);
        let known = snapshot.threads.iter().find(|known| known.tid == thread.tid);
        // A thread of no runtime polls nothing, whatever it blocks in.
        if party.is_none() && known.is_some_and(|known| !known.role.is_of_runtime()) {
            return;
        }
        self.ended.push((
            Instant::now(),
            BlockedPoll {
                tid: thread.tid,
                thread_name: known.map(|known| known.name.clone()).unwrap_or_default(),
                party,
                syscall: Syscall { number, args },
                blocked_ns: block.duration_ns,
                ongoing: false,
                frames: seen.map(|seen| seen.frames.clone()).unwrap_or_default(),
                since_ns: thread.since_ns,
            },
        ));
        if self.ended.len() > MOST {
            self.ended.remove(0);
        }
    }
}

/// Whether a blocked thread is in the very block that it was in before: one that asks for a hot lock again and again looks
/// the same each time, and has been on a CPU in between.
fn same_block(now: &Thread, before: &Thread) -> bool {
    now.stack_pointer == before.stack_pointer && now.switches == before.switches
}

fn describe(ongoing: &Ongoing, thread: &Thread, syscall: Syscall, snapshot: &Snapshot, now_ns: u64) -> BlockedPoll {
    let seen_for = snapshot.taken_at.saturating_duration_since(ongoing.first_seen).as_nanos() as u64;
    let blocked_ns = ongoing.since_ns.map_or(seen_for, |since| now_ns.saturating_sub(since));
    BlockedPoll {
        tid: thread.tid,
        thread_name: thread.name.clone(),
        party: Some(ongoing.party),
        syscall,
        blocked_ns,
        ongoing: true,
        frames: ongoing.frames.clone(),
        since_ns: ongoing.since_ns.unwrap_or_else(|| now_ns.saturating_sub(seen_for)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Target,
        probe::{Placement, Registers},
    };

    /// How long the blocks were of which is told, after one that lasted for a second.
    fn told(stopped: bool) -> Vec<u64> {
        let thread = BlockedThread {
            tid: 7,
            since_ns: 5,
            task_id: None,
            placement: Placement::Polling,
            polls: None,
            registers: Registers { orig_rax: 35, ..Registers::default() },
            fs_base: 0,
            uninterruptible: false,
            stopped,
        };
        let snapshot = Snapshot::empty(Target { pid: 1, exe: "/srv".into() });
        let mut blocking = Blocking::default();
        blocking.ended(&Block { thread, duration_ns: 1_000_000_000 }, &snapshot);
        blocking.observe(&snapshot, &[], 2_000_000_000).iter().map(|poll| poll.blocked_ns).collect()
    }

    #[test]
    fn who_is_stopped_blocks_in_nothing() {
        assert_eq!(told(false), [1_000_000_000]);
        assert!(told(true).is_empty());
    }
}

//! Reading ahead: what is needed next is fetched on a thread of its own while what came before is worked on.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use nix::unistd::Pid;

use super::{
    AddressSpace,
    joined::{Joined, read_runs},
};

/// Pieces of memory that were asked for, to be had in the order in which they were.
pub struct Ahead<'m> {
    memory: &'m AddressSpace,
    /// So much is read that whoever keeps what was read may not keep it.
    bulk: bool,
    asked: VecDeque<Asked>,
    worker: Option<Worker>,
    /// Loads whose room is used again.
    spare: Vec<Load>,
}

/// What was asked for.
struct Asked {
    pieces: Arc<Vec<Range<u64>>>,
    /// The worker fetches it. If not it is read when it is wanted: not all of it is in memory, there is no worker, or nothing
    /// else was asked for.
    sent: bool,
}

struct Worker {
    requests: Option<Sender<Load>>,
    replies: Receiver<Load>,
    thread: Option<JoinHandle<()>>,
}

/// Pieces, and room for their bytes.
#[derive(Default)]
struct Load {
    pieces: Arc<Vec<Range<u64>>>,
    /// Which of them were read together, with where the bytes of each such group begin.
    groups: Vec<(usize, Joined)>,
    bytes: Vec<u8>,
    /// All of them were read.
    whole: bool,
}

impl<'m> Ahead<'m> {
    /// Reads from `memory`.
    pub fn new(memory: &'m AddressSpace) -> Self {
        Self { memory, bulk: false, asked: VecDeque::new(), worker: None, spare: Vec::new() }
    }

    /// The same for so much that whoever keeps what was read may not keep it.
    pub fn bulk(memory: &'m AddressSpace) -> Self {
        Self { bulk: true, ..Self::new(memory) }
    }

    /// Asks for pieces.
    pub fn ask(&mut self, pieces: Vec<Range<u64>>) {
        // What is asked for alone is about to be wanted: nothing is gained by a thread.
        let alone = self.worker.is_none() && self.asked.is_empty();
        let pid = if alone { None } else { self.memory.live_and_resident(&pieces) };
        let pieces = Arc::new(pieces);
        if self.worker.is_none() {
            self.worker = pid.and_then(Worker::start);
        }
        let requests = self.worker.as_ref().and_then(|worker| worker.requests.as_ref()).filter(|_| pid.is_some());
        let sent = requests.is_some_and(|requests| {
            let load = Load { pieces: Arc::clone(&pieces), ..self.spare.pop().unwrap_or_default() };
            requests.send(load).is_ok()
        });
        self.asked.push_back(Asked { pieces, sent });
    }

    /// Calls `visit` with the number and the bytes of each piece that was asked for first; `None` for what is not there or not in
    /// memory.
    pub fn take(&mut self, visit: impl FnMut(usize, Option<&[u8]>)) {
        let Some(Asked { pieces, sent }) = self.asked.pop_front() else { return };
        let load = self.worker.as_ref().filter(|_| sent).and_then(|worker| worker.replies.recv().ok());
        if let Some(load) = load.filter(|load| load.whole) {
            load.visit(visit);
            self.spare.push(load);
        } else if self.bulk {
            self.memory.scattered_bulk(&pieces, visit);
        } else {
            self.memory.scattered(&pieces, visit);
        }
    }
}

impl Worker {
    fn start(pid: Pid) -> Option<Self> {
        let (requests, jobs) = channel::<Load>();
        let (done, replies) = channel();
        let work = move || {
            for mut load in jobs {
                load.fetch(pid);
                if done.send(load).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("gordian-read".into()).spawn(work).ok()?;
        Some(Self { requests: Some(requests), replies, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // It ends with its requests, and has nothing to tell.
            let _ended = thread.join();
        }
    }
}

impl Load {
    fn fetch(&mut self, pid: Pid) {
        self.whole = true;
        let (mut first, mut start, mut used) = (0, 0, 0);
        while first < self.pieces.len() {
            if self.groups.len() == used {
                self.groups.push((0, Joined::default()));
            }
            let (at, group) = &mut self.groups[used];
            group.join(&self.pieces[first..]);
            *at = start;
            let end = start + group.total;
            if self.bytes.len() < end {
                self.bytes.resize(end, 0);
            }
            if read_runs(pid, &group.runs, &mut self.bytes[start..end]) != group.total {
                self.whole = false;
                return;
            }
            (first, start, used) = (first + group.places.len(), end, used + 1);
        }
        self.groups.truncate(used);
    }

    fn visit(&self, mut visit: impl FnMut(usize, Option<&[u8]>)) {
        let places = self.groups.iter().flat_map(|(start, group)| group.places.iter().map(move |(_, at)| start + at));
        for (index, (at, piece)) in places.zip(self.pieces.iter()).enumerate() {
            let length = piece.end.saturating_sub(piece.start) as usize;
            visit(index, Some(&self.bytes[at..at + length]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Process, *};

    #[test]
    fn pieces_come_in_the_order_in_which_they_were_asked_for() {
        let words: Vec<u64> = (0..4096).collect();
        let start = words.as_ptr() as u64;
        let process = Process::open(std::process::id() as i32).expect("own process");
        let memory = process.memory(process.mappings().expect("own mappings"), Vec::new()).expect("own memory");
        let mut ahead = Ahead::new(&memory);
        // More than one call of the kernel takes, neighbours and what lies apart; of the third some cannot be read.
        let mut asked: Vec<Vec<Range<u64>>> = (0..3_u64)
            .map(|first| {
                (0..1200).map(|index| index * 3 + first).map(|at| start + at * 8..start + at * 8 + 8).collect()
            })
            .collect();
        asked[1].swap(3, 900);
        asked[2][7] = 8..16;
        for pieces in &asked {
            ahead.ask(pieces.clone());
        }
        for pieces in &asked {
            let mut seen = 0;
            ahead.take(|index, bytes| {
                assert_eq!(index, seen);
                seen += 1;
                let expected = ((pieces[index].start.wrapping_sub(start)) / 8).to_le_bytes();
                assert_eq!(bytes, (pieces[index] != (8..16)).then_some(&expected[..]), "{index}");
            });
            assert_eq!(seen, pieces.len());
        }
    }
}

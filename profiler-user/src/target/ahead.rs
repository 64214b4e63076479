//! Reading ahead: what is needed next is fetched on a thread of its own while what came before is worked on.

use std::{
    collections::VecDeque,
    io::IoSliceMut,
    ops::Range,
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
};

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::AddressSpace;

/// Pieces that the kernel reads in one call (`UIO_MAXIOV`).
const PIECES: usize = 1024;

/// Pieces of memory that were asked for, to be had in the order in which they were.
pub struct Ahead<'m> {
    memory: &'m AddressSpace,
    asked: VecDeque<Asked>,
    worker: Option<Worker>,
    /// A buffer that is used again.
    spare: Vec<Vec<u8>>,
}

/// What was asked for.
enum Asked {
    /// The worker fetches it.
    Sent,
    /// It is read when it is wanted: not all of it is in memory, or there is no worker.
    Later(Vec<Range<u64>>),
}

struct Worker {
    requests: Option<Sender<Load>>,
    replies: Receiver<Load>,
    thread: Option<JoinHandle<()>>,
}

/// Pieces, and room for their bytes one behind the other.
struct Load {
    pieces: Vec<Range<u64>>,
    bytes: Vec<u8>,
    /// All of them were read.
    whole: bool,
}

impl<'m> Ahead<'m> {
    /// Reads from `memory`.
    pub fn new(memory: &'m AddressSpace) -> Self {
        Self { memory, asked: VecDeque::new(), worker: None, spare: Vec::new() }
    }

    /// Asks for pieces: 1024 at most.
    pub fn ask(&mut self, pieces: Vec<Range<u64>>) {
        let pid = self.memory.live_and_resident(&pieces).filter(|_| pieces.len() <= PIECES);
        let Some(pid) = pid else {
            self.asked.push_back(Asked::Later(pieces));
            return;
        };
        if self.worker.is_none() {
            self.worker = Worker::start(pid);
        }
        let load = Load { pieces, bytes: self.spare.pop().unwrap_or_default(), whole: false };
        let asked = match self.worker.as_ref().and_then(|worker| worker.requests.as_ref()) {
            Some(requests) => match requests.send(load) {
                Ok(()) => Asked::Sent,
                // The worker has gone.
                Err(unsent) => Asked::Later(unsent.0.pieces),
            },
            None => Asked::Later(load.pieces),
        };
        self.asked.push_back(asked);
    }

    /// Calls `visit` with the number and the bytes of each piece that was asked for first; `None` for what is not there or not in
    /// memory.
    pub fn take(&mut self, mut visit: impl FnMut(usize, Option<&[u8]>)) {
        let pieces = match self.asked.pop_front() {
            None => return,
            Some(Asked::Later(pieces)) => pieces,
            Some(Asked::Sent) => {
                let Some(Ok(load)) = self.worker.as_ref().map(|worker| worker.replies.recv()) else { return };
                if load.whole {
                    let mut rest = load.bytes.as_slice();
                    for (index, piece) in load.pieces.iter().enumerate() {
                        let (bytes, after) = rest.split_at((piece.end - piece.start) as usize);
                        visit(index, Some(bytes));
                        rest = after;
                    }
                    self.spare.push(load.bytes);
                    return;
                }
                load.pieces
            }
        };
        self.memory.scattered_bulk(&pieces, visit);
    }
}

impl Worker {
    fn start(pid: Pid) -> Option<Self> {
        let (requests, jobs) = channel::<Load>();
        let (done, replies) = channel();
        let work = move || {
            for mut load in jobs {
                fetch(pid, &mut load);
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

fn fetch(pid: Pid, load: &mut Load) {
    let remote: Vec<RemoteIoVec> = load
        .pieces
        .iter()
        .map(|piece| RemoteIoVec { base: piece.start as usize, len: (piece.end - piece.start) as usize })
        .collect();
    let total = remote.iter().map(|piece| piece.len).sum();
    if load.bytes.len() < total {
        load.bytes.resize(total, 0);
    }
    let got = process_vm_readv(pid, &mut [IoSliceMut::new(&mut load.bytes[..total])], &remote);
    load.whole = got.is_ok_and(|got| got == total);
}

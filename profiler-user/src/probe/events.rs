//! The stream of events, off the ring buffers.

use std::{io, time::Duration};

use aya::maps::{MapData, RingBuf};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Interval, MissedTickBehavior},
};

use super::{
    ProbeError,
    decode::{Event, decode},
};

/// How often the ring buffers are looked at without being called. The kernel programs call only when much is waiting.
const TICK: Duration = Duration::from_millis(50);

/// Most records taken before they are handed on.
const BATCH: usize = 4096;

pub(super) type Ring = RingBuf<MapData>;
/// Hands the messages of the kernel programs to the log.
pub(super) type Logger = Box<dyn FnMut() + Send>;

/// Events in the order in which each ring buffer has them: samples in one, blocks and waits in the other.
pub struct EventStream {
    events: AsyncFd<Ring>,
    samples: AsyncFd<Ring>,
    logger: Option<Logger>,
    tick: Interval,
    unknown: u64,
}

impl EventStream {
    pub(super) fn new(events: Ring, samples: Ring, logger: Option<Logger>) -> Result<Self, ProbeError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(ProbeError::Events("there is no tokio runtime here".to_owned()));
        }
        let watch = |ring| {
            // SAFETY: the ring buffer owns its descriptor, always gives the same one, and keeps it open while it lives.
            let watched = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
            watched.map_err(|error| ProbeError::Events(error.to_string()))
        };
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { events: watch(events)?, samples: watch(samples)?, logger, tick, unknown: 0 })
    }

    /// Waits until there is something, and takes what there is. Dropping the future loses nothing.
    pub async fn next_batch(&mut self) -> io::Result<Vec<Event>> {
        loop {
            let batch = self.drain();
            if !batch.is_empty() {
                return Ok(batch);
            }
            tokio::select! {
                ready = self.events.readable() => ready?.clear_ready(),
                ready = self.samples.readable() => ready?.clear_ready(),
                _ = self.tick.tick() => {}
            }
        }
    }

    /// Takes what is there now, without waiting.
    pub fn drain(&mut self) -> Vec<Event> {
        if let Some(logger) = &mut self.logger {
            logger();
        }
        let mut batch = Vec::new();
        for ring in [&mut self.events, &mut self.samples] {
            let ring = ring.get_mut();
            while batch.len() < BATCH
                && let Some(record) = ring.next()
            {
                match decode(&record) {
                    Some(event) => batch.push(event),
                    None => self.unknown += 1,
                }
            }
        }
        batch
    }

    /// Records that this build could not make sense of: the object is from another build.
    pub fn unknown_records(&self) -> u64 {
        self.unknown
    }
}

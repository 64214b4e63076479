//! Records of the ring buffers, as plain values.

use aya::Pod;
use profiler_common::{
    BlockEvent, EVENT_BLOCK, EVENT_SAMPLE, EVENT_WAIT, EventHeader, Placement, Registers, SAMPLE_IN_KERNEL,
    SAMPLE_STACK_CUT, SAMPLE_STACK_UNREADABLE, SampleHead, ThreadState, UNKNOWN_POLLS, WaitEvent,
};

/// A thread that left its CPU to block, as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedThread {
    /// Thread id in gordian's own pid namespace, as in its `/proc`.
    pub tid: i32,
    /// `CLOCK_MONOTONIC` nanoseconds at which it blocked.
    pub since_ns: u64,
    /// The runtime's id of the task it was polling.
    pub task_id: Option<u64>,
    /// Where in its runtime it was.
    pub placement: Placement,
    /// The runtime's count of polls on this worker.
    pub polls: Option<u64>,
    /// Registers in user mode; they hold the system call too, see [`Registers::syscall`].
    pub registers: Registers,
    /// Base of its thread-local storage.
    pub fs_base: u64,
    /// Whether no signal wakes it: it waits for a disk, mostly.
    pub uninterruptible: bool,
    /// Whether it was stopped, by a signal, a debugger or a frozen cgroup, rather than blocked by its own doing.
    pub stopped: bool,
}

/// A block that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The thread as it blocked.
    pub thread: BlockedThread,
    /// Nanoseconds until it was back on a CPU.
    pub duration_ns: u64,
}

/// What a thread was doing at a tick of the sampling clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Thread id in gordian's own pid namespace.
    pub tid: i32,
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
    /// The runtime's id of the task being polled.
    pub task_id: Option<u64>,
    /// Where in its runtime the thread was.
    pub placement: Placement,
    /// The runtime's count of polls on this worker: samples that share it and the task are of one poll.
    pub polls: Option<u64>,
    /// Registers in user mode.
    pub registers: Registers,
    /// Base of its thread-local storage.
    pub fs_base: u64,
    /// Whether the CPU was in the kernel, on the thread's behalf.
    pub in_kernel: bool,
    /// The stack from `registers.rsp` upwards.
    pub stack: Vec<u8>,
    /// Whether the root of the stack is missing, for want of room or because it could not be read.
    pub stack_incomplete: bool,
}

/// A thread entered a traced function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The number its [`super::WaitPoint`] gave.
    pub kind: u32,
    /// Thread id in gordian's own pid namespace.
    pub tid: i32,
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
    /// The runtime's id of the task being polled.
    pub task_id: Option<u64>,
    /// Where in its runtime the thread was.
    pub placement: Placement,
    /// Stack pointer near the entry: locals may have been made room for.
    pub stack_pointer: u64,
    /// The registers of the first four integer arguments: the first two as on entry, the others perhaps used since.
    pub arguments: [u64; 4],
}

/// Something a kernel program has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A block has ended.
    Block(Block),
    /// A tick of the sampling clock.
    Sample(Sample),
    /// A traced function was entered.
    Wait(Wait),
}

/// Reads a plain struct off the front of `bytes`.
pub(super) fn read_pod<T: Pod>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: as many bytes as the struct has; every pattern of them is a value of a `Pod`.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The event in a record; `None` for one of a kind or size that this build does not know.
pub(super) fn decode(record: &[u8]) -> Option<Event> {
    let header: EventHeader = read_pod(record)?;
    match header.kind {
        EVENT_BLOCK => {
            let event: BlockEvent = read_pod(record)?;
            Some(Event::Block(Block { thread: blocked_thread(&event.state), duration_ns: event.duration_ns }))
        }
        EVENT_SAMPLE => {
            let head: SampleHead = read_pod(record)?;
            let stack = record.get(size_of::<SampleHead>()..)?.get(..head.stack_len as usize)?.to_vec();
            Some(Event::Sample(Sample {
                tid: header.tid.cast_signed(),
                at_ns: header.at_ns,
                task_id: task_id(head.task_id),
                placement: Placement::from_raw(head.placement),
                polls: polls(head.polls),
                registers: head.registers,
                fs_base: head.fs_base,
                in_kernel: head.flags & SAMPLE_IN_KERNEL != 0,
                stack,
                stack_incomplete: head.flags & (SAMPLE_STACK_CUT | SAMPLE_STACK_UNREADABLE) != 0,
            }))
        }
        EVENT_WAIT => {
            let event: WaitEvent = read_pod(record)?;
            Some(Event::Wait(Wait {
                kind: event.kind,
                tid: header.tid.cast_signed(),
                at_ns: header.at_ns,
                task_id: task_id(event.task_id),
                placement: Placement::from_raw(event.placement),
                stack_pointer: event.stack_pointer,
                arguments: event.arguments,
            }))
        }
        _ => None,
    }
}

/// `TASK_UNINTERRUPTIBLE` of `include/linux/sched.h`.
const UNINTERRUPTIBLE: u32 = 2;
/// `__TASK_STOPPED`, `__TASK_TRACED` and `TASK_FROZEN` of the same.
const STOPPED: u32 = 4 | 8 | 0x8000;

/// The plain form of a slot of the map of threads.
pub(super) fn blocked_thread(state: &ThreadState) -> BlockedThread {
    BlockedThread {
        tid: state.tid.cast_signed(),
        since_ns: state.since_ns,
        task_id: task_id(state.task_id),
        placement: Placement::from_raw(state.placement),
        polls: polls(state.polls),
        registers: state.registers,
        fs_base: state.fs_base,
        uninterruptible: state.task_state & UNINTERRUPTIBLE != 0,
        stopped: state.task_state & STOPPED != 0,
    }
}

fn task_id(raw: u64) -> Option<u64> {
    (raw != 0).then_some(raw)
}

fn polls(raw: u64) -> Option<u64> {
    (raw != UNKNOWN_POLLS).then_some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_wait_is_read_field_by_field() {
        let record = bytes_of(&[
            EVENT_WAIT,
            77,
            5,
            0,
            /* kind */ 9,
            Placement::Polling as u32,
            12,
            0,
            0x1000,
            0,
            1,
            0,
            2,
            0,
            3,
            0,
            4,
            0,
        ]);
        let Some(Event::Wait(wait)) = decode(&record) else { panic!("not a wait") };
        assert_eq!((wait.kind, wait.tid, wait.at_ns, wait.task_id), (9, 77, 5, Some(12)));
        assert_eq!((wait.placement, wait.stack_pointer, wait.arguments), (Placement::Polling, 0x1000, [1, 2, 3, 4]));
    }

    #[test]
    fn records_that_are_cut_or_unknown_are_no_events() {
        let mut sample = vec![0; size_of::<SampleHead>()];
        sample[..4].copy_from_slice(&EVENT_SAMPLE.to_le_bytes());
        // It claims eight bytes of stack that are not there.
        let stack_len = std::mem::offset_of!(SampleHead, stack_len);
        sample[stack_len] = 8;
        assert_eq!(decode(&sample), None);
        for kind in [0, EVENT_BLOCK, EVENT_SAMPLE, EVENT_WAIT, 99, u32::MAX] {
            for length in 0..24 {
                let mut record = vec![0xff; length];
                record.iter_mut().zip(kind.to_le_bytes()).for_each(|(byte, value)| *byte = value);
                assert_eq!(decode(&record), None);
            }
        }
    }
}

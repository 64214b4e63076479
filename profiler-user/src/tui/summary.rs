//! A task or a thread in a few words: what the columns of the table and the lines of the other panes share.

use std::fmt::Write as _;

use super::{doc::Tone, index::Index, rows, text};
use crate::{
    model::{HoldHow, PartyId, Task, TaskState, Thread, ThreadActivity, Wait, WaitMode},
    session::View,
};

/// The tone of a state.
pub(super) fn state_tone(state: TaskState) -> Tone {
    match state {
        TaskState::Running => Tone::Good,
        TaskState::Scheduled | TaskState::Suspended => Tone::Plain,
        TaskState::Blocked | TaskState::Unknown => Tone::Warn,
        TaskState::Complete => Tone::Dim,
    }
}

/// What a task waits for and who has it: the first of its waits, the others counted.
pub(super) fn wait(task: &Task, view: &View, index: &Index) -> String {
    let waits = index.waits(task.party, view);
    // A wait of the polling thread comes last and is the one that blocks.
    let blocked = (task.state == TaskState::Blocked).then(|| waits.last()).flatten();
    let Some(first) = blocked.or_else(|| waits.first()) else {
        return match task.state {
            TaskState::Scheduled => "a worker",
            TaskState::Suspended | TaskState::Blocked | TaskState::Unknown => "could not be told",
            TaskState::Running | TaskState::Complete => "",
        }
        .to_owned();
    };
    let mut out = one_wait(task.party, first.wait, index);
    if waits.len() > 1 {
        // Writing to a String cannot fail.
        let _ = write!(out, " (+{})", waits.len() - 1);
    }
    out
}

/// The kind of thing that tasks of a group wait for, each for one of its own.
pub(super) fn wait_kind(task: &Task) -> String {
    task.root.waits().next().map_or_else(String::new, |wait| {
        let kind = wait.resource.kind.to_string();
        format!("{} (several)", text::escape(&kind))
    })
}

fn one_wait(party: PartyId, wait: &Wait, index: &Index) -> String {
    let kind = wait.resource.kind.to_string();
    let kind = text::escape(&kind);
    match wait.mode {
        WaitMode::Join => {
            wait.target.map_or_else(|| kind.to_string(), |target| format!("{kind} {}", text::party(target)))
        }
        WaitMode::Deadline { in_ms: Some(ms) } => format!("{kind} {}", text::until(ms)),
        WaitMode::Ready { fd: Some(fd) } => format!("{kind} fd {fd}"),
        WaitMode::Receive => format!("{kind} receive"),
        WaitMode::Send => format!("{kind} send"),
        WaitMode::Acquire { .. } | WaitMode::Unknown => {
            let mut holders = index
                .holders(&wait.resource)
                .iter()
                .filter(|h| matches!(h.how, HoldHow::Guard | HoldHow::AssignedUnpolled));
            match (holders.next(), holders.count()) {
                (None, _) => kind.to_string(),
                (Some(holder), _) if holder.party == party => format!("{kind} ← itself"),
                (Some(holder), 0) => format!("{kind} ← {}", holder_name(holder.party)),
                (Some(holder), more) => format!("{kind} ← {} +{more}", holder_name(holder.party)),
            }
        }
        WaitMode::Deadline { in_ms: None } | WaitMode::Ready { fd: None } | WaitMode::Notified => kind.to_string(),
    }
}

/// A holder in a column: tasks are what is expected there, and go by their bare id.
fn holder_name(party: PartyId) -> String {
    match party {
        PartyId::Task { id, .. } => id.to_string(),
        PartyId::BlockOn { .. } | PartyId::Thread { .. } => text::party(party),
    }
}

/// Where a task waits: the place first, which is short and tells most, then the function's own name.
pub(super) fn leaf(task: &Task) -> String {
    rows::leaf(task).map_or_else(String::new, |frame| {
        let function = text::escape(&frame.function);
        let name = function.rsplit("::").next().unwrap_or(&function);
        match text::location(frame) {
            Some(at) => format!("{} {name}", at.rsplit('/').next().unwrap_or(&at)),
            None => name.to_owned(),
        }
    })
}

/// The name of a state in five columns.
pub(super) fn state_short(state: TaskState) -> &'static str {
    match state {
        TaskState::Running => "run",
        TaskState::Scheduled => "sched",
        TaskState::Suspended => "susp",
        TaskState::Blocked => "block",
        TaskState::Complete => "done",
        TaskState::Unknown => "?",
    }
}

/// `4242 tokio-runtime-w`.
pub(super) fn thread_name(thread: &Thread) -> String {
    format!("{} {}", thread.tid, text::escape(&thread.name))
}

/// What a thread does, and with which task.
pub(super) fn doing(thread: &Thread) -> (Tone, &'static str, Option<PartyId>) {
    match thread.activity {
        ThreadActivity::Parked => (Tone::Dim, "parked: waits for work", None),
        ThreadActivity::Driving => (Tone::Dim, "waits in the I/O and timer driver", None),
        ThreadActivity::Polling(party) => (Tone::Good, "polls", Some(party)),
        ThreadActivity::BlockedIn(party) => (Tone::Warn, "BLOCKED in a poll of", Some(party)),
        ThreadActivity::Blocked => (Tone::Plain, "blocked outside any poll", None),
        ThreadActivity::Running => (Tone::Good, "on CPU outside any poll that was seen", None),
        ThreadActivity::Unknown => (Tone::Warn, "what it does could not be told", None),
    }
}

/// The name of a system call that threads are commonly found blocked in, else its x86-64 number.
///
/// Numbers: `arch/x86/entry/syscalls/syscall_64.tbl` of Linux; they never change.
pub(super) fn syscall(number: i64) -> String {
    let name = match number {
        0 => "read",
        1 => "write",
        2 => "open",
        7 => "poll",
        17 => "pread64",
        18 => "pwrite64",
        19 => "readv",
        20 => "writev",
        23 => "select",
        24 => "sched_yield",
        34 => "pause",
        35 => "nanosleep",
        42 => "connect",
        43 => "accept",
        44 => "sendto",
        45 => "recvfrom",
        46 => "sendmsg",
        47 => "recvmsg",
        61 => "wait4",
        72 => "fcntl",
        73 => "flock",
        74 => "fsync",
        75 => "fdatasync",
        202 => "futex",
        230 => "clock_nanosleep",
        232 => "epoll_wait",
        247 => "waitid",
        257 => "openat",
        270 => "pselect6",
        271 => "ppoll",
        281 => "epoll_pwait",
        288 => "accept4",
        426 => "io_uring_enter",
        441 => "epoll_pwait2",
        449 => "futex_waitv",
        _ => return format!("system call {number}"),
    };
    name.to_owned()
}

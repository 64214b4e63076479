//! Waits and holds as sentences.

use crate::{
    export::format::{address, count, party, place, seconds},
    model::{Buffer, Frame, Hold, HoldHow, ResourceKey, ResourceKind, Wait, WaitMode},
};

/// `tokio::sync::Mutex 0x55d0…`.
pub(super) fn named(key: &ResourceKey) -> String {
    match address(key.address) {
        Some(address) => format!("{} {address}", key.kind),
        None => key.kind.to_string(),
    }
}

/// What a strand waits for, with its place in the queue.
pub(super) fn wait(wait: &Wait) -> String {
    let said = without_place(wait);
    match wait.position {
        Some(0) => format!("{said}, next in its queue"),
        Some(ahead) => format!("{said}, {} ahead in its queue", count(ahead.into(), "waiter")),
        None => said,
    }
}

/// What several tasks wait for alike: without what differs from one to the next.
pub(super) fn kind_wait(wait: &Wait) -> String {
    let mode = match wait.mode {
        WaitMode::Deadline { .. } => WaitMode::Deadline { in_ms: None },
        WaitMode::Ready { .. } => WaitMode::Ready { fd: None },
        mode => mode,
    };
    if mode == WaitMode::Join {
        return "waits for the end of a task".into();
    }
    without_place(&Wait { mode, ..wait.clone() })
}

fn without_place(wait: &Wait) -> String {
    let resource = named(&wait.resource);
    match (&wait.resource.kind, wait.mode) {
        (ResourceKind::Yield, _) => "gave way and will be polled again".into(),
        (ResourceKind::BlockingPool, _) => "waits for work given to the blocking pool".into(),
        (_, WaitMode::Acquire { permits }) if permits > 1 => format!("waits for {permits} permits of {resource}"),
        (_, WaitMode::Acquire { .. }) => format!("waits for {resource}"),
        (_, WaitMode::Receive) => format!("waits for a message from {resource}"),
        (_, WaitMode::Send) => format!("waits for room in {resource}"),
        (_, WaitMode::Join) => match wait.target {
            Some(task) => format!("waits for the end of {}", party(task)),
            None => "waits for the end of a task that is not known".into(),
        },
        (kind, WaitMode::Unknown) if kind.is_thread_lock() => format!("waits for {resource}"),
        (ResourceKind::Other(_), WaitMode::Notified) | (_, WaitMode::Unknown) => {
            format!("waits in {resource}, which gordian does not understand yet")
        }
        (_, WaitMode::Notified) => format!("waits for a notification from {resource}"),
        (_, WaitMode::Deadline { in_ms: Some(ms) }) if ms >= 0 => {
            format!("sleeps, {} left", seconds(ms as f64 / 1e3))
        }
        (_, WaitMode::Deadline { in_ms: Some(ms) }) => {
            format!("sleeps, its time came {} ago", seconds(ms.unsigned_abs() as f64 / 1e3))
        }
        (_, WaitMode::Deadline { in_ms: None }) => "sleeps".into(),
        (_, WaitMode::Ready { fd: Some(fd) }) => format!("waits for descriptor {fd} to be ready"),
        (_, WaitMode::Ready { fd: None }) => "waits for a descriptor to be ready".into(),
    }
}

/// How full a channel is.
pub(super) fn buffer(buffer: Buffer) -> String {
    match buffer.capacity {
        0 => "no room of its own: it hands over from one to the other".into(),
        capacity => format!("{} of {} in it", buffer.length, count(capacity, "message")),
    }
}

/// The function that holds something. Its line is where it is by now, not where it took hold.
pub(super) fn guard_place(frame: &Frame) -> String {
    match place(frame) {
        Some(place) => format!("in {}, now at {place}", frame.function),
        None => format!("in {}", frame.function),
    }
}

/// What strands or threads hold, and in which function; what is given back alike is counted.
pub(super) fn holds<'a>(holds: impl Iterator<Item = &'a Hold>) -> Vec<String> {
    let mut all: Vec<Hold> = Vec::new();
    for hold in holds {
        let alike = |known: &&mut Hold| {
            hold.how == HoldHow::Guard
                && (known.how, &known.resource, &known.site) == (hold.how, &hold.resource, &hold.site)
        };
        match all.iter_mut().find(alike) {
            Some(known) => known.amount = known.amount.saturating_add(hold.amount),
            None => all.push(hold.clone()),
        }
    }
    all.iter().map(one_hold).collect()
}

fn one_hold(hold: &Hold) -> String {
    let resource = named(&hold.resource);
    let writes = hold.resource.kind == ResourceKind::TokioRwLock && hold.amount > 1;
    let mut said = match hold.how {
        HoldHow::Guard if writes => format!("holds {resource} for writing"),
        HoldHow::Reserved if writes => format!("is next to write to {resource}, and keeps new readers out"),
        HoldHow::Guard if hold.resource.kind == ResourceKind::TokioMpsc => {
            format!("has the room of {} in {resource}", count(hold.amount, "message"))
        }
        HoldHow::Guard if hold.amount > 1 => format!("holds {} permits of {resource}", hold.amount),
        HoldHow::Guard => format!("holds {resource}"),
        HoldHow::AssignedUnpolled => format!("was handed {resource} but has not been polled since"),
        HoldHow::Reserved => format!("has {} of the permits it wants of {resource}", hold.amount),
        HoldHow::Sender => format!("owns a sender of {resource}"),
        HoldHow::Receiver => {
            let one_of_many = matches!(hold.resource.kind, ResourceKind::TokioBroadcast | ResourceKind::TokioWatch);
            format!("owns {} receiver of {resource}", if one_of_many { "a" } else { "the" })
        }
        HoldHow::JoinHandle => format!("owns the join handle {resource}"),
    };
    if let Some(frame) = &hold.site {
        said.push_str(", ");
        said.push_str(&guard_place(frame));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_alike_is_counted() {
        let hold = |kind, address, how| Hold { resource: ResourceKey { kind, address }, how, amount: 1, site: None };
        let unread = || hold(ResourceKind::TokioMpsc, 0x10, HoldHow::Guard);
        let sender = || hold(ResourceKind::TokioMpsc, 0x10, HoldHow::Sender);
        let permit = || hold(ResourceKind::TokioSemaphore, 0x20, HoldHow::Guard);
        let all = [unread(), sender(), permit(), unread(), sender(), permit(), unread()];
        let said = [
            "has the room of 3 messages in tokio::sync::mpsc 0x10",
            "owns a sender of tokio::sync::mpsc 0x10",
            "holds 2 permits of tokio::sync::Semaphore 0x20",
            "owns a sender of tokio::sync::mpsc 0x10",
        ];
        assert_eq!(holds(all.iter()), said);
        assert_eq!(holds([unread()].iter()), ["has the room of 1 message in tokio::sync::mpsc 0x10"]);
    }
}

//! Many tasks: the work must grow with tasks and waits, not with their square. A quadratic step makes these last minutes.

use super::build::*;
use crate::model::{HoldHow, ResourceKind, WaitMode};

const TASKS: u64 = 100_000;

#[test]
fn a_long_line_behind_one_deadlock() {
    let mut tasks = vec![
        task(0, strand(acquire(mutex(0x10), 1), vec![guard(mutex(0x20))])),
        task(1, strand(acquire(mutex(0x20), 1), vec![guard(mutex(0x10))])),
    ];
    // Half queue for one lock, half join one another in a chain.
    let line: Vec<(u64, u64)> = std::iter::once(0).chain(2..TASKS / 2).map(|id| (id, 1)).collect();
    tasks.extend((2..TASKS / 2).map(|id| task(id, strand(acquire(mutex(0x10), 1), vec![]))));
    tasks.extend((TASKS / 2..TASKS).map(|id| task(id, strand(join(id - 1), vec![]))));
    let found = only(&process(tasks, vec![queued(mutex(0x10), 1, &line)]));
    assert_eq!((found.tasks.len() as u64, found.effects), (2, TASKS - 2));
}

#[test]
fn one_ring_of_all() {
    let tasks = (0..TASKS)
        .map(|id| task(id, strand(acquire(mutex(0x10_0000 + (id + 1) % TASKS), 1), vec![guard(mutex(0x10_0000 + id))])))
        .collect();
    assert_eq!(only(&process(tasks, vec![])).tasks.len() as u64, TASKS);
}

#[test]
fn a_busy_server_with_one_hot_lock_and_one_channel() {
    let bus = key(ResourceKind::TokioBroadcast, 0x30);
    let tasks = (0..TASKS)
        .map(|id| match id % 3 {
            0 => task(id, strand(acquire(mutex(0x10), 1), vec![])),
            1 => task(id, strand(wait(bus.clone(), WaitMode::Receive), vec![hold(bus.clone(), HoldHow::Sender, 1)])),
            _ => task(id, strand(timer(5), vec![hold(bus.clone(), HoldHow::Sender, 1)])),
        })
        .collect();
    assert_eq!(findings(&process(tasks, vec![])), []);
}

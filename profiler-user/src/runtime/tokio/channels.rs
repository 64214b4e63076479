//! Channels: which of the objects that tasks touch are ends of one, whose they are, and how many there are.
//!
//! A channel is known by the address of its shared part, an `ArcInner`, which begins with the count of its references. Every
//! end is one of those: senders, receivers, and whatever can become one, such as a weak sender. So who could send is who
//! gives back a reference when it is dropped, and all of them were found when as many were found as the object counts. This
//! needs no symbol and no layout: the drop of an end changes something else in the object too, and then the count.
//!
//! Sources: tokio/src/sync/{mpsc/chan,oneshot,broadcast,watch}.rs, 1.28 to 1.54, whose ends each hold an `Arc` of the
//! channel; `ArcInner` in library/alloc/src/sync.rs.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    code::Code,
    ends::{CHANNEL_SPAN, COUNTS},
    resources::{self, is_semaphore, key, waits_mut},
    task::ReadTask,
};
use crate::{
    debuginfo::Module,
    model::{Hold, HoldHow, Resource, ResourceKey, ResourceKind, WaitMode},
    target::Memory,
};

/// More references than any channel has: above it the word is no count.
const REFERENCES_SANE: u64 = 1 << 24;

/// Names every wait and hold on a part of a channel by the channel, and adds the ends that only counts tell.
pub(super) fn settle(
    code: &Code,
    modules: &[Module],
    memory: &dyn Memory,
    tasks: &mut [ReadTask],
    found: &mut Vec<Resource>,
) {
    let rooms: FxHashMap<u64, u64> = tasks.iter().flat_map(|read| read.told().rooms.iter().copied()).collect();
    for resource in found.iter_mut() {
        if let Some(channel) = rooms.get(&resource.key.address) {
            resource.key = key(ResourceKind::TokioMpsc, *channel);
            (resource.permits, resource.receivers) = (None, Some(1));
        }
    }
    for read in tasks.iter_mut() {
        name_by_channel(read, &rooms);
    }
    name_by_sender(tasks);
    let mut received: FxHashMap<u64, ResourceKind> = FxHashMap::default();
    for wait in tasks.iter().flat_map(|read| read.task.root.waits()) {
        if wait.mode == WaitMode::Receive && is_channel(&wait.resource) {
            received.insert(wait.resource.address, wait.resource.kind.clone());
        }
    }
    for read in tasks.iter_mut() {
        add_ends(code, modules, read, &received);
    }
    let mut receivers: FxHashMap<u64, u64> = FxHashMap::default();
    for hold in tasks.iter().flat_map(|read| read.task.root.all_holds()) {
        if hold.how == HoldHow::Receiver {
            *receivers.entry(hold.resource.address).or_default() += 1;
        }
    }
    let places: FxHashMap<u64, usize> =
        found.iter().enumerate().rev().map(|(at, resource)| (resource.key.address, at)).collect();
    for (address, kind) in received {
        let only_one = matches!(kind, ResourceKind::TokioMpsc | ResourceKind::TokioOneshot);
        let counted = memory.read_u64(address).ok().filter(|count| (1..REFERENCES_SANE).contains(count));
        // Who waits has a receiver, also where it could not be told from a sender.
        let receiving = receivers.get(&address).copied().unwrap_or(0).max(1);
        let senders = counted.map(|counted| counted.saturating_sub(receiving));
        let receivers = only_one.then_some(1);
        match places.get(&address) {
            Some(&at) => (found[at].senders, found[at].receivers) = (senders, receivers),
            None => found.push(Resource { senders, receivers, ..Resource::new(key(kind, address)) }),
        }
    }
    found.sort_by_key(|resource| resource.key.address);
}

/// The channels with ends that were found with nobody, as far as somebody waits for an owner of such an end: address, and what
/// is waited for.
pub(super) fn open(tasks: &[ReadTask], resources: &[Resource]) -> FxHashSet<(u64, WaitMode)> {
    let ends = |how: &HoldHow| match how {
        HoldHow::Sender => Some(WaitMode::Receive),
        HoldHow::Receiver => Some(WaitMode::Send),
        _ => None,
    };
    let mut found: FxHashMap<(u64, WaitMode), u64> = FxHashMap::default();
    for hold in tasks.iter().flat_map(|read| read.task.root.all_holds()) {
        if let Some(wait) = ends(&hold.how) {
            *found.entry((hold.resource.address, wait)).or_default() += hold.amount;
        }
    }
    let is_open = |wait: &(u64, WaitMode), exist: Option<u64>| {
        let found = found.get(wait).copied().unwrap_or(0);
        found == 0 || exist.is_none_or(|exist| found < exist)
    };
    let of = |resource: &Resource| {
        let address = resource.key.address;
        [((address, WaitMode::Receive), resource.senders), ((address, WaitMode::Send), resource.receivers)]
    };
    let channels = resources.iter().filter(|resource| is_channel(&resource.key));
    channels.flat_map(of).filter(|(wait, exist)| is_open(wait, *exist)).map(|(wait, _)| wait).collect()
}

fn is_channel(resource: &ResourceKey) -> bool {
    use ResourceKind::{TokioBroadcast, TokioMpsc, TokioOneshot, TokioWatch};
    resource.address != 0 && matches!(resource.kind, TokioMpsc | TokioOneshot | TokioWatch | TokioBroadcast)
}

/// A wait or hold on the semaphore inside of a channel is one on its room; a wait in one of its other parts, on the channel
/// itself.
fn name_by_channel(read: &mut ReadTask, rooms: &FxHashMap<u64, u64>) {
    let ends: Vec<u64> = read
        .task
        .root
        .all_holds()
        .filter(|hold| matches!(hold.how, HoldHow::Sender | HoldHow::Receiver))
        .map(|hold| hold.resource.address)
        .chain(read.told().shares.iter().map(|share| share.base))
        .collect();
    let is_broadcast =
        |hold: &&Hold| hold.how == HoldHow::Receiver && hold.resource.kind == ResourceKind::TokioBroadcast;
    let broadcasts: Vec<u64> =
        read.task.root.all_holds().filter(is_broadcast).map(|hold| hold.resource.address).collect();
    let only_broadcast = if let [only] = broadcasts[..] { only } else { 0 };
    let around = |part: u64| ends.iter().copied().filter(|base| part.wrapping_sub(*base) < CHANNEL_SPAN).max();
    waits_mut(&mut read.task.root, &mut |wait| {
        let resource = &mut wait.resource;
        if let Some(channel) = rooms.get(&resource.address).filter(|_| is_semaphore(resource)) {
            *resource = key(ResourceKind::TokioMpsc, *channel);
            wait.mode = WaitMode::Send;
        } else if resource.kind == ResourceKind::TokioBroadcast && resource.address == 0 {
            resource.address = only_broadcast;
        } else if matches!(resource.kind, ResourceKind::TokioWatch | ResourceKind::TokioBroadcast)
            || resource.kind == ResourceKind::TokioMpsc && wait.mode == WaitMode::Notified
        {
            // Who waits for its end need not have an end of it, and has no use for its counts.
            let alone = if wait.mode == WaitMode::Notified { resource.address } else { 0 };
            resource.address = around(resource.address).unwrap_or(alone);
        }
    });
    for hold in &mut read.task.root.holds {
        if let Some(channel) = rooms.get(&hold.resource.address).filter(|_| is_semaphore(&hold.resource)) {
            hold.resource = key(ResourceKind::TokioMpsc, *channel);
        }
    }
}

/// A wait that nothing is known of but where it keeps its waker is one on the oneshot whose sender wakes by that waker when it
/// is dropped.
fn name_by_sender(tasks: &mut [ReadTask]) {
    let is_sender = |hold: &&Hold| hold.how == HoldHow::Sender && hold.resource.kind == ResourceKind::TokioOneshot;
    let mut woken: FxHashMap<u64, u64> = FxHashMap::default();
    for read in tasks.iter() {
        let mut wakes = read.told().shares.iter().filter_map(|share| Some((share.woke?, share.base))).peekable();
        if wakes.peek().is_none() {
            continue;
        }
        let senders: FxHashSet<u64> =
            read.task.root.all_holds().filter(is_sender).map(|hold| hold.resource.address).collect();
        woken.extend(wakes.filter(|(copy, base)| {
            (COUNTS..CHANNEL_SPAN).contains(&copy.wrapping_sub(*base)) && senders.contains(base)
        }));
    }
    for read in tasks {
        waits_mut(&mut read.task.root, &mut |wait| {
            if let (ResourceKind::Other(_), WaitMode::Notified | WaitMode::Unknown) = (&wait.resource.kind, wait.mode)
                && let Some(channel) = woken.get(&wait.resource.address)
            {
                (wait.resource, wait.mode) = (key(ResourceKind::TokioOneshot, *channel), WaitMode::Receive);
            }
        });
    }
}

/// The ends that a task has of channels which somebody waits to receive from, beyond those whose drop had a name. Which end
/// it is does not always show; it is taken for a sender unless it must be what the task itself waits with. That is on the
/// safe side: who might send is taken to be one who does, once it moves. (A receiver may also be shared, and what the task has
/// of its own is a sender.)
fn add_ends(code: &Code, modules: &[Module], read: &mut ReadTask, received: &FxHashMap<u64, ResourceKind>) {
    let (task, told) = read.parts();
    let root = &mut task.root;
    let mut named: FxHashMap<u64, u64> = FxHashMap::default();
    let mut receives: Vec<u64> =
        root.waits().filter(|wait| wait.mode == WaitMode::Receive).map(|wait| wait.resource.address).collect();
    let is_end = |hold: &&Hold| is_channel(&hold.resource) && matches!(hold.how, HoldHow::Sender | HoldHow::Receiver);
    for hold in root.all_holds().filter(is_end) {
        *named.entry(hold.resource.address).or_default() += 1;
        if hold.how == HoldHow::Receiver {
            receives.retain(|address| *address != hold.resource.address);
        }
    }
    let mut added = Vec::new();
    for share in &told.shares {
        let Some(kind) = received.get(&share.base) else { continue };
        if let Some(left) = named.get_mut(&share.base).filter(|left| **left > 0) {
            *left -= 1;
            continue;
        }
        let is_sender = *kind == ResourceKind::TokioMpsc && share.is_counted_as_sender();
        let how = match receives.iter().position(|address| *address == share.base) {
            Some(at) if !is_sender => {
                receives.swap_remove(at);
                HoldHow::Receiver
            }
            _ => HoldHow::Sender,
        };
        let site = resources::owner(code, modules, &share.path).map(|function| resources::site(function, root));
        added.push(Hold { resource: key(kind.clone(), share.base), how, amount: 1, site });
    }
    root.holds.extend(added);
}

//! Which notifications are the end of those who receive from a channel.
//!
//! `Sender::closed` waits for a `Notify` inside of the channel. Where it was inlined, as it is in a release build, nothing
//! but that place tells: the task has a sender too, and the notification lies in what that sender is an end of. What this
//! is, and how far it reaches, shows where the sender is the last one and its reference as well: then its drop notifies the
//! receivers, and frees the channel. That is the code's doing, and so the same for all that take the same calls.
//!
//! Source: `Shared` in tokio/src/sync/watch.rs, `Chan` in tokio/src/sync/mpsc/chan.rs, 1.38 to 1.54. A watch has several
//! notifications for those who receive, all of which its last sender gives, and one for their end; a channel of messages has
//! the latter alone.

use std::{cell::RefCell, ops::Range, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    classify::{Channel, Sink},
    ends::{CHANNEL_SPAN, COUNTS, Share},
    heap::Header,
    holds::{Dropped, Dropping},
    resources::{key, waits_mut},
    vtables::TaskVtable,
};
use crate::model::{ResourceKind, Strand, WaitMode};

/// What the references are to that the destructors of tasks give back by these calls: `None` where it is no channel.
#[derive(Clone, Default)]
pub(super) struct Known(RefCell<FxHashMap<Calls, Option<Arc<Object>>>>);

/// Call sites that led somewhere, outermost first.
type Calls = Box<[u64]>;

/// Calls that are remembered; beyond, all are forgotten.
const MOST_KNOWN: usize = 1 << 14;

/// A channel, by what the drop of its last sender does.
struct Object {
    channel: Channel,
    /// Bytes, counts included.
    size: u64,
    /// Where in it the notifications for those who receive lie: nowhere but in a watch.
    received: Range<u64>,
}

impl Object {
    /// Whether the notification at this place in it is that of the end of its receivers.
    fn is_closing(&self, at: u64) -> bool {
        at < self.size && !self.received.contains(&at)
    }
}

/// Names by the channel what the task at `header` waits for, where that is the end of a channel's receivers. `dropped` is what
/// its destructor has shown.
pub(super) fn name(
    known: &Known,
    dropping: &Dropping<'_>,
    vtable: &TaskVtable,
    header: &Header,
    dropped: &Dropped,
    root: &mut Strand,
) {
    waits_mut(root, &mut |wait| {
        let notify = wait.resource.address;
        if wait.resource.kind != ResourceKind::TokioNotify || notify == 0 {
            return;
        }
        let found = dropped.shares.iter().find_map(|share| {
            let base = object_around(dropping, share, notify)?;
            let object = known.object(dropping, vtable, header, share, base)?;
            object.is_closing(notify - base).then(|| key(object.channel.kind(), base))
        });
        if let Some(channel) = found {
            (wait.resource, wait.mode) = (channel, WaitMode::Notified);
        }
    });
}

/// Where the object begins that `notify` may lie in: what `share` is a reference to, or what the only thing in there is one to.
fn object_around(dropping: &Dropping<'_>, share: &Share, notify: u64) -> Option<u64> {
    let inner = || dropping.memory.read_u64(share.base + 2 * COUNTS).ok();
    let is_around = |base: &u64| notify.wrapping_sub(*base) < CHANNEL_SPAN;
    Some(share.base).filter(is_around).or_else(|| inner().filter(is_around))
}

impl Known {
    /// What the object at `base` is that `share` leads to.
    fn object(
        &self,
        dropping: &Dropping<'_>,
        vtable: &TaskVtable,
        header: &Header,
        share: &Share,
        base: u64,
    ) -> Option<Arc<Object>> {
        if let Some(known) = self.0.borrow().get(&share.path[..]) {
            return known.clone();
        }
        // The count of senders is lowered before that of references.
        let senders = share.before.filter(|word| word.wrapping_sub(base) < CHANNEL_SPAN);
        let counts: Vec<u64> =
            [share.base, base].into_iter().flat_map(|object| [object, object + COUNTS]).chain(senders).collect();
        let last = dropping.task_with_last(vtable, header, &[], &counts);
        let size = last.freed.iter().find(|freed| freed.start == base).map(|freed| freed.end - freed.start);
        let channel = last.given.iter().find_map(|given| match given.sink {
            Sink::Sender(channel) if given.address == base => Some(channel),
            _ => None,
        });
        let inside = |rung: &Range<u64>| Some(rung.start.checked_sub(base)?..rung.end.checked_sub(base)?);
        let object = channel.zip(size).and_then(|(channel, size)| {
            let rung = last.rung.iter().filter_map(inside).find(|rung| rung.end <= size && !rung.is_empty());
            // Which of its notifications is which shows only where they are given.
            let received = rung.or((channel == Channel::Mpsc).then_some(0..0))?;
            Some(Arc::new(Object { channel, size, received }))
        });
        let mut known = self.0.borrow_mut();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(share.path.as_slice().into(), object.clone());
        object
    }
}

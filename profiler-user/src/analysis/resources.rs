//! What is known of each resource: how much there is of it, who has it, who wants it, and whether that is everyone.

use rustc_hash::FxHashMap;

use super::graph::{NodeId, Owner};
use crate::model::{Grounds, Hold, HoldHow, Resource, ResourceKey, ResourceKind, Snapshot};

/// Index of a resource in the graph.
pub(super) type ResourceId = usize;

/// Kinds under which one object may be named: a reader that cannot tell the primitive around a semaphore still means the
/// same one. Part of a resource's identity, since a semaphore shares its address with the lock inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    /// Permits that move between holders and a queue.
    Permits,
    /// Locks that block a thread, and bare futexes.
    ThreadLock,
    /// Channels.
    Channel,
    /// Everything else.
    Rest,
}

impl Family {
    /// The family of a kind.
    pub(super) fn of(kind: &ResourceKind) -> Self {
        match kind {
            kind if kind.is_permits() => Self::Permits,
            ResourceKind::TokioOnceCell => Self::Permits,
            kind if kind.is_thread_lock() => Self::ThreadLock,
            ResourceKind::Futex => Self::ThreadLock,
            ResourceKind::TokioMpsc
            | ResourceKind::TokioOneshot
            | ResourceKind::TokioWatch
            | ResourceKind::TokioBroadcast => Self::Channel,
            _ => Self::Rest,
        }
    }
}

/// Someone that has some of a resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder<'a> {
    /// Who.
    pub(super) node: NodeId,
    /// What.
    pub(super) hold: &'a Hold,
}

/// Who stands at a place of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A strand or thread that waits there.
    Node(NodeId),
    /// A future of this task (by index) that nobody polls: what it is given stays with it until the task drops it.
    Paused(usize),
}

/// A place in a queue. Places whose party is unknown are left out: an unknown party moves on and takes nothing along.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Who.
    pub(super) waiter: Waiter,
    /// Permits it still wants.
    pub(super) wants: u64,
}

/// One resource with all that touch it.
#[derive(Debug)]
pub(super) struct ResourceNode<'a> {
    /// Identity, under the most telling kind that anyone gave it.
    pub(super) key: ResourceKey,
    /// The snapshot's own record.
    pub(super) record: Option<&'a Resource>,
    /// Two parties name it under kinds that exclude one another.
    pub(super) contradictory: bool,
    /// Guards, assigned and reserved permits.
    pub(super) holders: Vec<Holder<'a>>,
    /// Owners of a sending end.
    pub(super) senders: Vec<Holder<'a>>,
    /// Owners of a receiving end.
    pub(super) receivers: Vec<Holder<'a>>,
    /// Waiters whose order is known, oldest first.
    pub(super) queue: Vec<Slot>,
    /// Waiters for permits whose place is not known, with what they want.
    pub(super) unordered: Vec<(u64, NodeId)>,
    /// Nodes that wait for a message, a thread lock's release, room, or an act of whoever can reach it.
    pub(super) waiting: Vec<NodeId>,
    /// Everyone who can reach it, where that is known.
    pub(super) reachers: Option<Vec<Owner>>,
    /// Those who have permits of it, and the first in its queue, have stood still for so long that whoever might add some to
    /// those that there are, and waits for the outside world only, is taken not to.
    pub(super) at_rest: bool,
}

/// Whether all that could act on a resource were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Accounting {
    /// Everyone was found.
    Closed,
    /// More were found than there can be, so that not all of it is true; what is wrong.
    Likely(String),
    /// Someone else is known to exist, or may well.
    Open,
}

impl Accounting {
    /// Whether the known actors are taken to be all of them.
    pub(super) fn binds(&self, lenient: bool) -> bool {
        match self {
            Self::Closed => true,
            Self::Likely(_) => lenient,
            Self::Open => false,
        }
    }
}

impl ResourceNode<'_> {
    /// Permits that exist in all.
    pub(super) fn total(&self) -> Option<u64> {
        self.record.and_then(|record| record.permits).or(match self.key.kind {
            ResourceKind::TokioMutex | ResourceKind::TokioOnceCell => Some(1),
            _ => None,
        })
    }

    /// Permits that were found with someone.
    pub(super) fn held(&self) -> u64 {
        self.holders.iter().fold(0, |sum, holder| sum.saturating_add(holder.hold.amount))
    }

    /// Permits that a waiter can count on before anyone that was found gives some back: the free ones, and those that are
    /// missing (someone unknown has them, and unknown parties move).
    pub(super) fn spare(&self) -> u64 {
        match self.total() {
            Some(total) => total.saturating_sub(self.held()),
            None => self.record.and_then(|record| record.available).unwrap_or(0),
        }
    }

    /// Whether the permits of this resource are all accounted for.
    pub(super) fn permits(&self) -> Accounting {
        // Holders that were found prove nothing about those that were not.
        let Some(total) = self.total() else { return Accounting::Open };
        if self.contradictory {
            return self.named_twice();
        }
        let available = self.record.and_then(|record| record.available).unwrap_or(0);
        if self.held().saturating_add(available) > total {
            return Accounting::Likely(format!("more of {} was found held or free than exists", self.name()));
        }
        if self.key.kind == ResourceKind::GoSqlDb {
            return Accounting::Likely(format!(
                "everybody who can reach {} may let it have more connections, and a connection comes back when a context \
                 ends on which it depends",
                self.name()
            ));
        }
        self.reach()
    }

    /// Whether all who can reach it are known, where any are.
    pub(super) fn reach(&self) -> Accounting {
        if self.is_searched() {
            return Accounting::Likely(format!(
                "that nobody else can reach {} was told by searching memory for pointers to it",
                self.name()
            ));
        }
        Accounting::Closed
    }

    /// Whether who can reach it was found by searching memory.
    pub(super) fn is_searched(&self) -> bool {
        self.record.is_some_and(|record| record.grounds != Grounds::Counted)
    }

    /// Whether it is a lock that records no owner, and whose owner was found by what the code does.
    pub(super) fn is_suspected(&self) -> bool {
        self.key.kind.is_goroutine_lock() && self.total().is_some()
    }

    /// Whether the release of the lock is up to those who were found to hold it.
    pub(super) fn release(&self) -> Accounting {
        match self.holders.first() {
            None => Accounting::Open,
            Some(_) if self.is_suspected() => Accounting::Likely(format!(
                "{} records no owner: who holds it was read off the code that took it",
                self.name()
            )),
            Some(_) => Accounting::Closed,
        }
    }

    /// Whether every owner of a sending end was found.
    pub(super) fn sending_ends(&self) -> Accounting {
        let one = matches!(self.key.kind, ResourceKind::TokioOneshot).then_some(1);
        self.ends("sender", &self.senders, self.record.and_then(|record| record.senders).or(one))
    }

    /// Whether every owner of a receiving end was found.
    pub(super) fn receiving_ends(&self) -> Accounting {
        let one = matches!(self.key.kind, ResourceKind::TokioMpsc | ResourceKind::TokioOneshot).then_some(1);
        self.ends("receiver", &self.receivers, self.record.and_then(|record| record.receivers).or(one))
    }

    fn ends(&self, which: &str, owners: &[Holder<'_>], exist: Option<u64>) -> Accounting {
        let found = owners.iter().fold(0_u64, |sum, owner| sum.saturating_add(owner.hold.amount));
        match exist {
            None => Accounting::Open,
            Some(exist) if found == 0 || found < exist => Accounting::Open,
            Some(exist) if found > exist => {
                Accounting::Likely(format!("{found} {which}s of {} were found, and it counts {exist}", self.name()))
            }
            Some(_) if self.contradictory => self.named_twice(),
            Some(_) => Accounting::Closed,
        }
    }

    fn named_twice(&self) -> Accounting {
        Accounting::Likely(format!("{} is named under kinds that exclude one another", self.name()))
    }

    /// In words: its kind and where it is.
    pub(super) fn name(&self) -> String {
        format!("{} {:#x}", self.key.kind, self.key.address)
    }

    /// Whether one holder excludes every other, so that of two that were found one must be wrong.
    pub(super) fn exclusive(&self) -> bool {
        !matches!(self.key.kind, ResourceKind::StdRwLock | ResourceKind::ParkingLotRwLock)
    }
}

/// All resources of a snapshot, found by family and address.
#[derive(Debug, Default)]
pub(super) struct Resources<'a> {
    /// In the order in which they were first named.
    pub(super) all: Vec<ResourceNode<'a>>,
    by_address: FxHashMap<(Family, u64), ResourceId>,
}

impl<'a> Resources<'a> {
    /// The records of a snapshot, with nobody at them yet.
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let mut resources = Self::default();
        for record in &snapshot.resources {
            if let Some(id) = resources.intern(&record.key) {
                resources.all[id].record = Some(record);
            }
        }
        resources
    }

    /// The resource that `key` names; `None` for an address that was not read.
    pub(super) fn intern(&mut self, key: &ResourceKey) -> Option<ResourceId> {
        if key.address == 0 {
            return None;
        }
        let id = *self.by_address.entry((Family::of(&key.kind), key.address)).or_insert_with(|| {
            self.all.push(ResourceNode {
                key: key.clone(),
                record: None,
                contradictory: false,
                holders: Vec::new(),
                senders: Vec::new(),
                receivers: Vec::new(),
                queue: Vec::new(),
                unordered: Vec::new(),
                waiting: Vec::new(),
                reachers: None,
                at_rest: false,
            });
            self.all.len() - 1
        });
        let known = &mut self.all[id];
        if known.key.kind != key.kind {
            if is_vague(&known.key.kind) {
                known.key.kind = key.kind.clone();
            } else if !is_vague(&key.kind) {
                known.contradictory = true;
            }
        }
        Some(id)
    }

    /// The resource that `key` names, where anyone named it before.
    pub(super) fn get(&self, key: &ResourceKey) -> Option<ResourceId> {
        self.by_address.get(&(Family::of(&key.kind), key.address)).copied()
    }

    /// Notes that `node` has `hold`.
    pub(super) fn add_hold(&mut self, node: NodeId, hold: &'a Hold) {
        let Some(id) = self.intern(&hold.resource) else { return };
        let resource = &mut self.all[id];
        let holder = Holder { node, hold };
        match hold.how {
            HoldHow::Guard | HoldHow::AssignedUnpolled | HoldHow::Reserved => resource.holders.push(holder),
            HoldHow::Sender => resource.senders.push(holder),
            HoldHow::Receiver => resource.receivers.push(holder),
            HoldHow::JoinHandle => {}
        }
    }
}

/// Whether a kind says only the family.
fn is_vague(kind: &ResourceKind) -> bool {
    matches!(kind, ResourceKind::TokioBatchSemaphore | ResourceKind::Futex)
}

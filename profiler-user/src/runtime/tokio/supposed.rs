//! Suppositions: that nobody can reach a thing but those who were found with it.
//!
//! To show it takes a search of all memory ([`super::retainers`]), which is worth its price only where somebody would be accused.
//! So it is supposed first, and whoever is accused then decides what is searched for. What is not confirmed is taken back, and no
//! finding rests on it.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{read::Tokio, retainers::Search, roots::Root};
use crate::{
    model::{
        Grounds, HoldHow, PartyId, Resource, ResourceKey, ResourceKind, Snapshot, Task, TaskState, Wait, WaitMode,
    },
    runtime::World,
};

/// Tasks in which this is worth asking, at most.
const MOST_TASKS: usize = 1000;
/// Waits that are not understood, at most: more are what a service does all day.
const MOST_STRANGE: usize = 64;
/// Things that are searched for in one look, at most.
const MOST_SEARCHES: usize = 8;
/// For so many looks nothing is supposed of a thing that others were found to reach; twice as long each time, up to the latter.
const BELIEVED_FOR: u32 = 20;
const BELIEVED_MOST: u32 = 1000;

/// Things that others were found to reach, by address.
#[derive(Default)]
pub(super) struct Refuted(FxHashMap<u64, Belief>);

/// For how many looks it is believed, and how many have passed since.
struct Belief {
    looks: u32,
    passed: u32,
}

impl Refuted {
    /// The next look begins.
    fn pass(&mut self) {
        self.0.retain(|_, belief| {
            belief.passed += 1;
            belief.passed < 2 * belief.looks
        });
    }

    fn holds(&self, thing: u64) -> bool {
        self.0.get(&thing).is_some_and(|belief| belief.passed < belief.looks)
    }

    fn add(&mut self, thing: u64) {
        let looks = self.0.get(&thing).map_or(BELIEVED_FOR, |belief| (2 * belief.looks).min(BELIEVED_MOST));
        self.0.insert(thing, Belief { looks, passed: 0 });
    }
}

/// Supposes it of everything that a task waits for and of which nobody counts who can reach it.
pub(super) fn suppose(snapshot: &mut Snapshot, refuted: &mut Refuted) {
    refuted.pass();
    if snapshot.tasks.len() > MOST_TASKS {
        return;
    }
    let mut touched: FxHashMap<ResourceKey, Vec<PartyId>> = FxHashMap::default();
    for task in &snapshot.tasks {
        let is_told = |wait: &&Wait| !matches!(wait.mode, WaitMode::Unknown | WaitMode::Join);
        let waits = task.root.waits().filter(is_told).map(|wait| &wait.resource);
        for key in waits.chain(task.root.all_holds().map(|hold| &hold.resource)).filter(|key| is_asked(key)) {
            if !refuted.holds(key.address) {
                let who = touched.entry(key.clone()).or_default();
                who.extend(Some(task.party).filter(|party| who.last() != Some(party)));
            }
        }
    }
    let of_semaphores = touched.iter().filter(|(key, _)| key.kind.is_semaphore());
    let counted: FxHashMap<ResourceKey, u64> =
        of_semaphores.filter_map(|(key, who)| Some((key.clone(), permits(snapshot, key, who)?))).collect();
    let is_strange = |key: &ResourceKey| matches!(key.kind, ResourceKind::Other(_));
    let few = touched.keys().filter(|key| is_strange(key)).count() <= MOST_STRANGE;
    touched.retain(|key, _| if key.kind.is_semaphore() { counted.contains_key(key) } else { few || !is_strange(key) });
    let suppose = |resource: &mut Resource, who| {
        if resource.reachable_by.is_none() {
            (resource.reachable_by, resource.grounds) = (Some(who), Grounds::Supposed);
            resource.permits = resource.permits.or(counted.get(&resource.key).copied());
        }
    };
    for resource in &mut snapshot.resources {
        if let Some(who) = touched.remove(&resource.key) {
            suppose(resource, who);
        }
    }
    snapshot.resources.extend(touched.into_iter().map(|(key, who)| {
        let mut resource = Resource::new(key);
        suppose(&mut resource, who);
        resource
    }));
}

/// Confirms what was supposed of things that those who are `accused` wait for, or takes it back. Whether that changes anything for
/// them.
pub(super) fn settle(
    tokio: &mut Tokio,
    world: &World<'_>,
    roots: &[Root<'_>],
    snapshot: &mut Snapshot,
    accused: &[PartyId],
) -> bool {
    let supposed = |resource: &Resource| resource.grounds == Grounds::Supposed;
    if !snapshot.resources.iter().any(supposed) {
        return false;
    }
    let accused: FxHashSet<PartyId> = accused.iter().copied().collect();
    let stuck = snapshot.tasks.iter().filter(|task| accused.contains(&task.party));
    let wanted: FxHashSet<ResourceKey> =
        stuck.flat_map(|task| task.root.waits()).map(|wait| wait.resource.clone()).collect();
    let search = if wanted.is_empty() { None } else { Search::new(tokio, world, roots, snapshot) };
    let (mut searches, mut others) = (0, Vec::new());
    for at in 0..snapshot.resources.len() {
        if !supposed(&snapshot.resources[at]) {
            continue;
        }
        let key = snapshot.resources[at].key.clone();
        let mut known = None;
        if let Some(search) = search.as_ref().filter(|_| wanted.contains(&key) && searches < MOST_SEARCHES) {
            searches += 1;
            known = search.who_leads_to(key.address);
            others.extend(known.is_none().then_some(key.address));
        }
        let permits = known.as_deref().and_then(|who| permits(snapshot, &key, who));
        let resource = &mut snapshot.resources[at];
        if key.kind.is_semaphore() {
            resource.permits = permits;
        }
        (resource.reachable_by, resource.grounds) = match known {
            Some(who) if permits.is_some() || !key.kind.is_semaphore() => (Some(who), Grounds::Searched),
            _ => (None, Grounds::Counted),
        };
    }
    for thing in others {
        tokio.refuted.add(thing);
    }
    !wanted.is_empty()
}

/// Whether tokio keeps no record of who can act on it.
fn is_asked(key: &ResourceKey) -> bool {
    use ResourceKind::{
        Other, TokioBarrier, TokioBatchSemaphore, TokioBroadcast, TokioMpsc, TokioNotify, TokioOneshot, TokioSemaphore,
        TokioWatch,
    };
    let is_semaphore = matches!(key.kind, TokioSemaphore | TokioBatchSemaphore);
    let is_rung = matches!(key.kind, TokioNotify | TokioBarrier | TokioWatch | Other(_));
    let is_channel = matches!(key.kind, TokioMpsc | TokioOneshot | TokioBroadcast);
    key.address != 0 && (is_semaphore || is_rung || is_channel)
}

/// How many permits a semaphore has, if none but `who` can reach it: what is free, and what they hold. `None` where one of them
/// was not read whole, and where some are on their way to one who waits.
fn permits(snapshot: &Snapshot, key: &ResourceKey, who: &[PartyId]) -> Option<u64> {
    let resource = snapshot.resources.iter().find(|resource| resource.key == *key)?;
    let is_one = |task: &&Task| who.contains(&task.party);
    let mut held = 0;
    for task in snapshot.tasks.iter().filter(is_one) {
        if task.incomplete.is_some() || task.unstable || task.state != TaskState::Suspended {
            return None;
        }
        let holds = task.root.all_holds().filter(|hold| hold.resource == *key);
        held += holds.filter(|hold| hold.how == HoldHow::Guard).map(|hold| hold.amount).sum::<u64>();
        for wait in task.root.waits().filter(|wait| wait.resource == *key) {
            let entry = resource.queue.get(wait.position? as usize)?;
            let WaitMode::Acquire { permits } = wait.mode else { return None };
            (entry.wants == Some(permits)).then_some(())?;
        }
    }
    resource.queue_known.then(|| held.checked_add(resource.available?)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refuted_again_is_believed_longer() {
        let mut refuted = Refuted::default();
        let mut lasts = || {
            refuted.add(0x10);
            let looks = std::iter::from_fn(|| refuted.holds(0x10).then(|| refuted.pass())).count() as u32;
            assert!(!refuted.holds(0x20));
            looks
        };
        let lasted: Vec<u32> = (0..8).map(|_| lasts()).collect();
        assert_eq!(lasted, [20, 40, 80, 160, 320, 640, BELIEVED_MOST, BELIEVED_MOST]);
        (0..BELIEVED_MOST).for_each(|_| refuted.pass());
        assert!(refuted.0.is_empty(), "nobody asks any more");
    }
}

//! Work that stands in the queue of a blocking pool: who could begin it.
//!
//! Source: `Spawner::spawn_task` in tokio/src/runtime/blocking/pool.rs, 1.28 to 1.54: new work goes to an idle thread, or else to
//! a new one, unless there are as many as there may be. So what is still in the queue a look later waits for one of the
//! threads that there are.

use rustc_hash::FxHashSet;

use super::{heap::Header, resources::key, task::ReadTask};
use crate::model::{PartyId, Resource, ResourceKind, Thread, ThreadActivity, ThreadRole};

/// Adds what is known of work that somebody waits for and nobody has begun: nothing where any thread may be one of a pool.
pub(super) fn note(headers: &[Header], threads: &[Thread], tasks: &[ReadTask], resources: &mut Vec<Resource>) {
    let waits = tasks.iter().flat_map(|read| read.task.root.waits());
    let awaited = waits.filter(|wait| wait.resource.kind == ResourceKind::BlockingPool && wait.target.is_none());
    let awaited: FxHashSet<u64> = awaited.map(|wait| wait.resource.address).collect();
    let in_queue = |header: &&Header| {
        header.owner == 0
            && !header.state.is_running()
            && !header.state.is_complete()
            && awaited.contains(&header.address)
    };
    if awaited.is_empty() || threads.iter().any(|thread| thread.role == ThreadRole::Unknown) {
        return;
    }
    let pool: Vec<PartyId> =
        threads.iter().filter(|thread| may_begin(thread)).map(|thread| PartyId::Thread { tid: thread.tid }).collect();
    if pool.is_empty() {
        return;
    }
    for header in headers.iter().filter(in_queue) {
        let resource = Resource::new(key(ResourceKind::BlockingPool, header.address));
        resources.push(Resource { reachable_by: Some(pool.clone()), ..resource });
    }
}

/// Whether a thread begins work of a pool, now or when it is done with what it does: a worker that has given its duties away for
/// `block_in_place` becomes a thread of the pool.
fn may_begin(thread: &Thread) -> bool {
    match thread.role {
        ThreadRole::BlockingPool => true,
        ThreadRole::Worker(_) => !matches!(thread.activity, ThreadActivity::Parked | ThreadActivity::Driving),
        ThreadRole::BlockOn | ThreadRole::Plain | ThreadRole::Unknown => false,
    }
}

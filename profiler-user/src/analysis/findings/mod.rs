//! One file for each kind of finding (the permanent ones share theirs): what counts, and how it is said.

pub(super) mod blocked_worker;
pub(super) mod permanent;
pub(super) mod stalled;
mod summary;

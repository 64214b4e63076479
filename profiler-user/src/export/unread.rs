//! Why tasks were not read whole.

use std::collections::BTreeMap;

use crate::model::Task;

/// The reasons with the number of tasks that each keeps from being known, the commonest first.
pub(super) fn reasons(tasks: &[Task]) -> Vec<(&str, u64)> {
    let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
    for why in tasks.iter().filter(|task| task.is_opaque()).filter_map(|task| task.incomplete.as_deref()) {
        *counted.entry(why).or_default() += 1;
    }
    let mut reasons: Vec<_> = counted.into_iter().collect();
    reasons.sort_by_key(|(_, tasks)| std::cmp::Reverse(*tasks));
    reasons
}

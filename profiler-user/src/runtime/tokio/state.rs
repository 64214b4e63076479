//! The state word of a task.
//!
//! Source: tokio/src/runtime/task/state.rs, the same from 1.20 to 1.54: six flags, then the reference count.

use crate::model::TaskState;

/// Set while a thread polls the task.
pub(super) const RUNNING: u64 = 1;
const COMPLETE: u64 = 1 << 1;
/// Set while the task stands in a run queue, or is about to.
pub(super) const NOTIFIED: u64 = 1 << 2;
/// Set while a `JoinHandle` exists.
const JOIN_INTEREST: u64 = 1 << 3;
const REF_SHIFT: u32 = 6;
/// One more reference.
pub(super) const REFERENCE: u64 = 1 << REF_SHIFT;

/// More references than any live task has: above it the word is something else's.
const REFS_SANE: u64 = 1 << 24;

/// `Header::state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StateWord(pub(super) u64);

impl StateWord {
    /// Whether it can be the state of a live task: referenced, and not running and complete at once.
    pub(super) fn plausible(self) -> bool {
        let refs = self.0 >> REF_SHIFT;
        (1..REFS_SANE).contains(&refs) && self.0 & (RUNNING | COMPLETE) != RUNNING | COMPLETE
    }

    /// Wakers of a suspended task that are registered somewhere, at most: the list of its runtime has one of the references
    /// and its `JoinHandle` one, the rest are wakers and abort handles.
    pub(super) fn wakers(self) -> u64 {
        let others = 1 + u64::from(self.0 & JOIN_INTEREST != 0);
        (self.0 >> REF_SHIFT).saturating_sub(others)
    }

    pub(super) fn is_running(self) -> bool {
        self.0 & RUNNING != 0
    }

    pub(super) fn is_complete(self) -> bool {
        self.0 & COMPLETE != 0
    }

    pub(super) fn task_state(self) -> TaskState {
        if self.is_complete() {
            TaskState::Complete
        } else if self.is_running() {
            TaskState::Running
        } else if self.0 & NOTIFIED != 0 {
            TaskState::Scheduled
        } else {
            TaskState::Suspended
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_apart() {
        let with = |flags: u64| StateWord(2 << REF_SHIFT | flags);
        assert_eq!(with(0).task_state(), TaskState::Suspended);
        assert_eq!(with(NOTIFIED).task_state(), TaskState::Scheduled);
        assert_eq!(with(RUNNING | NOTIFIED).task_state(), TaskState::Running);
        assert_eq!(with(COMPLETE).task_state(), TaskState::Complete);
    }

    #[test]
    fn wakers_are_what_no_list_or_handle_refers_by() {
        assert_eq!(StateWord(2 << REF_SHIFT).wakers(), 1);
        assert_eq!(StateWord(2 << REF_SHIFT | JOIN_INTEREST).wakers(), 0);
        assert_eq!(StateWord(0).wakers(), 0);
    }

    #[test]
    fn freed_and_foreign_words_are_not_states() {
        assert!(!StateWord(COMPLETE).plausible(), "no reference is left");
        assert!(!StateWord(0x7fff_1234_5678).plausible(), "a pointer");
        assert!(!StateWord(1 << REF_SHIFT | RUNNING | COMPLETE).plausible());
        assert!(StateWord(1 << REF_SHIFT).plausible());
    }
}

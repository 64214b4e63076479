//! Tasks that wait alike: the same future at the same await, seen once with a count.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use crate::model::{Fork, Frame, ResourceKind, Strand, Task, TaskState};

/// Tasks of one type with equal await stacks, which wait for the same kinds of thing.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// Its tasks, in the order of the snapshot; never empty.
    pub tasks: Vec<&'a Task>,
}

impl Group<'_> {
    /// The task that stands for all of them.
    pub fn first(&self) -> &Task {
        self.tasks[0]
    }

    /// How many are in each state.
    pub fn states(&self) -> BTreeMap<TaskState, u64> {
        let mut states = BTreeMap::new();
        for task in &self.tasks {
            *states.entry(task.state).or_default() += 1;
        }
        states
    }

    /// The distinct addresses that their root chains wait at; those not read are left out.
    pub fn wait_addresses(&self) -> BTreeSet<u64> {
        let waits = self.tasks.iter().filter_map(|task| task.root.wait.as_ref());
        waits.map(|wait| wait.resource.address).filter(|&address| address != 0).collect()
    }

    /// The longest time that one of them is known to have been in its state, seconds.
    pub fn longest_s(&self) -> Option<f64> {
        self.tasks.iter().filter_map(|task| task.since).map(|since| since.at_least_s).max_by(f64::total_cmp)
    }
}

/// Groups tasks by type and equal await stack; biggest first, then by type name.
pub fn group<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Vec<Group<'a>> {
    let mut index: HashMap<Vec<Token<'a>>, usize> = HashMap::new();
    let mut groups: Vec<Group<'a>> = Vec::new();
    for task in tasks {
        let mut key = vec![Token::Type(&task.name)];
        tokens(&task.root, &mut key);
        let at = *index.entry(key).or_insert_with(|| {
            groups.push(Group { tasks: Vec::new() });
            groups.len() - 1
        });
        groups[at].tasks.push(task);
    }
    groups.sort_by(|a, b| (Reverse(a.tasks.len()), &a.first().name).cmp(&(Reverse(b.tasks.len()), &b.first().name)));
    groups
}

/// A tree of strands laid out flat, so that equal trees are equal lists.
#[derive(PartialEq, Eq, Hash)]
enum Token<'a> {
    Type(&'a str),
    Frame(&'a Frame),
    Wait(&'a ResourceKind),
    Fork(Fork),
    Close,
}

fn tokens<'a>(strand: &'a Strand, out: &mut Vec<Token<'a>>) {
    out.extend(strand.frames.iter().map(Token::Frame));
    out.extend(strand.wait.iter().map(|wait| Token::Wait(&wait.resource.kind)));
    if !strand.children.is_empty() {
        out.push(Token::Fork(strand.fork));
        for child in &strand.children {
            tokens(child, out);
        }
        out.push(Token::Close);
    }
    out.push(Token::Close);
}

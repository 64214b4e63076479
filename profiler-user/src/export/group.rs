//! Tasks that wait alike: the same future at the same await, seen once with a count.

use std::{cmp::Reverse, collections::BTreeMap};

use rustc_hash::FxHashMap;

use crate::model::{Fork, Frame, ResourceKind, Strand, Task, TaskState};

/// Tasks of one type, started at one place, with equal await stacks, which wait for the same kinds of thing.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// Its tasks, in the order of the snapshot; never empty.
    pub tasks: Vec<&'a Task>,
    /// How many more than in an earlier snapshot, where there was one to compare with.
    pub grown: Option<i64>,
}

impl Group<'_> {
    /// The task that stands for all of them.
    pub fn first(&self) -> &Task {
        self.tasks[0]
    }

    /// How many are in each state.
    pub fn states(&self) -> BTreeMap<TaskState, u64> {
        let mut states = BTreeMap::new();
        // Most are in the same as the one before.
        for alike in self.tasks.chunk_by(|one, next| one.state == next.state) {
            *states.entry(alike[0].state).or_default() += alike.len() as u64;
        }
        states
    }

    /// How many distinct addresses their root chains wait at; those not read are left out.
    pub fn wait_addresses(&self) -> usize {
        let waits = self.tasks.iter().filter_map(|task| task.root.wait.as_ref());
        let addresses = waits.map(|wait| wait.resource.address).filter(|&address| address != 0);
        let mut addresses: Vec<u64> = addresses.collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.len()
    }

    /// The longest time that one of them is known to have been in its state, seconds.
    pub fn longest_s(&self) -> Option<f64> {
        self.tasks.iter().filter_map(|task| task.since).map(|since| since.at_least_s).max_by(f64::total_cmp)
    }
}

/// Groups tasks by type, place of start and equal await stack; biggest first, then by type name.
pub fn group<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Vec<Group<'a>> {
    let mut index: FxHashMap<Vec<Token<'a>>, usize> = FxHashMap::default();
    let mut alike: FxHashMap<Alike<'a>, usize> = FxHashMap::default();
    let mut groups: Vec<Group<'a>> = Vec::new();
    for task in tasks {
        let mut find = || {
            *index.entry(key(task)).or_insert_with(|| {
                groups.push(Group { tasks: Vec::new(), grown: None });
                groups.len() - 1
            })
        };
        let at = match Alike::of(task) {
            Some(known) => *alike.entry(known).or_insert_with(find),
            None => find(),
        };
        groups[at].tasks.push(task);
    }
    groups.sort_by(|a, b| (Reverse(a.tasks.len()), &a.first().name).cmp(&(Reverse(b.tasks.len()), &b.first().name)));
    groups
}

/// The groups of `tasks` of which there are more than there were among `before`: those that grew most first.
pub fn grown<'a>(
    tasks: impl IntoIterator<Item = &'a Task>,
    before: impl IntoIterator<Item = &'a Task>,
) -> Vec<Group<'a>> {
    let mut counts: FxHashMap<Vec<Token<'a>>, i64> = FxHashMap::default();
    for task in before {
        *counts.entry(key(task)).or_default() += 1;
    }
    let mut groups = group(tasks);
    groups.retain_mut(|group| {
        let grown = group.tasks.len() as i64 - counts.get(&key(group.tasks[0])).copied().unwrap_or(0);
        group.grown = Some(grown);
        grown > 0
    });
    groups.sort_by_key(|group| Reverse(group.grown));
    groups
}

/// What tells without a look at any text that two tasks are of one group: where the same texts lie. Tasks that differ in it may
/// be of one group all the same.
#[derive(PartialEq, Eq, Hash)]
struct Alike<'a> {
    name: *const u8,
    frames: (*const Frame, usize),
    origin: Option<(*const u8, Option<*const u8>, Option<u32>)>,
    wait: Option<&'a ResourceKind>,
}

impl<'a> Alike<'a> {
    /// `None` for a task that forks.
    fn of(task: &'a Task) -> Option<Self> {
        let Strand { frames, wait, children, .. } = &task.root;
        let site = task.origin.as_ref().and_then(|origin| origin.site.as_ref());
        children.is_empty().then(|| Self {
            name: task.name.as_ptr(),
            frames: (frames.as_ptr(), frames.len()),
            origin: site.map(|site| (site.function.as_ptr(), site.file.as_ref().map(|file| file.as_ptr()), site.line)),
            wait: wait.as_ref().map(|wait| &wait.resource.kind),
        })
    }
}

/// What the tasks of one group have in common.
fn key(task: &Task) -> Vec<Token<'_>> {
    let mut key = vec![Token::Type(&task.name)];
    key.extend(task.origin.iter().filter_map(|origin| origin.site.as_ref()).map(Token::Origin));
    tokens(&task.root, &mut key);
    key
}

/// A tree of strands laid out flat, so that equal trees are equal lists.
#[derive(PartialEq, Eq, Hash)]
enum Token<'a> {
    Type(&'a str),
    Origin(&'a Frame),
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

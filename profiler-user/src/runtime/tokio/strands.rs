//! From the leaves that a dry poll reached to a task's strands: shared calls are the parent, and where the paths part, a
//! strand begins for each.

use std::{cell::RefCell, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    children,
    classify::{self, Role},
    code::{Code, SiteFrame},
    holds::Dropped,
    poll::{Hit, Polled, Step},
    read::UNNAMED,
    resources::{self, Async},
};
use crate::{
    debuginfo::Module,
    model::{Fork, Frame, ResourceKey, ResourceKind, Strand, Wait, WaitMode},
};

/// One frame of a path, with what tells it from the same function called elsewhere.
#[derive(Clone, Debug)]
struct PathFrame {
    invocation: u64,
    site: SiteFrame,
}

impl PathFrame {
    fn same_as(&self, other: &Self) -> bool {
        self.invocation == other.invocation && self.site.frame == other.site.frame
    }
}

/// Strands by the calls that led to their leaves, all that decides on them but the waits: tasks that stand alike share them.
#[derive(Clone, Default)]
pub(super) struct Known(RefCell<FxHashMap<Box<[u64]>, Arc<Shape>>>);

/// Ways to stand that are remembered; beyond, all are forgotten.
const MOST_KNOWN: usize = 1 << 14;

/// How tasks stand whose polls took the same calls.
struct Shape {
    /// Of each hit, the functions around it.
    functions: Vec<Vec<Arc<str>>>,
    /// Its waits have the number of their hit for an address.
    strand: Strand,
}

/// Builds the strands of a task. `wait` reads what a hit waits for, given the functions around it.
pub(super) fn build(
    code: &Code,
    modules: &[Module],
    polled: &Polled,
    dropped: &Dropped,
    mut wait: impl FnMut(&Hit, &[Arc<str>]) -> Wait,
) -> Strand {
    let drops: Vec<&[u64]> = polled.hits.iter().map(|hit| drop_of(hit, dropped)).collect();
    let key = key(polled, &drops);
    let known = code.strands.0.borrow().get(&key).cloned();
    let shape = known.unwrap_or_else(|| {
        let shape = Arc::new(shape(code, modules, polled, &drops));
        let mut known = code.strands.0.borrow_mut();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(key, Arc::clone(&shape));
        shape
    });
    let waits: Vec<Wait> = polled.hits.iter().zip(&shape.functions).map(|(hit, around)| wait(hit, around)).collect();
    let mut strand = shape.strand.clone();
    if !waits.is_empty() {
        fill(&mut strand, &waits);
    }
    strand
}

/// Puts the waits of the hits in the places that their numbers have.
fn fill(strand: &mut Strand, waits: &[Wait]) {
    if let Some(wait) = &mut strand.wait
        && let Some(found) = waits.get(wait.resource.address as usize)
    {
        wait.clone_from(found);
    }
    strand.children.iter_mut().for_each(|child| fill(child, waits));
}

/// The calls by which a leaf was dropped; none where it was not, or by code without a name.
fn drop_of<'d>(hit: &Hit, dropped: &'d Dropped) -> &'d [u64] {
    let this = |(address, _): &&(u64, Vec<u64>)| hit.leaf.is_some() && *address == hit.this;
    dropped.leaves.iter().find(this).map_or(&[], |(_, path)| path)
}

/// All of a poll and a drop that [`shape`] rests on.
fn key(polled: &Polled, drops: &[&[u64]]) -> Box<[u64]> {
    let Polled { hits, selects, joins, deepest_call, incomplete, .. } = polled;
    let mut key = vec![u64::from(incomplete.is_some()), hits.len() as u64, selects.len() as u64];
    let deepest = if hits.is_empty() { &deepest_call[..] } else { &[] };
    for path in hits.iter().map(|hit| &hit.path[..]).chain([deepest]) {
        key.push(path.len() as u64);
        key.extend(path.iter().flat_map(|step| [step.invocation, step.site]));
    }
    for drop in drops {
        key.push(drop.len() as u64);
        key.extend_from_slice(drop);
    }
    key.extend(selects.iter().copied().chain(joins.iter().map(|(invocation, _)| *invocation)));
    key.into()
}

fn shape(code: &Code, modules: &[Module], polled: &Polled, drops: &[&[u64]]) -> Shape {
    let mut functions = Vec::new();
    let mut leaves: Vec<(Vec<PathFrame>, Option<Wait>)> = Vec::new();
    let paths: Vec<Vec<PathFrame>> = polled.hits.iter().map(|hit| expand_hit(code, modules, hit)).collect();
    for (number, drop) in drops.iter().enumerate() {
        let path = add_inlined(&paths, number, &resources::around(code, modules, drop).asyncs);
        functions.push(names(&path));
        let resource = ResourceKey { kind: ResourceKind::Timer, address: number as u64 };
        leaves.push((path, Some(Wait { resource, mode: WaitMode::Unknown, position: None, target: None })));
    }
    if leaves.is_empty() {
        // A poll that ran to its end and looked at no waker: what it registered with knows it already, or nobody does.
        let path = expand(code, modules, &polled.deepest_call);
        let wait = polled.incomplete.is_none().then(|| other(innermost(&names(&path)).unwrap_or(UNNAMED)));
        leaves.push((path, wait));
    }
    let mut strand = tree(&leaves, 0, polled);
    trim(&mut strand);
    Shape { functions, strand }
}

fn names(path: &[PathFrame]) -> Vec<Arc<str>> {
    path.iter().map(|frame| Arc::clone(&frame.site.frame.function)).collect()
}

/// A wait for something that no table knows.
pub(super) fn other(name: &str) -> Wait {
    let resource = ResourceKey { kind: ResourceKind::Other(name.to_owned()), address: 0 };
    Wait { resource, mode: WaitMode::Unknown, position: None, target: None }
}

/// Gives the strand that waits for any of the tasks in the set at `set` a strand for each of them.
pub(super) fn spread(strand: &mut Strand, set: u64, waits: &[Wait]) {
    if strand.wait.as_ref().is_some_and(|wait| wait.mode == WaitMode::Join && wait.resource.address == set) {
        if let [only] = waits {
            strand.wait = Some(only.clone());
            return;
        }
        strand.wait = None;
        strand.fork = Fork::Any;
        strand.children = waits.iter().map(|wait| Strand { wait: Some(wait.clone()), ..Strand::unknown() }).collect();
        return;
    }
    for child in &mut strand.children {
        spread(child, set, waits);
    }
}

/// What the innermost of `functions` (root first) that is a future's poll belongs to, or else the innermost function.
pub(super) fn innermost(functions: &[Arc<str>]) -> Option<&str> {
    let shown = || functions.iter().rev().map(|function| &**function).filter(|function| classify::shown(function));
    let polled = shown().find_map(polled_type);
    polled.or_else(|| shown().next())
}

/// `T` of a function `T::poll`.
pub(super) fn polled_type(function: &str) -> Option<&str> {
    let (future, method) = function.rsplit_once("::")?;
    (method == "poll" || method.starts_with("poll_")).then_some(future)
}

/// All frames of a path, inlined ones included, root first.
fn expand(code: &Code, modules: &[Module], path: &[Step]) -> Vec<PathFrame> {
    path.iter()
        .flat_map(|step| {
            let frames = code.frames(modules, step.site);
            let invocation = step.invocation;
            (0..frames.len()).map(move |index| PathFrame { invocation, site: frames[index].clone() })
        })
        .collect()
}

/// All frames of a leaf's path. What a set polls for one of its futures is that future's, also where it was inlined into the set's
/// own poll.
fn expand_hit(code: &Code, modules: &[Module], hit: &Hit) -> Vec<PathFrame> {
    let mut path = expand(code, modules, &hit.path);
    if let Some(child) = &hit.child
        && let Some(set) = path.iter().rposition(|frame| &*frame.site.frame.function == children::POLLS)
    {
        let invocation = path[set].invocation;
        let inlined = path[set + 1..].iter_mut().take_while(|frame| frame.invocation == invocation);
        inlined.for_each(|frame| frame.invocation += child.number());
    }
    path
}

/// The path of this number with the async functions in it of which nothing is left in the code: what drops their states names
/// them, outermost first. Those are left out that other paths may share, and those whose place is not known: between the
/// frames that show there must be nothing else that may wrap them, or be wrapped by them.
fn add_inlined(paths: &[Vec<PathFrame>], number: usize, asyncs: &[Async]) -> Vec<PathFrame> {
    let path = &paths[number];
    let name = |at: usize| &*path[at].site.frame.function;
    // Line tables tell of inlined calls.
    if path.iter().any(|frame| frame.site.frame.line.is_some()) {
        return path.clone();
    }
    let shared = |other: &Vec<PathFrame>| path.iter().zip(other).take_while(|(one, other)| one.same_as(other)).count();
    let others = paths.iter().enumerate().filter(|(at, _)| *at != number);
    let own = others.map(|(_, other)| shared(other)).max().unwrap_or(0).max(1);
    // Whether from `from` to `to` there are only frames of a leaf and such as nobody sees.
    let is_bare = |from: usize, to: usize| (from..to).all(|at| is_leafs(name(at)));
    let mut missing: Vec<&Async> = Vec::new();
    let mut before: Vec<(usize, Vec<&Async>)> = Vec::new();
    let mut from = 0;
    for function in asyncs {
        let Some(at) = (from..path.len()).find(|at| function.is_called(name(*at))) else {
            missing.push(function);
            continue;
        };
        let inlined = std::mem::take(&mut missing);
        before.extend(is_bare(from, at).then_some((at, inlined)));
        from = at + 1;
    }
    if is_bare(from, path.len()) {
        let leaf = (from..path.len()).find(|at| name(*at).starts_with(LEAFS)).unwrap_or(path.len());
        before.push((leaf, missing));
    }
    let mut whole: Vec<PathFrame> = path[..own.min(path.len())].to_vec();
    for at in own..=path.len() {
        let Some(invocation) = whole.last().map(|above| above.invocation) else { break };
        let inlined = before.iter().filter(|(place, _)| *place == at).flat_map(|(_, missing)| missing);
        whole.extend(inlined.map(|inlined| PathFrame { invocation, site: SiteFrame::named(&inlined.name) }));
        whole.extend(path.get(at).cloned());
    }
    whole
}

/// What functions of leaves begin with.
const LEAFS: &str = "tokio::sync::";

fn is_leafs(function: &str) -> bool {
    function.starts_with(LEAFS) || !classify::shown(function)
}

fn tree(leaves: &[(Vec<PathFrame>, Option<Wait>)], from: usize, polled: &Polled) -> Strand {
    let first = &leaves[0].0;
    let mut shared = first.len();
    for (path, _) in &leaves[1..] {
        let same = first.iter().zip(path).take_while(|(one, other)| one.same_as(other)).count();
        shared = shared.min(same);
    }
    if leaves.len() > 1 {
        shared = parting(&first[..shared], from);
    }
    let mut strand = Strand::new(shown(&first[from.min(shared)..shared]));
    if let [(_, wait)] = leaves {
        strand.wait.clone_from(wait);
        return strand;
    }
    strand.fork = fork(leaves, shared, polled);
    // Leaves that part here, in the order of their polls; neighbours that go on together stay together.
    let mut start = 0;
    while start < leaves.len() {
        let head = leaves[start].0.get(shared);
        let together = leaves[start + 1..]
            .iter()
            .take_while(|(path, _)| match (head, path.get(shared)) {
                (Some(one), Some(other)) => one.same_as(other),
                _ => false,
            })
            .count();
        strand.children.push(tree(&leaves[start..=start + together], shared, polled));
        start += together + 1;
    }
    strand
}

/// Where paths that share `frames` really part. The compiler may fold the calls of several branches into one, and then the
/// branches share frames that are no longer their parent's: those behind the frame that forks.
fn parting(frames: &[PathFrame], from: usize) -> usize {
    let Some(last) = frames.last() else { return frames.len() };
    let inlined = frames.iter().rposition(|frame| frame.invocation != last.invocation).map_or(0, |at| at + 1);
    let start = inlined.max(from);
    let by_name = |frame: &PathFrame| forks_by_name(&frame.site.frame) != Fork::Unknown;
    // A macro's closure, which its line table gives to the macro's user: it is what `poll_fn` polls.
    let poll_fn = |frame: &PathFrame| frame.site.frame.function.ends_with("poll_fn::PollFn::poll");
    (start..frames.len())
        .rev()
        .find(|at| by_name(&frames[*at]) || *at > 0 && poll_fn(&frames[*at - 1]))
        .map_or(frames.len(), |at| at + 1)
}

/// How the frame goes on in which the paths part.
fn fork(leaves: &[(Vec<PathFrame>, Option<Wait>)], shared: usize, polled: &Polled) -> Fork {
    // The paths part in the last shared frame's invocation, or in that of the first frame that differs.
    let around = leaves.iter().flat_map(|(path, _)| path.iter().skip(shared.saturating_sub(1)).take(2));
    let mut fork = Fork::Unknown;
    for frame in around {
        let named = forks_by_name(&frame.site.frame);
        if polled.joins.iter().any(|(invocation, _)| *invocation == frame.invocation) || named == Fork::All {
            return Fork::All;
        }
        if polled.selects.contains(&frame.invocation) || named == Fork::Any {
            fork = Fork::Any;
        }
    }
    fork
}

/// Files of the macros and combinators that fork, and how they go on (tokio 1.38 to 1.54, futures 0.3).
#[rustfmt::skip]
const FORKING_FILES: &[(&str, Fork)] = &[
    ("macros/join.rs", Fork::All),
    // Ends with the first error too.
    ("macros/try_join.rs", Fork::Any),
    ("async_await/join_mod.rs", Fork::All),
    ("macros/select.rs", Fork::Any),
    ("async_await/select_mod.rs", Fork::Any),
];

/// How a frame goes on by its function or the macro it comes from.
fn forks_by_name(frame: &Frame) -> Fork {
    match classify::role(&frame.function) {
        // That of tokio serves `try_join!` too.
        Some(Role::Join) if !frame.function.starts_with("tokio::") => return Fork::All,
        Some(Role::Select) => return Fork::Any,
        _ => {}
    }
    if frame.function.starts_with("futures_util::future::join") {
        return Fork::All;
    }
    let file = frame.file.as_deref().unwrap_or_default();
    FORKING_FILES.iter().find(|(name, _)| file.ends_with(name)).map_or(Fork::Unknown, |(_, fork)| *fork)
}

/// What users see of a stretch of frames: no plumbing, and a function once where it calls itself as a closure.
fn shown(frames: &[PathFrame]) -> Vec<Frame> {
    let mut shown: Vec<Frame> = Vec::new();
    for frame in frames.iter().map(|frame| &frame.site.frame).filter(|frame| classify::shown(&frame.function)) {
        match shown.last_mut() {
            Some(last) if last.function == frame.function => {
                // The closure of a macro carries the macro's line; the body's own line is what users wrote.
                if frame.line.is_some() && !is_macro(frame) {
                    *last = frame.clone();
                }
            }
            _ => shown.push(frame.clone()),
        }
    }
    shown
}

fn is_macro(frame: &Frame) -> bool {
    frame.file.as_deref().is_some_and(|file| file.contains("/macros/") || file.contains("async_await/"))
}

/// A fork whose own frames are all plumbing, and whose only difference is inside a leaf, is no fork for users.
fn trim(strand: &mut Strand) {
    for child in &mut strand.children {
        trim(child);
    }
    if let [only] = &mut strand.children[..] {
        let only = std::mem::replace(only, Strand::unknown());
        strand.frames = strand.frames.iter().chain(only.frames.iter()).cloned().collect();
        strand.wait = strand.wait.take().or(only.wait);
        strand.fork = only.fork;
        strand.children = only.children;
    }
}

//! Root causes: the smallest sets of parties that hold one another, found one layer after the other.

use petgraph::{Direction, algo::kosaraju_scc, graph::NodeIndex, visit::EdgeRef};

use super::{
    graph::{Graph, Need, NodeId, Owner},
    liveness::{Assumptions, Liveness},
    reasons::{Point, Reasons},
    resources::ResourceId,
};
use crate::model::ThreadActivity;

/// What is left standing once everything that can move has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// They wait on one another.
    Cycle,
    /// It waits, and nobody is left who could act.
    Orphan,
    /// It could go on, and nobody will ever run it.
    Undriven,
}

/// One waits (or needs to be run), another would have to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Who waits.
    pub(super) from: NodeId,
    /// Who must act; `None` where nobody is left.
    pub(super) to: Option<NodeId>,
    /// `from` lacks nothing but somebody to run it.
    pub(super) to_run: bool,
}

/// A root cause.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    pub(super) shape: Shape,
    /// The dead nodes in it, in the order of the graph.
    pub(super) nodes: Vec<NodeId>,
    /// The tasks (by index) that those are strands of, or that their threads are polling.
    pub(super) tasks: Vec<usize>,
    /// Who waits for whom in it.
    pub(super) links: Vec<Link>,
    /// Tasks (by index) that stand still because of it.
    pub(super) victims: Vec<usize>,
    /// It rests on those that were found being all.
    pub(super) lenient: bool,
    /// It stands only while no escape is taken.
    pub(super) by_escape: bool,
}

/// Layers of causes that are looked for; what lies deeper counts as an effect.
const LAYERS: usize = 32;
/// Actors shown for one wait.
const ACTORS: usize = 64;

/// All root causes: what is certain first, and each only where it stands without those before it.
///
/// `escapes` has a flag for every node that is an escape.
pub(super) fn find(graph: &Graph<'_>, escapes: &[bool]) -> Vec<Cause> {
    let has_escapes = escapes.contains(&true);
    let mut broken = vec![false; graph.nodes.len()];
    let may_lack = graph.may_lack();
    // Whoever moves under the assumptions that leave most standing moves under all.
    let most = Liveness::new(graph, Assumptions { lenient: may_lack, never: Some(escapes), broken: &broken });
    if !(0..graph.nodes.len()).any(|node| most.is_stuck(node)) {
        return Vec::new();
    }
    let mut causes: Vec<Cause> = Vec::new();
    for (lenient, by_escape) in [(false, false), (false, true), (true, false), (true, true)] {
        if (by_escape && !has_escapes) || (lenient && !may_lack) {
            continue;
        }
        for _ in 0..LAYERS {
            let never = by_escape.then_some(escapes);
            let found = layer(graph, Assumptions { lenient, never, broken: &broken });
            let before = causes.len();
            causes.extend(found.into_iter().filter(|cause| {
                // Without proof, and where an escape ends a wait, only a cycle is evidence; and that memory was searched.
                cause.shape == Shape::Cycle || !(lenient || by_escape) || (!by_escape && was_searched(graph, cause))
            }));
            if causes.len() == before {
                break;
            }
            for node in causes[before..].iter().flat_map(|cause| &cause.nodes) {
                broken[*node] = true;
            }
        }
    }
    count_once(graph, &mut causes);
    causes
}

/// Whether nothing keeps a cause from being proved but that memory was searched for those who could reach what is waited for.
fn was_searched(graph: &Graph<'_>, cause: &Cause) -> bool {
    cause.nodes.iter().all(|&node| match graph.nodes[node].need {
        _ if graph.nodes[node].incomplete => false,
        Need::Reached(resource) | Need::Permits(resource, _) => graph.resources.all[resource].is_searched(),
        _ => false,
    })
}

/// The causes that rest on nothing but themselves.
fn layer(graph: &Graph<'_>, assumptions: Assumptions<'_>) -> Vec<Cause> {
    let liveness = Liveness::new(graph, assumptions);
    if !(0..graph.nodes.len()).any(|node| liveness.is_stuck(node)) {
        return Vec::new();
    }
    let reasons = Reasons::new(graph, &liveness);
    let components = kosaraju_scc(&reasons.graph);
    let mut component_of = vec![0; reasons.graph.node_count()];
    for (number, component) in components.iter().enumerate() {
        for point in component {
            component_of[point.index()] = number;
        }
    }
    let mut causes = Vec::new();
    let mut met = vec![usize::MAX; reasons.graph.node_count()];
    for (number, component) in components.iter().enumerate() {
        let leaves = |&point: &NodeIndex| reasons.graph.neighbors(point).any(|to| component_of[to.index()] != number);
        if component.iter().any(leaves) {
            continue;
        }
        let mut nodes: Vec<NodeId> = component
            .iter()
            .filter_map(|&point| match reasons.graph[point] {
                Point::Goes(node) => Some(node),
                _ => None,
            })
            .collect();
        nodes.sort_unstable();
        if nodes.is_empty() {
            continue;
        }
        let shape = if has_cycle(graph, &reasons, component) {
            Shape::Cycle
        } else if nodes.iter().any(|&node| liveness.is_ready(node)) {
            Shape::Undriven
        } else {
            Shape::Orphan
        };
        causes.push(Cause {
            shape,
            links: nodes.iter().flat_map(|&node| links(graph, &liveness, &reasons, node)).collect(),
            victims: victims(graph, &reasons, component, number, &mut met),
            tasks: tasks(graph, &nodes),
            nodes,
            lenient: assumptions.lenient,
            by_escape: assumptions.never.is_some(),
        });
    }
    causes.sort_by(|a, b| a.nodes.cmp(&b.nodes));
    causes
}

/// Whether the points of a component wait on one another. That a strand and what awaits it stand or fall together does not
/// count; anything more lies on a cycle, as every edge inside a strongly connected component does.
fn has_cycle(graph: &Graph<'_>, reasons: &Reasons, component: &[NodeIndex]) -> bool {
    component.iter().any(|&point| match reasons.graph[point] {
        Point::Goes(from) => reasons.graph.neighbors(point).any(|to| match reasons.graph[to] {
            Point::Goes(to) => graph.nodes[to].parent != Some(from),
            _ => false,
        }),
        Point::Dropped(_) => false,
        Point::Reached(resource) => reasons.of(reasons.graph[point]).any(|to| could_act(graph, to, resource)),
        _ => true,
    })
}

/// Whether whoever goes on at `point` could end a wait for the resource that it can reach: it does not wait for the same
/// itself, or it holds it.
fn could_act(graph: &Graph<'_>, point: Point, resource: ResourceId) -> bool {
    let Point::Goes(node) = point else { return false };
    match graph.nodes[node].owner {
        Owner::Task(task) => {
            let holds =
                graph.resources.all[resource].holders.iter().any(|holder| graph.tasks[task].contains(&holder.node));
            holds || !graph.waits_to_be_reached(task, resource)
        }
        Owner::Thread(_) => true,
    }
}

/// The tasks whose strands are among `nodes`, and those in whose polls its threads block.
fn tasks(graph: &Graph<'_>, nodes: &[NodeId]) -> Vec<usize> {
    let mut tasks: Vec<usize> = nodes
        .iter()
        .filter_map(|&node| match graph.nodes[node].owner {
            Owner::Task(task) => Some(task),
            Owner::Thread(thread) => {
                let inside = matches!(graph.now.threads[thread].activity, ThreadActivity::BlockedIn(_));
                graph.threads[thread].polls.filter(|_| inside)
            }
        })
        .collect();
    tasks.sort_unstable();
    tasks.dedup();
    tasks
}

/// Whom a node waits for.
fn links(graph: &Graph<'_>, liveness: &Liveness<'_, '_>, reasons: &Reasons, from: NodeId) -> Vec<Link> {
    let to_run = liveness.is_ready(from);
    if !to_run && matches!(graph.nodes[from].need, Need::Children) {
        return Vec::new();
    }
    let mut links: Vec<Link> = Vec::new();
    let mut pending: Vec<Point> = reasons.of(Point::Goes(from)).collect();
    while let Some(point) = pending.pop() {
        let to = match point {
            Point::Goes(node) | Point::Gives(node) => node,
            Point::Dropped(_) => continue,
            Point::Reached(resource) => {
                pending.extend(reasons.of(point).filter(|&to| could_act(graph, to, resource)).take(ACTORS));
                continue;
            }
            Point::Driver => {
                pending.extend(reasons.of(point));
                continue;
            }
            _ if links.len() < ACTORS => {
                pending.extend(reasons.of(point));
                continue;
            }
            _ => continue,
        };
        let link = Link { from, to: Some(to), to_run };
        if links.len() < ACTORS && !links.contains(&link) {
            links.push(link);
        }
    }
    if links.is_empty() {
        links.push(Link { from, to: None, to_run });
    }
    links
}

/// Tasks outside the component that cannot move because it does not. `met` has for each point the number of the component
/// for which it was met last.
fn victims(
    graph: &Graph<'_>,
    reasons: &Reasons,
    component: &[NodeIndex],
    number: usize,
    met: &mut [usize],
) -> Vec<usize> {
    for point in component {
        met[point.index()] = number;
    }
    let mut pending = component.to_vec();
    let mut tasks = Vec::new();
    while let Some(point) = pending.pop() {
        for edge in reasons.graph.edges_directed(point, Direction::Incoming) {
            let from = edge.source();
            if std::mem::replace(&mut met[from.index()], number) != number {
                pending.push(from);
                if let Point::Goes(node) = reasons.graph[from]
                    && let Owner::Task(task) = graph.nodes[node].owner
                {
                    tasks.push(task);
                }
            }
        }
    }
    tasks.sort_unstable();
    tasks.dedup();
    tasks
}

/// Lets each victim count once, and no party of a cause as a victim.
fn count_once(graph: &Graph<'_>, causes: &mut [Cause]) {
    let mut counted = vec![false; graph.tasks.len()];
    for &task in causes.iter().flat_map(|cause| &cause.tasks) {
        counted[task] = true;
    }
    for cause in causes {
        cause.victims.retain(|&task| !std::mem::replace(&mut counted[task], true));
    }
}

//! What the target's threads are to its runtimes.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    blocked::{BlockedThreads, ThreadHolds},
    classify,
    heap::Header,
    read::UNNAMED,
    roots::Root,
    vtables::TaskVtable,
};
use crate::{
    model::{Frame, PartyId, Runtime, RuntimeKind, Syscall, Task, TaskState, Thread, ThreadActivity, ThreadRole},
    runtime::World,
    target::{Memory, RunState, SyscallState, ThreadFacts},
};

/// Bytes of a thread's live stack that are searched for the task it polls and the runtime it serves.
const STACK_SPAN: u64 = 64 << 10;

/// Functions that tell what a thread does, by contract name (tokio/src/runtime, 1.38 to 1.54), and `core`'s park.
const WORKER: &[&str] = &["tokio::runtime::scheduler::multi_thread::worker::run"];
const BLOCKING_POOL: &[&str] = &["tokio::runtime::blocking::pool::Inner::run"];
const BLOCK_ON: &[&str] = &[
    "tokio::runtime::runtime::Runtime::block_on",
    "tokio::runtime::handle::Handle::block_on",
    "tokio::runtime::park::CachedParkThread::block_on",
    CURRENT_THREAD_LOOP,
    "tokio::runtime::scheduler::current_thread::CurrentThread::block_on",
];
const CURRENT_THREAD_LOOP: &str = "tokio::runtime::scheduler::current_thread::CoreGuard::block_on";
const DRIVING: &[&str] = &["tokio::runtime::driver::Driver::park", "tokio::runtime::io::driver::Driver::turn"];
const POLLING: &[&str] = &["tokio::runtime::task::harness::Harness::poll", "tokio::runtime::task::raw::poll"];

/// Functions by which a poll hands its worker's other tasks on before it blocks (tokio/src/task/blocking.rs and
/// tokio/src/runtime/scheduler/multi_thread/worker.rs).
const IN_PLACE: &[&str] =
    &["tokio::task::blocking::block_in_place", "tokio::runtime::scheduler::multi_thread::worker::block_in_place"];

/// What threads were found to be, by thread id, with the address of the runtime that a worker serves: a thread on CPU
/// shows no stack, and is what it was.
pub(super) type KnownRoles = FxHashMap<i32, (ThreadRole, u64)>;

/// Headers of what is being polled.
#[derive(Debug, Default)]
pub(super) struct Polled {
    /// Tasks.
    pub(super) tasks: FxHashMap<u64, PartyId>,
    /// Work of blocking pools.
    pub(super) work: FxHashSet<u64>,
}

/// Every thread, and who polls what.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) threads: Vec<Thread>,
    /// By task.
    pub(super) polled_by: FxHashMap<PartyId, i32>,
    /// By header; `None` where more than one thread seems to do the work.
    pub(super) worked_on_by: FxHashMap<u64, Option<i32>>,
}

/// What is on a thread's live stack.
#[derive(Default)]
struct StackContent {
    running: Option<u64>,
    runtime: Option<usize>,
    /// How often each runtime's handle is there.
    runtimes: Vec<u32>,
}

/// Describes every thread; says of `running` tasks (by header) which thread polls them.
pub(super) fn describe(
    world: &World<'_>,
    runtimes: &[Runtime],
    running: &Polled,
    vtables: &FxHashMap<u64, TaskVtable>,
    known: &mut KnownRoles,
    blocked: &BlockedThreads<'_>,
    holds: &dyn Fn(&ThreadFacts) -> ThreadHolds,
) -> Described {
    known.retain(|tid, _| world.threads.iter().any(|(facts, ..)| facts.tid == *tid));
    let (mut polled_by, mut worked_on_by) = (FxHashMap::default(), FxHashMap::default());
    let threads = world
        .threads
        .iter()
        .map(|(facts, registers, frames)| {
            let on = |names: &[&str]| frames.iter().any(|frame| names.contains(&&*frame.function));
            let sp = registers.and_then(|registers| registers.frame.sp()).or_else(|| facts.stack().map(|(sp, _)| sp));
            let content = sp.map(|sp| search(world, sp, runtimes, running, vtables)).unwrap_or_default();
            let wait = blocked.wait(facts.tid);
            // A word on a stack may be a mere reference: a thread whose stack shows no poll polls nothing, and of one that
            // waits for a lock it must be certain, since what it polls waits with it.
            let may_poll = frames.is_empty() || inside_poll(frames).is_some();
            let at_hand = |outermost: bool, headers: &dyn Fn(u64) -> bool| {
                blocked.polled(facts.tid, outermost, &|word, function| {
                    headers(word) && is_polled_by(world, word, function, vtables)
                })
            };
            let running_here = if wait.is_some() {
                at_hand(false, &|word| running.tasks.contains_key(&word))
            } else {
                content.running
            };
            let party = running_here.filter(|_| may_poll).and_then(|header| running.tasks.get(&header)).copied();
            if let Some(party) = party {
                polled_by.insert(party, facts.tid);
            }
            if on(BLOCKING_POOL)
                && !running.work.is_empty()
                && let Some(work) = at_hand(true, &|word| running.work.contains(&word))
            {
                worked_on_by.entry(work).and_modify(|known| *known = None).or_insert(Some(facts.tid));
            }
            let role = if frames.is_empty() {
                remembered(known.get(&facts.tid), runtimes)
            } else if on(WORKER) {
                content.runtime.map_or(ThreadRole::Plain, ThreadRole::Worker)
            } else if on(BLOCKING_POOL) {
                ThreadRole::BlockingPool
            } else if on(BLOCK_ON) {
                ThreadRole::BlockOn
            } else {
                ThreadRole::Plain
            };
            if !frames.is_empty() {
                let runtime = match role {
                    ThreadRole::Worker(index) => runtimes[index].address,
                    _ => 0,
                };
                known.insert(facts.tid, (role, runtime));
            }
            let ThreadHolds { holds, whole } = holds(facts);
            Thread {
                tid: facts.tid,
                name: facts.name.clone(),
                role,
                activity: match (&wait, party) {
                    (Some(_), Some(party)) => ThreadActivity::BlockedIn(party),
                    (Some(_), None) => ThreadActivity::Blocked,
                    (None, _) => activity(facts, party, on(DRIVING), on(POLLING), role),
                },
                syscall: match facts.syscall {
                    SyscallState::InSyscall { number, args, .. } => Some(Syscall { number, args }),
                    _ => None,
                },
                stack_pointer: sp,
                frames: frames.clone(),
                switches: facts.switches,
                wait,
                holds,
                holds_known: whole,
                in_place: is_in_place(frames),
            }
        })
        .collect();
    Described { threads, polled_by, worked_on_by }
}

/// What a thread was when its stack could be read last, among the runtimes that there are now.
fn remembered(known: Option<&(ThreadRole, u64)>, runtimes: &[Runtime]) -> ThreadRole {
    match known {
        Some((ThreadRole::Worker(_), address)) => runtimes
            .iter()
            .position(|runtime| runtime.address == *address)
            .map_or(ThreadRole::Unknown, ThreadRole::Worker),
        Some((role, _)) => *role,
        None => ThreadRole::Unknown,
    }
}

fn activity(
    facts: &ThreadFacts,
    party: Option<PartyId>,
    driving: bool,
    in_poll: bool,
    role: ThreadRole,
) -> ThreadActivity {
    let blocked = matches!(facts.state, RunState::Sleeping) && facts.stack().is_some();
    match (party, blocked) {
        (Some(party), true) if !driving || in_poll => ThreadActivity::BlockedIn(party),
        (Some(party), false) => ThreadActivity::Polling(party),
        (_, true) if driving => ThreadActivity::Driving,
        (_, true) if matches!(role, ThreadRole::Worker(_) | ThreadRole::BlockOn | ThreadRole::BlockingPool) => {
            ThreadActivity::Parked
        }
        (_, true) => ThreadActivity::Blocked,
        (None, false) if facts.state == RunState::Running => ThreadActivity::Running,
        _ => ThreadActivity::Unknown,
    }
}

/// Searches the live stack above `sp` for a running task's header and for a runtime's handle.
fn search(
    world: &World<'_>,
    sp: u64,
    runtimes: &[Runtime],
    running: &Polled,
    vtables: &FxHashMap<u64, TaskVtable>,
) -> StackContent {
    let end = world.memory.mappings().at(sp).map_or(sp, |mapping| mapping.range.end.min(sp + STACK_SPAN));
    let mut bytes = vec![0; (end - sp) as usize];
    if world.memory.read(sp, &mut bytes).is_err() {
        return StackContent::default();
    }
    let mut content = StackContent::default();
    let mut counts = vec![0_u32; runtimes.len()];
    for word in bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)) {
        // The innermost poll is the one that runs.
        // Words on a stack outlive their meaning: the task must be running still.
        let still = || Header::read_now(world.memory, word, vtables).is_some_and(|header| header.state.is_running());
        if content.running.is_none() && running.tasks.contains_key(&word) && still() {
            content.running = Some(word);
        }
        if let Some(index) = runtimes.iter().position(|runtime| runtime.address == word && word != 0) {
            counts[index] += 1;
        }
    }
    content.runtime =
        counts.iter().enumerate().filter(|(_, count)| **count > 0).max_by_key(|(_, count)| **count).map(|(at, _)| at);
    content.runtimes = counts;
    content
}

/// The current_thread runtime whose loop a thread runs in its `block_on`. Its handle is on the stack; where another's is
/// too, it is not known which.
pub(super) fn current_thread_runtime(world: &World<'_>, thread: &Thread, runtimes: &[Runtime]) -> Option<usize> {
    if !thread.frames.iter().any(|frame| frame.function.as_ref() == CURRENT_THREAD_LOOP) {
        return None;
    }
    let content = search(world, thread.stack_pointer?, runtimes, &Polled::default(), &FxHashMap::default());
    let named = content
        .runtimes
        .iter()
        .enumerate()
        .filter(|(index, count)| **count > 0 && runtimes[*index].kind == RuntimeKind::TokioCurrentThread);
    let mut named = named.map(|(index, _)| index);
    named.next().filter(|_| named.next().is_none())
}

/// The runtime that a thread in `block_on` serves.
pub(super) fn runtime_of(world: &World<'_>, root: &Root<'_>, runtimes: &[Runtime]) -> Option<usize> {
    let only = (runtimes.len() == 1).then_some(0);
    search(world, root.sp()?, runtimes, &Polled::default(), &FxHashMap::default()).runtime.or(only)
}

/// How many frames of a stack, root first, lie outside of the innermost poll; `None` where there is no poll.
pub(super) fn inside_poll(frames: &[Frame]) -> Option<usize> {
    let innermost = |names: &[&str]| frames.iter().rposition(|frame| names.contains(&&*frame.function));
    // A worker is work of the blocking pool itself, and polled as such.
    let poll = innermost(POLLING).filter(|poll| innermost(WORKER) < Some(*poll))?;
    // The future's own frames begin behind what tokio wraps around a poll.
    let wraps = |frame: &Frame| frame.function.starts_with("tokio::runtime::") || !classify::shown(&frame.function);
    Some(poll + 1 + frames[poll + 1..].iter().take_while(|frame| wraps(frame)).count())
}

/// Whether the innermost poll on a stack, root first, has said that it will block.
fn is_in_place(frames: &[Frame]) -> bool {
    let on = |names: &[&str]| frames.iter().rposition(|frame| names.contains(&&*frame.function));
    on(IN_PLACE) > on(POLLING)
}

/// Whether the task or work at `header` is in a poll now, and `function` is what polls its type.
fn is_polled_by(world: &World<'_>, header: u64, function: u64, vtables: &FxHashMap<u64, TaskVtable>) -> bool {
    let Some(header) = Header::read_now(world.memory, header, vtables) else { return false };
    // Where the table's own function has jumped to the harness, that polls for it.
    let others = || vtables.values().any(|vtable| vtable.poll == function);
    header.state.is_running() && (vtables[&header.vtable].poll == function || !others())
}

/// Whether a function polls one task.
pub(super) fn is_task_poll(function: &str) -> bool {
    POLLING.contains(&function)
}

/// Whether a function is one that polls, or goes round polling, a future that lies elsewhere than in its own frame.
pub(super) fn polls(function: &str) -> bool {
    POLLING.contains(&function) || BLOCK_ON.contains(&function)
}

/// Gives a task that is being polled the part of its thread's stack that lies inside the poll.
pub(super) fn adopt_stack(task: &mut Task, thread: &Thread) {
    let inside = inside_poll(&thread.frames).unwrap_or(0);
    task.root.frames =
        thread.frames[inside..].iter().filter(|frame| classify::shown(&frame.function)).cloned().collect();
    if &*task.name == UNNAMED
        && let Some(first) = task.root.frames.first()
    {
        task.name = std::sync::Arc::clone(&first.function);
    }
    if matches!(thread.activity, ThreadActivity::BlockedIn(party) if party == task.party) {
        task.state = TaskState::Blocked;
        // In the middle of a poll its awaits are its thread's stack, its one wait the thread's, its holds the thread's.
        if thread.wait.is_some() {
            (task.incomplete, task.awaits_known) = (None, true);
        }
    }
}

//! Every sequence of counted moves.

use rustc_hash::FxHashSet;

use super::{Holds, Owner, Runs, Waits, Who, World};
use crate::model::Fork;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Status {
    /// Waits.
    Waiting,
    /// Was given its permits and not polled since.
    Given,
    /// Goes on: it may do anything with what it has.
    Free,
    /// Ended, or was dropped.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    strands: Vec<Status>,
    /// Threads that go on.
    threads: Vec<bool>,
    /// Holds (by index) that are still held.
    held: Vec<bool>,
    /// Strands that hold what they were given.
    given: Vec<bool>,
    free: Vec<u8>,
    hidden: Vec<u8>,
    /// Locks to which permits were added.
    added: Vec<bool>,
    /// Places still in the queue.
    queues: Vec<Vec<usize>>,
    /// Paused places that were given their permits, per lock and place.
    paused: Vec<Vec<usize>>,
    messages: Vec<bool>,
    room: Vec<bool>,
}

/// What can ever move.
#[derive(Debug)]
pub(super) struct Fate {
    /// Tasks whose root can go on.
    pub(super) tasks: Vec<bool>,
    /// Threads that can go on.
    pub(super) threads: Vec<bool>,
}

/// Permits enough for all who want some.
const PLENTY: u8 = 16;
/// Beyond this many states a world is too big to be of use.
const STATES: usize = 2_500;

/// Tries everything; `None` where that is too much. Without `escapes` no escape ever comes.
pub(super) fn fate(world: &World, escapes: bool) -> Option<Fate> {
    let start = State {
        strands: vec![Status::Waiting; world.strands.len()],
        threads: vec![false; world.threads.len()],
        held: vec![true; world.holds.len()],
        given: vec![false; world.strands.len()],
        free: world.locks.iter().map(|lock| lock.free).collect(),
        hidden: world.locks.iter().map(|lock| lock.hidden).collect(),
        added: vec![false; world.locks.len()],
        queues: world.locks.iter().map(|lock| (0..lock.queue.len()).collect()).collect(),
        paused: vec![Vec::new(); world.locks.len()],
        messages: vec![false; world.channels.len()],
        room: vec![false; world.channels.len()],
    };
    let search = Search { world, escapes };
    let mut fate = Fate { tasks: vec![false; world.tasks.len()], threads: vec![false; world.threads.len()] };
    let mut seen = FxHashSet::default();
    let mut pending = vec![start];
    while let Some(state) = pending.pop() {
        for (task, moved) in fate.tasks.iter_mut().enumerate() {
            *moved |= matches!(state.strands[world.root(task)], Status::Free | Status::Gone);
        }
        for (thread, moved) in fate.threads.iter_mut().enumerate() {
            *moved |= state.threads[thread];
        }
        if fate.tasks.iter().all(|moved| *moved) && fate.threads.iter().all(|moved| *moved) {
            break;
        }
        for next in search.moves(&state) {
            if seen.insert(next.clone()) {
                pending.push(next);
            }
        }
        if seen.len() > STATES {
            return None;
        }
    }
    Some(fate)
}

struct Search<'w> {
    world: &'w World,
    escapes: bool,
}

impl Search<'_> {
    fn moves(&self, state: &State) -> Vec<State> {
        let mut next = Vec::new();
        self.grants(state, &mut next);
        self.strangers(state, &mut next);
        for thread in 0..self.world.threads.len() {
            self.thread_moves(state, thread, &mut next);
        }
        for strand in 0..self.world.strands.len() {
            match state.strands[strand] {
                Status::Waiting | Status::Given => self.wake(state, strand, &mut next),
                Status::Free => self.free_moves(state, strand, &mut next),
                Status::Gone => {}
            }
        }
        next
    }

    /// The first in a queue is given what it wants.
    fn grants(&self, state: &State, next: &mut Vec<State>) {
        for (lock, queue) in state.queues.iter().enumerate() {
            let Some(&place) = queue.first() else { continue };
            let entry = self.world.locks[lock].queue[place];
            if state.free[lock] < entry.wants {
                continue;
            }
            let mut after = state.clone();
            after.queues[lock].remove(0);
            after.free[lock] -= entry.wants;
            match entry.who {
                Who::Strand(strand) => after.strands[strand] = Status::Given,
                Who::Paused(_) => after.paused[lock].push(place),
            }
            next.push(after);
        }
    }

    /// Those whom no reader sees act.
    fn strangers(&self, state: &State, next: &mut Vec<State>) {
        for lock in 0..self.world.locks.len() {
            if state.hidden[lock] > 0 {
                let mut after = state.clone();
                after.hidden[lock] -= 1;
                after.free[lock] += 1;
                next.push(after);
            }
        }
        for (channel, this) in self.world.channels.iter().enumerate() {
            if this.hidden_sender && !state.messages[channel] {
                let mut after = state.clone();
                after.messages[channel] = true;
                next.push(after);
            }
            if this.hidden_receiver && !state.room[channel] {
                let mut after = state.clone();
                after.room[channel] = true;
                next.push(after);
            }
        }
    }

    fn is_awake(&self, state: &State, thread: usize) -> bool {
        state.threads[thread] || self.world.threads[thread].blocked.is_none()
    }

    fn any_worker(&self, state: &State) -> bool {
        (0..self.world.threads.len()).any(|thread| self.world.threads[thread].worker && self.is_awake(state, thread))
    }

    fn thread_moves(&self, state: &State, thread: usize, next: &mut Vec<State>) {
        if state.threads[thread] {
            self.use_holds(state, &[Owner::Thread(thread)], next);
            return;
        }
        let goes = match (self.world.threads[thread].blocked, self.world.root_on(thread)) {
            // A stranger that holds the lock lets go at any time.
            (Some(lock), _) => {
                !self.world.holds.iter().zip(&state.held).any(|(hold, &held)| held && hold.1 == Holds::Blocking(lock))
            }
            (None, Some(root)) => state.strands[self.world.root(root)] == Status::Gone,
            (None, None) => true,
        };
        if goes {
            let mut after = state.clone();
            after.threads[thread] = true;
            next.push(after);
        }
    }

    fn is_driven(&self, state: &State, task: usize) -> bool {
        match self.world.tasks[task].runs {
            Runs::Suspended | Runs::Scheduled => self.any_worker(state),
            Runs::On(thread) => state.threads[thread],
            Runs::Root(thread) => self.is_awake(state, thread),
        }
    }

    fn wake(&self, state: &State, strand: usize, next: &mut Vec<State>) {
        let this = &self.world.strands[strand];
        if !self.is_driven(state, this.task) || (!self.escapes && self.world.is_escape(strand)) {
            return;
        }
        let mut after = state.clone();
        let has = |channel: usize, of: fn(usize) -> Holds| {
            self.world.holds.iter().zip(&state.held).any(|(hold, &held)| held && hold.1 == of(channel))
        };
        let comes = match (self.world.tasks[this.task].runs, this.waits) {
            (_, Waits::Children) => false,
            (Runs::Scheduled | Runs::On(_), _) | (_, Waits::Outside) => true,
            (_, Waits::Permits { .. }) => state.strands[strand] == Status::Given,
            (_, Waits::Message(channel)) if state.messages[channel] => {
                after.messages[channel] = false;
                true
            }
            (_, Waits::Message(channel)) => !self.world.channels[channel].hidden_sender && !has(channel, Holds::Sender),
            (_, Waits::Room(channel)) if state.room[channel] => {
                after.room[channel] = false;
                true
            }
            (_, Waits::Room(channel)) => {
                !self.world.channels[channel].hidden_receiver && !has(channel, Holds::Receiver)
            }
            (_, Waits::End(task)) => state.strands[self.world.root(task)] == Status::Gone,
            (_, Waits::Reached(thing)) => {
                let mut reachers = self.world.things[thing].0.iter().flat_map(|&task| &self.world.tasks[task].strands);
                reachers.any(|&strand| matches!(state.strands[strand], Status::Free | Status::Gone))
            }
            (_, Waits::Timer) => self.any_worker(state),
        };
        if comes {
            after.given[strand] = state.strands[strand] == Status::Given;
            after.strands[strand] = Status::Free;
            next.push(after);
        }
    }

    /// The owners whose things a free strand can reach: its own, those around it, and its thread's if it is in a block_on.
    fn reach(&self, strand: usize) -> Vec<Owner> {
        let mut owners = vec![Owner::Strand(strand)];
        let mut at = strand;
        while let Some(parent) = self.world.strands[at].parent {
            owners.push(Owner::Strand(parent));
            at = parent;
        }
        owners.extend(self.world.thread_around(self.world.strands[strand].task).map(Owner::Thread));
        owners
    }

    fn free_moves(&self, state: &State, strand: usize, next: &mut Vec<State>) {
        self.use_holds(state, &self.reach(strand), next);
        if state.given[strand] {
            let mut after = state.clone();
            self.drop_given(&mut after, strand);
            next.push(after);
        }
        let task = self.world.strands[strand].task;
        let mut after = state.clone();
        self.drop_paused(&mut after, task);
        if after != *state {
            next.push(after);
        }
        for (lock, this) in self.world.locks.iter().enumerate() {
            if this.adders.contains(&task) && !state.added[lock] {
                let mut after = state.clone();
                after.added[lock] = true;
                after.free[lock] += PLENTY;
                next.push(after);
            }
        }
        next.push(self.end(state, strand));
    }

    /// Gives away, sends or receives through anything that the owners have.
    fn use_holds(&self, state: &State, owners: &[Owner], next: &mut Vec<State>) {
        for (index, (owner, what)) in self.world.holds.iter().enumerate() {
            if !state.held[index] || !owners.contains(owner) {
                continue;
            }
            let mut after = state.clone();
            self.give_away(&mut after, index);
            next.push(after);
            let mut after = state.clone();
            match *what {
                Holds::Sender(channel) => after.messages[channel] = true,
                Holds::Receiver(channel) => after.room[channel] = true,
                Holds::Permits { .. } | Holds::Blocking(_) => continue,
            }
            next.push(after);
        }
    }

    fn give_away(&self, state: &mut State, hold: usize) {
        if std::mem::replace(&mut state.held[hold], false)
            && let Holds::Permits { lock, amount, .. } = self.world.holds[hold].1
        {
            state.free[lock] += amount;
        }
    }

    fn drop_given(&self, state: &mut State, strand: usize) {
        let given = std::mem::replace(&mut state.given[strand], false) || state.strands[strand] == Status::Given;
        if let (true, Waits::Permits { lock, wants }) = (given, self.world.strands[strand].waits) {
            state.free[lock] += wants;
        }
    }

    /// The task drops its futures that nobody polls.
    fn drop_paused(&self, state: &mut State, task: usize) {
        for (lock, this) in self.world.locks.iter().enumerate() {
            let is_paused = |&place: &usize| this.queue[place].who == Who::Paused(task);
            state.queues[lock].retain(|place| !is_paused(place));
            let given: u8 =
                state.paused[lock].iter().filter(|place| is_paused(place)).map(|&at| this.queue[at].wants).sum();
            state.free[lock] += given;
            state.paused[lock].retain(|place| !is_paused(place));
        }
    }

    /// A strand ends or is dropped, with all below it.
    fn remove(&self, state: &mut State, strand: usize) {
        if state.strands[strand] == Status::Gone {
            return;
        }
        for child in self.world.children(strand) {
            self.remove(state, child);
        }
        self.drop_given(state, strand);
        state.strands[strand] = Status::Gone;
        for (index, (owner, what)) in self.world.holds.iter().enumerate() {
            if *owner == Owner::Strand(strand) {
                // The code of a drop may send.
                match *what {
                    Holds::Sender(channel) => state.messages[channel] |= state.held[index],
                    Holds::Receiver(channel) => state.room[channel] |= state.held[index],
                    Holds::Permits { .. } | Holds::Blocking(_) => {}
                }
                self.give_away(state, index);
            }
        }
        for (lock, this) in self.world.locks.iter().enumerate() {
            state.queues[lock].retain(|&place| this.queue[place].who != Who::Strand(strand));
        }
    }

    fn end(&self, state: &State, strand: usize) -> State {
        let mut after = state.clone();
        self.remove(&mut after, strand);
        match self.world.strands[strand].parent {
            None => self.drop_paused(&mut after, self.world.strands[strand].task),
            Some(parent) => {
                let all = self.world.children(parent).all(|child| after.strands[child] == Status::Gone);
                if self.world.strands[parent].fork == Fork::Any || all {
                    for child in self.world.children(parent) {
                        self.remove(&mut after, child);
                    }
                    after.strands[parent] = Status::Free;
                }
            }
        }
        after
    }
}

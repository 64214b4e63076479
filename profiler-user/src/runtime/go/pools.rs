//! Pools of `database/sql`: who waits for a connection, and who has those that there are.
//!
//! A pool that a global leads to can be reached by everybody, so reachability proves nothing of those who wait for it. But a
//! connection comes back only by what was made of it: a `Tx`, `Rows` or `Conn`. So whoever reaches a connection otherwise than
//! by its pool is who can give it back. The structures are those of database/sql in 1.22 to 1.27.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    bytes::{read_vec, u64_at},
    code::Code,
    heap::Heap,
    layout::Layout,
    reach::{self, Dead, Places, Subjects},
    spans::Object,
    stack::{self, Stack},
    waits::Waiting,
};
use crate::{
    model::{
        Fork, Frame, Hold, HoldHow, PartyId, QueueEntry, Resource, ResourceKey, ResourceKind, Strand, Task, Wait,
        WaitMode,
    },
    runtime::Reads,
    target::{AddressSpace, LOWEST, Memory},
};

/// The function in which a goroutine waits for a connection; the package's own goroutines are in nothing else.
const WAITS_IN: &str = "database/sql.(*DB).conn";
const PACKAGE: &str = "database/sql.";
/// Bytes behind its frame in which it keeps what it was called with.
const ARGUMENTS: u64 = 64;
/// Goroutines that are looked at.
const MOST: usize = 1 << 14;
/// Connections of a pool that are believed.
const MOST_CONNECTIONS: u64 = 1 << 16;
/// Steps from a pool to what lies in its maps, and from a frame to the connection that it uses.
const STEPS_IN_POOL: usize = 6;
const STEPS_FROM_FRAME: usize = 3;
/// Objects that are visited within those.
const OBJECTS_IN_POOL: usize = 1 << 17;
const OBJECTS_FROM_FRAME: usize = 64;
/// Holders of whom it is told which function has the connection.
const MOST_SITES: usize = 64;
/// The bit in a `time.Time` that one of `time.Now` has.
const MONOTONIC: u64 = 1 << 63;

/// A goroutine that waits for a connection.
pub(super) struct Waiter {
    /// Its place among the tasks and among the subjects.
    task: usize,
    subject: usize,
    /// The words of the frame, of which one is its pool.
    words: Vec<u64>,
}

/// Keeps what is needed of a goroutine that waits for a connection.
pub(super) fn keep(waiters: &mut Vec<Waiter>, task: usize, subject: usize, waiting: &Waiting, stack: &Stack<'_>) {
    if !waiting.select || waiters.len() >= MOST {
        return;
    }
    let Some(frame) = stack.frames.get(stack.own_frame()).filter(|frame| &*frame.site.name == WAITS_IN) else { return };
    let all = (frame.sp..frame.end.saturating_add(ARGUMENTS)).step_by(8).filter_map(|at| stack.word(at));
    let mut words: Vec<u64> = all.filter(|word| *word >= LOWEST && word.is_multiple_of(8)).collect();
    words.sort_unstable();
    words.dedup();
    waiters.push(Waiter { task, subject, words });
}

/// Where the fields of the package's structures are.
struct Fields {
    free: u64,
    requests: u64,
    open: u64,
    most: u64,
    closed: u64,
    dep: u64,
    conn_size: u64,
    conn_db: u64,
    conn_created: u64,
    conn_lock: u64,
    conn_driver: u64,
    conn_closed: u64,
    conn_in_use: u64,
}

impl Fields {
    fn of(layout: &Layout) -> Option<Self> {
        Some(Self {
            free: layout.sql_db_free?,
            requests: layout.sql_db_requests?,
            open: layout.sql_db_open?,
            most: layout.sql_db_most?,
            closed: layout.sql_db_closed?,
            dep: layout.sql_db_dep?,
            conn_size: layout.sql_conn_size?,
            conn_db: layout.sql_conn_db?,
            conn_created: layout.sql_conn_created?,
            conn_lock: layout.sql_conn_lock?,
            conn_driver: layout.sql_conn_driver?,
            conn_closed: layout.sql_conn_closed?,
            conn_in_use: layout.sql_conn_in_use?,
        })
    }
}

/// What is made of a connection, and has given it back when it has ended: `Rows`, `Tx` and `Conn`. It names it all the same.
struct User {
    size: u64,
    /// Where the connection is, and the byte that says that it has ended.
    conn: u64,
    ended: u64,
}

impl User {
    fn all(layout: &Layout) -> Vec<Self> {
        let kinds = [
            (layout.sql_rows_size, layout.sql_rows_conn, layout.sql_rows_ended),
            (layout.sql_tx_size, layout.sql_tx_conn, layout.sql_tx_ended),
            (layout.sql_single_size, layout.sql_single_conn, layout.sql_single_ended),
        ];
        // Of what the program does not use there is no debuginfo.
        kinds
            .into_iter()
            .filter_map(|(size, conn, ended)| Some(Self { size: size?, conn: conn?, ended: ended? }))
            .collect()
    }

    /// Whether the object is one of these that has ended.
    fn has_ended(&self, heap: &Heap<'_>, object: Object, connections: &FxHashSet<u64>) -> bool {
        let span = &heap.spans.all[object.span];
        let start = span.range.start + object.index * span.object_size;
        let word = |at: u64| heap.memory.read_u64(start.saturating_add(at)).ok();
        // The next size class is at most so much larger.
        (self.size..=self.size + self.size / 4 + 16).contains(&span.object_size)
            && word(self.conn).is_some_and(|connection| connections.contains(&connection))
            && heap.memory.read_u8(start.saturating_add(self.ended)).is_ok_and(|ended| ended == 1)
    }
}

/// A pool that has given out all that it may.
struct Pool {
    address: u64,
    /// Connections that it may have, and has.
    most: u64,
    /// The channels at which those wait who want one.
    requests: FxHashSet<u64>,
    /// Those of its connections that were found.
    connections: Vec<u64>,
    /// Who waits: places among the waiters.
    waiters: Vec<usize>,
}

/// What is looked at.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) memory: &'a AddressSpace,
    pub(super) places: Places<'a>,
    pub(super) subjects: &'a Subjects,
    pub(super) dead: &'a Dead,
}

/// Says at the tasks who waits for which pool and who has its connections. Those who can never run again in any case are left
/// out: of them more is known. An error says in one sentence why it cannot be told.
pub(super) fn observe(
    look: Look<'_>,
    code: &mut Code,
    waiters: &[Waiter],
    tasks: &mut [Task],
) -> Result<Vec<Resource>, String> {
    let dead: FxHashSet<usize> = look.dead.all.iter().copied().collect();
    let waits =
        |waiter: &Waiter| look.subjects.all[waiter.subject].waits_for().is_some() && !dead.contains(&waiter.subject);
    let Some(fields) = Fields::of(look.places.layout) else { return Ok(Vec::new()) };
    if matches!(look.places.reads, Reads::Torn) || !waiters.iter().any(waits) {
        return Ok(Vec::new());
    }
    let heap = reach::read_heap(look.memory, look.places)?;
    let mut pools: Vec<Pool> = Vec::new();
    let mut known: FxHashMap<u64, Option<usize>> = FxHashMap::default();
    for (number, waiter) in waiters.iter().enumerate().filter(|(_, waiter)| waits(waiter)) {
        let wanted = look.subjects.all[waiter.subject].waits_for().unwrap_or_default();
        let own = waiter.words.iter().find_map(|word| {
            let place = *known.entry(*word).or_insert_with(|| {
                let pool = Pool::read(&heap, &fields, *word)?;
                pools.push(pool);
                Some(pools.len() - 1)
            });
            place.filter(|place| wanted.iter().any(|target| pools[*place].requests.contains(target)))
        });
        if let Some(place) = own {
            pools[place].waiters.push(number);
        }
    }
    pools.retain(|pool| !pool.waiters.is_empty());
    let closed: Vec<u64> = pools.iter().map(|pool| pool.address).collect();
    let connections: Vec<u64> = pools.iter().flat_map(|pool| &pool.connections).copied().collect();
    let (users, known) = (User::all(look.places.layout), connections.iter().copied().collect());
    let leads = |heap: &Heap<'_>, object| !users.iter().any(|user| user.has_ended(heap, object, &known));
    let owners = reach::owners(look.memory, code, look.places, look.subjects, (&closed, &connections), leads)?;
    let mut owners = owners.into_iter();
    let mut resources = Vec::new();
    for pool in &pools {
        let owners = owners.by_ref().take(pool.connections.len());
        let owned: Vec<_> = pool.connections.iter().copied().zip(owners).collect();
        let lost = give(look, code, &heap, pool, &owned, &dead, tasks);
        resources.push(pool.resource(lost, waiters, tasks));
        for waiter in pool.waiters.iter().map(|number| &waiters[*number]) {
            let wanted = look.subjects.all[waiter.subject].waits_for().unwrap_or_default();
            let other = wanted.iter().copied().find(|target| !pool.requests.contains(target));
            tasks[waiter.task].root = pool.wait(&tasks[waiter.task].root, other);
        }
    }
    Ok(resources)
}

/// Notes at the tasks which connections of a pool they have. Returns how many nobody can give back any more.
fn give(
    look: Look<'_>,
    code: &mut Code,
    heap: &Heap<'_>,
    pool: &Pool,
    owned: &[(u64, Option<Vec<usize>>)],
    dead: &FxHashSet<usize>,
    tasks: &mut [Task],
) -> u64 {
    let mut has: FxHashMap<usize, Vec<u64>> = FxHashMap::default();
    let mut lost = 0;
    for (connection, owners) in owned {
        let Some(owners) = owners else { continue };
        // The package's own give back what they have when a context ends, and never if nobody can end it.
        let is_own = |index: &&usize| look.subjects.all[**index].task.is_some_and(|task| is_of_package(&tasks[task]));
        let (own, users): (Vec<&usize>, Vec<&usize>) = owners.iter().partition(is_own);
        match users[..] {
            [] if own.iter().all(|index| dead.contains(index)) => lost += 1,
            [user] => has.entry(*user).or_default().push(*connection),
            // Any of several may give it back: that is not one who has it.
            _ => {}
        }
    }
    for (number, (subject, connections)) in has.into_iter().enumerate() {
        let Some(task) = look.subjects.all[subject].task else { continue };
        let site = (number < MOST_SITES).then(|| site(look, code, heap, subject, connections[0])).flatten();
        let amount = connections.len() as u64;
        tasks[task].root.holds.push(Hold { resource: pool.key(), how: HoldHow::Guard, amount, site });
    }
    // Of those that were not found it is not known who has them.
    if pool.connections.len() as u64 == pool.most { lost } else { 0 }
}

fn is_of_package(task: &Task) -> bool {
    let mut frames = task.root.frames.iter();
    !task.root.frames.is_empty() && frames.all(|frame| frame.function.starts_with(PACKAGE))
}

/// The outermost function that has a connection, which is the one that asked for it.
fn site(look: Look<'_>, code: &mut Code, heap: &Heap<'_>, subject: usize, connection: u64) -> Option<Frame> {
    let goroutine = &look.subjects.all[subject].goroutine;
    let at = (goroutine.sp, goroutine.pc, false);
    let piece = stack::piece(goroutine, at);
    let bytes = read_vec(look.memory, piece.start, piece.end - piece.start, u64::MAX).ok()?;
    let stack = stack::unwind(code, look.memory, at, &bytes);
    let frame = stack.frames.iter().rev().find(|frame| {
        let words = (frame.sp..frame.end).step_by(8).filter_map(|at| stack.word(at));
        words.filter(|word| *word >= LOWEST).any(|word| {
            let mut found = word == connection;
            near(heap, word, (STEPS_FROM_FRAME, OBJECTS_FROM_FRAME), |pointer| {
                found |= pointer == connection;
                !found
            });
            found
        })
    })?;
    frame.site.calls.last().map(|call| call.frame.clone())
}

impl Pool {
    /// The pool at an address, if there is one that has given out all that it may.
    fn read(heap: &Heap<'_>, fields: &Fields, address: u64) -> Option<Self> {
        begins(heap, address, fields.closed)?;
        let word = |at: u64| heap.memory.read_u64(address.checked_add(at)?).ok();
        let most = word(fields.most).filter(|most| (1..=MOST_CONNECTIONS).contains(most))?;
        let is_empty = word(fields.open)? == most && word(fields.free + 8)? == 0;
        if !is_empty || heap.memory.read_u8(address.checked_add(fields.closed)?).ok()? != 0 {
            return None;
        }
        let mut requests = FxHashSet::default();
        near(heap, word(fields.requests)?, (STEPS_IN_POOL, OBJECTS_IN_POOL), |pointer| requests.insert(pointer));
        let (mut connections, mut met) = (Vec::new(), FxHashSet::default());
        near(heap, word(fields.dep)?, (STEPS_IN_POOL, OBJECTS_IN_POOL), |pointer| {
            let is_new = pointer != address && met.insert(pointer);
            let is_connection = is_new && is_connection(heap, fields, address, pointer);
            if is_connection {
                connections.push(pointer);
            }
            is_new && !is_connection
        });
        Some(Self { address, most, requests, connections, waiters: Vec::new() })
    }

    fn key(&self) -> ResourceKey {
        ResourceKey { kind: ResourceKind::GoSqlDb, address: self.address }
    }

    fn resource(&self, lost: u64, waiters: &[Waiter], tasks: &[Task]) -> Resource {
        let party = |number: &usize| -> PartyId { tasks[waiters[*number].task].party };
        let entry = |number| QueueEntry { party: Some(party(number)), wants: Some(1) };
        Resource {
            permits: Some(self.most.saturating_sub(lost)),
            available: Some(0),
            queue: self.waiters.iter().map(entry).collect(),
            queue_known: true,
            abandoned: lost == self.most,
            ..Resource::new(self.key())
        }
    }

    /// What a goroutine in the queue waits for: a connection, or the end of its context where it has one that ends.
    fn wait(&self, root: &Strand, context: Option<u64>) -> Strand {
        let wait = |resource, mode| Some(Wait { resource, mode, position: None, target: None });
        let connection = wait(self.key(), WaitMode::Acquire { permits: 1 });
        let mut strand = Strand { holds: root.holds.clone(), ..Strand::new(root.frames.clone()) };
        match context {
            None => strand.wait = connection,
            Some(address) => {
                let context = wait(ResourceKey { kind: ResourceKind::GoContext, address }, WaitMode::Notified);
                strand.fork = Fork::Any;
                strand.children =
                    [connection, context].map(|wait| Strand { wait, ..Strand::unknown() }).into_iter().collect();
            }
        }
        strand
    }
}

/// Whether a connection of a pool that is in use begins at an address.
fn is_connection(heap: &Heap<'_>, fields: &Fields, pool: u64, address: u64) -> bool {
    let looks_so = || {
        begins(heap, address, fields.conn_size)?;
        let bytes = read_vec(heap.memory, address, fields.conn_size, 1 << 12).ok()?;
        let word = |at| u64_at(&bytes, at);
        let flag = |at: u64| bytes.get(usize::try_from(at).ok()?).copied();
        Some(
            word(fields.conn_db)? == pool
                && word(fields.conn_created)? & MONOTONIC != 0
                && word(fields.conn_lock)? < MONOTONIC
                && word(fields.conn_driver)? >= LOWEST
                && word(fields.conn_driver + 8)? >= LOWEST
                && flag(fields.conn_closed)? == 0
                && flag(fields.conn_in_use)? == 1,
        )
    };
    looks_so().unwrap_or(false)
}

/// `None` unless an object of at least so many bytes begins at an address.
fn begins(heap: &Heap<'_>, address: u64, size: u64) -> Option<()> {
    let Object { span, index } = heap.spans.object(address)?;
    let span = heap.spans.all.get(span)?;
    (span.range.start + index * span.object_size == address && span.object_size >= size).then_some(())
}

/// Visits the pointers that can be reached from an address within so many steps and objects; those that `enter` says no to lead
/// no further.
fn near(heap: &Heap<'_>, from: u64, (steps, objects): (usize, usize), mut enter: impl FnMut(u64) -> bool) {
    let mut met = FxHashSet::default();
    let mut pending = if enter(from) { vec![from] } else { Vec::new() };
    for _ in 0..steps {
        let mut next = Vec::new();
        for object in pending.into_iter().filter_map(|address| heap.spans.object(address)) {
            if met.len() < objects && met.insert(object) {
                // What cannot be read leads nowhere: then there is something that was not found.
                let _unread = heap.read(object, |pointer| {
                    if enter(pointer) {
                        next.push(pointer);
                    }
                });
            }
        }
        pending = next;
    }
}

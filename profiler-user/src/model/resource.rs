//! What is waited for and held.

use std::fmt;

use super::PartyId;

/// The kind of a resource, under the name its users know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// `tokio::sync::Mutex`
    TokioMutex,
    /// `tokio::sync::RwLock`
    TokioRwLock,
    /// `tokio::sync::Semaphore`
    TokioSemaphore,
    /// tokio's internal semaphore where the primitive around it could not be told.
    TokioBatchSemaphore,
    /// `tokio::sync::Notify`
    TokioNotify,
    /// `tokio::sync::Barrier`
    TokioBarrier,
    /// `tokio::sync::OnceCell`
    TokioOnceCell,
    /// `tokio::sync::mpsc`
    TokioMpsc,
    /// `tokio::sync::oneshot`
    TokioOneshot,
    /// `tokio::sync::watch`
    TokioWatch,
    /// `tokio::sync::broadcast`
    TokioBroadcast,
    /// `JoinHandle`: the task itself is the resource; its address is the task's header.
    JoinHandle,
    /// A timer: sleep, timeout, interval.
    Timer,
    /// Socket, pipe or other descriptor readiness.
    Io,
    /// Work given to the blocking pool.
    BlockingPool,
    /// A task that gave way and will be polled again by itself.
    Yield,
    /// `std::sync::Mutex`
    StdMutex,
    /// `std::sync::RwLock`
    StdRwLock,
    /// `std::sync::Once`, and what is made of it: `OnceLock`, `LazyLock`.
    StdOnce,
    /// `parking_lot::Mutex`
    ParkingLot,
    /// `parking_lot::RwLock`
    ParkingLotRwLock,
    /// `pthread_mutex_t`
    PthreadMutex,
    /// A futex whose object is unknown.
    Futex,
    /// A Go channel.
    GoChan,
    /// A Go channel that is nil, or a select without cases; its address is that of the waiting goroutine's record.
    GoNilChan,
    /// Go's `sync.Mutex`
    GoMutex,
    /// Go's `sync.RWMutex`
    GoRwMutex,
    /// Go's `sync.WaitGroup`
    GoWaitGroup,
    /// Go's `sync.Cond`
    GoCond,
    /// A semaphore of the Go runtime where the primitive around it could not be told.
    GoSemaphore,
    /// The connections of a Go `sql.DB`
    GoSqlDb,
    /// The end of a Go `context.Context`
    GoContext,
    /// A leaf future that is not understood; the name of its type.
    Other(String),
}

impl ResourceKind {
    /// Whether permits move between holders and waiters: a mutex, a lock, a semaphore.
    pub fn is_permits(&self) -> bool {
        self.is_semaphore() || matches!(self, Self::TokioMutex | Self::TokioRwLock)
    }

    /// Whether it is a semaphore, also one around which the primitive could not be told.
    pub fn is_semaphore(&self) -> bool {
        matches!(self, Self::TokioSemaphore | Self::TokioBatchSemaphore | Self::GoSqlDb)
    }

    /// Whether those who wait for it are tasks that nobody can end from outside: goroutines.
    pub fn is_of_goroutines(&self) -> bool {
        matches!(
            self,
            Self::GoChan
                | Self::GoNilChan
                | Self::GoMutex
                | Self::GoRwMutex
                | Self::GoWaitGroup
                | Self::GoCond
                | Self::GoSemaphore
                | Self::GoSqlDb
                | Self::GoContext
        )
    }

    /// Whether it is a lock that goroutines wait for.
    pub fn is_goroutine_lock(&self) -> bool {
        matches!(self, Self::GoMutex | Self::GoRwMutex)
    }

    /// Whether a thread (not a task) waits for it.
    pub fn is_thread_lock(&self) -> bool {
        matches!(
            self,
            Self::StdMutex
                | Self::StdRwLock
                | Self::StdOnce
                | Self::ParkingLot
                | Self::ParkingLotRwLock
                | Self::PthreadMutex
        )
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TokioMutex => "tokio::sync::Mutex",
            Self::TokioRwLock => "tokio::sync::RwLock",
            Self::TokioSemaphore => "tokio::sync::Semaphore",
            Self::TokioBatchSemaphore => "tokio::sync::batch_semaphore::Semaphore",
            Self::TokioNotify => "tokio::sync::Notify",
            Self::TokioBarrier => "tokio::sync::Barrier",
            Self::TokioOnceCell => "tokio::sync::OnceCell",
            Self::TokioMpsc => "tokio::sync::mpsc",
            Self::TokioOneshot => "tokio::sync::oneshot",
            Self::TokioWatch => "tokio::sync::watch",
            Self::TokioBroadcast => "tokio::sync::broadcast",
            Self::JoinHandle => "JoinHandle",
            Self::Timer => "timer",
            Self::Io => "io",
            Self::BlockingPool => "spawn_blocking",
            Self::Yield => "yield_now",
            Self::StdMutex => "std::sync::Mutex",
            Self::StdRwLock => "std::sync::RwLock",
            Self::StdOnce => "std::sync::Once",
            Self::ParkingLot => "parking_lot::Mutex",
            Self::ParkingLotRwLock => "parking_lot::RwLock",
            Self::PthreadMutex => "pthread_mutex_t",
            Self::Futex => "futex",
            Self::GoChan => "chan",
            Self::GoNilChan => "nil chan",
            Self::GoMutex => "sync.Mutex",
            Self::GoRwMutex => "sync.RWMutex",
            Self::GoWaitGroup => "sync.WaitGroup",
            Self::GoCond => "sync.Cond",
            Self::GoSemaphore => "semaphore",
            Self::GoSqlDb => "sql.DB",
            Self::GoContext => "context.Context",
            Self::Other(name) => name,
        })
    }
}

/// What tells one resource from another: its kind's family and its address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey {
    /// Kind, under the name its users know.
    pub kind: ResourceKind,
    /// Address in the target.
    pub address: u64,
}

/// One place in a resource's queue, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// The task whose waker stands there; `None` where the waker is not a task's own.
    pub party: Option<PartyId>,
    /// Permits it still wants; `None` where that was not read.
    pub wants: Option<u64>,
}

/// The room that a channel has for messages that nobody has received yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Messages that are in it.
    pub length: u64,
    /// Messages that fit.
    pub capacity: u64,
}

/// What is known of a resource beyond who waits for it and who holds it (those stand with the strands).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Identity.
    pub key: ResourceKey,
    /// Permits that exist in all, where the kind fixes it (a Mutex: 1) or it was read. Who can reach a semaphore may add more.
    pub permits: Option<u64>,
    /// Permits free now, where read.
    pub available: Option<u64>,
    /// Senders that exist, by the channel's own count.
    pub senders: Option<u64>,
    /// Receivers that exist, by the channel's own count.
    pub receivers: Option<u64>,
    /// The wait queue, oldest first; empty also where it could not be read (see `queue_known`).
    pub queue: Vec<QueueEntry>,
    /// Whether `queue` is the whole queue.
    pub queue_known: bool,
    /// The room of a channel, where read.
    pub buffer: Option<Buffer>,
    /// All of it is taken, and whoever took it has left without giving it back, as far as the code or memory tells.
    pub abandoned: bool,
    /// Every task that can reach it, where that is known: whoever is not among them can never act on it.
    pub reachable_by: Option<Vec<PartyId>>,
    /// How that is known.
    pub grounds: Grounds,
}

/// How it is known who can reach a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grounds {
    /// Their handles are all that it counts, or the runtime has a record of them.
    #[default]
    Counted,
    /// Nothing else in memory points there.
    Searched,
    /// Nothing else is known to; nothing that is said may rest on it.
    Supposed,
}

impl Resource {
    /// A resource of which nothing is known but that it is there.
    pub fn new(key: ResourceKey) -> Self {
        Self {
            key,
            permits: None,
            available: None,
            senders: None,
            receivers: None,
            queue: Vec::new(),
            queue_known: false,
            buffer: None,
            abandoned: false,
            reachable_by: None,
            grounds: Grounds::default(),
        }
    }
}

//! What functions of tokio and its neighbours mean to a dry run: declared tables, each line with the source it rests on.
//!
//! Names are contract names (`crate::debuginfo::name::function`), so one line serves every mangling and every build. The
//! tables were checked against tokio 1.38 to 1.54 and futures 0.3.

use crate::{
    debuginfo::name,
    model::{ResourceKind, WaitMode, is_library},
};

/// A leaf future: what it reads tells what its task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leaf {
    /// `Acquire { node, semaphore, num_permits, queued }`: the semaphore is the word of it that points just below its first
    /// atomic access.
    Acquire,
    /// `Notified { notify, state, .. }`: likewise.
    Notified,
    /// A struct whose first and only word is an `Arc` of the channel.
    ChannelReceive(Channel),
    /// The end of all receivers. A struct whose first word is an `Arc` of the channel.
    ChannelClosed(Channel),
    /// A struct whose first word is the awaited task's header.
    Join,
    /// `Sleep`.
    Sleep,
    /// What a join handle's poll asks of the awaited task: its first argument is the header.
    JoinOutput,
    /// Readiness of a descriptor: `self` points at, or holds, the `ScheduledIo`.
    Io,
    /// Gave way to others.
    Yield,
    /// Any of a set of tasks.
    JoinSet,
    /// What a set of tasks asks of its list, which is all that the set is: its first argument.
    JoinSetList,
}

/// Channels of tokio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Channel {
    Mpsc,
    Oneshot,
    Watch,
    Broadcast,
}

impl Channel {
    pub(super) fn kind(self) -> ResourceKind {
        match self {
            Self::Mpsc => ResourceKind::TokioMpsc,
            Self::Oneshot => ResourceKind::TokioOneshot,
            Self::Watch => ResourceKind::TokioWatch,
            Self::Broadcast => ResourceKind::TokioBroadcast,
        }
    }
}

/// What a destructor gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sink {
    /// `release(&semaphore, permits)`.
    Release,
    /// `add_permits_locked(&semaphore, permits, lock)`: goes on inside, where it unlocks.
    AddPermits,
    /// The drop of a queued acquire: what it gives back was not held but reserved.
    AcquireDrop,
    /// An end of a channel; `self` holds the `Arc`.
    Sender(Channel),
    /// See `Sender`.
    Receiver(Channel),
    /// `JoinHandle` or `AbortHandle`; `self` holds the task's header.
    JoinHandle,
    /// A wait that is taken back: timer, readiness, notification.
    Deregister,
}

/// What a call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Leaf(Leaf),
    Sink(Sink),
    /// Part of a sink that may itself have been inlined: its first argument lies inside of the channel.
    Part(Sink),
    /// Wakes a task: nothing in this task changes.
    Wake,
    /// Aborts the task whose handle it is given, a pointer to the header: nothing in this task changes.
    Abort,
    /// The enclosing frame goes on when any of its children does.
    Select,
    /// Draws the child that a `select!` polls first.
    Draw,
    /// Polls a finished-or-not child of a `join!`, or of a `try_join!`, which looks at each child that is done.
    Join,
    Allocate,
    AllocateZeroed,
    Reallocate,
    Deallocate,
    /// Unwinds or aborts.
    Panic,
    /// Hands a finished landing pad's exception on.
    ResumeUnwinding,
    /// Puts the thread to sleep until its root future is woken.
    Park,
    /// One of the notifications for those who receive from a watch: its second argument is the first of them.
    Notifications,
    /// Keeps a waker, which its caller need not be waiting by.
    Registers,
    /// Runs the tasks of a `LocalSet`.
    Tick,
    /// Wakes a future in a `FuturesUnordered`, or whatever else has an `ArcWake`.
    WakeChild,
    /// Wraps the poll of one type of future.
    TaskPoll,
    /// Some other `poll`.
    Poll,
    /// Provided by a trait for every type: the poll that it calls is the one to know.
    PollUnpin,
}

#[rustfmt::skip]
const ROLES: &[(&str, Role)] = &[
    // tokio/src/sync/batch_semaphore.rs
    ("tokio::sync::batch_semaphore::Acquire::poll", Role::Leaf(Leaf::Acquire)),
    ("tokio::sync::batch_semaphore::Acquire::drop", Role::Sink(Sink::AcquireDrop)),
    ("tokio::sync::batch_semaphore::Semaphore::release", Role::Sink(Sink::Release)),
    ("tokio::sync::batch_semaphore::Semaphore::add_permits_locked", Role::Sink(Sink::AddPermits)),
    // tokio/src/sync/notify.rs
    ("tokio::sync::notify::Notified::poll", Role::Leaf(Leaf::Notified)),
    ("tokio::sync::notify::OwnedNotified::poll", Role::Leaf(Leaf::Notified)),
    ("tokio::sync::notify::Notified::drop", Role::Sink(Sink::Deregister)),
    ("tokio::sync::notify::OwnedNotified::drop", Role::Sink(Sink::Deregister)),
    ("tokio::sync::notify::NotifiedProject::drop_notified", Role::Sink(Sink::Deregister)),
    // tokio/src/sync/oneshot.rs
    ("tokio::sync::oneshot::Receiver::poll", Role::Leaf(Leaf::ChannelReceive(Channel::Oneshot))),
    ("tokio::sync::oneshot::Receiver::drop", Role::Sink(Sink::Receiver(Channel::Oneshot))),
    ("tokio::sync::oneshot::Sender::poll_closed", Role::Leaf(Leaf::ChannelClosed(Channel::Oneshot))),
    ("tokio::sync::oneshot::Sender::drop", Role::Sink(Sink::Sender(Channel::Oneshot))),
    ("tokio::sync::oneshot::State::set_complete", Role::Part(Sink::Sender(Channel::Oneshot))),
    ("tokio::sync::oneshot::State::set_closed", Role::Part(Sink::Receiver(Channel::Oneshot))),
    // tokio/src/sync/mpsc/chan.rs
    ("tokio::sync::mpsc::chan::Rx::recv", Role::Leaf(Leaf::ChannelReceive(Channel::Mpsc))),
    ("tokio::sync::mpsc::chan::Rx::recv_many", Role::Leaf(Leaf::ChannelReceive(Channel::Mpsc))),
    ("tokio::sync::mpsc::chan::Rx::drop", Role::Sink(Sink::Receiver(Channel::Mpsc))),
    ("tokio::sync::mpsc::chan::Tx::drop", Role::Sink(Sink::Sender(Channel::Mpsc))),
    // tokio/src/sync/mpsc/bounded.rs, unbounded.rs: only the receiver's drop and close call it
    ("tokio::sync::mpsc::bounded::Semaphore::close", Role::Part(Sink::Receiver(Channel::Mpsc))),
    ("tokio::sync::mpsc::unbounded::Semaphore::close", Role::Part(Sink::Receiver(Channel::Mpsc))),
    // tokio/src/sync/watch.rs: waiting is done by Notified
    ("tokio::sync::watch::Receiver::drop", Role::Sink(Sink::Receiver(Channel::Watch))),
    ("tokio::sync::watch::Sender::drop", Role::Sink(Sink::Sender(Channel::Watch))),
    ("tokio::sync::watch::big_notify::BigNotify::notify_waiters", Role::Part(Sink::Sender(Channel::Watch))),
    ("tokio::sync::watch::big_notify::BigNotify::notified", Role::Notifications),
    // tokio/src/sync/broadcast.rs
    ("tokio::sync::broadcast::Recv::poll", Role::Leaf(Leaf::ChannelReceive(Channel::Broadcast))),
    ("tokio::sync::broadcast::Recv::drop", Role::Sink(Sink::Deregister)),
    ("tokio::sync::broadcast::Receiver::drop", Role::Sink(Sink::Receiver(Channel::Broadcast))),
    ("tokio::sync::broadcast::Sender::drop", Role::Sink(Sink::Sender(Channel::Broadcast))),
    // tokio/src/runtime/task/join.rs, abort.rs; tokio/src/task/join_set.rs
    ("tokio::runtime::task::join::JoinHandle::poll", Role::Leaf(Leaf::Join)),
    ("tokio::runtime::task::join::JoinHandle::drop", Role::Sink(Sink::JoinHandle)),
    ("tokio::runtime::task::abort::AbortHandle::drop", Role::Sink(Sink::JoinHandle)),
    ("tokio::task::join_set::JoinSet::poll_join_next", Role::Leaf(Leaf::JoinSet)),
    ("tokio::task::join_set::JoinSet::poll_join_next_with_id", Role::Leaf(Leaf::JoinSet)),
    // tokio/src/util/idle_notified_set.rs
    ("tokio::util::idle_notified_set::IdleNotifiedSet::pop_notified", Role::Leaf(Leaf::JoinSetList)),
    // tokio/src/time/sleep.rs, tokio/src/runtime/time/entry.rs
    ("tokio::time::sleep::Sleep::poll", Role::Leaf(Leaf::Sleep)),
    ("tokio::time::sleep::Sleep::poll_elapsed", Role::Leaf(Leaf::Sleep)),
    ("tokio::runtime::time::entry::TimerEntry::drop", Role::Sink(Sink::Deregister)),
    ("tokio::runtime::time::entry::TimerEntry::cancel", Role::Sink(Sink::Deregister)),
    // tokio/src/runtime/io/registration.rs, scheduled_io.rs; tokio/src/io/poll_evented.rs
    ("tokio::runtime::io::registration::Registration::poll_ready", Role::Leaf(Leaf::Io)),
    ("tokio::runtime::io::registration::Registration::poll_read_ready", Role::Leaf(Leaf::Io)),
    ("tokio::runtime::io::registration::Registration::poll_write_ready", Role::Leaf(Leaf::Io)),
    ("tokio::runtime::io::scheduled_io::ScheduledIo::poll_readiness", Role::Leaf(Leaf::Io)),
    ("tokio::runtime::io::scheduled_io::Readiness::poll", Role::Leaf(Leaf::Io)),
    ("tokio::runtime::io::scheduled_io::Readiness::drop", Role::Sink(Sink::Deregister)),
    ("tokio::runtime::io::registration::Registration::drop", Role::Sink(Sink::Deregister)),
    ("tokio::runtime::io::registration::Registration::deregister", Role::Sink(Sink::Deregister)),
    ("tokio::runtime::io::driver::Handle::deregister_source", Role::Sink(Sink::Deregister)),
    ("tokio::io::poll_evented::PollEvented::drop", Role::Sink(Sink::Deregister)),
    // h2 0.3 and 0.4, src/proto/streams: its peer resets the stream, or the connection ends
    ("h2::proto::streams::streams::StreamRef::poll_reset", Role::Leaf(Leaf::Io)),
    ("h2::proto::streams::send::Send::poll_reset", Role::Leaf(Leaf::Io)),
    // tokio/src/task/yield_now.rs, tokio/src/runtime/context.rs
    ("tokio::runtime::context::defer", Role::Leaf(Leaf::Yield)),
    // tokio/src/runtime/task/waker.rs, tokio/src/runtime/park.rs
    ("tokio::runtime::task::waker::wake_by_val", Role::Wake),
    ("tokio::runtime::task::waker::wake_by_ref", Role::Wake),
    ("tokio::runtime::task::raw::RawTask::remote_abort", Role::Abort),
    // The drop of a runtime or LocalSet ends its tasks: what those hold is theirs
    ("tokio::runtime::task::raw::shutdown", Role::Wake),
    ("tokio::runtime::runtime::Runtime::drop", Role::Wake),
    ("tokio::runtime::blocking::pool::BlockingPool::shutdown", Role::Wake),
    ("tokio::runtime::park::wake", Role::Wake),
    ("tokio::runtime::park::wake_by_ref", Role::Wake),
    ("tokio::runtime::park::CachedParkThread::park", Role::Park),
    ("tokio::runtime::park::Inner::park", Role::Park),
    // What executors park in that know nothing of tokio; its module since Rust 1.93 (library/std/src/thread).
    ("std::thread::functions::park", Role::Park),
    ("std::thread::park", Role::Park),
    ("tokio::runtime::scheduler::current_thread::Context::park", Role::Park),
    ("tokio::runtime::scheduler::current_thread::Context::park_yield", Role::Park),
    // futures-util/src/stream/futures_unordered/task.rs, and futures-task/src/waker.rs before 0.3.32
    ("futures_util::stream::futures_unordered::task::waker_ref::wake_by_ref_arc_raw", Role::WakeChild),
    ("futures_task::waker::wake_by_ref_arc_raw", Role::WakeChild),
    ("_Unwind_Resume", Role::ResumeUnwinding),
    // library/std/src/panicking.rs: what catches takes the exception over
    ("std::panicking::catch_unwind::cleanup", Role::ResumeUnwinding),
    ("std::panicking::try::cleanup", Role::ResumeUnwinding),
    ("__rust_panic_cleanup", Role::ResumeUnwinding),
    // tokio/src/runtime/task/raw.rs, harness.rs, core.rs
    ("tokio::runtime::task::raw::try_read_output", Role::Leaf(Leaf::JoinOutput)),
    ("tokio::runtime::task::raw::poll", Role::TaskPoll),
    ("tokio::runtime::task::harness::Harness::poll", Role::TaskPoll),
    ("tokio::runtime::task::core::Core::poll", Role::TaskPoll),
    // tokio/src/sync/task/atomic_waker.rs, tokio/src/task/local.rs
    ("tokio::sync::task::atomic_waker::AtomicWaker::register_by_ref", Role::Registers),
    ("tokio::task::local::LocalSet::tick", Role::Tick),
    // tokio/src/macros/support.rs: the fair start of select!
    ("tokio::macros::support::thread_rng_n", Role::Draw),
    ("tokio::runtime::context::thread_rng_n", Role::Draw),
    ("tokio::time::timeout::Timeout::poll", Role::Select),
    ("futures_util::future::select::Select::poll", Role::Select),
    ("futures_util::async_await::random::shuffle", Role::Select),
    // tokio/src/future/maybe_done.rs, futures-util/src/future/maybe_done.rs
    ("tokio::future::maybe_done::MaybeDone::poll", Role::Join),
    ("futures_util::future::maybe_done::MaybeDone::poll", Role::Join),
    // library/alloc/src/alloc.rs
    ("__rustc::__rust_alloc", Role::Allocate),
    ("__rust_alloc", Role::Allocate),
    ("__rustc::__rust_alloc_zeroed", Role::AllocateZeroed),
    ("__rust_alloc_zeroed", Role::AllocateZeroed),
    ("__rustc::__rust_realloc", Role::Reallocate),
    ("__rust_realloc", Role::Reallocate),
    ("__rustc::__rust_dealloc", Role::Deallocate),
    ("__rust_dealloc", Role::Deallocate),
];

/// Functions that do not come back.
const PANICS: &[&str] = &[
    "core::panicking::",
    "std::panicking::",
    "core::result::unwrap_failed",
    "core::option::unwrap_failed",
    "core::option::expect_failed",
];

/// What the function of this contract name means to a dry run.
pub(super) fn role(function: &str) -> Option<Role> {
    if let Some((_, role)) = ROLES.iter().find(|(name, _)| *name == function) {
        return Some(*role);
    }
    if PANICS.iter().any(|prefix| function.starts_with(prefix)) {
        return (function != "std::panicking::panicking").then_some(Role::Panic);
    }
    let last = function.rsplit("::").next().unwrap_or(function);
    let polls = (last == "poll" || last.starts_with("poll_")) && shown(function);
    polls.then(|| if last.ends_with("_unpin") { Role::PollUnpin } else { Role::Poll })
}

/// Whether a symbol of this (mangled) name can have a role: spares the demangling of most.
pub(super) fn may_have_role(mangled: &str) -> bool {
    ["tokio", "poll", "shuffle", "panick", "__rust_", "_Unwind_", "unwrap_failed", "expect_failed", "park", "arc_raw"]
        .iter()
        .any(|part| mangled.contains(part))
}

/// Which primitive a wait or hold on tokio's internal semaphore or notify belongs to, by the functions around it.
#[rustfmt::skip]
const PRIMITIVES: &[(&str, ResourceKind, Option<WaitMode>)] = &[
    ("tokio::sync::barrier::", ResourceKind::TokioBarrier, Some(WaitMode::Notified)),
    ("tokio::sync::mpsc::bounded::Sender::closed", ResourceKind::TokioMpsc, Some(WaitMode::Notified)),
    ("tokio::sync::mpsc::bounded::Sender::", ResourceKind::TokioMpsc, Some(WaitMode::Send)),
    ("tokio::sync::mpsc::bounded::Permit", ResourceKind::TokioMpsc, None),
    ("tokio::sync::mpsc::bounded::OwnedPermit", ResourceKind::TokioMpsc, None),
    ("tokio::sync::mpsc::bounded::reserve_inner", ResourceKind::TokioMpsc, Some(WaitMode::Send)),
    ("tokio::sync::watch::Sender::closed", ResourceKind::TokioWatch, Some(WaitMode::Notified)),
    ("tokio::sync::watch::", ResourceKind::TokioWatch, Some(WaitMode::Receive)),
    ("tokio::sync::broadcast::", ResourceKind::TokioBroadcast, Some(WaitMode::Receive)),
    ("tokio::sync::mutex::", ResourceKind::TokioMutex, None),
    ("tokio::sync::rwlock::", ResourceKind::TokioRwLock, None),
    // What it waits for beside its own semaphore is what the value is made of.
    ("tokio::sync::once_cell::", ResourceKind::TokioOnceCell, None),
    ("tokio::sync::semaphore::", ResourceKind::TokioSemaphore, None),
];

/// The first primitive that any of `functions` belongs to, in the table's order: contract names of functions and of types
/// that are dropped, innermost first. What is not tokio's stands around the primitive, and so does all that is around that.
pub(super) fn primitive<'a>(
    functions: &(impl Iterator<Item = &'a str> + Clone),
) -> Option<(ResourceKind, Option<WaitMode>)> {
    let own = functions.clone().map(unwrapped).take_while(|name| name.starts_with("tokio::") || !shown(name));
    PRIMITIVES
        .iter()
        .find(|(prefix, ..)| own.clone().any(|name| name.starts_with(prefix)))
        .map(|(_, kind, mode)| (kind.clone(), *mode))
}

/// What a library's type wraps, if that is one thing: `X` of `Fuse<Coop<X>>`. A guard is itself, whatever it guards.
fn unwrapped(name: &str) -> &str {
    let wraps = |outer: &str| is_library(outer) && !outer.starts_with("tokio::sync::");
    match (name.split_once('<'), &name::generics(name)[..]) {
        (Some((outer, _)), [only]) if name.ends_with('>') && wraps(outer) => unwrapped(only),
        _ => name,
    }
}

/// The lock whose code stands in this source file.
pub(super) fn lock_of_file(file: &str) -> Option<ResourceKind> {
    if is_of_tokio(file, "src/sync/mutex.rs") {
        Some(ResourceKind::TokioMutex)
    } else {
        is_of_tokio(file, "src/sync/rwlock.rs").then_some(ResourceKind::TokioRwLock)
    }
}

/// Whether this source file is that of tokio.
pub(super) fn is_of_tokio(file: &str, name: &str) -> bool {
    file.contains("tokio") && file.ends_with(name)
}

/// Where a kind stands in the order above: two readings of one address settle on the more telling one.
pub(super) fn specificity(kind: &ResourceKind) -> usize {
    PRIMITIVES.iter().rev().position(|(_, known, _)| known == kind).map_or(0, |place| place + 1)
}

/// Plumbing that users do not want to see in an await stack.
const PLUMBING: &[&str] = &[
    "core::",
    "std::",
    "alloc::",
    "__rust",
    "tokio::runtime::",
    "tokio::macros::",
    "tokio::task::coop::",
    "tokio::task::task_local::",
    "tokio::future::",
    "tokio::sync::batch_semaphore::",
    "tokio::sync::notify::NotifiedProject",
    "tokio::sync::mpsc::chan::",
    "tokio::loom::",
    "tokio::trace::",
    "futures_core::",
    "futures_util::future::poll_fn::",
    "futures_util::future::maybe_done::",
    "futures_util::future::future::map",
    "pin_project",
];

/// Whether a function belongs into the await stacks that users see.
pub(super) fn shown(function: &str) -> bool {
    !PLUMBING.iter().any(|prefix| function.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declared_name_is_found_under_its_own_role() {
        for (name, expected) in ROLES {
            assert_eq!(role(name), Some(*expected), "{name}");
        }
    }

    #[test]
    fn the_cheap_filter_passes_every_declared_name() {
        for name in ROLES.iter().map(|(name, _)| name).chain(PANICS) {
            assert!(may_have_role(name), "{name}");
        }
    }

    /// Builds without optimisation have these functions, and call them on every way.
    #[test]
    fn what_comes_back_is_no_panic() {
        assert_eq!(role("core::option::expect_failed"), Some(Role::Panic));
        for returns in ["core::option::Option::take", "core::option::Option::expect", "core::result::Result::ok"] {
            assert_eq!(role(returns), None, "{returns}");
        }
    }

    #[test]
    fn the_more_telling_kind_wins() {
        assert!(specificity(&ResourceKind::TokioOnceCell) > specificity(&ResourceKind::TokioSemaphore));
        assert!(specificity(&ResourceKind::TokioMutex) > specificity(&ResourceKind::TokioBatchSemaphore));
    }

    #[test]
    fn a_primitive_ends_where_other_peoples_code_begins() {
        let making = ["tokio::sync::notify::Notified::poll", "app::connect", "tokio::sync::barrier::Barrier::wait"];
        assert_eq!(primitive(&making.into_iter()), None);
        let closing = ["core::ptr::drop_in_place", "futures_util::future::Fuse<tokio::sync::watch::Sender::closed>"];
        assert_eq!(primitive(&closing.into_iter()), Some((ResourceKind::TokioWatch, Some(WaitMode::Notified))));
        for guard in
            ["tokio::sync::mutex::MutexGuard<app::State>", "Option<tokio::sync::mutex::MutexGuard<app::State>>"]
        {
            let guarding = ["core::ptr::drop_in_place", guard, "app::serve"];
            assert_eq!(primitive(&guarding.into_iter()), Some((ResourceKind::TokioMutex, None)));
        }
        let either = ["tokio::future::Pair<tokio::sync::watch::Sender::closed, app::connect>"];
        assert_eq!(primitive(&either.into_iter()), None);
    }

    #[test]
    fn a_send_is_told_from_a_lock() {
        let around = ["tokio::sync::mpsc::bounded::Sender::send", "app::produce"];
        assert_eq!(primitive(&around.into_iter()), Some((ResourceKind::TokioMpsc, Some(WaitMode::Send))));
    }
}

//! The target comes first, also where there is too little CPU for both.

/// How much less gordian weighs than what runs at the usual niceness: a third.
const NICENESS: i32 = 5;

/// Has this thread, and those it starts from now on, wait its turn: a thread that wakes does not displace one that runs, and
/// takes the smaller share where both want the CPU. Without it a request of the target's that gordian displaces waits a
/// few milliseconds: the live view's p99.9 (docs/benchmarks.md).
pub fn give_way() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: both calls take integers and a pointer to `parameters`, which outlives them. Neither may fail for a thread about
    // itself in this direction, and if one did, gordian would work as well.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters);
        libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
    }
}

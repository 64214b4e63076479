//! The target comes first, also where there is too little CPU for both.

/// Has this thread, and those it starts from now on, wait for its turn when it wakes: it does not displace a thread that runs.
/// Without it a request of the target's that gordian displaces waits a few milliseconds. Its share of the CPU stays what it
/// was: an answer is wanted all the more where a machine is overloaded.
pub fn give_way() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call takes integers and a pointer to `parameters`, which outlives it. It is allowed for a thread about itself;
    // if it failed, gordian would work as well.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
}

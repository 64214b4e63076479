//! Stopping a process for the time of a read: the one thing here that touches the target, and only when asked.

use std::{
    marker::PhantomData,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace,
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rustc_hash::FxHashSet;

use super::{TargetError, UserRegisters};

/// How long a thread may take to stop; one in the middle of disk I/O takes until that is done.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks at a thread that has yet to stop.
const PAUSE: Duration = Duration::from_micros(50);

/// A process whose threads are all stopped, until this is dropped; also when gordian is killed, for the kernel itself lets go
/// the threads of a tracer that ends.
///
/// System calls that wait are interrupted by it, and those that the kernel does not restart by itself (`epoll_wait`, see
/// signal(7)) return early with `EINTR`.
pub struct Frozen {
    /// What has stopped, with the signal that was about to reach it.
    stopped: Vec<(Pid, Option<Signal>)>,
    since: Instant,
    /// ptrace serves the thread that attached alone.
    not_send: PhantomData<*const ()>,
}

impl Frozen {
    /// Stops every thread of process `pid`.
    ///
    /// # Errors
    /// Where another tracer has it, where it is not allowed, and where a thread does not stop in half a second: then it runs on.
    pub(super) fn stop(pid: i32) -> Result<Self, TargetError> {
        let mut frozen = Self { stopped: Vec::new(), since: Instant::now(), not_send: PhantomData };
        let mut known = FxHashSet::default();
        // Until they have all stopped they may start others.
        loop {
            let threads = procfs::process::Process::new(pid).and_then(|process| process.tasks());
            let threads = threads.map_err(|error| TargetError::from_proc(pid, "the threads", error))?;
            let fresh: Vec<Pid> =
                threads.flatten().map(|task| Pid::from_raw(task.tid)).filter(|tid| known.insert(*tid)).collect();
            if fresh.is_empty() {
                return Ok(frozen);
            }
            for tid in fresh {
                frozen.take(pid, tid)?;
            }
        }
    }

    fn take(&mut self, pid: i32, tid: Pid) -> Result<(), TargetError> {
        let failed = |cause: String| TargetError::NotStopped { pid, cause };
        match ptrace::seize(tid, ptrace::Options::empty()) {
            // It has ended.
            Err(Errno::ESRCH) => return Ok(()),
            Err(error) => {
                return Err(failed(format!("thread {tid} cannot be traced ({error}); is a debugger attached?")));
            }
            Ok(()) => {}
        }
        if ptrace::interrupt(tid).is_err() {
            return Ok(());
        }
        let begin = Instant::now();
        loop {
            match waitpid(tid, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if begin.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
                Ok(WaitStatus::StillAlive) => {
                    return Err(failed(format!(
                        "thread {tid} has not stopped in {} ms; is it waiting for a disk?",
                        PATIENCE.as_millis()
                    )));
                }
                Ok(WaitStatus::Stopped(_, signal)) => {
                    self.stopped.push((tid, Some(signal)));
                    return Ok(());
                }
                Ok(WaitStatus::PtraceEvent(..)) => {
                    self.stopped.push((tid, None));
                    return Ok(());
                }
                // It has ended.
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }

    /// The registers of its threads, by id, as they stand; an error where one of them cannot be asked.
    pub fn registers(&self) -> Result<Vec<(i32, UserRegisters)>, TargetError> {
        let read = |(tid, _): &(Pid, Option<Signal>)| {
            let all = ptrace::getregs(*tid).map_err(|error| TargetError::NotStopped {
                pid: tid.as_raw(),
                cause: format!("its registers cannot be read: {error}"),
            })?;
            let general = [
                all.rax, all.rdx, all.rcx, all.rbx, all.rsi, all.rdi, all.rbp, all.rsp, all.r8, all.r9, all.r10,
                all.r11, all.r12, all.r13, all.r14, all.r15,
            ];
            Ok((tid.as_raw(), UserRegisters { ip: all.rip, general, fs_base: all.fs_base }))
        };
        self.stopped.iter().map(read).collect()
    }

    /// Lets it go on; returns how long its first thread stood.
    pub fn release(self) -> Duration {
        let since = self.since;
        drop(self);
        since.elapsed()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for (tid, signal) in self.stopped.drain(..) {
            // It may have been killed meanwhile; then there is nothing to let go.
            let _gone = ptrace::detach(tid, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::{Duration, Frozen};

    /// A process that never waits; ended when dropped.
    struct Busy(Child);

    impl Busy {
        fn start() -> Self {
            Self(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("there is a shell"))
        }

        fn pid(&self) -> i32 {
            self.0.id().cast_signed()
        }

        /// CPU time so far, in the kernel's ticks.
        fn ticks(&self) -> u64 {
            let stat = procfs::process::Process::new(self.pid()).and_then(|process| process.stat()).expect("it lives");
            stat.utime + stat.stime
        }

        /// Whether it uses CPU time, for as long as it takes to see.
        fn runs(&self, within: Duration) -> bool {
            let (before, begin) = (self.ticks(), std::time::Instant::now());
            while begin.elapsed() < within {
                if self.ticks() > before + 1 {
                    return true;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            false
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            let _ended = self.0.kill();
            let _status = self.0.wait();
        }
    }

    #[test]
    fn what_is_stopped_stands_until_it_is_let_go() {
        let busy = Busy::start();
        assert!(busy.runs(Duration::from_secs(20)), "it never waits");
        let frozen = Frozen::stop(busy.pid()).expect("it is our child");
        assert!(!busy.runs(Duration::from_millis(300)), "it ran while it was stopped");
        let stopped = frozen.release();
        assert!(stopped >= Duration::from_millis(300), "{stopped:?} is less than it stood");
        assert!(busy.runs(Duration::from_secs(20)), "it was not let go");
    }

    #[test]
    fn the_second_to_ask_is_told_why_not() {
        let busy = Busy::start();
        let held = Frozen::stop(busy.pid()).expect("it is our child");
        // Another thread is another tracer.
        let pid = busy.pid();
        let refused = std::thread::spawn(move || Frozen::stop(pid).err().map(|error| error.to_string())).join();
        let refused = refused.expect("no panic").expect("it is taken");
        assert!(refused.contains("is a debugger attached?"), "{refused}");
        drop(held);
    }
}

//! The `gordian` binary: sets up the runtime, the log and the way out. The commands are in the library.

use std::{
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

use clap::Parser;
use profiler_user::command::{self, Cli, Status, note};

fn main() -> ExitCode {
    // A panic is reported by the hook; its exit status says that gordian could not look.
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or(Status::CouldNotLook).into()
}

fn run() -> Status {
    let cli = Cli::parse();
    match start(&cli) {
        Ok(status) => status,
        Err(error) => {
            note(&format!("{error:#}"));
            Status::CouldNotLook
        }
    }
}

fn start(cli: &Cli) -> anyhow::Result<Status> {
    // Before there are threads: they have it from this one.
    command::give_way();
    let log = command::log(cli)?;
    // Signals, timers and the kernel's ring buffers; what takes long has threads of its own.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("gordian-io").enable_all().build()?;
    let _entered = runtime.enter();
    let status = command::run(cli, runtime.handle());
    if let Some(path) = log {
        note(&format!("the log is in {}", path.display()));
    }
    status
}

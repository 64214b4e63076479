//! `gordian TARGET`: the live view.

use tokio::runtime::Handle;

use super::{
    args::Watch,
    attach::{self, Attach},
    output::Status,
};
use crate::tui::{self, Exit};

/// Runs it. It watches waits inside the runtime by itself, within the budget.
pub(super) fn run(target: &str, watch: &Watch, runtime: &Handle) -> anyhow::Result<Status> {
    let attach = Attach { trace_waits: !watch.no_bpf, ..Attach::new(watch)? };
    let session = attach::session(target, &attach)?;
    match runtime.block_on(tui::run(session.views()))? {
        Exit::Quit => Ok(Status::Fine),
        Exit::Signal(signal) => Ok(Status::Signal(signal)),
    }
}

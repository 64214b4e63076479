//! `gordian capture`: what the engine needs of the target's memory, to look at it elsewhere.

use super::{
    args::Capture,
    output::{Output, Status},
    target,
};
use crate::{export::text, session};

/// Runs it.
pub(super) fn run(capture: &Capture, output: Output) -> anyhow::Result<Status> {
    let pid = target::resolve(&capture.target)?;
    let kept = session::capture(pid, &capture.output, capture.freeze)?;
    let mut page = output.page();
    text::captured(&mut page, &kept, pid, &capture.output);
    output.print(&page.into_text())?;
    Ok(Status::Fine)
}

//! `gordian ps`: what can be attached to.

use super::{
    args::Ps,
    output::{Output, Status},
};
use crate::{
    export::{
        json::{self, Candidates},
        text,
    },
    session::candidates,
};

/// Runs it.
pub(super) fn run(ps: &Ps, output: Output) -> anyhow::Result<Status> {
    let (found, denied) = candidates();
    let text = if ps.json {
        json::object(&Candidates::new(&found, denied.processes))? + "\n"
    } else {
        let mut page = output.page();
        text::candidates(&mut page, &found, &denied);
        page.into_text()
    };
    output.print(&text)?;
    Ok(Status::Fine)
}

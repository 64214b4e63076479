//! `gordian check`: what is stuck, and why.

use std::time::Duration;

use tokio::runtime::Handle;

use super::{
    args::{Check, FailOn},
    attach::{self, Attach},
    gather::{Gathered, LEAST_READS, Plan, Stop, gather},
    output::{Output, Status},
};
use crate::{
    export::{
        json::{self, Document, Line},
        text,
    },
    model::{Finding, Snapshot},
};

/// How long to watch when nobody says: time for two reads and for a worker's block to pass its threshold.
const WATCH: Duration = Duration::from_secs(2);
/// Of one that was kept the second moment is read twice: what is known by both moments together must stand in two reads.
const READS_OF_STORED: u64 = 3;

/// Runs it.
pub(super) fn run(check: &Check, runtime: &Handle, output: Output) -> anyhow::Result<Status> {
    let attach = Attach { trace_waits: check.trace_waits, ..Attach::new(&check.watch)? };
    let session = attach::session(&check.target, &attach)?;
    let watch = if session.is_live() { WATCH } else { Duration::ZERO };
    let reads = if session.is_live() { LEAST_READS } else { READS_OF_STORED };
    let plan = Plan { duration: check.duration.unwrap_or(watch), reads, stop_at_permanent: check.duration.is_none() };
    let news = |finding: &Finding, snapshot: &Snapshot| {
        if check.jsonl {
            output.print(&(json::line(&Line::finding(finding, snapshot))? + "\n"))
        } else if check.json {
            Ok(())
        } else {
            let mut page = output.page();
            if finding.ended_at.is_some() {
                text::ended(&mut page, finding);
            } else {
                text::finding(&mut page, finding, snapshot);
            }
            page.blank();
            output.print(&page.into_text())
        }
    };
    let (gathered, stop) = runtime.block_on(gather(session.views(), plan, news))?;
    conclude(check, &gathered, output)?;
    if stop == Stop::Interrupted {
        output.note(&format!("interrupted after {:.1} s", gathered.watched.as_secs_f64()));
    }
    Ok(status(&gathered, stop, &check.fail_on))
}

/// What is said at the end, in each form.
fn conclude(check: &Check, gathered: &Gathered, output: Output) -> anyhow::Result<()> {
    let document = || Document::findings(&gathered.view, gathered.findings());
    let text = if check.json {
        json::object(&document())? + "\n"
    } else if check.jsonl {
        json::line(&Line::End(Box::new(document())))? + "\n"
    } else {
        let findings: Vec<_> = gathered.findings().map(|(finding, _)| finding).collect();
        let mut page = output.page();
        text::verdict(&mut page, &findings, &gathered.view, gathered.watched.as_secs_f64());
        page.into_text()
    };
    Ok(output.print(&text)?)
}

fn status(gathered: &Gathered, stop: Stop, fail_on: &FailOn) -> Status {
    if gathered.findings().any(|(finding, _)| fail_on.0.contains(&finding.kind)) {
        return Status::Found;
    }
    let whole = matches!(stop, Stop::Elapsed | Stop::Permanent) && gathered.view.snapshot.complete();
    match stop {
        // One read supports no verdict.
        Stop::Ended if gathered.reads < 2 => Status::CouldNotLook,
        _ if whole => Status::Fine,
        _ => Status::Partial,
    }
}

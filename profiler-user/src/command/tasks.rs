//! `gordian tasks`: every task, grouped by equal await stack or one by one.

use std::{collections::HashSet, mem::ManuallyDrop, sync::Arc, time::Duration};

use anyhow::bail;
use tokio::runtime::Handle;

use super::{
    args::{Form, Tasks},
    attach::{self, Attach},
    gather::{LEAST_READS, Plan, Stop, gather},
    output::{Output, Status},
};
use crate::{
    export::{
        group::{group, grown},
        json::{self, Document},
        text,
    },
    model::{PartyId, Task, TaskState},
    session::View,
};

/// Runs it.
pub(super) fn run(tasks: &Tasks, runtime: &Handle, output: Output) -> anyhow::Result<Status> {
    // Nobody waits for a million tasks to be given back one by one right before the process ends.
    let (before, view) = look(tasks, runtime, output)?;
    let (before, view) = (ManuallyDrop::new(before), ManuallyDrop::new(view));
    let chosen = choose(tasks, &view);
    let limit = tasks.limit.unwrap_or(usize::MAX);
    if tasks.format == Form::Goroutines {
        let mut page = output.page();
        text::goroutines(&mut page, &chosen[..limit.min(chosen.len())]);
        output.print(&page.into_text())?;
        return Ok(Status::Fine);
    }
    let mut page = output.page();
    text::header(&mut page, &view.snapshot);
    let document = if tasks.all {
        let shown = &chosen[..limit.min(chosen.len())];
        text::tasks(&mut page, &view.snapshot, shown, chosen.len() - shown.len());
        Document::tasks(&view, shown.iter().copied())
    } else {
        let groups = match tasks.grown {
            Some(_) => grown(chosen.iter().copied(), &before.snapshot.tasks),
            None => group(chosen.iter().copied()),
        };
        if tasks.grown.is_some() && groups.is_empty() {
            page.blank();
            page.line("of no group are there more than before");
        }
        let shown = &groups[..limit.min(groups.len())];
        text::groups(&mut page, shown, groups.len() - shown.len());
        Document::groups(&view, shown)
    };
    if chosen.is_empty() && !view.snapshot.tasks.is_empty() {
        page.blank();
        page.line("none of its tasks is of the kind that was asked for");
    }
    text::threads(&mut page, &view.snapshot);
    page.blank();
    text::unread(&mut page, &view);
    let text = if tasks.json { json::object(&document)? + "\n" } else { page.into_text() };
    output.print(&text)?;
    Ok(Status::Fine)
}

/// The first view and the last: of one snapshot where that is enough, of a session where the question is about time or
/// findings.
fn look(tasks: &Tasks, runtime: &Handle, output: Output) -> anyhow::Result<(Arc<View>, Arc<View>)> {
    let attach = Attach::new(&tasks.watch)?;
    if tasks.older_than.is_none() && tasks.grown.is_none() && !tasks.stuck {
        let view = attach::once(&tasks.target, &attach).map(Arc::new)?;
        return Ok((Arc::clone(&view), view));
    }
    let duration = tasks.older_than.max(tasks.grown).unwrap_or(Duration::ZERO);
    if duration > Duration::from_secs(1) {
        output.note(&format!("watching {} s to see which tasks stay as they are", duration.as_secs_f64()));
    }
    let session = attach::session(&tasks.target, &attach)?;
    let first = Arc::clone(&session.views().borrow());
    let plan = Plan { duration, reads: LEAST_READS, stop_at_permanent: false };
    let (gathered, stop) = runtime.block_on(gather(session.views(), plan, |_, _| Ok(())))?;
    match (stop, &gathered.view.ended) {
        (Stop::Ended, Some(why)) => bail!("{why}"),
        (Stop::Interrupted, _) => bail!("interrupted after {:.1} s", gathered.watched.as_secs_f64()),
        _ => Ok((first, gathered.view)),
    }
}

/// The tasks that the flags ask for.
fn choose<'a>(tasks: &Tasks, view: &'a View) -> Vec<&'a Task> {
    let states: Vec<TaskState> = tasks.state.iter().copied().map(Into::into).collect();
    let stuck: Option<HashSet<PartyId>> =
        tasks.stuck.then(|| view.findings.iter().flat_map(|finding| finding.tasks.iter().copied()).collect());
    let keep = |task: &&Task| {
        let old = |bound: Duration| task.since.is_some_and(|since| since.at_least_s >= bound.as_secs_f64());
        tasks.type_contains.as_deref().is_none_or(|part| task.name.contains(part))
            && (states.is_empty() || states.contains(&task.state))
            && tasks.older_than.is_none_or(old)
            && stuck.as_ref().is_none_or(|stuck| stuck.contains(&task.party))
    };
    view.snapshot.tasks.iter().filter(keep).collect()
}

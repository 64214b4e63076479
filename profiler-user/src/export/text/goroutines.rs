//! Tasks in the form in which a Go program prints its own goroutines, for the tools that read that.

use std::borrow::Cow;

use crate::{
    export::page::Page,
    model::{Frame, Origin, PartyId, Task},
};

/// One by one, each with its stack: `goroutine 18 [chan receive, 5 minutes]:` and what follows, as in a traceback of Go
/// (runtime/traceback.go). The arguments of calls are left out, as Go does for inlined calls.
pub fn goroutines(page: &mut Page, tasks: &[&Task]) {
    for (index, task) in tasks.iter().enumerate() {
        if index > 0 {
            page.blank();
        }
        let status = task.status.as_deref().unwrap_or(task.state.name());
        page.add("goroutine ").add(task.id()).add(" [").add(status);
        let minutes = task.since.map_or(0, |since| (since.at_least_s / 60.0) as u64);
        if minutes > 0 {
            page.add(format_args!(", {minutes} minutes"));
        }
        page.add("]");
        if let Some(labels) = task.labels.as_deref().filter(|labels| !labels.is_empty()) {
            let labels = labels.iter().map(|(name, value)| format!("{}: {}", quoted(name), quoted(value)));
            page.add(format_args!(" {{{}}}", labels.collect::<Vec<_>>().join(", ")));
        }
        page.add(":").end();
        if task.root.frames.is_empty() {
            page.tab_stop().add("goroutine running on other thread; stack unavailable").end();
        }
        for frame in task.root.frames.iter().rev() {
            page.add(&frame.function).add("(...)").end();
            place(page, frame);
        }
        if let Some(Origin { party, site: Some(site) }) = task.origin.as_deref() {
            page.add("created by ").add(&site.function);
            if let Some(PartyId::Task { id, .. }) = party {
                page.add(format_args!(" in goroutine {id}"));
            }
            page.end();
            place(page, site);
        }
    }
}

/// A label's name or value, in quotes where it is not made of letters, digits and a few signs alone.
fn quoted(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_');
    if text.chars().all(plain) { text.into() } else { format!("{text:?}").into() }
}

fn place(page: &mut Page, frame: &Frame) {
    let file = frame.file.as_deref().unwrap_or("?");
    page.tab_stop().add(file).add(format_args!(":{}", frame.line.unwrap_or(0))).end();
}

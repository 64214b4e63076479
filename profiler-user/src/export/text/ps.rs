//! The table of `gordian ps`.

use crate::{
    export::page::{Ink, Page},
    session::{Candidate, Denied},
};

const HEAD: [&str; 6] = ["PID", "NAME", "RUNTIME", "TASKS", "DEBUGINFO", "NOT SEEN"];

/// The processes that can be attached to; `denied` are those that could not be looked into.
pub fn candidates(page: &mut Page, candidates: &[Candidate], denied: &Denied) {
    if candidates.is_empty() {
        page.line("no process with an async runtime was found");
    } else {
        let rows: Vec<_> = candidates.iter().map(row).collect();
        let widths = widths(&rows);
        line(page, Ink::Faint, &HEAD.map(str::to_owned), widths);
        for row in &rows {
            line(page, Ink::Plain, row, widths);
        }
    }
    if denied.processes > 0 {
        let others = if denied.processes == 1 { "1 process".into() } else { format!("{} processes", denied.processes) };
        page.put(Ink::Warn, format!("{others} may not be looked into: {}", denied.why)).end();
    }
}

fn row(candidate: &Candidate) -> [String; HEAD.len()] {
    [
        candidate.pid.to_string(),
        candidate.name.clone(),
        candidate.runtime.clone(),
        candidate.tasks.map_or("?".into(), |tasks| tasks.to_string()),
        candidate.debuginfo.name().into(),
        candidate.note.clone(),
    ]
}

fn widths(rows: &[[String; HEAD.len()]]) -> [usize; HEAD.len()] {
    std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| crate::export::escape(&row[column]).chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or(0)
    })
}

fn line(page: &mut Page, ink: Ink, cells: &[String; HEAD.len()], widths: [usize; HEAD.len()]) {
    let mut start = 0;
    for (cell, width) in cells.iter().zip(widths) {
        if start > 0 {
            page.tab(start);
        }
        page.put(ink, cell);
        start += width + 2;
    }
    page.end();
}

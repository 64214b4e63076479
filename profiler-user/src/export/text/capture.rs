//! What `gordian capture` says.

use std::path::Path;

use super::super::{format::count, page::Page};
use crate::session::Capture;

/// What was kept of process `pid`, where, and what to do with it.
pub fn captured(page: &mut Page, capture: &Capture, pid: i32, file: &Path) {
    let tasks = count(capture.tasks as u64, "task");
    let size = if capture.bytes < 1_000_000 {
        format!("{} kB", capture.bytes.div_ceil(1000))
    } else {
        format!("{:.1} MB", capture.bytes as f64 / 1e6)
    };
    let took_s = capture.took.as_secs_f64();
    let name = file.display().to_string();
    page.line(format_args!("{tasks} of process {pid} kept in {name}: {size} in {took_s:.1} s"));
    if let Some(stopped) = capture.stopped {
        page.line(format_args!("the process was stopped for {:.1} ms at a time", stopped.as_secs_f64() * 1e3));
    }
    if capture.stopped.is_some() && !capture.heap {
        page.line("its heap is too large to be kept, so verdicts that need all of it will not be had");
    }
    page.line("it holds data of the process, and its program's file is needed to read it");
    // What has a slash in it is taken for a file whatever its name.
    let at = if name.contains('/') { "" } else { "./" };
    page.line(format_args!("next: gordian check {at}{name}"));
}

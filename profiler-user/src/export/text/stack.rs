//! Await stacks and thread stacks, root first.

use super::resource;
use crate::{
    export::{
        format::place,
        page::{Ink, Page},
    },
    model::{Fork, Frame, Strand},
};

/// Places of a stack stand in one column, unless functions are longer than this.
const WIDEST_FUNCTION: usize = 72;

/// The frames, one a line.
pub(super) fn frames(page: &mut Page, frames: &[Frame], indent: usize) {
    let widest = frames.iter().map(|frame| frame.function.chars().count()).max().unwrap_or(0).min(WIDEST_FUNCTION);
    for frame in frames {
        page.indent(indent).add(&frame.function);
        if let Some(place) = place(frame) {
            page.tab(indent + widest + 2).put(Ink::Faint, place);
        }
        page.end();
    }
}

/// A strand with what its leaf waits for, and its branches below it.
pub(super) fn strand(page: &mut Page, strand: &Strand, indent: usize) {
    frames(page, &strand.frames, indent);
    if let Some(wait) = &strand.wait {
        page.indent(indent).add(resource::wait(wait)).end();
    }
    branches(page, strand, indent);
}

/// The branches of a strand, if it forks.
pub(super) fn branches(page: &mut Page, of: &Strand, indent: usize) {
    if of.children.is_empty() {
        return;
    }
    let how = match of.fork {
        Fork::All => "awaits all of these:",
        Fork::Any => "awaits whichever of these ends first:",
        Fork::Unknown => "awaits these side by side:",
    };
    page.indent(indent).add(how).end();
    for (n, child) in of.children.iter().enumerate() {
        page.indent(indent).put(Ink::Faint, format_args!("branch {}", n + 1)).end();
        strand(page, child, indent + 2);
    }
}

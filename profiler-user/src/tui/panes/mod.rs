//! The panes that are pages of lines. Each builds its page from a view; none draws.

mod detail;
mod findings;
mod health;
mod workers;

use crate::model::{Finding, FindingKind};

pub(super) use detail::{group, task};
pub(super) use findings::findings;
pub(super) use health::{health, notes};
pub(super) use workers::workers;

use super::{
    clock::Clock,
    doc::{Line, Tone},
    text,
};

/// The tone of a finding: what can never end is worse than what might, and `stalled` is information only.
pub(super) fn tone(kind: FindingKind) -> Tone {
    match kind {
        FindingKind::Deadlock | FindingKind::Orphaned | FindingKind::Undriven => Tone::Bad,
        FindingKind::BlockedWorker | FindingKind::Starved | FindingKind::Exhausted | FindingKind::Leak => Tone::Warn,
        FindingKind::Stalled => Tone::Dim,
    }
}

/// `DEADLOCK proved`, as every pane writes it.
pub(super) fn label(finding: &Finding) -> String {
    format!("{} {}", finding.kind.name().to_uppercase(), finding.certainty.name())
}

/// When a finding formed, by what is known of it.
fn formed(finding: &Finding, clock: Clock) -> String {
    let ago = |at| clock.seconds_since(at).map(text::duration);
    match (finding.formed_at.map(ago), ago(finding.first_seen)) {
        (Some(Some(formed)), _) => format!("formed {formed} ago"),
        (None, Some(seen)) => format!("formed before attach, first seen {seen} ago"),
        (None, None) => "formed before attach".to_owned(),
        (Some(None), _) => "formed just now".to_owned(),
    }
}

/// A heading inside a page.
fn heading(title: &str) -> Line {
    Line::new(Tone::Dim, title.to_uppercase())
}

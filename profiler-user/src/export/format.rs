//! Small things said the same way everywhere: durations, moments, places, counts.

use std::{fmt::Write, time::SystemTime};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::model::{Frame, PartyId, Since, SinceSource, Task};

/// Seconds as a person says them: `80 ms`, `2.5 s`, `3 min 20 s`, `2 h 5 min`.
pub(super) fn seconds(s: f64) -> String {
    if !s.is_finite() || s < 0.0 {
        return "an unknown time".into();
    }
    if s < 0.9995 {
        return format!("{:.0} ms", s * 1e3);
    }
    if s < 9.95 {
        return format!("{s:.1} s");
    }
    let whole = s.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3600 % 24),
    }
}

/// A lower bound with what it rests on.
pub(super) fn since(since: Since) -> String {
    let bound = seconds(since.at_least_s);
    match since.source {
        SinceSource::Attach => format!("at least {bound}, since gordian attached"),
        SinceSource::Snapshot => format!("{bound}, by snapshots"),
        SinceSource::Event => bound,
        SinceSource::Runtime => format!("at least {bound}, as its runtime noted"),
    }
}

/// RFC 3339 in UTC; `None` for a moment outside the years 0 to 9999.
pub(super) fn rfc3339(moment: SystemTime) -> Option<String> {
    let since_epoch = moment.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let moment = OffsetDateTime::UNIX_EPOCH.checked_add(since_epoch.try_into().ok()?)?;
    moment.format(&Rfc3339).ok()
}

/// The time of day in UTC, to the millisecond.
pub(super) fn clock(moment: SystemTime) -> String {
    let into_day = moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() % 86_400_000);
    let (s, ms) = (into_day / 1000, into_day % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03} UTC", s / 3600, s / 60 % 60, s % 60)
}

/// `file:line` of a frame, the file shortened to the part that tells: from the crate's own directory on, or from
/// `library` for std. `None` where no line table speaks of it.
pub(super) fn place(frame: &Frame) -> Option<String> {
    let mut place = short_path(frame.file.as_deref()?).to_owned();
    if let Some(line) = frame.line {
        // Writing to a String cannot fail.
        let _ = write!(place, ":{line}");
    }
    Some(place)
}

/// `function (file:line)`, for use inside a sentence.
pub(super) fn site(frame: &Frame) -> String {
    match place(frame) {
        Some(place) => format!("{} ({place})", frame.function),
        None => frame.function.to_string(),
    }
}

fn short_path(path: &str) -> &str {
    // .../registry/src/<index>/<crate>/...
    if let Some((_, below)) = path.split_once("/registry/src/")
        && let Some((_, inside)) = below.split_once('/')
    {
        return inside;
    }
    // /rustc/<commit>/library/...
    if let Some(below) = path.strip_prefix("/rustc/")
        && let Some((_, inside)) = below.split_once('/')
    {
        return inside;
    }
    // <wherever it was built>/<crate>/src/...
    if path.starts_with('/')
        && let Some((above, _)) = path.rsplit_once("/src/")
        && let Some(name) = above.rfind('/')
    {
        return &path[name + 1..];
    }
    path
}

/// A party as a person names it: `task 7`, `block_on:120`, `thread 121`.
pub(super) fn party(party: PartyId) -> String {
    match party {
        PartyId::Task { id, .. } => format!("task {id}"),
        PartyId::BlockOn { .. } => party.to_string(),
        PartyId::Thread { tid } => format!("thread {tid}"),
    }
}

/// `task 7 (app::transfer)`.
pub(super) fn named(id: PartyId, name: &str) -> String {
    match name {
        "" => party(id),
        // `(type not known)` and its like.
        _ if name.starts_with('(') => format!("{} {name}", party(id)),
        _ => format!("{} ({name})", party(id)),
    }
}

/// `task 7 (app::transfer)` of a task.
pub(super) fn task(task: &Task) -> String {
    named(task.party, &task.name)
}

/// `1 task`, `2 tasks`.
pub(super) fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// An address; `None` for one that could not be read.
pub(super) fn address(address: u64) -> Option<String> {
    (address != 0).then(|| format!("{address:#x}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_read_well() {
        let said = [0.0, 0.08, 0.9999, 2.52, 59.7, 200.0, 7500.0, 200_000.0, f64::NAN, -1.0].map(seconds);
        assert_eq!(
            said,
            [
                "0 ms",
                "80 ms",
                "1.0 s",
                "2.5 s",
                "1 min 0 s",
                "3 min 20 s",
                "2 h 5 min",
                "2 d 7 h",
                "an unknown time",
                "an unknown time"
            ]
        );
    }

    #[test]
    fn paths_keep_what_tells() {
        assert_eq!(
            short_path("/h/.cargo/registry/src/index-1/tokio-1.54.1/src/sync/mutex.rs"),
            "tokio-1.54.1/src/sync/mutex.rs"
        );
        assert_eq!(short_path("/rustc/59807616e/library/std/src/thread.rs"), "library/std/src/thread.rs");
        assert_eq!(short_path("/home/me/src/shop/ledger/src/bin/serve.rs"), "ledger/src/bin/serve.rs");
        for kept in ["src/main.rs", "/src/main.rs", "/build/main.rs", "ledger/src/main.rs", ""] {
            assert_eq!(short_path(kept), kept);
        }
    }

    #[test]
    fn moments_in_utc() {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        assert_eq!(rfc3339(moment).as_deref(), Some("2023-11-14T22:13:20.25Z"));
        assert_eq!(clock(moment), "22:13:20.250 UTC");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 50)), None);
    }
}

//! Words and figures as the view writes them: escaped names, measured widths, durations with their source.

use std::{borrow::Cow, fmt::Write as _};

use ratatui::text::Span;

pub(super) use crate::export::escape;
use crate::model::{Frame, PartyId, ResourceKey, Since, SinceSource};

/// Columns that `text` takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { Span::raw(text).width() }
}

/// The longest start of `text` that takes at most `columns`, as a byte length.
pub(super) fn prefix_within(text: &str, columns: usize) -> usize {
    if text.is_ascii() {
        return text.len().min(columns);
    }
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += width(c.encode_utf8(&mut [0; 4]));
        if used > columns {
            return at;
        }
    }
    text.len()
}

/// `text` cut to `columns`, its end replaced by `…` where something was cut.
pub(super) fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let Some(room) = columns.checked_sub(1) else { return Cow::Borrowed("") };
    Cow::Owned(format!("{}…", &text[..prefix_within(text, room)]))
}

/// `path` cut to `columns` at its front: the end of a path is what tells it from others.
pub(super) fn fit_tail(path: &str, columns: usize) -> Cow<'_, str> {
    if width(path) <= columns {
        return Cow::Borrowed(path);
    }
    let Some(room) = columns.checked_sub(1) else { return Cow::Borrowed("") };
    let start = path.char_indices().map(|(at, _)| at).find(|&at| width(&path[at..]) <= room).unwrap_or(path.len());
    Cow::Owned(format!("…{}", &path[start..]))
}

/// `n` with its thousands apart: `10,000`.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `one` or `many`, with the figure before it.
pub(super) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

/// Seconds in the unit that a reader would choose: `120 ms`, `3.2 s`, `40 s`, `5 min`, `2h 10m`, `3d 4h`.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if seconds < 0.000_5 {
        return "0 ms".to_owned();
    }
    if seconds < 0.999_5 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    // A float beyond u64 saturates, which is as good as any figure of that size.
    let s = seconds.round() as u64;
    match s {
        0..120 => format!("{s} s"),
        120..3_600 => format!("{} min", s / 60),
        3_600..86_400 => format!("{}h {}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d {}h", grouped(s / 86_400), s % 86_400 / 3_600),
    }
}

/// Signed milliseconds until a deadline: `in 3.2 s`, `12 ms ago`.
pub(super) fn until(ms: i64) -> String {
    let span = duration(ms.unsigned_abs() as f64 / 1e3);
    if ms < 0 { format!("{span} ago") } else { format!("in {span}") }
}

/// A bound on a duration, short enough for a column: `≥ 40 s`. Every bound is a lower one.
pub(super) fn since_short(since: Option<Since>) -> String {
    since.map_or_else(|| "?".to_owned(), |s| format!("≥ {}", duration(s.at_least_s)))
}

/// What a bound on a duration rests on, in one word for a column.
pub(super) fn source_short(since: Option<Since>) -> &'static str {
    match since.map(|s| s.source) {
        Some(SinceSource::Attach) => "attach",
        Some(SinceSource::Snapshot) => "seen",
        Some(SinceSource::Event) => "event",
        Some(SinceSource::Runtime) => "own",
        None => "",
    }
}

/// A bound on a duration with what it rests on, in full.
pub(super) fn since_long(since: Option<Since>) -> String {
    let Some(since) = since else {
        return "for how long is not known yet: that takes two snapshots".to_owned();
    };
    let bound = duration(since.at_least_s);
    match since.source {
        SinceSource::Attach => format!("for at least {bound}, since attach (it began earlier)"),
        SinceSource::Snapshot => format!("for at least {bound} (it was seen to begin, between two snapshots)"),
        SinceSource::Event => format!("for at least {bound} (an event in the kernel marked its beginning)"),
        SinceSource::Runtime => format!("for at least {bound}, as its runtime has noted"),
    }
}

/// A resource under its users' name, with its address where that was read.
pub(super) fn resource(key: &ResourceKey) -> String {
    let mut out = escape(&key.kind.to_string()).into_owned();
    if key.address != 0 {
        let _ = write!(out, " {:#x}", key.address);
    }
    out
}

/// A party as users call it: `task 12`, `block_on 4242`, `thread 4242`.
pub(super) fn party(id: PartyId) -> String {
    match id {
        PartyId::Task { id, .. } => format!("task {id}"),
        PartyId::BlockOn { tid } => format!("block_on {tid}"),
        PartyId::Thread { tid } => format!("thread {tid}"),
    }
}

/// `file:line` of a frame; what is not known is left out.
pub(super) fn location(frame: &Frame) -> Option<String> {
    let file = escape(short_path(frame.file.as_deref()?));
    Some(frame.line.map_or_else(|| file.to_string(), |line| format!("{file}:{line}")))
}

/// A source path from the crate's own directory on, where it lies in Cargo's registry or the standard library: what
/// stands before that is about the machine it was built on.
fn short_path(path: &str) -> &str {
    let after = |mark: &str| path.split_once(mark).and_then(|(_, rest)| rest.split_once('/')).map(|(_, rest)| rest);
    after("/registry/src/")
        .or_else(|| path.strip_prefix("/rustc/").and_then(|rest| rest.split_once('/')).map(|(_, rest)| rest))
        .unwrap_or(path)
}

/// `function (file:line)`.
pub(super) fn site(frame: &Frame) -> String {
    let function = escape(&frame.function);
    location(frame).map_or_else(|| function.to_string(), |at| format!("{function} ({at})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_keep_to_their_columns() {
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdef", 0), "");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit_tail("orders::settle::audit", 8), "…::audit");
        assert_eq!(fit_tail("日本語", 3), "…語");
    }

    #[test]
    fn paths_begin_at_their_crate() {
        assert_eq!(
            short_path("/home/me/.cargo/registry/src/index-1/tokio-1.48.0/src/lib.rs"),
            "tokio-1.48.0/src/lib.rs"
        );
        assert_eq!(short_path("/rustc/0123abcd/library/std/src/thread.rs"), "library/std/src/thread.rs");
        assert_eq!(short_path("/srv/app/src/main.rs"), "/srv/app/src/main.rs");
    }

    #[test]
    fn durations_read_well() {
        for (seconds, text) in [
            (0.0, "0 ms"),
            (0.12, "120 ms"),
            (0.9999, "1.0 s"),
            (3.21, "3.2 s"),
            (40.4, "40 s"),
            (300.0, "5 min"),
            (7_800.0, "2h 10m"),
            (273_600.0, "3d 4h"),
            (f64::NAN, "?"),
            (-1.0, "?"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(until(-12), "12 ms ago");
        assert_eq!(until(i64::MIN).split(' ').next_back(), Some("ago"));
    }

    #[test]
    fn figures_have_their_thousands_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(counted(12_345_678, "task", "tasks"), "12,345,678 tasks");
    }
}

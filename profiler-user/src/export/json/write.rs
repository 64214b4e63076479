//! Values to text that is safe to look at in a terminal.

use std::fmt::Write;

use serde::Serialize;

use super::super::escape::is_unsafe;

/// One object over several lines, as `--json` prints it.
///
/// # Errors
/// Only if a value refuses to be serialised, which the types of this room never do.
pub fn object(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(safe(serde_json::to_string_pretty(value)?))
}

/// One object on one line, as `--jsonl` prints it.
///
/// # Errors
/// As [`object()`].
pub fn line(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(safe(serde_json::to_string(value)?))
}

/// Escapes what JSON would let through raw. Characters beyond ASCII stand only inside strings, as does DEL; those
/// below it are escaped by JSON itself.
fn safe(json: String) -> String {
    let raw = |c: char| c >= '\u{7f}' && is_unsafe(c);
    if !json.contains(raw) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if raw(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_survives_and_nothing_unsafe_is_printed(text in "\\PC{0,8}|[\\x00-\\x1f\\x7f-\\x9f\\u{200b}-\\u{206f}\\u{e0001}\"\\\\é]{0,12}") {
            let printed = line(&text).unwrap();
            prop_assert!(!printed.contains(is_unsafe), "{printed:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), text);
        }
    }
}

//! Names come from the target, and a name may hold anything: terminal escapes, line breaks, text that runs backwards.

use std::{borrow::Cow, fmt::Write};

/// Whether a terminal or a reader could be led astray by this character: controls (C0, DEL, C1), line and paragraph
/// separators, and the invisible marks that reorder text.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` with every [unsafe](is_unsafe) character written as Rust writes it in a literal: `\n`, `\u{1b}`.
/// Borrows where nothing had to change, which is nearly always.
pub fn escape(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(is_unsafe) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        if is_unsafe(c) {
            match c {
                '\t' | '\n' | '\r' => out.extend(c.escape_default()),
                _ => {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
                }
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_are_borrowed() {
        assert!(matches!(escape("app::Wörker<日本>"), Cow::Borrowed(_)));
    }

    #[test]
    fn terminal_escapes_become_visible() {
        assert_eq!(escape("a\x1b[31mred\x07\n\u{9b}0m\u{202e}txt"), r"a\u{1b}[31mred\u{7}\n\u{9b}0m\u{202e}txt");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(text in "\\PC*|[\\x00-\\x1f\\x7f-\\x9f\\u{200b}-\\u{206f}a]*") {
            prop_assert!(!escape(&text).contains(is_unsafe));
        }
    }
}

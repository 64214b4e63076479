//! Taking demangled paths apart, and putting together what is kept of them.

use super::v0::{Impl, ImplKind};

/// Types nested deeper than this are left as they are.
const DEEPEST: usize = 48;

/// The parts of a path between `::`, looking over everything inside brackets. Generics after a part stay with it.
pub(super) fn segments(path: &str) -> Vec<&str> {
    split(path, "::")
}

/// Splits at `separator`, outside of brackets.
pub(super) fn split<'s>(text: &'s str, separator: &str) -> Vec<&'s str> {
    let (mut parts, mut depth, mut start, mut at) = (Vec::new(), 0usize, 0, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        if depth == 0 && bytes[at..].starts_with(separator.as_bytes()) {
            parts.push(&text[start..at]);
            at += separator.len();
            start = at;
            continue;
        }
        match bytes[at] {
            b'<' | b'(' | b'[' | b'{' => depth += 1,
            // The arrow of a function type closes nothing.
            b'>' if at > 0 && bytes[at - 1] == b'-' => {}
            b'>' | b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    parts.push(&text[start..]);
    parts
}

/// The contract form of a path; empty where nothing of it has a name.
pub(super) fn contract(path: &str, hint: Option<&Impl>) -> String {
    resolve(path, hint, 0).join("::")
}

fn resolve(path: &str, hint: Option<&Impl>, depth: usize) -> Vec<String> {
    if depth > DEEPEST {
        return vec![path.to_owned()];
    }
    let mut kept: Vec<String> = Vec::new();
    let parts = segments(path);
    for (index, part) in parts.iter().enumerate() {
        let part = part.trim();
        if let Some(inner) = part.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
            if index == 0 {
                kept = of_self(inner, hint, depth);
            } else if let Some(subject) = inner.strip_prefix("impl ") {
                // Legacy names an impl that stands away from its type by the module it stands in.
                let found = match split(subject, " for ")[..] {
                    [of, for_type] => named_type(for_type, None, depth).unwrap_or_else(|| resolve(of, None, depth + 1)),
                    _ => named_type(subject, None, depth).unwrap_or_else(|| kept.clone()),
                };
                kept = found;
            }
            // Anything else in angle brackets is the generics of what stands before.
        } else if !(index + 1 == parts.len() && is_hash(part)) {
            let ident = identifier(part);
            if !ident.is_empty() {
                kept.push(ident.to_owned());
            }
        }
    }
    kept
}

/// The path that stands for `<inner>`: of the type, or of the trait where that says more.
fn of_self(inner: &str, hint: Option<&Impl>, depth: usize) -> Vec<String> {
    let parts = split(inner, " as ");
    let (subject, of_trait) = (parts[0], parts.get(1));
    let nested = hint.and_then(|hint| hint.subject.as_deref());
    let named = named_type(subject, nested, depth);
    let Some(of_trait) = of_trait else {
        let module = || hint.map(|hint| hint.module.clone()).filter(|module| !module.is_empty());
        return named.or_else(module).unwrap_or_default();
    };
    let trait_path = || resolve(of_trait, None, depth + 1);
    match (named, hint) {
        (Some(named), None) => named,
        (Some(named), Some(hint)) if hint.kind == ImplKind::Trait && !blanket(&named, hint) => named,
        _ => trait_path(),
    }
}

/// A crate may implement a trait for its own types and for those of crates below it. Where the type is of a crate that
/// cannot be below, as anything outside the standard library is above `core`, the impl must be for a type parameter.
fn blanket(named: &[String], hint: &Impl) -> bool {
    let standard = |krate: &String| matches!(krate.as_str(), "core" | "alloc" | "std");
    matches!((named.first(), hint.module.first()), (Some(of), Some(by)) if standard(by) && !standard(of))
}

/// The path of a type that has one: not a reference, slice, tuple, primitive or type parameter.
fn named_type(text: &str, hint: Option<&Impl>, depth: usize) -> Option<Vec<String>> {
    let text = text.trim().trim_start_matches('(');
    if let Some(object) = text.strip_prefix("dyn ") {
        let first = split(object, "+")[0].trim();
        return named_type(first, None, depth + 1);
    }
    let starts = text.starts_with(|c: char| c == '<' || c == '_' || c.is_alphabetic());
    let a_path = starts && segments(text).len() > 1 && !text.starts_with("fn(") && !text.starts_with("for<");
    a_path.then(|| resolve(text, hint, depth + 1)).filter(|path| !path.is_empty())
}

/// What stands before generics, braces and crate hashes.
fn identifier(part: &str) -> &str {
    part.split(['<', '{', '[', '(', ' ', '.']).next().unwrap_or_default()
}

fn is_hash(part: &str) -> bool {
    part.len() == 17 && part.starts_with('h') && part[1..].bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether the part of a path is a closure or coroutine, in any of the spellings.
pub(super) fn is_closure(part: &str) -> bool {
    part.starts_with("{{closure}}") || part.starts_with("{closure") || is_coroutine(part)
}

/// Whether the part of a path is a coroutine, as DWARF spells it: `{async_fn#0}`, `{async_block_env#1}`, `{gen_fn#0}`.
pub(super) fn is_coroutine(part: &str) -> bool {
    let Some(kind) = part.strip_prefix('{') else { return false };
    ["async_", "gen_", "coroutine"].iter().any(|known| kind.starts_with(known))
}

//! Names of types, of futures above all.

use super::path;

/// Types nested deeper than this are left as they are.
const DEEPEST: usize = 32;
/// What stands in place of what is nested too deeply.
const TOO_DEEP: &str = "…";

/// The contract name of a type. That of a coroutine or closure is the function that contains it; what wraps others
/// (`Timeout<…>`) keeps its arguments, named alike; types of the standard library are named without path, so that
/// `Pin<Box<dyn Future>>` stays readable.
///
/// Takes a type as DWARF has it, or as it stands in the generics of a demangled symbol.
pub fn type_name(name: &str) -> String {
    named(name, 0)
}

fn named(text: &str, depth: usize) -> String {
    let text = text.trim();
    if depth > DEEPEST {
        return TOO_DEEP.to_owned();
    }
    let recurse = |text: &str| named(text, depth + 1);
    // `(dyn A + B)` is one type in brackets, `(A, B)` a tuple.
    if let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        let parts = path::split(inner, ",");
        return match parts[..] {
            [only] if only.trim_start().starts_with("dyn ") => recurse(only),
            [only] if only.trim().is_empty() => "()".to_owned(),
            _ => format!("({})", list(parts.into_iter(), depth)),
        };
    }
    for (prefix, kept) in [("&mut ", "&mut "), ("&", "&"), ("*mut ", "*mut "), ("*const ", "*const ")] {
        if let Some(inner) = text.strip_prefix(prefix) {
            return format!("{kept}{}", recurse(without_lifetime(inner)));
        }
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let parts = path::split(inner, ";");
        let length = parts.get(1).map(|length| format!("; {}", length.trim())).unwrap_or_default();
        return format!("[{}{length}]", recurse(parts[0]));
    }
    if let Some(object) = text.strip_prefix("dyn ") {
        // Bounds, associated types and auto traits say nothing about which future it is.
        let first = path::split(object, "+")[0].trim();
        return format!("dyn {}", recurse(without_generics(first)));
    }
    path_name(text, depth)
}

fn path_name(text: &str, depth: usize) -> String {
    let parts = path::segments(text);
    if text.starts_with("fn(") || text.starts_with("unsafe ") || text.starts_with("extern ") || text.starts_with("for<")
    {
        return text.to_owned();
    }
    if parts.iter().any(|part| path::is_closure(part)) {
        return path::contract(text, None);
    }
    let full = path::contract(text, None);
    if full.is_empty() {
        return text.to_owned();
    }
    let short = match full.split_once("::") {
        Some(("core" | "alloc" | "std", _)) => full.rsplit("::").next().unwrap_or(&full),
        _ => &full,
    };
    match parts.last().and_then(|last| generics(last)) {
        Some(arguments) => {
            let arguments = list(path::split(arguments, ",").into_iter(), depth);
            if arguments.is_empty() { short.to_owned() } else { format!("{short}<{arguments}>") }
        }
        None => short.to_owned(),
    }
}

/// Names of type arguments. Lifetimes and the global allocator say nothing.
fn list<'t>(arguments: impl Iterator<Item = &'t str>, depth: usize) -> String {
    let arguments = arguments
        .map(str::trim)
        .filter(|argument| !argument.is_empty() && !argument.starts_with('\'') && *argument != "alloc::alloc::Global");
    arguments.map(|argument| named(argument, depth + 1)).collect::<Vec<_>>().join(", ")
}

/// What stands between the angle brackets at the end of a part of a path.
pub(super) fn generics(part: &str) -> Option<&str> {
    let start = part.find('<')?;
    part[start + 1..].strip_suffix('>')
}

fn without_generics(path: &str) -> &str {
    let last = path::segments(path).last().map_or(0, |last| last.len());
    let end = path[path.len() - last..].find('<').map_or(path.len(), |at| path.len() - last + at);
    &path[..end]
}

fn without_lifetime(text: &str) -> &str {
    match text.strip_prefix('\'') {
        Some(rest) => rest.split_once(' ').map_or(rest, |(_, text)| text),
        None => text,
    }
}

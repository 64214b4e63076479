//! Who may know whom: the table of rooms in `docs/architecture.md`, held against the imports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Rooms that know processes and binaries, and no runtime.
const RUNTIME_FREE: &[&str] = &["target", "debuginfo", "dryrun"];

#[test]
fn every_room_has_its_row() {
    let mut rooms = BTreeSet::new();
    for entry in fs::read_dir(source()).expect("src is there") {
        let path = entry.expect("src can be listed").path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("plain names").to_owned();
        if name != "lib" && name != "main" {
            rooms.insert(name);
        }
    }
    assert_eq!(rooms, allowed().into_keys().collect());
}

#[test]
fn rooms_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for (room, allowed) in allowed() {
        for (file, text) in files_of(&room) {
            for known in rooms_named_in(&without(&text, Omit::CommentsAndTexts)) {
                if known != room && !allowed.contains(&known) {
                    wrong.push(format!("{file}: {room} may not know {known}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_reads_binaries_knows_no_runtime() {
    let mut wrong = Vec::new();
    for room in RUNTIME_FREE {
        // A room's tests may take their examples from anywhere.
        for (file, text) in files_of(room).into_iter().filter(|(file, _)| !file.ends_with("tests.rs")) {
            // Texts count: a symbol's name is where such knowledge would hide.
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(&text);
            let code = without(code, Omit::Comments).to_ascii_lowercase();
            for word in ["tokio", "golang", "goroutine", "gopclntab", "runtime.g"] {
                if code.contains(word) {
                    wrong.push(format!("{file}: {word}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_in_every_shape() {
    let shapes: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("use crate::model::Task;", ["model"].as_slice()),
        ("use crate::{model::{Task, Wait}, target as t, analysis};", &["analysis", "model", "target"]),
        ("fn f() -> crate::probe::Lost { super::super::x() }", &["probe"]),
        ("use profiler_common::Event;", &["profiler_common"]),
        ("pub(in crate::session) fn f() {}", &["session"]),
        ("pub(crate) fn f() {}", &[]),
        ("use profiler_user::tui;", &["tui"]),
        ("use crate::{\n    model::{self},\n    locks::*,\n};", &["locks", "model"]),
    ]);
    for (code, rooms) in shapes {
        let found: Vec<String> = rooms_named_in(code).into_iter().collect();
        assert_eq!(found, rooms, "{code}");
    }
}

#[test]
fn comments_and_texts_are_no_code() {
    let code_only = |text| without(text, Omit::CommentsAndTexts);
    let code = code_only("a // tokio\nb \"crate::tui \\\" x\" c /* go /* nested */ still */ d 'x' '\"' e");
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
    let raw = code_only("a r#\"crate::tui \"quoted\" \"# b &'static str");
    assert_eq!(raw.split_whitespace().collect::<Vec<_>>(), ["a", "b", "&'static", "str"]);
    assert_eq!(without("a \"// b\" // c", Omit::Comments), "a \"// b\"  ");
}

#[test]
fn rows_are_read_with_what_they_imply() {
    let page = "| room | what it is for | may know |\n|---|---|---|\n| `a` | `x` | – |\n| `b` | | `a`, `some-crate` |\n\
                | `c` | | `b` and all it may know |\n| `d` | | all |\n\n| `e` | another table | |\n";
    let table = rows(page);
    let row = |room: &str| table[room].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(row("a"), [] as [&str; 0]);
    assert_eq!(row("b"), ["a", "some_crate"]);
    assert_eq!(row("c"), ["a", "b", "some_crate"]);
    assert_eq!(row("d"), ["a", "b", "c", "d", "some_crate"]);
    assert_eq!(table.len(), 4);
}

/// Each room, and the rooms and crates of ours that it may name.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/architecture.md");
    rows(&fs::read_to_string(page).expect("the page is there"))
}

/// The rows of the table that begins with `| room |`. Names stand in backquotes in the last column; `know` in it adds
/// what the rooms before it may know, and `all` is every room.
fn rows(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let lines = page.lines().skip_while(|line| !line.starts_with("| room |")).skip(2);
    let mut table: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut knows_all = Vec::new();
    for line in lines.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let room = cells[0].trim_matches('`').to_owned();
        let last = cells[cells.len() - 1];
        let mut known: BTreeSet<String> =
            last.split('`').skip(1).step_by(2).map(|name| name.replace('-', "_")).collect();
        if last.contains("know") {
            for room in known.clone() {
                known.extend(table.get(&room).into_iter().flatten().cloned());
            }
        }
        if last == "all" {
            knows_all.push(room.clone());
        }
        table.insert(room, known);
    }
    let everything: BTreeSet<String> =
        table.iter().flat_map(|(room, known)| known.iter().chain([room])).cloned().collect();
    for room in knows_all {
        table.insert(room, everything.clone());
    }
    table
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every file of a room: its path and its text.
fn files_of(room: &str) -> Vec<(String, String)> {
    let directory = source().join(room);
    let mut files = Vec::new();
    collect(&directory, &mut files);
    assert!(!files.is_empty(), "{room} has no files");
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            (path.strip_prefix(source()).expect("below src").display().to_string(), text)
        })
        .collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a room is a directory") {
        let path = entry.expect("a room can be listed").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Rooms, and crates of ours, that a piece of code names by path.
fn rooms_named_in(code: &str) -> BTreeSet<String> {
    let dense: String = code.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ::", "::").replace(":: ", "::");
    let mut found = BTreeSet::new();
    for root in ["crate::", "profiler_user::"] {
        for (at, _) in dense.match_indices(root) {
            if dense[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            found.extend(first_segments(&dense[at + root.len()..]));
        }
    }
    if dense.contains("profiler_common::") {
        found.insert("profiler_common".to_owned());
    }
    found
}

/// `model::Task` begins with `model`; `{model::{Task}, target}` with `model` and `target`.
fn first_segments(path: &str) -> Vec<String> {
    let name = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut segments, mut start) = (1, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            segments.push(name(group[start..at].trim()));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    segments.retain(|segment| !segment.is_empty());
    segments
}

/// What is not looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Omit {
    Comments,
    /// Comments, string and character literals.
    CommentsAndTexts,
}

/// Source text without some of its parts.
fn without(text: &str, omit: Omit) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if c == '"' {
            string(rest)
        } else if c == 'r' && !code.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            raw_string(rest)
        } else if c == '\'' {
            character(rest)
        } else {
            0
        };
        let is_comment = rest.starts_with("//") || rest.starts_with("/*");
        let taken = skipped.max(c.len_utf8());
        if skipped == 0 || (omit == Omit::Comments && !is_comment) {
            code.push_str(&rest[..taken]);
        } else {
            code.push(' ');
        }
        rest = &rest[taken..];
    }
    code
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a raw string; 0 where none begins.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    text[body..].find(&end).map_or(text.len(), |at| body + at + end.len())
}

/// Length of a character literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => text[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 3),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

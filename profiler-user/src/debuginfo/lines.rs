//! From an address to source functions, files and lines.

use addr2line::Context;
use serde::{Deserialize, Serialize};

use super::Symbol;
use super::dwarf::{Dwarf, Slice};
use super::name;
use super::recover::{self, Bare};

/// A chain of inlined functions longer than this is cut.
const MOST_FRAMES: usize = 256;

/// One function at an address; several where the compiler inlined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFrame {
    /// `krate::module::function`, see [`name::function`]. Line tables leave out where an inlined function stands: then
    /// it is as much of that as is known, at the least `async fn` or a function's own name.
    pub function: String,
    /// The full demangled name, with generics; of an inlined function with line tables alone, the bare name.
    pub raw: String,
    /// Source file of the statement or call.
    pub file: Option<String>,
    /// Line of the statement or call, counted from 1.
    pub line: Option<u32>,
    /// Inlined into the frame that follows.
    pub inlined: bool,
    /// The body of an async fn, async block or other coroutine, as its debuginfo says. Symbols alone do not tell these
    /// from closures.
    pub is_coroutine: bool,
}

pub(super) fn source_frames(dwarf: Option<&Dwarf>, address: u64, symbol: Option<Symbol<'_>>) -> Vec<SourceFrame> {
    let found = dwarf.and_then(|dwarf| Some((dwarf, dwarf.with_lines(|lines| from_lines(dwarf, lines, address))?)));
    let mut frames = match found {
        Some((dwarf, found)) => named(dwarf, found),
        None => Vec::new(),
    };
    let Some(symbol) = symbol else { return frames };
    let (function, raw) = name::both(symbol.name);
    match frames.last_mut() {
        // Line tables leave out what the symbol has: the path to a function.
        Some(outermost) if !outermost.function.contains("::") => {
            (outermost.function, outermost.raw) = (function, raw);
        }
        Some(_) => {}
        None => {
            let (file, line, inlined, is_coroutine) = (None, None, false, false);
            frames.push(SourceFrame { function, raw, file, line, inlined, is_coroutine });
        }
    }
    frames
}

/// A frame as the debuginfo has it.
struct Found {
    /// Mangled, where the debuginfo has that.
    linkage: String,
    /// Whether `linkage` is all the name there is.
    complete: bool,
    bare: Bare,
    file: Option<String>,
    line: Option<u32>,
}

/// Reads the frames at an address of the file; `None` where no line table covers it, or where it is unreadable.
fn from_lines(dwarf: &Dwarf, lines: &Context<Slice>, address: u64) -> Option<Vec<Found>> {
    let unit = dwarf.finish(lines.find_dwarf_and_unit(address))?;
    let mut frames = dwarf.finish(lines.find_frames(address)).ok()?;
    let mut found = Vec::new();
    while let Some(frame) = frames.next().ok()? {
        let (linkage, language) = match &frame.function {
            Some(function) => (function.raw_name().ok()?.into_owned(), function.language),
            None => (String::new(), None),
        };
        let die = frame.dw_die_offset.and_then(|offset| dwarf.number(&unit, offset));
        let name = die.and_then(|die| dwarf.function_name(die)).unwrap_or_else(|| linkage.clone());
        let complete = language != Some(gimli::DW_LANG_Rust) || name::is_mangled(&linkage);
        let location = frame.location.as_ref();
        let file = location.and_then(|location| location.file).map(str::to_owned);
        let line = location.and_then(|location| location.line);
        found.push(Found { linkage, complete, bare: Bare { die, name }, file, line });
        if found.len() == MOST_FRAMES {
            break;
        }
    }
    Some(found)
}

fn named(dwarf: &Dwarf, found: Vec<Found>) -> Vec<SourceFrame> {
    let callers: Vec<Option<Bare>> = found.iter().skip(1).map(|found| Some(found.bare.clone())).chain([None]).collect();
    let frames = found.into_iter().zip(callers).map(|(found, caller)| {
        let (mut function, raw) = name::both(&found.linkage);
        if !found.complete && caller.is_some() {
            function = recover::name_of(dwarf, &found.bare, caller.as_ref(), found.file.as_deref());
        }
        SourceFrame {
            function,
            raw,
            file: found.file,
            line: found.line,
            inlined: caller.is_some(),
            is_coroutine: name::is_coroutine(&found.bare.name),
        }
    });
    frames.collect()
}

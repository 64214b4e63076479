//! From an address to source functions, files and lines.

use addr2line::Context;

use super::Symbol;
use super::dwarf::{Dwarf, Slice};
use super::name;

/// A chain of inlined functions longer than this is cut.
const MOST_FRAMES: usize = 256;

/// One function at an address; several where the compiler inlined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFrame {
    /// `krate::module::function`, see [`name::function`].
    pub function: String,
    /// The full demangled name, with generics.
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
    let mut frames =
        dwarf.and_then(|dwarf| dwarf.with_lines(|lines| from_lines(dwarf, lines, address))).unwrap_or_default();
    // Line tables leave out what the symbol has: the path to a function.
    if let Some(symbol) = symbol {
        match frames.last_mut() {
            Some(outermost) if !outermost.qualified => {
                outermost.frame.function = name::function(symbol.name);
                outermost.frame.raw = name::demangled(symbol.name);
            }
            Some(_) => {}
            None => frames.push(Found::unplaced(symbol.name)),
        }
    }
    frames.into_iter().map(|found| found.frame).collect()
}

/// A frame, and whether its name says where the function stands.
struct Found {
    frame: SourceFrame,
    qualified: bool,
}

impl Found {
    fn unplaced(symbol: &str) -> Self {
        let frame = SourceFrame {
            function: name::function(symbol),
            raw: name::demangled(symbol),
            file: None,
            line: None,
            inlined: false,
            is_coroutine: false,
        };
        Self { frame, qualified: true }
    }
}

/// Reads the frames at an address of the file; `None` where no line table covers it, or where it is unreadable.
fn from_lines(dwarf: &Dwarf, lines: &Context<Slice>, address: u64) -> Option<Vec<Found>> {
    let unit = lines.find_dwarf_and_unit(address).skip_all_loads()?;
    let mut frames = lines.find_frames(address).skip_all_loads().ok()?;
    let mut found: Vec<Found> = Vec::new();
    while let Some(frame) = frames.next().ok()? {
        let (linked, language) = match &frame.function {
            Some(function) => (function.raw_name().ok()?.into_owned(), function.language),
            None => (String::new(), None),
        };
        let die = frame.dw_die_offset.and_then(|offset| offset.to_debug_info_offset(&unit.header));
        let die_name = die.and_then(|die| dwarf.function_name(die.0));
        let die_name = die_name.unwrap_or_else(|| linked.clone());
        let location = frame.location.as_ref();
        found.push(Found {
            frame: SourceFrame {
                function: name::function(&linked),
                raw: name::demangled(&linked),
                file: location.and_then(|location| location.file).map(str::to_owned),
                line: location.and_then(|location| location.line),
                inlined: true,
                is_coroutine: name::is_coroutine(&die_name),
            },
            qualified: language != Some(gimli::DW_LANG_Rust) && !linked.is_empty() || name::is_mangled(&linked),
        });
        if found.len() == MOST_FRAMES {
            break;
        }
    }
    found.last_mut()?.frame.inlined = false;
    Some(found)
}

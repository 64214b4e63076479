//! The DWARF sections of a file, held together with the bytes they borrow.

use std::sync::{Arc, Mutex};

use gimli::{AttributeValue, EndianSlice, LittleEndian, SectionId, UnitOffset, UnitRef};

use super::elf::Elf;
use super::{Bytes, DebugInfoError, Quality};

/// How gimli sees a section. The lifetime is a lie that this file keeps harmless: see [`Dwarf`].
pub(super) type Slice = EndianSlice<'static, LittleEndian>;

/// All DWARF of a file.
///
/// Units borrow from `bytes`, which this struct keeps: nothing reached through it may outlive it. Its methods therefore
/// lend what they give, and the rest of the room copies out what it keeps.
pub(super) struct Dwarf {
    sections: Arc<gimli::Dwarf<Slice>>,
    /// Its caches are not `Sync`.
    lines: Mutex<addr2line::Context<Slice>>,
    /// Dropped last.
    _bytes: Vec<Bytes>,
}

impl std::fmt::Debug for Dwarf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dwarf")
    }
}

impl Dwarf {
    pub(super) fn load(elf: &Elf) -> Result<Self, DebugInfoError> {
        let mut bytes = Vec::new();
        let mut sections = gimli::Dwarf::load(|id: SectionId| {
            let section = elf.unpacked(id.name())?;
            // SAFETY: `bytes` keeps a clone for as long as `Dwarf` lives, and on error `sections` is gone before it.
            let slice = unsafe { section.detached() };
            bytes.push(section);
            Ok::<_, DebugInfoError>(EndianSlice::new(slice, LittleEndian))
        })?;
        sections.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
        let sections = Arc::new(sections);
        let lines = Mutex::new(addr2line::Context::from_arc_dwarf(Arc::clone(&sections))?);
        Ok(Self { sections, lines, _bytes: bytes })
    }

    /// Runs `work` with the index of lines and inlined functions.
    pub(super) fn with_lines<T>(&self, work: impl FnOnce(&addr2line::Context<Slice>) -> T) -> T {
        // A panic while the lock was held leaves only caches behind, and those are filled one whole value at a time.
        work(&self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// How much it tells; `None` when there are no units at all.
    pub(super) fn quality(&self) -> Option<Quality> {
        let mut units = self.sections.units();
        let mut found = None;
        while let Ok(Some(header)) = units.next() {
            found = Some(Quality::LineTables);
            let Ok(unit) = self.sections.unit(header) else { continue };
            if describes_types(unit.unit_ref(&self.sections)) {
                return Some(Quality::Full);
            }
        }
        found
    }
}

fn describes_types(unit: UnitRef<'_, Slice>) -> bool {
    let mut entries = unit.entries();
    let Ok(Some(root)) = entries.next_dfs() else { return false };
    let c_like = match root.attr_value(gimli::DW_AT_language) {
        Some(AttributeValue::Language(language)) => matches!(
            language,
            gimli::DW_LANG_C
                | gimli::DW_LANG_C89
                | gimli::DW_LANG_C99
                | gimli::DW_LANG_C11
                | gimli::DW_LANG_C17
                | gimli::DW_LANG_C_plus_plus
                | gimli::DW_LANG_C_plus_plus_03
                | gimli::DW_LANG_C_plus_plus_11
                | gimli::DW_LANG_C_plus_plus_14
                | gimli::DW_LANG_C_plus_plus_17
                | gimli::DW_LANG_C_plus_plus_20
                | gimli::DW_LANG_Mips_Assembler
        ),
        _ => false,
    };
    !c_like && has_structure(&unit)
}

/// Whether the unit's abbreviations know structures: they list only what the unit uses.
fn has_structure(unit: &UnitRef<'_, Slice>) -> bool {
    (1..).map_while(|code| unit.abbreviations.get(code)).any(|entry| entry.tag() == gimli::DW_TAG_structure_type)
}

/// Steps from a concrete function to its abstract origin or declaration.
const MOST_ORIGINS: usize = 8;

/// `DW_AT_name` of a function, or of what it is an instance or definition of, in the same unit.
pub(super) fn name_of(unit: &UnitRef<'_, Slice>, mut offset: UnitOffset) -> Option<String> {
    for _ in 0..MOST_ORIGINS {
        let entry = unit.entry(offset).ok()?;
        if let Some(name) = entry.attr_value(gimli::DW_AT_name) {
            return Some(unit.attr_string(name).ok()?.to_string_lossy().into_owned());
        }
        let origin =
            entry.attr_value(gimli::DW_AT_abstract_origin).or_else(|| entry.attr_value(gimli::DW_AT_specification));
        match origin? {
            AttributeValue::UnitRef(next) => offset = next,
            AttributeValue::DebugInfoRef(next) => offset = next.to_unit_offset(&unit.header)?,
            _ => return None,
        }
    }
    None
}

//! The DWARF sections of a file, held together with the bytes they borrow.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use gimli::{AttributeValue, EndianSlice, LittleEndian, SectionId, Unit, UnitHeader, UnitOffset, UnitRef};

use super::elf::Elf;
use super::types::Index;
use super::{Bytes, DebugInfoError, Quality};

/// How gimli sees a section. The lifetime is a lie that this file keeps harmless: see [`Dwarf`].
pub(super) type Slice = EndianSlice<'static, LittleEndian>;

/// All DWARF of a file.
///
/// Units borrow from `bytes`, which this struct keeps: nothing reached through it may outlive it. Its methods therefore
/// lend what they give, and the rest of the room copies out what it keeps.
pub(super) struct Dwarf {
    sections: Arc<gimli::Dwarf<Slice>>,
    /// By offset.
    units: Vec<Slot>,
    types: OnceLock<Index>,
    /// Its caches are not `Sync`.
    lines: Mutex<addr2line::Context<Slice>>,
    /// Dropped last.
    _bytes: Vec<Bytes>,
}

/// A unit, parsed when it is first needed.
struct Slot {
    header: UnitHeader<Slice>,
    /// Offsets in `.debug_info`.
    range: Range<usize>,
    unit: OnceLock<Option<Unit<Slice>>>,
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
        let mut units = Vec::new();
        let mut headers = sections.units();
        while let Some(header) = headers.next()? {
            if let Some(start) = header.debug_info_offset() {
                let range = start.0..start.0 + header.length_including_self();
                units.push(Slot { header, range, unit: OnceLock::new() });
            }
        }
        Ok(Self { sections, units, types: OnceLock::new(), lines, _bytes: bytes })
    }

    /// All units that can be read, in the file's order.
    pub(super) fn units(&self) -> impl Iterator<Item = UnitRef<'_, Slice>> {
        self.units.iter().filter_map(|slot| self.unit(slot))
    }

    /// The unit that has the DIE at an offset of `.debug_info`.
    pub(super) fn unit_at(&self, offset: usize) -> Option<UnitRef<'_, Slice>> {
        let after = self.units.partition_point(|slot| slot.range.start <= offset);
        let slot = self.units[..after].last().filter(|slot| slot.range.contains(&offset))?;
        self.unit(slot)
    }

    fn unit<'d>(&'d self, slot: &'d Slot) -> Option<UnitRef<'d, Slice>> {
        let unit = slot.unit.get_or_init(|| self.sections.unit(slot.header).ok()).as_ref()?;
        Some(unit.unit_ref(&self.sections))
    }

    /// The index of types. Building it reads every unit once.
    pub(super) fn types(&self) -> &Index {
        self.types.get_or_init(|| Index::build(self))
    }

    /// Runs `work` with the index of lines and inlined functions.
    pub(super) fn with_lines<T>(&self, work: impl FnOnce(&addr2line::Context<Slice>) -> T) -> T {
        // A panic while the lock was held leaves only caches behind, and those are filled one whole value at a time.
        work(&self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// How much it tells; `None` when there are no units at all.
    pub(super) fn quality(&self) -> Option<Quality> {
        if self.units().any(describes_types) {
            return Some(Quality::Full);
        }
        (!self.units.is_empty()).then_some(Quality::LineTables)
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

impl Dwarf {
    /// A DIE of a function, and those that it is an instance or definition of: offsets in `.debug_info`, nearest first.
    pub(super) fn origins(&self, offset: usize) -> Vec<usize> {
        let mut offsets = vec![offset];
        let mut at = offset;
        while let Some((unit, within)) = self.locate(at).filter(|_| offsets.len() < MOST_ORIGINS) {
            let Ok(entry) = unit.entry(within) else { break };
            let origin = entry.attr_value(gimli::DW_AT_abstract_origin);
            let origin = origin.or_else(|| entry.attr_value(gimli::DW_AT_specification));
            let Some(next) = origin.and_then(|origin| reference(&unit, &origin)) else { break };
            offsets.push(next);
            at = next;
        }
        offsets
    }

    /// `DW_AT_name` of a function's DIE, or of its origin.
    pub(super) fn function_name(&self, offset: usize) -> Option<String> {
        self.text(offset, gimli::DW_AT_name)
    }

    /// The mangled name of a function's DIE, or of its origin. Line tables leave it out.
    pub(super) fn linkage_name(&self, offset: usize) -> Option<String> {
        self.text(offset, gimli::DW_AT_linkage_name)
    }

    fn text(&self, offset: usize, attribute: gimli::DwAt) -> Option<String> {
        self.origins(offset).into_iter().find_map(|offset| {
            let (unit, within) = self.locate(offset)?;
            let value = unit.entry(within).ok()?.attr_value(attribute)?;
            Some(unit.attr_string(value).ok()?.to_string_lossy().into_owned())
        })
    }

    /// Puts the type in place of every `{impl#N}` of a name, as far as it is known.
    pub(super) fn resolve_impls(&self, name: &str) -> String {
        // Only now is it worth to read all units.
        if name.contains("{impl#") { self.types().resolve_impls(name) } else { name.to_owned() }
    }

    /// The unit of a DIE, and its offset there.
    pub(super) fn locate(&self, offset: usize) -> Option<(UnitRef<'_, Slice>, UnitOffset)> {
        let unit = self.unit_at(offset)?;
        let within = gimli::DebugInfoOffset(offset).to_unit_offset(&unit.header)?;
        Some((unit, within))
    }
}

/// The DIE that an attribute refers to: its offset in `.debug_info`.
pub(super) fn reference(unit: &UnitRef<'_, Slice>, value: &AttributeValue<Slice>) -> Option<usize> {
    match value {
        AttributeValue::UnitRef(within) => Some(within.to_debug_info_offset(&unit.header)?.0),
        AttributeValue::DebugInfoRef(offset) => Some(offset.0),
        _ => None,
    }
}

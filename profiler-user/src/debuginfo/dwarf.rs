//! The DWARF sections of a file, held together with the bytes they borrow.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use addr2line::{LookupContinuation, LookupResult};
use gimli::{AttributeValue, EndianSlice, LittleEndian, SectionId, Unit, UnitHeader, UnitOffset, UnitRef};
use rustc_hash::FxHashMap;

use super::elf::Elf;
use super::split::{Source, SplitUnit};
use super::types::{Impls, Index};
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
    split: Source,
    /// A unit was asked for that may stand in another file.
    is_split: AtomicBool,
    types: OnceLock<Index>,
    /// By crate.
    impls: Mutex<FxHashMap<String, Arc<Impls>>>,
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
    /// What the unit stands for, if it is a skeleton.
    split: OnceLock<Option<SplitUnit>>,
}

/// DIEs are known by one number in all files: the offset in `.debug_info`, and for those of a split unit, above this many
/// bits, one more than the place of its skeleton among the units.
const SPLIT: u32 = 40;

/// A unit, and what the offsets in its section begin with.
#[derive(Clone, Copy)]
pub(super) struct Home<'d> {
    unit: UnitRef<'d, Slice>,
    base: usize,
}

impl<'d> std::ops::Deref for Home<'d> {
    type Target = UnitRef<'d, Slice>;

    fn deref(&self) -> &Self::Target {
        &self.unit
    }
}

impl Home<'_> {
    /// The number of a DIE of this unit.
    pub(super) fn number(&self, within: UnitOffset) -> Option<usize> {
        Some(self.base + within.to_debug_info_offset(&self.header)?.0)
    }
}

impl std::fmt::Debug for Dwarf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dwarf")
    }
}

impl Dwarf {
    pub(super) fn load(elf: &Elf, split: Source) -> Result<Self, DebugInfoError> {
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
                units.push(Slot { header, range, unit: OnceLock::new(), split: OnceLock::new() });
            }
        }
        let (types, impls) = (OnceLock::new(), Mutex::default());
        let is_split = AtomicBool::new(false);
        Ok(Self { sections, units, split, is_split, types, impls, lines, _bytes: bytes })
    }

    /// All units that can be read, in the file's order; of a split one, the part that is not its skeleton.
    pub(super) fn units(&self) -> impl Iterator<Item = Home<'_>> {
        (0..self.units.len()).filter_map(|place| self.split_unit(place).or_else(|| self.unit(place)))
    }

    fn unit(&self, place: usize) -> Option<Home<'_>> {
        let slot = self.units.get(place)?;
        let unit = slot.unit.get_or_init(|| self.sections.unit(slot.header).ok()).as_ref()?;
        Some(Home { unit: unit.unit_ref(&self.sections), base: 0 })
    }

    /// The unit that the skeleton at this place stands for.
    fn split_unit(&self, place: usize) -> Option<Home<'_>> {
        let skeleton = self.unit(place)?.unit.unit;
        if skeleton.dwo_id.is_some() {
            self.is_split.store(true, Ordering::Relaxed);
        }
        let split = self.units.get(place)?.split.get_or_init(|| self.split.unit(skeleton, &self.sections)).as_ref()?;
        Some(Home { unit: split.unit.unit_ref(&split.sections), base: (place + 1) << SPLIT })
    }

    /// The unit that the index of lines means.
    fn home(&self, unit: &UnitRef<'_, Slice>) -> Option<Home<'_>> {
        match unit.dwo_id {
            Some(id) => self.split_unit(self.skeleton(id)?),
            None => self.unit(self.place_of(unit.header.debug_info_offset()?.0)?),
        }
    }

    fn skeleton(&self, id: gimli::DwoId) -> Option<usize> {
        (0..self.units.len()).find(|place| self.unit(*place).is_some_and(|unit| unit.dwo_id == Some(id)))
    }

    fn place_of(&self, offset: usize) -> Option<usize> {
        let place = self.units.partition_point(|slot| slot.range.start <= offset).checked_sub(1)?;
        self.units[place].range.contains(&offset).then_some(place)
    }

    /// The number of the DIE at `within` in a unit of the index of lines.
    pub(super) fn number(&self, unit: &UnitRef<'_, Slice>, within: UnitOffset) -> Option<usize> {
        self.home(unit)?.number(within)
    }

    /// The end of a look-up, with every split unit that it asks for.
    pub(super) fn finish<L: LookupContinuation<Buf = Slice>>(&self, mut lookup: LookupResult<L>) -> L::Output {
        loop {
            lookup = match lookup {
                LookupResult::Output(output) => return output,
                LookupResult::Load { load, continuation } => {
                    self.is_split.store(true, Ordering::Relaxed);
                    let place = self.skeleton(load.dwo_id).filter(|place| self.split_unit(*place).is_some());
                    let split = place.and_then(|place| self.units[place].split.get()?.as_ref());
                    continuation.resume(split.map(|split| Arc::clone(&split.sections)))
                }
            };
        }
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

    /// Whether anything that was said so far may rest on other files, be they there or not.
    pub(super) fn is_split(&self) -> bool {
        self.is_split.load(Ordering::Relaxed)
    }

    /// Whether it has no units.
    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// How much it tells; `None` when there are no units at all.
    pub(super) fn quality(&self) -> Option<Quality> {
        if self.units().any(describes_types) {
            return Some(Quality::Full);
        }
        (!self.is_empty()).then_some(Quality::LineTables)
    }
}

fn describes_types(unit: Home<'_>) -> bool {
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

/// The crate that a unit was compiled with, as rustc writes it into the unit's name: `src/main.rs/@/app.73ff9e4c-cgu.0`.
fn crate_name(unit: &Home<'_>) -> Option<String> {
    let name = unit.name?.to_string_lossy();
    let (krate, _) = name.rsplit_once("/@/")?.1.split_once('.')?;
    Some(krate.to_owned())
}

/// Whether the unit's abbreviations know structures: they list only what the unit uses.
fn has_structure(unit: &UnitRef<'_, Slice>) -> bool {
    (1..).map_while(|code| unit.abbreviations.get(code)).any(|entry| entry.tag() == gimli::DW_TAG_structure_type)
}

/// Steps from a concrete function to its abstract origin or declaration.
const MOST_ORIGINS: usize = 8;

impl Dwarf {
    /// A DIE of a function, and those that it is an instance or definition of: their numbers, nearest first.
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

    /// Puts the type in place of every `{impl#N}` of a name, as far as it is known. Methods of an impl block are compiled in its
    /// own crate or, if they are generic, in the one that uses them: in `user`, say.
    pub(super) fn resolve_impls(&self, name: &str, user: Option<&str>) -> String {
        let (mut resolved, mut rest) = (String::with_capacity(name.len()), name);
        while let Some(at) = rest.find("{impl#") {
            let Some(end) = rest[at..].find('}').map(|end| at + end + 1) else { break };
            // The path that the impl stands in: back to where a path cannot go on.
            let start =
                rest[..at].rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).map_or(0, |at| at + 1);
            let path = &rest[start..end];
            let own = path.split("::").next();
            let of = own.into_iter().chain(user).find_map(|krate| self.impls(krate).get(path).map(str::to_owned));
            match of {
                Some(of) => {
                    resolved.push_str(&rest[..start]);
                    resolved.push_str(&of);
                }
                None => resolved.push_str(&rest[..end]),
            }
            rest = &rest[end..];
        }
        resolved + rest
    }

    /// The impl blocks that the units of a crate have methods of. Building this reads these units once.
    fn impls(&self, krate: &str) -> Arc<Impls> {
        let mut known = self.impls.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(impls) = known.get(krate) {
            return Arc::clone(impls);
        }
        let impls = Arc::new(Impls::of(self.units().filter(|unit| crate_name(unit).as_deref() == Some(krate))));
        known.insert(krate.to_owned(), Arc::clone(&impls));
        impls
    }

    /// The crate that the unit of a DIE was compiled with.
    pub(super) fn crate_of(&self, number: usize) -> Option<String> {
        crate_name(&self.locate(number)?.0)
    }

    /// The unit of a DIE, and its offset there.
    pub(super) fn locate(&self, number: usize) -> Option<(Home<'_>, UnitOffset)> {
        let unit = match (number >> SPLIT).checked_sub(1) {
            None => self.unit(self.place_of(number)?)?,
            Some(place) => self.split_unit(place)?,
        };
        let within = gimli::DebugInfoOffset(number - unit.base).to_unit_offset(&unit.header)?;
        Some((unit, within))
    }
}

/// The DIE that an attribute refers to: its number.
pub(super) fn reference(unit: &Home<'_>, value: &AttributeValue<Slice>) -> Option<usize> {
    match value {
        AttributeValue::UnitRef(within) => unit.number(*within),
        AttributeValue::DebugInfoRef(offset) => Some(unit.base + offset.0),
        _ => None,
    }
}

//! One pass over all units: which types there are, by name.

use gimli::AttributeValue;

use super::super::dwarf::{Dwarf, Home, Slice};

/// No scope: the top of a unit.
const TOP: u32 = u32::MAX;
/// Scopes in scopes; compilers stay far below.
const DEEPEST: usize = 256;

/// A namespace, or a type that others are nested in.
struct Scope {
    parent: u32,
    name: Slice,
}

/// A named type, not merely declared.
struct Entry {
    /// Offset of its DIE in `.debug_info`.
    offset: usize,
    /// Of its full name.
    full: u64,
    /// Of its full name without the generics at the end.
    bare: u64,
    scope: u32,
    name: Slice,
}

/// Where types are, by name.
pub(in super::super) struct Index {
    scopes: Vec<Scope>,
    /// By offset.
    entries: Vec<Entry>,
    /// Places in `entries`, by `full`.
    by_full: Vec<u32>,
}

impl Index {
    /// Units that cannot be read are left out.
    pub(in super::super) fn build(dwarf: &Dwarf) -> Self {
        let mut index = Self { scopes: Vec::new(), entries: Vec::new(), by_full: Vec::new() };
        for unit in dwarf.units() {
            // What was read before an error stays true.
            let _ = index.unit(&unit);
        }
        index.by_full = (0..u32::try_from(index.entries.len()).unwrap_or(u32::MAX)).collect();
        let entries = &index.entries;
        index.by_full.sort_unstable_by_key(|place| entries[*place as usize].full);
        index
    }

    /// Offsets of all definitions of the type with that full name; several units may each have one.
    pub(super) fn find<'i>(&'i self, full_name: &'i str) -> impl Iterator<Item = usize> + 'i {
        let wanted = Hash::of(full_name);
        let start = self.by_full.partition_point(|place| self.entries[*place as usize].full < wanted);
        let same = self.by_full[start..].iter().map(|place| &self.entries[*place as usize]);
        same.take_while(move |entry| entry.full == wanted)
            .filter(move |entry| self.full_name(entry) == full_name)
            .map(|entry| entry.offset)
    }

    /// Offsets of all types with that path, whatever their generics.
    pub(super) fn instances<'i>(&'i self, path: &'i str) -> impl Iterator<Item = usize> + 'i {
        let wanted = Hash::of(path);
        let same = self.entries.iter().filter(move |entry| entry.bare == wanted);
        same.filter(move |entry| bare(&self.full_name(entry)) == path).map(|entry| entry.offset)
    }

    /// The full name of the type whose DIE is at `offset`.
    pub(super) fn name_at(&self, offset: usize) -> Option<String> {
        let place = self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok()?;
        Some(self.full_name(&self.entries[place]))
    }

    fn full_name(&self, entry: &Entry) -> String {
        let (mut scope, mut parts) = (entry.scope, vec![entry.name.to_string_lossy()]);
        while let Some(known) = self.scopes.get(scope as usize) {
            parts.push(known.name.to_string_lossy());
            scope = known.parent;
        }
        parts.reverse();
        parts.join("::")
    }

    fn unit(&mut self, unit: &Home<'_>) -> gimli::Result<()> {
        // Of the DIEs around the present one: their scope, and its hash.
        let mut around: Vec<(u32, Hash)> = Vec::new();
        let mut entries = unit.entries_raw(None)?;
        while !entries.is_empty() {
            let Some(offset) = unit.number(entries.next_offset()) else { return Ok(()) };
            let depth = usize::try_from(entries.next_depth()).unwrap_or(0);
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            around.truncate(depth.min(DEEPEST));
            let (scope, hash) = around.last().copied().unwrap_or((TOP, Hash::EMPTY));
            let tag = abbreviation.tag();
            let is_type = matches!(
                tag,
                gimli::DW_TAG_structure_type
                    | gimli::DW_TAG_union_type
                    | gimli::DW_TAG_enumeration_type
                    | gimli::DW_TAG_base_type
            );
            if !is_type && tag != gimli::DW_TAG_namespace {
                entries.skip_attributes(abbreviation.attributes())?;
                around.push((scope, hash));
                continue;
            }
            let (mut name, mut declared) = (None, false);
            for attribute in abbreviation.attributes() {
                let attribute = entries.read_attribute(*attribute)?;
                match attribute.name() {
                    gimli::DW_AT_name => name = unit.attr_string(attribute.value()).ok(),
                    gimli::DW_AT_declaration => declared = attribute.value() == AttributeValue::Flag(true),
                    _ => {}
                }
            }
            let Some(name) = name else {
                around.push((scope, hash));
                continue;
            };
            let inside = hash.inside(name.slice());
            if is_type && !declared {
                let without = hash.inside(bare_bytes(name.slice()));
                self.entries.push(Entry { offset, full: inside.0, bare: without.0, scope, name });
            }
            if abbreviation.has_children() {
                let new = u32::try_from(self.scopes.len()).unwrap_or(TOP);
                self.scopes.push(Scope { parent: scope, name });
                around.push((new, inside));
            } else {
                around.push((scope, hash));
            }
        }
        Ok(())
    }
}

/// A full name without the generics at its end.
fn bare(full_name: &str) -> &str {
    &full_name[..bare_bytes(full_name.as_bytes()).len()]
}

/// The same of a name's bytes. Only the last part of a path may have its generics taken, so those inside stay.
fn bare_bytes(name: &[u8]) -> &[u8] {
    if name.last() != Some(&b'>') {
        return name;
    }
    let mut depth = 0usize;
    for (at, byte) in name.iter().enumerate().rev() {
        match byte {
            b'>' if at > 0 && name[at - 1] == b'-' => {}
            b'>' => depth += 1,
            b'<' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return &name[..at];
                }
            }
            _ => {}
        }
    }
    name
}

/// FNV-1a of a path, part by part.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    fn of(text: &str) -> u64 {
        Self::EMPTY.with(text.as_bytes()).0
    }

    fn with(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// Of `name` in the scope that `self` is of.
    fn inside(self, name: &[u8]) -> Self {
        if self.0 == Self::EMPTY.0 { self.with(name) } else { self.with(b"::").with(name) }
    }
}

//! One pass over all units: which types there are, by name, and what the impl blocks are impls of.

use gimli::AttributeValue;
use rustc_hash::FxHashMap;

use super::super::dwarf::{Dwarf, Home, Slice};
use super::super::name;

/// No scope: the top of a unit.
const TOP: u32 = u32::MAX;
/// Scopes in scopes; compilers stay far below.
const DEEPEST: usize = 256;

/// A namespace, or a type that others are nested in.
struct Scope {
    parent: u32,
    name: Slice,
    /// Whether it is an `{impl#N}`, or inside one.
    in_impl: bool,
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
    /// `app::bank::{impl#0}` to `app::bank::Account`, where linkage names tell. `None` where they contradict.
    impls: FxHashMap<String, Option<String>>,
}

impl Index {
    /// Units that cannot be read are left out.
    pub(in super::super) fn build(dwarf: &Dwarf) -> Self {
        let mut index =
            Self { scopes: Vec::new(), entries: Vec::new(), by_full: Vec::new(), impls: FxHashMap::default() };
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

    /// Puts the type in place of every `{impl#N}` in a name, as far as it is known.
    pub(in super::super) fn resolve_impls(&self, name: &str) -> String {
        let (mut resolved, mut rest) = (String::with_capacity(name.len()), name);
        while let Some(at) = rest.find("{impl#") {
            let Some(end) = rest[at..].find('}').map(|end| at + end + 1) else { break };
            // The path that the impl stands in: back to where a path cannot go on.
            let start =
                rest[..at].rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).map_or(0, |at| at + 1);
            match self.impls.get(&rest[start..end]) {
                Some(Some(of)) => {
                    resolved.push_str(&rest[..start]);
                    resolved.push_str(of);
                }
                _ => resolved.push_str(&rest[..end]),
            }
            rest = &rest[end..];
        }
        resolved + rest
    }

    fn full_name(&self, entry: &Entry) -> String {
        self.path(entry.scope, Some(&entry.name))
    }

    fn path(&self, mut scope: u32, last: Option<&Slice>) -> String {
        let mut parts: Vec<_> = last.map(Slice::to_string_lossy).into_iter().collect();
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
            let in_impl = self.scopes.get(scope as usize).is_some_and(|scope| scope.in_impl);
            let method = tag == gimli::DW_TAG_subprogram && in_impl;
            if !is_type && !method && tag != gimli::DW_TAG_namespace {
                entries.skip_attributes(abbreviation.attributes())?;
                around.push((scope, hash));
                continue;
            }
            let (mut name, mut linkage, mut declared) = (None, None, false);
            for attribute in abbreviation.attributes() {
                let attribute = entries.read_attribute(*attribute)?;
                match attribute.name() {
                    gimli::DW_AT_name => name = unit.attr_string(attribute.value()).ok(),
                    gimli::DW_AT_linkage_name => linkage = unit.attr_string(attribute.value()).ok(),
                    gimli::DW_AT_declaration => declared = attribute.value() == AttributeValue::Flag(true),
                    _ => {}
                }
            }
            let Some(name) = name else {
                around.push((scope, hash));
                continue;
            };
            if method {
                if let Some(linkage) = linkage {
                    self.learn_impl(scope, &name, &linkage.to_string_lossy());
                }
                around.push((scope, hash));
                continue;
            }
            let inside = hash.inside(name.slice());
            if is_type && !declared {
                let without = hash.inside(bare_bytes(name.slice()));
                self.entries.push(Entry { offset, full: inside.0, bare: without.0, scope, name });
            }
            if abbreviation.has_children() {
                let in_impl = in_impl || name.starts_with(b"{impl#");
                let new = u32::try_from(self.scopes.len()).unwrap_or(TOP);
                self.scopes.push(Scope { parent: scope, name, in_impl });
                around.push((new, inside));
            } else {
                around.push((scope, hash));
            }
        }
        Ok(())
    }

    /// A function `function` of a scope inside `{impl#N}` has the type in its linkage name.
    fn learn_impl(&mut self, scope: u32, function: &Slice, linkage: &str) {
        let mut path = self.path(scope, Some(function));
        let Some(end) = path.rfind("{impl#").and_then(|at| Some(at + path[at..].find('}')? + 1)) else { return };
        let contract = name::function(linkage);
        // What follows the impl in the one name follows the type in the other.
        let inner = name::function(path[end..].trim_start_matches("::"));
        path.truncate(end);
        let subject = contract.strip_suffix(&inner).and_then(|rest| rest.strip_suffix("::"));
        let Some(subject) = subject.filter(|_| name::is_mangled(linkage)) else { return };
        self.impls
            .entry(path)
            .and_modify(|known| *known = known.take().filter(|known| known == subject))
            .or_insert_with(|| Some(subject.to_owned()));
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

//! What the impl blocks of a crate are impls of.

use rustc_hash::FxHashMap;

use super::super::dwarf::{Home, Slice};
use super::super::name;

/// Scopes in scopes; compilers stay far below.
const DEEPEST: usize = 256;

/// Impl blocks by path: `app::bank::{impl#0}` to `app::bank::Account`, where linkage names tell. `None` where they contradict.
#[derive(Default)]
pub(in super::super) struct Impls(FxHashMap<String, Option<String>>);

/// A DIE around another one.
#[derive(Clone, Copy)]
struct Around {
    /// What it is called, if it counts for a path: a namespace, or a type that others are nested in.
    name: Option<Slice>,
    /// Whether it is an `{impl#N}`, or inside one.
    in_impl: bool,
}

impl Impls {
    /// Those that `units` tell of. Units that cannot be read are left out.
    pub(in super::super) fn of<'d>(units: impl Iterator<Item = Home<'d>>) -> Self {
        let mut impls = Self::default();
        for unit in units {
            // What was read before an error stays true.
            let _ = impls.unit(&unit);
        }
        impls
    }

    /// The type that the impl block at `path` is one of.
    pub(in super::super) fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path)?.as_deref()
    }

    fn unit(&mut self, unit: &Home<'_>) -> gimli::Result<()> {
        let mut around: Vec<Around> = Vec::new();
        let mut entries = unit.entries_raw(None)?;
        while !entries.is_empty() {
            let depth = usize::try_from(entries.next_depth()).unwrap_or(0);
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            around.truncate(depth.min(DEEPEST));
            let in_impl = around.last().is_some_and(|around| around.in_impl);
            let tag = abbreviation.tag();
            let method = tag == gimli::DW_TAG_subprogram && in_impl;
            let is_scope = abbreviation.has_children()
                && matches!(
                    tag,
                    gimli::DW_TAG_namespace
                        | gimli::DW_TAG_structure_type
                        | gimli::DW_TAG_union_type
                        | gimli::DW_TAG_enumeration_type
                );
            if !is_scope && !method {
                entries.skip_attributes(abbreviation.attributes())?;
                around.push(Around { name: None, in_impl });
                continue;
            }
            let (mut name, mut linkage) = (None, None);
            for attribute in abbreviation.attributes() {
                let attribute = entries.read_attribute(*attribute)?;
                match attribute.name() {
                    gimli::DW_AT_name => name = unit.attr_string(attribute.value()).ok(),
                    gimli::DW_AT_linkage_name => linkage = unit.attr_string(attribute.value()).ok(),
                    _ => {}
                }
            }
            if method && let (Some(name), Some(linkage)) = (&name, &linkage) {
                self.learn(&around, name, &linkage.to_string_lossy());
            }
            let name = name.filter(|_| is_scope);
            around.push(Around { name, in_impl: in_impl || name.is_some_and(|name| name.starts_with(b"{impl#")) });
        }
        Ok(())
    }

    /// A function of a scope inside `{impl#N}` has the type in its linkage name.
    fn learn(&mut self, around: &[Around], function: &Slice, linkage: &str) {
        let parts = around.iter().filter_map(|around| around.name.as_ref()).chain([function]);
        let mut path = parts.map(Slice::to_string_lossy).collect::<Vec<_>>().join("::");
        let Some(end) = path.rfind("{impl#").and_then(|at| Some(at + path[at..].find('}')? + 1)) else { return };
        let contract = name::function(linkage);
        // What follows the impl in the one name follows the type in the other.
        let inner = name::function(path[end..].trim_start_matches("::"));
        path.truncate(end);
        let subject = contract.strip_suffix(&inner).and_then(|rest| rest.strip_suffix("::"));
        let Some(subject) = subject.filter(|_| name::is_mangled(linkage)) else { return };
        self.0
            .entry(path)
            .and_modify(|known| *known = known.take().filter(|known| known == subject))
            .or_insert_with(|| Some(subject.to_owned()));
    }
}

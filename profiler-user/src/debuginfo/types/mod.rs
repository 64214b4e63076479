//! Layouts of types, from DWARF, read when asked for.

mod impls;
mod index;
mod layout;
#[cfg(test)]
mod tests;

use super::dwarf::Dwarf;
pub(super) use impls::Impls;
pub(super) use index::Index;
pub use layout::{Member, Shape, Variant, Variants};

/// A type of one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(
    /// Offset of its DIE in `.debug_info`.
    pub(super) usize,
);

/// The types of a module.
///
/// The first look-up by name reads every unit once and keeps about 40 bytes for each named type; layouts are read from
/// the file each time they are asked for.
#[derive(Clone, Copy)]
pub struct Types<'m> {
    dwarf: &'m Dwarf,
}

impl std::fmt::Debug for Types<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Types")
    }
}

impl<'m> Types<'m> {
    pub(super) fn new(dwarf: &'m Dwarf) -> Self {
        Self { dwarf }
    }

    /// The type with that full name, as DWARF spells it: `alloc::sync::Arc<app::State, alloc::alloc::Global>`. Each
    /// unit may define it again; some leave members out, and the one that says most is taken.
    pub fn find(&self, full_name: &str) -> Option<TypeId> {
        let found = self.dwarf.types().find(full_name).map(TypeId);
        found.max_by_key(|found| (self.described(*found), std::cmp::Reverse(found.0)))
    }

    /// All types with that path whatever their generics, of all units: `alloc::sync::Arc` for every `Arc<…>`.
    pub fn instances(&self, path: &str) -> Vec<TypeId> {
        self.dwarf.types().instances(path).map(TypeId).collect()
    }

    /// Full name, as DWARF spells it; `None` for pointers, arrays and the like, which have no path.
    pub fn name(&self, of: TypeId) -> Option<String> {
        self.dwarf.types().name_at(of.0)
    }

    /// The name by which people know the type, see [`super::name::type_name`]. Says more than that function can of the
    /// bare name: the type of an `impl` block comes from the symbols of its methods.
    pub fn contract_name(&self, of: TypeId) -> Option<String> {
        Some(super::name::type_name(&self.dwarf.resolve_impls(&self.name(of)?, None)))
    }

    /// Size in bytes.
    pub fn size(&self, of: TypeId) -> Option<u64> {
        layout::size(self.dwarf, of)
    }

    /// What it is made of.
    pub fn shape(&self, of: TypeId) -> Option<Shape> {
        layout::shape(self.dwarf, of)
    }

    /// Members of a structure or union; none of anything else.
    pub fn members(&self, of: TypeId) -> Vec<Member> {
        layout::members(self.dwarf, of)
    }

    /// The member that a path of names leads to, through structures that lie inside one another: its type and its
    /// offset from the beginning. Pointers are not followed.
    pub fn member_path(&self, of: TypeId, path: &[&str]) -> Option<(TypeId, u64)> {
        path.iter().try_fold((of, 0u64), |(at, offset), name| {
            let member = self.members(at).into_iter().find(|member| member.name == *name)?;
            Some((member.ty, offset.checked_add(member.offset)?))
        })
    }

    /// The variants of an enum with data, or the states of a coroutine. `None` for what has none.
    pub fn variants(&self, of: TypeId) -> Option<Variants> {
        layout::variants(self.dwarf, of)
    }

    /// Type parameters of a generic type: name and type.
    pub fn parameters(&self, of: TypeId) -> Vec<(String, TypeId)> {
        layout::parameters(self.dwarf, of)
    }

    /// How much a definition says.
    fn described(self, of: TypeId) -> usize {
        self.members(of).len() + self.variants(of).map_or(0, |variants| variants.all.len())
    }
}

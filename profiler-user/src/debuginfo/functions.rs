//! Functions as their debuginfo describes them.

use super::dwarf::Dwarf;
use super::name;

/// A function that has code of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subprogram {
    /// The contract name, see [`name::function`].
    pub function: String,
    /// The name that debuginfo has for it, with generics and without path:
    /// `poll<app::transfer::{async_fn_env#0}, alloc::sync::Arc<…>>`.
    pub name: String,
    /// The generics of `name`, one by one. In place of `{impl#N}` they have the type, where methods' symbols tell it.
    pub template_types: Vec<String>,
}

/// The function whose code is at a file address; `None` without debuginfo that covers it. `symbol` is the mangled name
/// that the symbol table has for it.
pub(super) fn subprogram_at(dwarf: &Dwarf, address: u64, symbol: Option<&str>) -> Option<Subprogram> {
    let die = outermost(dwarf, address)?;
    let name = dwarf.function_name(die)?;
    let linkage = dwarf.linkage_name(die);
    let function = name::function(linkage.as_deref().or(symbol).unwrap_or(&name));
    let template_types = name::generics(&name).into_iter().map(|generic| dwarf.resolve_impls(generic)).collect();
    Some(Subprogram { function, name, template_types })
}

/// The DIE of the function, not of what is inlined into it.
fn outermost(dwarf: &Dwarf, address: u64) -> Option<usize> {
    dwarf.with_lines(|lines| {
        let unit = lines.find_dwarf_and_unit(address).skip_all_loads()?;
        let mut frames = lines.find_frames(address).skip_all_loads().ok()?;
        let mut outermost = None;
        while let Some(frame) = frames.next().ok()? {
            outermost = frame.dw_die_offset;
        }
        Some(outermost?.to_debug_info_offset(&unit.header)?.0)
    })
}

//! Functions as their debuginfo describes them.

use serde::{Deserialize, Serialize};

use super::dwarf::Dwarf;
use super::elf::Elf;
use super::name;

/// Encodings of `.eh_frame_hdr` as linkers for x86-64 write it: the table's values are relative to the section.
const HEADER: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

/// Where functions begin that can be unwound through, by address in the file: the table for binary search that
/// `.eh_frame_hdr` has, which no `strip` takes away.
pub(super) fn starts(elf: &Elf) -> Vec<u64> {
    let Some(section) = elf.section(".eh_frame_hdr") else { return Vec::new() };
    let bytes = elf.contents(section);
    let Some((header, rest)) = bytes.split_first_chunk::<4>() else { return Vec::new() };
    if *header != HEADER {
        return Vec::new();
    }
    let words: Vec<i32> = rest.as_chunks::<4>().0.iter().map(|word| i32::from_le_bytes(*word)).collect();
    let count = words.get(1).map_or(0, |count| usize::try_from(*count).unwrap_or(0));
    let entries = words.get(2..).unwrap_or_default().as_chunks::<2>().0;
    let starts = entries.iter().take(count).map(|[start, _]| section.address.wrapping_add_signed(i64::from(*start)));
    starts.collect()
}

/// A function that has code of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    let user = dwarf.crate_of(die);
    let resolved = |generic| dwarf.resolve_impls(generic, user.as_deref());
    let template_types = name::generics(&name).into_iter().map(resolved).collect();
    Some(Subprogram { function, name, template_types })
}

/// The DIE of the function, not of what is inlined into it.
fn outermost(dwarf: &Dwarf, address: u64) -> Option<usize> {
    dwarf.with_lines(|lines| {
        let unit = dwarf.finish(lines.find_dwarf_and_unit(address))?;
        let mut frames = dwarf.finish(lines.find_frames(address)).ok()?;
        let mut outermost = None;
        while let Some(frame) = frames.next().ok()? {
            outermost = frame.dw_die_offset;
        }
        dwarf.number(&unit, outermost?)
    })
}

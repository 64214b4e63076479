//! Reading the DIE of one type.

use gimli::{AttributeValue, DebuggingInformationEntry};

use super::super::dwarf::{Dwarf, Home, Slice, reference};
use super::TypeId;

type Die<'d> = DebuggingInformationEntry<Slice>;

/// Children of one type that are looked at; real types have far fewer.
const MOST_CHILDREN: usize = 1 << 16;

/// A member of a structure or union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name: `__0` in a tuple structure, `__awaitee` for what a coroutine awaits.
    pub name: String,
    /// Bytes from the beginning of the structure.
    pub offset: u64,
    /// Its type.
    pub ty: TypeId,
}

/// One variant of an enum, or one state of a coroutine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The discriminant's value that selects it; `None` for the variant that all other values select.
    pub value: Option<u128>,
    /// The structure's name: `Suspend0`, `Some`.
    pub name: String,
    /// The structure that holds its members.
    pub ty: TypeId,
    /// Bytes from the beginning of the enum to that structure.
    pub offset: u64,
    /// Of a coroutine's state, the line of the `.await`, counted from 1.
    pub line: Option<u32>,
    /// The file of that line.
    pub file: Option<String>,
}

/// The variants of an enum or coroutine, and how to tell which one is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variants {
    /// Offset and size in bytes of the discriminant; `None` where there is only one variant.
    pub discriminant: Option<(u64, u64)>,
    /// In the file's order.
    pub all: Vec<Variant>,
}

/// What a type is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A structure: [`super::Types::members`] or [`super::Types::variants`] say more.
    Structure,
    /// A union.
    Union,
    /// A pointer or reference, thin.
    Pointer(Option<TypeId>),
    /// An array of so many elements.
    Array(TypeId, u64),
    /// A number, character or truth value.
    Base,
    /// An enum without data.
    Enumeration,
}

pub(super) fn size(dwarf: &Dwarf, of: TypeId) -> Option<u64> {
    with(dwarf, of, |_, die| die.attr_value(gimli::DW_AT_byte_size)?.udata_value())
}

pub(super) fn shape(dwarf: &Dwarf, of: TypeId) -> Option<Shape> {
    let (tag, target) = with(dwarf, of, |unit, die| Some((die.tag(), type_of(unit, die))))?;
    Some(match tag {
        gimli::DW_TAG_structure_type => Shape::Structure,
        gimli::DW_TAG_union_type => Shape::Union,
        gimli::DW_TAG_pointer_type | gimli::DW_TAG_reference_type => Shape::Pointer(target),
        gimli::DW_TAG_base_type => Shape::Base,
        gimli::DW_TAG_enumeration_type => Shape::Enumeration,
        gimli::DW_TAG_array_type => Shape::Array(target?, count(dwarf, of)?),
        _ => return None,
    })
}

fn count(dwarf: &Dwarf, of: TypeId) -> Option<u64> {
    let mut count = None;
    children(dwarf, of, |_, die| {
        if die.tag() == gimli::DW_TAG_subrange_type {
            count = die.attr_value(gimli::DW_AT_count).and_then(|value| value.udata_value());
        }
    })?;
    count
}

/// The type that another name stands for, where this one is only another name.
fn named(dwarf: &Dwarf, of: TypeId) -> TypeId {
    /// Names for names.
    const MOST_NAMES: usize = 16;
    let mut at = of;
    for _ in 0..MOST_NAMES {
        let target =
            with(dwarf, at, |unit, die| (die.tag() == gimli::DW_TAG_typedef).then(|| type_of(unit, die)).flatten());
        match target {
            Some(target) => at = target,
            None => break,
        }
    }
    at
}

pub(super) fn members(dwarf: &Dwarf, of: TypeId) -> Vec<Member> {
    let mut members = Vec::new();
    children(dwarf, named(dwarf, of), |unit, die| {
        if die.tag() == gimli::DW_TAG_member {
            members.extend(member(unit, die));
        }
    });
    members
}

pub(super) fn parameters(dwarf: &Dwarf, of: TypeId) -> Vec<(String, TypeId)> {
    let mut parameters = Vec::new();
    children(dwarf, of, |unit, die| {
        if die.tag() == gimli::DW_TAG_template_type_parameter {
            parameters.extend(name(unit, die).zip(type_of(unit, die)));
        }
    });
    parameters
}

pub(super) fn variants(dwarf: &Dwarf, of: TypeId) -> Option<Variants> {
    let mut part = None;
    children(dwarf, of, |unit, die| {
        if die.tag() == gimli::DW_TAG_variant_part {
            let discriminant = die.attr_value(gimli::DW_AT_discr).and_then(|value| reference(unit, &value));
            part = Some((die.offset().to_debug_info_offset(&unit.header), discriminant));
        }
    })?;
    let (Some(part), discriminant) = part? else { return None };
    let discriminant = discriminant.and_then(|die| {
        let (offset, ty) = with(dwarf, TypeId(die), |unit, die| Some((offset_of(die), type_of(unit, die)?)))?;
        Some((offset, size(dwarf, ty)?))
    });
    let mut values = Vec::new();
    children(dwarf, TypeId(part.0), |unit, die| {
        if die.tag() == gimli::DW_TAG_variant {
            values.extend(die.offset().to_debug_info_offset(&unit.header).map(|at| (at.0, value_of(die))));
        }
    });
    let all = values.into_iter().filter_map(|(at, value)| variant(dwarf, at, value)).collect();
    Some(Variants { discriminant, all })
}

/// The variant whose `DW_TAG_variant` is at an offset: it has one member, named by number, of the variant's structure.
fn variant(dwarf: &Dwarf, at: usize, value: Option<u128>) -> Option<Variant> {
    let mut found = None;
    children(dwarf, TypeId(at), |unit, die| {
        if let Some(member) = member(unit, die).filter(|_| die.tag() == gimli::DW_TAG_member) {
            let line = die.attr_value(gimli::DW_AT_decl_line).and_then(|line| line.udata_value());
            let line = line.and_then(|line| u32::try_from(line).ok()).filter(|line| *line != 0);
            let file = die.attr_value(gimli::DW_AT_decl_file).and_then(|file| file_name(unit, &file));
            found = Some((member, line, file));
        }
    })?;
    let (member, line, file) = found?;
    let name = with(dwarf, member.ty, name).unwrap_or(member.name);
    Some(Variant { value, name, ty: member.ty, offset: member.offset, line, file })
}

fn member(unit: &Home<'_>, die: &Die<'_>) -> Option<Member> {
    // Union members have no offset: they are all at the beginning.
    Some(Member { name: name(unit, die).unwrap_or_default(), offset: offset_of(die), ty: type_of(unit, die)? })
}

fn offset_of(die: &Die<'_>) -> u64 {
    die.attr_value(gimli::DW_AT_data_member_location).and_then(|value| value.udata_value()).unwrap_or(0)
}

fn name(unit: &Home<'_>, die: &Die<'_>) -> Option<String> {
    let name = unit.attr_string(die.attr_value(gimli::DW_AT_name)?).ok()?;
    Some(name.to_string_lossy().into_owned())
}

fn type_of(unit: &Home<'_>, die: &Die<'_>) -> Option<TypeId> {
    reference(unit, &die.attr_value(gimli::DW_AT_type)?).map(TypeId)
}

/// A discriminant, as the bits that memory would have.
fn value_of(die: &Die<'_>) -> Option<u128> {
    Some(match die.attr_value(gimli::DW_AT_discr_value)? {
        AttributeValue::Block(block) => {
            block.slice().iter().take(16).rev().fold(0, |value, byte| value << 8 | u128::from(*byte))
        }
        value => u128::from(value.udata_value().or_else(|| value.sdata_value().map(i64::cast_unsigned))?),
    })
}

fn file_name(unit: &Home<'_>, value: &AttributeValue<Slice>) -> Option<String> {
    let AttributeValue::FileIndex(index) = *value else { return None };
    let header = unit.line_program.as_ref()?.header();
    let file = header.file(index)?;
    let name = unit.attr_string(file.path_name()).ok()?.to_string_lossy().into_owned();
    let directory = file.directory(header).and_then(|directory| unit.attr_string(directory).ok());
    let directory = directory.map(|directory| directory.to_string_lossy().into_owned()).unwrap_or_default();
    let around = unit.comp_dir.map(|dir| dir.to_string_lossy().into_owned()).unwrap_or_default();
    let path = std::path::Path::new(&around).join(directory).join(name);
    Some(path.to_string_lossy().into_owned())
}

fn with<T>(dwarf: &Dwarf, of: TypeId, read: impl FnOnce(&Home<'_>, &Die<'_>) -> Option<T>) -> Option<T> {
    let (unit, within) = dwarf.locate(of.0)?;
    let die = unit.entry(within).ok()?;
    read(&unit, &die)
}

/// Calls `visit` with the direct children of a DIE.
fn children(dwarf: &Dwarf, of: TypeId, mut visit: impl FnMut(&Home<'_>, &Die<'_>)) -> Option<()> {
    let (unit, within) = dwarf.locate(of.0)?;
    let mut tree = unit.entries_tree(Some(within)).ok()?;
    let mut children = tree.root().ok()?.children();
    for _ in 0..MOST_CHILDREN {
        let Some(child) = children.next().ok()? else { return Some(()) };
        visit(&unit, child.entry());
    }
    None
}

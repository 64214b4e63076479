//! Split DWARF: compilation units whose debuginfo stands in `.dwo` files of their own, or all together in a `.dwp`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gimli::{DwarfPackage, EndianSlice, LittleEndian, Unit};

use super::dwarf::Slice;
use super::elf::Elf;
use super::separate::{self, Places, ReadFile};
use super::{Bytes, DebugInfoError};

/// Where split units are looked for.
pub(super) struct Source {
    package: Option<DwarfPackage<Slice>>,
    directories: Vec<PathBuf>,
    read: Option<ReadFile>,
    /// What `package` borrows from.
    bytes: Vec<Bytes>,
}

/// What a skeleton unit stands for.
pub(super) struct SplitUnit {
    pub(super) sections: Arc<gimli::Dwarf<Slice>>,
    pub(super) unit: Unit<Slice>,
    /// Dropped last.
    _bytes: Vec<Bytes>,
}

impl Source {
    /// The units of the module at `path`: those of its package, and of files that are read by `read`.
    pub(super) fn new(path: &Path, search: Option<&(Places, ReadFile)>) -> Self {
        let mut bytes = Vec::new();
        let package = search.and_then(|(places, read)| package(path, places, read));
        let package = package.and_then(|elf| {
            let empty = EndianSlice::new(&[][..], LittleEndian);
            DwarfPackage::load(|id| section(&elf, id.dwo_name(), &mut bytes), empty).ok()
        });
        let (directories, read) = match search {
            Some((places, read)) => (places.directories.clone(), Some(Arc::clone(read))),
            None => (Vec::new(), None),
        };
        Self { package, directories, read, bytes }
    }

    /// The unit that `skeleton`, a unit of `parent`, stands for; `None` where it is no skeleton or nothing is found.
    pub(super) fn unit(&self, skeleton: &Unit<Slice>, parent: &gimli::Dwarf<Slice>) -> Option<SplitUnit> {
        let id = skeleton.dwo_id?;
        let name = skeleton.dwo_name().ok()??;
        let packed = self.package.as_ref().and_then(|package| package.find_cu(id, parent).ok()?);
        let (sections, bytes) = match packed {
            Some(sections) => (sections, self.bytes.clone()),
            None => self.unpacked(skeleton, &parent.attr_string(skeleton, name).ok()?, parent)?,
        };
        let mut headers = sections.units();
        let mut found = None;
        while let (None, Ok(Some(header))) = (&found, headers.next()) {
            found = sections.unit(header).ok().filter(|unit| unit.dwo_id == Some(id));
        }
        let mut unit = found?;
        unit.copy_relocated_attributes(skeleton);
        Some(SplitUnit { sections: Arc::new(sections), unit, _bytes: bytes })
    }

    fn unpacked(
        &self,
        skeleton: &Unit<Slice>,
        name: &Slice,
        parent: &gimli::Dwarf<Slice>,
    ) -> Option<(gimli::Dwarf<Slice>, Vec<Bytes>)> {
        let name = PathBuf::from(name.to_string().ok()?);
        let built = skeleton.comp_dir.as_ref().and_then(|directory| directory.to_string().ok());
        let recorded = built.map_or_else(|| name.clone(), |directory| Path::new(directory).join(&name));
        let moved = self.directories.iter().filter_map(|directory| Some(directory.join(name.file_name()?)));
        let read = self.read.as_ref()?;
        let file = moved.chain([recorded]).find_map(|path| read(&path).into_iter().next())?;
        let elf = Elf::parse(file).ok()?;
        let mut bytes = Vec::new();
        let mut sections = gimli::Dwarf::load(|id| section(&elf, id.dwo_name(), &mut bytes)).ok()?;
        sections.make_dwo(parent);
        Some((sections, bytes))
    }
}

/// The package of the module at `path`.
fn package(path: &Path, places: &Places, read: &ReadFile) -> Option<Elf> {
    let beside = separate::with_suffix(path, ".dwp");
    let name = beside.file_name()?;
    let given = places.files.iter().filter_map(|path| separate::own(path));
    let elsewhere = places.directories.iter().filter_map(|directory| separate::own(&directory.join(name)));
    given
        .chain(elsewhere)
        .chain(read(&beside))
        .filter_map(|bytes| Elf::parse(bytes).ok())
        .find(|elf| elf.section(".debug_cu_index").is_some())
}

/// A section by its name in split DWARF, empty where there is none.
fn section(elf: &Elf, name: Option<&str>, bytes: &mut Vec<Bytes>) -> Result<Slice, DebugInfoError> {
    let section = name.map_or_else(|| Ok(Bytes::default()), |name| elf.unpacked(name))?;
    // SAFETY: whoever keeps the slice keeps `bytes` too: `Source` and `SplitUnit` have both.
    let slice = unsafe { section.detached() };
    bytes.push(section);
    Ok(EndianSlice::new(slice, LittleEndian))
}

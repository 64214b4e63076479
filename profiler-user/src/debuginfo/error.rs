//! What can be wrong with a module's file.

/// Why a module's file could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DebugInfoError {
    /// Not an ELF file, or cut short, or its tables point outside of it.
    #[error("not a readable ELF file: {0}")]
    Elf(String),
    /// An ELF file of another machine or word size.
    #[error("not an x86-64 ELF file")]
    Machine,
    /// Sections of debuginfo that contradict themselves, or are larger than this reader accepts.
    #[error("unreadable debuginfo: {0}")]
    Dwarf(String),
}

impl From<object::Error> for DebugInfoError {
    fn from(error: object::Error) -> Self {
        Self::Elf(error.to_string())
    }
}

impl From<gimli::Error> for DebugInfoError {
    fn from(error: gimli::Error) -> Self {
        Self::Dwarf(error.to_string())
    }
}

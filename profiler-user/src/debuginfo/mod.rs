//! ELF and DWARF of the target's modules: symbols, lines, layouts, unwind tables. Knows nothing of any async runtime.
//!
//! Everything works on the bytes of a file and the bias it was loaded at; which files a process has mapped, and how they
//! are opened, is the business of the `target` room. A [`Module`] is cheap to make: symbols are indexed when first asked
//! for, DWARF is read when first asked for, and of it only the units that an answer needs.
//!
//! The bytes come from a file that somebody else wrote. Whatever stands in them, the answer is a value, `None` or a
//! [`DebugInfoError`]: no panic, and no more memory or time than a fixed multiple of the file's size.

mod bytes;
pub mod cache;
mod dwarf;
mod elf;
mod error;
mod frame_pointer;
mod functions;
#[cfg(test)]
mod hostile_tests;
mod landing;
mod lines;
mod module;
#[cfg(test)]
mod module_tests;
pub mod name;
mod recover;
mod registers;
mod separate;
mod servers;
mod split;
mod symbols;
#[cfg(test)]
mod testing;
mod types;
mod unwind;

pub use bytes::Bytes;
pub use elf::{Section, TlsSegment};
pub use error::DebugInfoError;
pub use functions::Subprogram;
pub use landing::Landing;
pub use lines::SourceFrame;
pub use module::{Module, Quality};
pub use registers::{FrameRegisters, RegisterUnwinder};
pub use separate::{Places, ReadFile};
pub use symbols::{Symbol, SymbolKind};
pub use types::{Member, Shape, TypeId, Types, Variant, Variants};
pub use unwind::{Completeness, Unwinder};

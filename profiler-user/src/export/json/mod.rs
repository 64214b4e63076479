//! The JSON that `--json` and `--jsonl` print: schema 1, as `schema/gordian.schema.json` describes it.
//!
//! Readers ignore keys they do not know, so keys may be added; none may be renamed, removed or change its meaning
//! without a new schema number.

mod candidates;
mod document;
mod finding;
mod task;
mod write;

pub use candidates::Candidates;
pub use document::{Document, FindingLine, Line};
pub use finding::FindingJson;
pub use task::{GroupJson, TaskJson};
pub use write::{line, object};

/// The number that every object carries as `schema`.
pub const SCHEMA: u32 = 1;

#[cfg(test)]
mod tests;

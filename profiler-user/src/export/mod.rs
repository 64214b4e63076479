//! What a session publishes, as text, JSON and drawings.
//!
//! Text goes through one [`page::Page`] that escapes and colours; JSON through one writer that escapes. Nothing here
//! reads a target or prints by itself: everything becomes a `String` or is written to what the caller hands in.

pub mod escape;
mod evidence;
pub mod flamegraph;
mod format;
pub mod group;
pub mod json;
pub mod page;
pub mod text;
mod unread;

pub use escape::escape;

#[cfg(test)]
pub(crate) mod samples;

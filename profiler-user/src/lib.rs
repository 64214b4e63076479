//! gordian: attach to a running process and see every async task, where it waits and who holds what it waits for.
//!
//! The rooms and who may know whom stand in `docs/architecture.md`; `tests/architecture.rs` holds the imports to it.

pub mod analysis;
pub mod command;
pub mod debuginfo;
pub mod dryrun;
pub mod export;
pub mod locks;
pub mod model;
pub mod probe;
pub mod profile;
pub mod runtime;
pub mod session;
pub mod target;
pub mod tui;

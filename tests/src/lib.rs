//! Harness shared by the end-to-end tests: start a fixture, let the built `gordian` look at it, check what it says.
//!
//! Everything here panics where it fails: a test is its only caller, and the panic is where the trace should end.

pub mod capability;
pub mod corpus;
pub mod fixture;
pub mod go;
pub mod gordian;
pub mod json;
pub mod observe;
pub mod programs;
pub mod screen;
pub mod watching;

pub use fixture::Fixture;
pub use gordian::{Finished, Gordian};
pub use programs::{Build, Profile};
pub use screen::Terminal;
pub use watching::Watching;

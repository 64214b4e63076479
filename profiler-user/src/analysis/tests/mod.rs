//! Worked examples and properties.

pub(super) mod build;
mod cycles;
mod degraded;
mod scale;
mod threads;
mod trends;

//! Worked examples and properties.

pub(super) mod build;
mod cycles;
mod degraded;
mod goroutines;
mod scale;
mod threads;
mod trends;

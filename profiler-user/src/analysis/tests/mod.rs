//! Worked examples and properties.

mod build;
mod cycles;

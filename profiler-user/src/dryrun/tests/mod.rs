//! Tests of the machine as a whole.

mod control;
mod support;

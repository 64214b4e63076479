//! Tests of the machine as a whole.

mod control;
mod counting;
mod differential;
mod hostile;
mod poison;
mod real_code;
mod support;

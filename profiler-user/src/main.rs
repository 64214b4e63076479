//! The `gordian` binary.

fn main() {}

//! Stacks to weights: on-CPU, off-CPU and await profiles.

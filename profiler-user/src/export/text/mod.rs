//! Text for people, at a terminal or in a log.

mod capture;
mod finding;
mod goroutines;
mod ps;
mod remedy;
mod resource;
mod stack;
mod tasks;

pub use capture::captured;
pub use finding::{ended, finding, verdict};
pub use goroutines::goroutines;
pub use ps::candidates;
pub use tasks::{groups, header, tasks, threads, unread};

#[cfg(test)]
mod tests;

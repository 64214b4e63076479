//! Tokio, read from outside: task vtables give the tasks, dry runs of their code give what they await and hold.
//!
//! Nothing here depends on debuginfo: with it names and lines are better, the facts are the same.

mod blocked;
mod classify;
mod code;
mod context;
mod heap;
mod holds;
mod kinds;
mod names;
mod policy;
mod poll;
mod queue;
mod read;
mod resources;
mod roots;
mod shape;
mod state;
mod strands;
mod task;
mod threads;
mod version;
mod vtables;
mod waits;

pub use read::Tokio;

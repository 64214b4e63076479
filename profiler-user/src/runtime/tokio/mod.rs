//! Tokio, read from outside: task vtables give the tasks, dry runs of their code give what they await and hold.
//!
//! Nothing here depends on debuginfo: with it names and lines are better, the facts are the same.

mod around;
mod blocked;
mod borrowed;
mod channels;
mod children;
mod classify;
mod closing;
mod code;
mod context;
mod doubt;
mod elsewhere;
mod ends;
mod freed;
mod heap;
mod holds;
mod imprint;
mod kept;
mod kinds;
mod moment;
mod names;
mod ownership;
mod policy;
mod poll;
mod pool;
mod probe;
mod queue;
mod reach;
mod read;
mod reading;
mod resources;
mod retainers;
mod roots;
mod shape;
mod state;
mod strands;
mod strays;
mod supposed;
mod task;
#[cfg(test)]
mod testing;
mod threads;
mod upgradable;
mod version;
mod vtables;
mod waits;
mod waker;
mod within;

pub use read::Tokio;

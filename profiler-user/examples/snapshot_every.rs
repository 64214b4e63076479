//! Takes a snapshot of a process every second and no more, until it is killed:
//! `cargo run --release -p profiler-user --example snapshot_every PID`.
//!
//! `cargo xtask bench` measures what that costs the process.

use std::time::Duration;

use profiler_user::session::{Options, Session};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pid: i32 = std::env::args().nth(1).ok_or("no PID")?.parse()?;
    let options = Options { probes: false, interval: Duration::from_secs(1), ..Options::default() };
    let session = Session::attach(pid, options)?;
    while session.views().borrow().ended.is_none() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

//! `cargo xtask`: builds, demonstrates, tests and measures gordian. Users need `demo` and `test`.

mod bench;
mod demo;
mod ebpf;
mod fuzz;
mod go;
mod programs;
mod servers;
mod soak;
mod test;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, demonstrates, tests and measures gordian")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start a service with a deadlock in it and let gordian find it
    Demo(demo::Arguments),
    /// Run every test, and name those that cannot run here
    Test(test::Arguments),
    /// Build the kernel programs from source
    Ebpf(ebpf::Arguments),
    /// Measure what gordian costs a service under load; writes docs/benchmarks.md
    Bench(bench::Arguments),
    /// Feed what gordian parses with damaged input, for a bounded time
    Fuzz(fuzz::Arguments),
    /// Tables and measurements for Go
    #[command(subcommand)]
    Go(go::Arguments),
    /// Look at every innocent program of the corpus many times, and state the rate of false alarms
    Soak(soak::Arguments),
    /// Look many times at published servers under load, and at one with a database whose pool is exhausted in the end
    Servers(servers::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Ebpf(arguments) => ebpf::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Go(arguments) => go::run(&arguments),
        Task::Soak(arguments) => soak::run(&arguments),
        Task::Servers(arguments) => servers::run(&arguments),
    }
}

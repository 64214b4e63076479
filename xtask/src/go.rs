//! `cargo xtask go`: what is made from Go's own toolchains, and what is measured on Go programs.

use anyhow::Result;

use crate::programs::{cargo, repository, succeed};

#[derive(clap::Subcommand)]
pub(crate) enum Arguments {
    /// Write the tables of Go's layouts anew, from what each version builds
    Layouts,
    /// Look at each healthy Go program so many times, and count what is said of it
    Shots {
        /// How many looks
        #[arg(default_value_t = 50)]
        shots: u32,
    },
    /// Compare what gordian finds with Go's own profile of leaked goroutines
    Recall,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let test = |file: &str, name: &str| {
        let mut command = cargo(repository());
        command.args(["test", "--locked", "--package", "gordian-tests", "--test", file, "--", name, "--nocapture"]);
        command.env("GORDIAN_REQUIRE", "all");
        command
    };
    match arguments {
        Arguments::Layouts => {
            succeed(test("go_layouts", "every_table_says_what_its_version_builds").env("GORDIAN_WRITE_LAYOUTS", "1"))
        }
        Arguments::Shots { shots } => {
            succeed(test("go", "nothing_is_said_of_busy_programs").env("GORDIAN_SHOTS", shots.to_string()))
        }
        Arguments::Recall => succeed(&mut test("go", "finds_all_that_go_finds_itself")),
    }
}

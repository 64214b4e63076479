//! `go_program NAME [--every-version]`: builds the program in `tests/go/NAME` with the newest Go as `go build` does, or with
//! every Go that is tested, oldest first, without symbols, and says where they are, one a line. For `cargo xtask go`.

use gordian_tests::go::{self, Link};

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (name, versions, link) = match arguments[..] {
        [name] => (name, &[go::NEWEST][..], Link::Plain),
        [name, "--every-version"] => (name, &go::VERSIONS[..], Link::Stripped),
        _ => return Err("go_program NAME [--every-version]".into()),
    };
    for version in versions {
        println!("{}", go::program(name, version, link)?.display());
    }
    Ok(())
}

//! The tables of Go's layouts against the debuginfo of programs that each version of Go builds.
//!
//! `cargo xtask go layouts` runs this with `GORDIAN_WRITE_LAYOUTS` set: then the tables are written anew.

use std::{fs, sync::Arc};

use gordian_tests::{
    capability,
    go::{self, Link},
};
use profiler_user::{debuginfo::Bytes, runtime::go::table};

#[test]
fn every_table_says_what_its_version_builds() {
    for version in go::VERSIONS {
        let program = match go::program("layouts", version, Link::Plain) {
            Ok(program) => program,
            Err(why) => {
                capability::skip("every_table_says_what_its_version_builds", &why);
                continue;
            }
        };
        let bytes = Bytes::new(Arc::new(fs::read(program).expect("it was built")));
        let read = table(bytes).unwrap_or_else(|| panic!("Go {version}: no debuginfo"));
        let text = format!("# Made by `cargo xtask go layouts` from what Go {version} builds.\n{read}");
        let path = go::table(version);
        if std::env::var_os("GORDIAN_WRITE_LAYOUTS").is_some() {
            fs::write(&path, text).expect("the table can be written");
        } else {
            let known = fs::read_to_string(&path).expect("the table is checked in");
            assert_eq!(known, text, "{}: run `cargo xtask go layouts`", path.display());
        }
    }
}

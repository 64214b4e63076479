//! What tests that need privileges have in common.

use std::io::Write as _;

/// Whether a test may be made that needs these privileges and found this error without them.
///
/// A test that cannot be made is named on stderr as skipped; where `GORDIAN_REQUIRE=all`, that is a failure.
pub(crate) fn able<T, E: std::fmt::Display>(name: &str, found: Result<T, E>) -> Option<T> {
    match found {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(std::env::var("GORDIAN_REQUIRE").as_deref() != Ok("all"), "{name} is required: {error}");
            // Past the capture of the test harness, which shows nothing of a test that passes.
            let _unheard = writeln!(std::io::stderr(), "SKIPPED {name}: {error}");
            None
        }
    }
}

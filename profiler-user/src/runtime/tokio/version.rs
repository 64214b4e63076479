//! Which tokio is in a binary: its panic messages and debuginfo name source files by crate and version.

use crate::debuginfo::Module;

/// The version in `.../tokio-1.54.1/src/...`, where a read-only section still holds such a path.
pub(super) fn of(module: &Module) -> Option<String> {
    [".rodata", ".debug_line_str", ".debug_str"].into_iter().find_map(|name| {
        let section = module.section(name)?;
        in_bytes(section.bytes.as_ref())
    })
}

fn in_bytes(bytes: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"/tokio-";
    memchr_all(bytes, MARK).find_map(|at| {
        let rest = &bytes[at + MARK.len()..];
        let length = rest.iter().take(24).position(|byte| *byte == b'/')?;
        let version = std::str::from_utf8(&rest[..length]).ok()?;
        let numeric = version.split('.').count() >= 3 && version.starts_with(|first: char| first.is_ascii_digit());
        (numeric && rest[length..].starts_with(b"/src/")).then(|| version.to_owned())
    })
}

fn memchr_all<'a>(bytes: &'a [u8], mark: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let finder = memchr::memmem::Finder::new(mark);
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + finder.find(&bytes[from..])?;
        from = at + 1;
        Some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_tokio_itself() {
        let bytes = b"x/tokio-util-0.7.1/src/lib.rs\0/registry/src/index/tokio-1.54.1/src/sync/mutex.rs";
        assert_eq!(in_bytes(bytes).as_deref(), Some("1.54.1"));
        assert_eq!(in_bytes(b"/tokio-rustls/src/"), None);
    }
}

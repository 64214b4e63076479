//! Which version of Go built a program: the block that every Go linker leaves for `go version` (debug/buildinfo, from 1.18).

use memchr::memmem;

use crate::debuginfo::Module;

/// What the block begins with.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Where its flags are, and the one that says that the strings are in the block itself.
const FLAGS: usize = 15;
const INLINE: u8 = 2;
/// Where the strings begin.
const STRINGS: usize = 32;
/// Longest version that is believed.
const LONGEST: u64 = 128;

/// The version without its `go`: `1.27.3`, `1.26.0 X:arenas`. `None` where the module is no Go program's.
pub(super) fn version(module: &Module) -> Option<String> {
    let section = module.section(".go.buildinfo").map(|section| section.bytes.to_vec());
    // Without its section the block still is in the data, at an address that 16 divides.
    let block = section.or_else(|| {
        module.writable_ranges().into_iter().find_map(|range| {
            let data = module.file_bytes_from(range.start)?;
            memmem::find_iter(data, MAGIC).find(|at| at % 16 == 0).map(|at| data[at..].to_vec())
        })
    })?;
    parse(&block)
}

fn parse(block: &[u8]) -> Option<String> {
    if !block.starts_with(MAGIC) || block.get(FLAGS)? & INLINE == 0 {
        return None;
    }
    let (length, text) = varint(block.get(STRINGS..)?)?;
    let text = text.get(..usize::try_from(length).ok().filter(|_| length <= LONGEST)?)?;
    let version = std::str::from_utf8(text).ok()?.strip_prefix("go")?;
    Some(version.to_owned())
}

/// A base-128 number and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &[u8]) -> Vec<u8> {
        let mut block = MAGIC.to_vec();
        block.extend([8, INLINE]);
        block.resize(STRINGS, 0);
        block.push(text.len() as u8);
        block.extend(text);
        block
    }

    #[test]
    fn a_version_is_read() {
        assert_eq!(parse(&block(b"go1.27.3")).as_deref(), Some("1.27.3"));
        assert_eq!(parse(&block(b"devel +abc")), None);
    }

    #[test]
    fn every_truncation_is_none() {
        let whole = block(b"go1.27.3");
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
        assert_eq!(varint(&[0xff; 20]), None);
    }
}

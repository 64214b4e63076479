//! The name that a finding keeps over time.

use crate::model::FindingKind;

/// The kind with eight hexadecimal digits made of `parts`, whatever their order: `deadlock-3fa9c2d1`.
pub(super) fn id(kind: FindingKind, parts: impl IntoIterator<Item = String>) -> String {
    let mut parts: Vec<String> = parts.into_iter().collect();
    parts.sort_unstable();
    parts.dedup();
    // FNV-1a: the name must not change with a version of a hashing library.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{}-{:08x}", kind.name(), (hash >> 32) as u32 ^ hash as u32)
}

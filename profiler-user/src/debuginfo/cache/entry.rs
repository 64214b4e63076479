//! An entry's bytes: a magic with the version of the format, a checksum of the rest, and one zstd frame: what the entry is of,
//! and the answers (postcard).

use std::io;

use super::Answers;

/// What every entry begins with; the last byte is the version of the format.
const MAGIC: &[u8; 8] = b"answers\x01";
/// Names and paths repeat themselves; more effort gains little.
const LEVEL: i32 = 1;
/// An entry holds no more than this, in bytes.
const LARGEST: usize = 64 << 20;

/// The bytes of an entry with `answers`, of the file that `stamp` stands for.
///
/// # Errors
/// When they are too many, or there is no memory for it.
pub fn seal(answers: &Answers, stamp: &[u8]) -> io::Result<Vec<u8>> {
    let contents = postcard::to_stdvec(&(stamp, answers)).map_err(io::Error::other)?;
    if contents.len() > LARGEST {
        return Err(io::Error::other("there are too many answers"));
    }
    wrap(&contents)
}

/// The bytes of an entry with any contents.
///
/// # Errors
/// When there is no memory for it.
pub fn wrap(contents: &[u8]) -> io::Result<Vec<u8>> {
    let packed = zstd::bulk::compress(contents, LEVEL)?;
    let sum = crc32fast::hash(&packed).to_le_bytes();
    Ok([&MAGIC[..], &sum, &packed].concat())
}

/// The answers in an entry; `None` where it is damaged, or of anything but what `stamp` stands for.
///
/// The memory that this takes is at most a fixed multiple of what an entry may hold: each answer takes some of it.
pub fn open(bytes: &[u8], stamp: &[u8]) -> Option<Answers> {
    let (sum, packed) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
    if crc32fast::hash(packed) != u32::from_le_bytes(*sum) {
        return None;
    }
    let contents = zstd::bulk::decompress(packed, LARGEST).ok()?;
    let (of, rest): (&[u8], &[u8]) = postcard::take_from_bytes(&contents).ok()?;
    if of != stamp {
        return None;
    }
    let (answers, rest) = postcard::take_from_bytes(rest).ok()?;
    rest.is_empty().then_some(answers)
}

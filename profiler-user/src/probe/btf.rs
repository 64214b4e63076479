//! Offsets of fields in kernel structs, from the running kernel's BTF.
//!
//! aya reads BTF too, but keeps members of structs to itself. The format: `Documentation/bpf/btf.rst` of Linux.

use super::ProbeError;

const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
/// Typedef, volatile, const, restrict and type tag: a name or a qualifier of another type.
const KIND_ALIASES: [u32; 5] = [8, 9, 10, 11, 18];
/// Deepest nesting of aliases and anonymous members that is followed.
const MAX_DEPTH: usize = 32;

/// A parsed table of types.
pub(super) struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where in `types` each type starts; type 0 is `void` and stands nowhere.
    starts: Vec<usize>,
}

/// One type's fixed part.
#[derive(Clone, Copy)]
struct Type {
    start: usize,
    name: u32,
    kind: u32,
    members: usize,
    /// Whether member offsets share their word with a bit-field size.
    bit_fields: bool,
    /// Size in bytes, or for an alias the id of what it stands for.
    size_or_target: u32,
}

impl<'a> Btf<'a> {
    /// Reads the header and finds each type.
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, ProbeError> {
        let bad = |what: &str| ProbeError::NoBtf(format!("/sys/kernel/btf/vmlinux: {what}"));
        if data.get(..2) != Some(&0xeb9f_u16.to_le_bytes()) {
            return Err(bad("not little-endian BTF"));
        }
        let word = |at| read_u32(data, at).map(|word| word as usize).ok_or_else(|| bad("no header"));
        let header = word(4)?;
        let section = |offset: usize, length: usize| {
            let start = header.checked_add(offset)?;
            data.get(start..start.checked_add(length)?)
        };
        let types = section(word(8)?, word(12)?).ok_or_else(|| bad("types are cut off"))?;
        let strings = section(word(16)?, word(20)?).ok_or_else(|| bad("strings are cut off"))?;
        let mut btf = Self { types, strings, starts: vec![0] };
        let mut at = 0;
        while at < types.len() {
            btf.starts.push(at);
            let ty = btf.at(at).ok_or_else(|| bad("a type is cut off"))?;
            let extra = match ty.kind {
                1 | 14 | 17 => 4,
                KIND_ARRAY => 12,
                KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * ty.members,
                6 | 13 => 8 * ty.members,
                2 | 7 | 8..=12 | 16 | 18 => 0,
                kind => return Err(bad(&format!("unknown kind of type {kind}"))),
            };
            at += 12 + extra;
        }
        Ok(btf)
    }

    fn at(&self, start: usize) -> Option<Type> {
        let info = read_u32(self.types, start + 4)?;
        Some(Type {
            start,
            name: read_u32(self.types, start)?,
            kind: (info >> 24) & 0x1f,
            members: (info & 0xffff) as usize,
            bit_fields: info >> 31 == 1,
            size_or_target: read_u32(self.types, start + 8)?,
        })
    }

    /// The type with this id, aliases followed.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let ty = self.at(*self.starts.get(id as usize)?).filter(|_| id != 0)?;
            if !KIND_ALIASES.contains(&ty.kind) {
                return Some(ty);
            }
            id = ty.size_or_target;
        }
        None
    }

    fn name(&self, offset: u32) -> &[u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn find_struct(&self, name: &str) -> Option<Type> {
        self.starts[1..]
            .iter()
            .filter_map(|start| self.at(*start))
            .find(|ty| ty.kind == KIND_STRUCT && self.name(ty.name) == name.as_bytes())
    }

    /// Size of a struct in bytes.
    pub(super) fn size_of(&self, name: &'static str) -> Result<u32, ProbeError> {
        self.find_struct(name).map(|ty| ty.size_or_target).ok_or(ProbeError::NoField(name))
    }

    /// Byte offset of a field. `path` is the struct's name and the fields down to it, separated by dots; anonymous
    /// structs and unions on the way are looked into.
    pub(super) fn offset_of(&self, path: &'static str) -> Result<u32, ProbeError> {
        self.offset(path).ok_or(ProbeError::NoField(path))
    }

    fn offset(&self, path: &str) -> Option<u32> {
        let mut parts = path.split('.');
        let mut ty = self.find_struct(parts.next()?)?;
        let mut sum: u32 = 0;
        for part in parts {
            let (offset, next) = self.member(ty, part.as_bytes(), 0)?;
            sum = sum.checked_add(offset)?;
            // A field of a plain type ends the path: what it is does not matter.
            ty = self.resolve(next).unwrap_or(ty);
        }
        Some(sum)
    }

    /// Byte offset and type id of a member.
    fn member(&self, ty: Type, name: &[u8], depth: usize) -> Option<(u32, u32)> {
        if depth > MAX_DEPTH || !matches!(ty.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for index in 0..ty.members {
            let at = ty.start + 12 + 12 * index;
            let (member_name, id, position) =
                (read_u32(self.types, at)?, read_u32(self.types, at + 4)?, read_u32(self.types, at + 8)?);
            let offset = if ty.bit_fields { position & 0x00ff_ffff } else { position } / 8;
            let member_name = self.name(member_name);
            if member_name == name {
                return Some((offset, id));
            }
            if member_name.is_empty()
                && let Some((inner, id)) = self.resolve(id).and_then(|ty| self.member(ty, name, depth + 1))
            {
                return Some((offset + inner, id));
            }
        }
        None
    }
}

fn read_u32(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int a; union { int b; struct inner c; }; }; struct inner { int x; int y; }`, by hand.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0c\0inner\0x\0y\0int\0";
        let at = |name: &[u8]| strings.windows(name.len()).position(|w| w == name).unwrap() as u32;
        let mut types = Vec::new();
        let mut put = |words: &[u32]| words.iter().for_each(|w| types.extend_from_slice(&w.to_le_bytes()));
        let info = |kind: u32, members: u32| kind << 24 | members;
        put(&[at(b"int\0"), info(1, 0), 4, 0x0100_0020]); // 1
        put(&[at(b"inner\0"), info(4, 2), 8, at(b"x\0"), 1, 0, at(b"y\0"), 1, 32]); // 2
        put(&[0, info(5, 2), 8, at(b"b\0"), 1, 0, at(b"c\0"), 4, 0]); // 3
        put(&[0, info(10, 0), 2]); // 4: const struct inner
        put(&[at(b"outer\0"), info(4, 2), 12, at(b"a\0"), 1, 0, 0, 3, 32]); // 5
        let mut data = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            data.extend_from_slice(&word.to_le_bytes());
        }
        data.extend_from_slice(&types);
        data.extend_from_slice(strings);
        data
    }

    #[test]
    fn fields_are_found_through_anonymous_members_and_qualifiers() {
        let data = sample();
        let btf = Btf::parse(&data).unwrap();
        assert_eq!(btf.offset_of("outer.a").unwrap(), 0);
        assert_eq!(btf.offset_of("outer.b").unwrap(), 4);
        assert_eq!(btf.offset_of("outer.c.y").unwrap(), 8);
        assert_eq!(btf.size_of("inner").unwrap(), 8);
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let data = sample();
        let btf = Btf::parse(&data).unwrap();
        assert!(matches!(btf.offset_of("outer.z"), Err(ProbeError::NoField("outer.z"))));
        assert!(matches!(btf.offset_of("outer.a.z"), Err(ProbeError::NoField(_))));
        assert!(matches!(btf.size_of("nothing"), Err(ProbeError::NoField("nothing"))));
    }

    #[test]
    fn a_cut_or_garbled_table_never_panics() {
        let data = sample();
        for length in 0..data.len() {
            let _ = Btf::parse(&data[..length]).map(|btf| btf.offset("outer.c.y"));
        }
        for at in 0..data.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = data.clone();
                bad[at] = value;
                let _ = Btf::parse(&bad).map(|btf| btf.offset("outer.c.y"));
            }
        }
    }
}

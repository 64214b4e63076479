//! Integers whose single bytes may be unknown.

/// Up to eight bytes, with one bit of `poison` for each byte that is unknown. The bits of an unknown byte mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub bits: u64,
    pub poison: u8,
}

impl Value {
    /// A value all of whose bytes are known.
    pub(super) fn known(bits: u64) -> Self {
        Self { bits, poison: 0 }
    }

    /// A value none of whose bytes is known.
    pub(super) fn unknown() -> Self {
        Self { bits: 0, poison: 0xff }
    }

    /// `bits` when neither of the operands it was computed from had an unknown byte; otherwise wholly unknown.
    pub(super) fn all_or_nothing(bits: u64, poison: u8) -> Self {
        if poison == 0 { Self::known(bits) } else { Self::unknown() }
    }

    /// The low `size` bytes, the rest zero.
    pub(super) fn low(self, size: u8) -> Self {
        Self { bits: self.bits & mask(size), poison: self.poison & byte_mask(size) }
    }

    /// The value, when every byte is known.
    pub(super) fn get(self) -> Option<u64> {
        (self.poison == 0).then_some(self.bits)
    }

    /// Sign-extends from `size` bytes to eight. An unknown top byte makes all above it unknown.
    pub(super) fn sign_extend(self, size: u8) -> Self {
        let low = self.low(size);
        let top_is_poison = low.poison >> (size - 1) & 1 != 0;
        let poison = if top_is_poison { low.poison | !byte_mask(size) } else { low.poison };
        Self { bits: sign_extend(low.bits, size), poison }
    }
}

/// All bits of a `size`-byte integer.
pub(super) fn mask(size: u8) -> u64 {
    u64::MAX >> (64 - u32::from(size) * 8)
}

/// One bit for each byte of a `size`-byte integer.
pub(super) fn byte_mask(size: u8) -> u8 {
    u8::MAX >> (8 - size)
}

/// Sign-extends the low `size` bytes to eight.
pub(super) fn sign_extend(bits: u64, size: u8) -> u64 {
    let unused = 64 - u32::from(size) * 8;
    ((bits << unused) as i64 >> unused) as u64
}

/// The sign bit of a `size`-byte integer.
pub(super) fn sign(bits: u64, size: u8) -> bool {
    bits >> (u32::from(size) * 8 - 1) & 1 != 0
}

/// One bit a byte becomes eight: what an unknown byte looks like to code that moves bits.
pub(super) fn expand(poison: u8) -> u64 {
    (0..8).filter(|i| poison >> i & 1 != 0).fold(0, |bits, i| bits | 0xff << (8 * i))
}

/// The bytes of `bits` that are not zero, one bit each: the reverse of [`expand`], where a single unknown bit makes its byte
/// unknown.
pub(super) fn collapse(bits: u64) -> u8 {
    (0..8).filter(|i| bits >> (8 * i) & 0xff != 0).fold(0, |poison, i| poison | 1 << i)
}

/// [`expand`] for sixteen bytes.
pub(super) fn expand_wide(poison: u16) -> u128 {
    u128::from(expand(poison as u8)) | u128::from(expand((poison >> 8) as u8)) << 64
}

/// [`collapse`] for sixteen bytes.
pub(super) fn collapse_wide(bits: u128) -> u16 {
    u16::from(collapse(bits as u64)) | u16::from(collapse((bits >> 64) as u64)) << 8
}

/// The lowest unknown byte and all above it: what a carry can reach.
pub(super) fn upward(poison: u8) -> u8 {
    if poison == 0 { 0 } else { 0xff << poison.trailing_zeros() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poison_survives_expansion_and_reaches_upward() {
        for poison in 0..=u8::MAX {
            assert_eq!(collapse(expand(poison)), poison);
        }
        assert_eq!(collapse_wide(expand_wide(0xa5c3)), 0xa5c3);
        assert_eq!(collapse(0x0100_0000_0000_8000), 0b1000_0010);
        assert_eq!(upward(0b0010_0100), 0b1111_1100);
        assert_eq!(upward(0), 0);
    }

    #[test]
    fn sign_extension_of_an_unknown_top_byte_is_unknown_above() {
        let half = Value { bits: 0x80, poison: 0b10 };
        assert_eq!(half.sign_extend(2).poison, 0b1111_1110);
        assert_eq!(half.sign_extend(1), Value::known(0xffff_ffff_ffff_ff80));
    }
}

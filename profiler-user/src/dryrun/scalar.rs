//! Floating-point arithmetic as the processor does it, on the bits of single numbers.
//!
//! The host's arithmetic gives the numbers; what it leaves open is decided here: which NaN comes out, and what `min`, `max`
//! and conversions do at the edges. Rounding is to nearest and denormals are kept, which is the state every program
//! starts in and `mxcsr` is not modelled beyond it.

use std::cmp::Ordering;

/// Makes the arithmetic of one type.
macro_rules! arithmetic {
    ($float:ty, $bits:ty, $quiet:expr, $indefinite:expr, $name:ident) => {
        pub(super) mod $name {
            type Float = $float;
            type Bits = $bits;

            /// The NaN of an operation without one among its operands, such as infinity minus infinity.
            const INDEFINITE: Bits = $indefinite;
            /// The bit that tells a quiet NaN.
            const QUIET: Bits = $quiet;

            fn binary(a: u64, b: u64, f: fn(Float, Float) -> Float) -> u64 {
                let (x, y) = (Float::from_bits(a as Bits), Float::from_bits(b as Bits));
                let result = f(x, y);
                let bits = if x.is_nan() {
                    a as Bits | QUIET
                } else if y.is_nan() {
                    b as Bits | QUIET
                } else if result.is_nan() {
                    INDEFINITE
                } else {
                    result.to_bits()
                };
                u64::from(bits)
            }

            pub(in crate::dryrun) fn add(a: u64, b: u64) -> u64 {
                binary(a, b, |x, y| x + y)
            }

            pub(in crate::dryrun) fn sub(a: u64, b: u64) -> u64 {
                binary(a, b, |x, y| x - y)
            }

            pub(in crate::dryrun) fn mul(a: u64, b: u64) -> u64 {
                binary(a, b, |x, y| x * y)
            }

            pub(in crate::dryrun) fn div(a: u64, b: u64) -> u64 {
                binary(a, b, |x, y| x / y)
            }

            /// The second operand when either is a NaN or both are zero.
            pub(in crate::dryrun) fn min(a: u64, b: u64) -> u64 {
                if Float::from_bits(a as Bits) < Float::from_bits(b as Bits) {
                    u64::from(a as Bits)
                } else {
                    u64::from(b as Bits)
                }
            }

            /// The second operand when either is a NaN or both are zero.
            pub(in crate::dryrun) fn max(a: u64, b: u64) -> u64 {
                if Float::from_bits(a as Bits) > Float::from_bits(b as Bits) {
                    u64::from(a as Bits)
                } else {
                    u64::from(b as Bits)
                }
            }

            pub(in crate::dryrun) fn sqrt(a: u64) -> u64 {
                let x = Float::from_bits(a as Bits);
                let result = x.sqrt();
                u64::from(if x.is_nan() {
                    a as Bits | QUIET
                } else if result.is_nan() {
                    INDEFINITE
                } else {
                    result.to_bits()
                })
            }

            /// All ones when predicate `control` of `cmpps` and its kin holds, otherwise zero.
            pub(in crate::dryrun) fn compare(a: u64, b: u64, control: u8) -> u64 {
                if super::predicate_holds(order(a, b), control) { u64::from(Bits::MAX) } else { 0 }
            }

            /// `None` when unordered, otherwise how the first compares with the second.
            pub(in crate::dryrun) fn order(a: u64, b: u64) -> Option<super::Ordering> {
                Float::from_bits(a as Bits).partial_cmp(&Float::from_bits(b as Bits))
            }

            /// To a signed integer of 4 or 8 bytes; what does not fit becomes the most negative one.
            pub(in crate::dryrun) fn to_integer(a: u64, size: u8, truncate: bool) -> u64 {
                let x = Float::from_bits(a as Bits);
                let whole = if truncate { x.trunc() } else { x.round_ties_even() };
                // Powers of two, so the bounds are exact.
                let low: Float = if size == 4 { -2_147_483_648.0 } else { -9_223_372_036_854_775_808.0 };
                let high = -low;
                let fits = whole >= low && whole < high;
                match (fits, size) {
                    (true, _) => whole as i64 as u64 & crate::dryrun::value::mask(size),
                    (false, 4) => 1 << 31,
                    (false, _) => 1 << 63,
                }
            }

            /// From a signed integer.
            pub(in crate::dryrun) fn from_integer(a: i64) -> u64 {
                u64::from((a as Float).to_bits())
            }

            /// Rounds as the control byte of `roundss` says. The mode that `mxcsr` holds is taken to be nearest.
            pub(in crate::dryrun) fn round(a: u64, control: u8) -> u64 {
                let x = Float::from_bits(a as Bits);
                if x.is_nan() {
                    return u64::from(a as Bits | QUIET);
                }
                let rounded = match control & 7 {
                    1 => x.floor(),
                    2 => x.ceil(),
                    3 => x.trunc(),
                    _ => x.round_ties_even(),
                };
                u64::from(rounded.to_bits())
            }
        }
    };
}

arithmetic!(f32, u32, 1 << 22, 0xffc0_0000, single);
arithmetic!(f64, u64, 1 << 51, 0xfff8_0000_0000_0000, double);

/// For each predicate the outcomes it holds for: 1 less, 2 equal, 4 greater, 8 unordered. The sixteen after these differ
/// from them in when they signal only.
const PREDICATES: [u8; 16] = [2, 1, 3, 8, 13, 14, 12, 7, 10, 9, 11, 0, 5, 6, 4, 15];

fn predicate_holds(order: Option<Ordering>, predicate: u8) -> bool {
    let outcome = match order {
        Some(Ordering::Less) => 1,
        Some(Ordering::Equal) => 2,
        Some(Ordering::Greater) => 4,
        None => 8,
    };
    PREDICATES[usize::from(predicate & 15)] & outcome != 0
}

/// `f32` to `f64`, keeping what a NaN carries.
pub(super) fn widen(a: u64) -> u64 {
    let x = f32::from_bits(a as u32);
    if x.is_nan() {
        return (a & 0x8000_0000) << 32 | 0x7ff8_0000_0000_0000 | (a & 0x007f_ffff) << 29;
    }
    f64::from(x).to_bits()
}

/// `f64` to `f32`, keeping the upper part of what a NaN carries.
pub(super) fn narrow(a: u64) -> u64 {
    let x = f64::from_bits(a);
    if x.is_nan() {
        return a >> 32 & 0x8000_0000 | 0x7fc0_0000 | a >> 29 & 0x007f_ffff;
    }
    u64::from((x as f32).to_bits())
}

//! Packed integer arithmetic: plain functions over 128 bits, lane by lane.

#![expect(clippy::cast_lossless, reason = "one macro makes lanes of signed and unsigned types alike")]

use iced_x86::Mnemonic;

use super::vector::Packed;

/// Makes a function over 128 bits of one over lanes of an integer type.
macro_rules! by_lane {
    ($name:ident, $lane:ty, |$a:ident, $b:ident| $result:expr) => {
        fn $name(a: u128, b: u128) -> u128 {
            const BITS: u32 = <$lane>::BITS;
            (0..128 / BITS).fold(0, |sum, i| {
                let ($a, $b) = ((a >> (i * BITS)) as $lane, (b >> (i * BITS)) as $lane);
                let lane: $lane = $result;
                // Through the unsigned type of the same width: no sign may leak into the lanes above.
                sum | (lane as u128 & (u128::MAX >> (128 - BITS))) << (i * BITS)
            })
        }
    };
    ($name:ident, $lane:ty, |$a:ident| $result:expr) => {
        fn $name(a: u128) -> u128 {
            const BITS: u32 = <$lane>::BITS;
            (0..128 / BITS).fold(0, |sum, i| {
                let $a = (a >> (i * BITS)) as $lane;
                let lane: $lane = $result;
                sum | (lane as u128 & (u128::MAX >> (128 - BITS))) << (i * BITS)
            })
        }
    };
}

/// All ones where `yes`.
macro_rules! all_ones {
    ($lane:ty, $yes:expr) => {
        if $yes { !(0 as $lane) } else { 0 }
    };
}

by_lane!(add8, u8, |a, b| a.wrapping_add(b));
by_lane!(add16, u16, |a, b| a.wrapping_add(b));
by_lane!(add32, u32, |a, b| a.wrapping_add(b));
by_lane!(add64, u64, |a, b| a.wrapping_add(b));
by_lane!(sub8, u8, |a, b| a.wrapping_sub(b));
by_lane!(sub16, u16, |a, b| a.wrapping_sub(b));
by_lane!(sub32, u32, |a, b| a.wrapping_sub(b));
by_lane!(sub64, u64, |a, b| a.wrapping_sub(b));
by_lane!(add_sat_i8, i8, |a, b| a.saturating_add(b));
by_lane!(add_sat_i16, i16, |a, b| a.saturating_add(b));
by_lane!(add_sat_u8, u8, |a, b| a.saturating_add(b));
by_lane!(add_sat_u16, u16, |a, b| a.saturating_add(b));
by_lane!(sub_sat_i8, i8, |a, b| a.saturating_sub(b));
by_lane!(sub_sat_i16, i16, |a, b| a.saturating_sub(b));
by_lane!(sub_sat_u8, u8, |a, b| a.saturating_sub(b));
by_lane!(sub_sat_u16, u16, |a, b| a.saturating_sub(b));
by_lane!(min_i8, i8, |a, b| a.min(b));
by_lane!(min_i16, i16, |a, b| a.min(b));
by_lane!(min_i32, i32, |a, b| a.min(b));
by_lane!(min_u8, u8, |a, b| a.min(b));
by_lane!(min_u16, u16, |a, b| a.min(b));
by_lane!(min_u32, u32, |a, b| a.min(b));
by_lane!(max_i8, i8, |a, b| a.max(b));
by_lane!(max_i16, i16, |a, b| a.max(b));
by_lane!(max_i32, i32, |a, b| a.max(b));
by_lane!(max_u8, u8, |a, b| a.max(b));
by_lane!(max_u16, u16, |a, b| a.max(b));
by_lane!(max_u32, u32, |a, b| a.max(b));
by_lane!(average8, u8, |a, b| ((u16::from(a) + u16::from(b) + 1) >> 1) as u8);
by_lane!(average16, u16, |a, b| ((u32::from(a) + u32::from(b) + 1) >> 1) as u16);
by_lane!(equal8, u8, |a, b| all_ones!(u8, a == b));
by_lane!(equal16, u16, |a, b| all_ones!(u16, a == b));
by_lane!(equal32, u32, |a, b| all_ones!(u32, a == b));
by_lane!(equal64, u64, |a, b| all_ones!(u64, a == b));
by_lane!(greater8, i8, |a, b| all_ones!(i8, a > b));
by_lane!(greater16, i16, |a, b| all_ones!(i16, a > b));
by_lane!(greater32, i32, |a, b| all_ones!(i32, a > b));
by_lane!(greater64, i64, |a, b| all_ones!(i64, a > b));
by_lane!(multiply_low16, i16, |a, b| a.wrapping_mul(b));
by_lane!(multiply_low32, i32, |a, b| a.wrapping_mul(b));
by_lane!(multiply_high_i16, i16, |a, b| ((i32::from(a) * i32::from(b)) >> 16) as i16);
by_lane!(multiply_high_u16, u16, |a, b| ((u32::from(a) * u32::from(b)) >> 16) as u16);
by_lane!(multiply_round16, i16, |a, b| ((((i32::from(a) * i32::from(b)) >> 14) + 1) >> 1) as i16);
by_lane!(multiply_even_u32, u64, |a, b| (a & 0xffff_ffff) * (b & 0xffff_ffff));
by_lane!(multiply_even_i32, i64, |a, b| i64::from(a as i32) * i64::from(b as i32));
by_lane!(multiply_add_pairs16, i32, |a, b| {
    let low = i32::from(a as i16) * i32::from(b as i16);
    low.wrapping_add((a >> 16) * (b >> 16))
});
by_lane!(multiply_add_pairs8, i16, |a, b| {
    let product = |x: i16, y: i16| (x & 0xff) * i16::from(y as i8);
    let high = i32::from(a >> 8 & 0xff) * i32::from(b >> 8);
    (i32::from(product(a, b)) + high).clamp(-0x8000, 0x7fff) as i16
});
by_lane!(sum_of_differences, u64, |a, b| {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(b))).sum()
});
by_lane!(sign_of8, i8, |a, b| a.wrapping_mul(b.signum()));
by_lane!(sign_of16, i16, |a, b| a.wrapping_mul(b.signum()));
by_lane!(sign_of32, i32, |a, b| a.wrapping_mul(b.signum()));
by_lane!(absolute8, i8, |a| a.wrapping_abs());
by_lane!(absolute16, i16, |a| a.wrapping_abs());
by_lane!(absolute32, i32, |a| a.wrapping_abs());
by_lane!(shift_each32_left, u64, |a, b| {
    let each = |a: u64, b: u64| u64::from((a as u32).checked_shl(b.min(32) as u32).unwrap_or(0));
    each(a, b & 0xffff_ffff) | each(a >> 32, b >> 32) << 32
});
by_lane!(shift_each32_right, u64, |a, b| {
    let each = |a: u64, b: u64| u64::from((a as u32).checked_shr(b.min(32) as u32).unwrap_or(0));
    each(a, b & 0xffff_ffff) | each(a >> 32, b >> 32) << 32
});
by_lane!(shift_each32_arithmetic, u64, |a, b| {
    let each = |a: u64, b: u64| u64::from((a as i32 >> b.min(31)) as u32);
    each(a, b & 0xffff_ffff) | each(a >> 32, b >> 32) << 32
});
by_lane!(shift_each64_left, u64, |a, b| a.checked_shl(b.min(64) as u32).unwrap_or(0));
by_lane!(shift_each64_right, u64, |a, b| a.checked_shr(b.min(64) as u32).unwrap_or(0));

fn exclusive_or(a: u128, b: u128) -> u128 {
    a ^ b
}

fn and(a: u128, b: u128) -> u128 {
    a & b
}

fn or(a: u128, b: u128) -> u128 {
    a | b
}

fn and_not(a: u128, b: u128) -> u128 {
    !a & b
}

/// Makes a shift of all lanes of a type by one count.
macro_rules! shift_lanes {
    ($name:ident, $lane:ty, |$a:ident, $count:ident| $result:expr) => {
        fn $name(a: u128, count: u64) -> u128 {
            const BITS: u32 = <$lane>::BITS;
            let $count = count.min(u64::from(BITS)) as u32;
            (0..128 / BITS).fold(0, |sum, i| {
                let $a = (a >> (i * BITS)) as $lane;
                let lane: $lane = $result;
                sum | (lane as u128 & (u128::MAX >> (128 - BITS))) << (i * BITS)
            })
        }
    };
}

shift_lanes!(left16, u16, |a, count| a.checked_shl(count).unwrap_or(0));
shift_lanes!(left32, u32, |a, count| a.checked_shl(count).unwrap_or(0));
shift_lanes!(left64, u64, |a, count| a.checked_shl(count).unwrap_or(0));
shift_lanes!(right16, u16, |a, count| a.checked_shr(count).unwrap_or(0));
shift_lanes!(right32, u32, |a, count| a.checked_shr(count).unwrap_or(0));
shift_lanes!(right64, u64, |a, count| a.checked_shr(count).unwrap_or(0));
shift_lanes!(arithmetic16, i16, |a, count| a >> count.min(15));
shift_lanes!(arithmetic32, i32, |a, count| a >> count.min(31));

/// The packed integer instructions, and the bitwise ones of any type.
pub(super) fn find(mnemonic: Mnemonic) -> Option<Packed> {
    use Mnemonic as M;
    use Packed::{Cancelling, Lanes, Shift, Unary};
    Some(match mnemonic {
        M::Paddb | M::Vpaddb => Lanes(1, add8),
        M::Paddw | M::Vpaddw => Lanes(2, add16),
        M::Paddd | M::Vpaddd => Lanes(4, add32),
        M::Paddq | M::Vpaddq => Lanes(8, add64),
        M::Psubb | M::Vpsubb => Cancelling(1, sub8),
        M::Psubw | M::Vpsubw => Cancelling(2, sub16),
        M::Psubd | M::Vpsubd => Cancelling(4, sub32),
        M::Psubq | M::Vpsubq => Cancelling(8, sub64),
        M::Paddsb | M::Vpaddsb => Lanes(1, add_sat_i8),
        M::Paddsw | M::Vpaddsw => Lanes(2, add_sat_i16),
        M::Paddusb | M::Vpaddusb => Lanes(1, add_sat_u8),
        M::Paddusw | M::Vpaddusw => Lanes(2, add_sat_u16),
        M::Psubsb | M::Vpsubsb => Lanes(1, sub_sat_i8),
        M::Psubsw | M::Vpsubsw => Lanes(2, sub_sat_i16),
        M::Psubusb | M::Vpsubusb => Lanes(1, sub_sat_u8),
        M::Psubusw | M::Vpsubusw => Lanes(2, sub_sat_u16),
        M::Pminsb | M::Vpminsb => Lanes(1, min_i8),
        M::Pminsw | M::Vpminsw => Lanes(2, min_i16),
        M::Pminsd | M::Vpminsd => Lanes(4, min_i32),
        M::Pminub | M::Vpminub => Lanes(1, min_u8),
        M::Pminuw | M::Vpminuw => Lanes(2, min_u16),
        M::Pminud | M::Vpminud => Lanes(4, min_u32),
        M::Pmaxsb | M::Vpmaxsb => Lanes(1, max_i8),
        M::Pmaxsw | M::Vpmaxsw => Lanes(2, max_i16),
        M::Pmaxsd | M::Vpmaxsd => Lanes(4, max_i32),
        M::Pmaxub | M::Vpmaxub => Lanes(1, max_u8),
        M::Pmaxuw | M::Vpmaxuw => Lanes(2, max_u16),
        M::Pmaxud | M::Vpmaxud => Lanes(4, max_u32),
        M::Pavgb | M::Vpavgb => Lanes(1, average8),
        M::Pavgw | M::Vpavgw => Lanes(2, average16),
        M::Pcmpeqb | M::Vpcmpeqb => Cancelling(1, equal8),
        M::Pcmpeqw | M::Vpcmpeqw => Cancelling(2, equal16),
        M::Pcmpeqd | M::Vpcmpeqd => Cancelling(4, equal32),
        M::Pcmpeqq | M::Vpcmpeqq => Cancelling(8, equal64),
        M::Pcmpgtb | M::Vpcmpgtb => Cancelling(1, greater8),
        M::Pcmpgtw | M::Vpcmpgtw => Cancelling(2, greater16),
        M::Pcmpgtd | M::Vpcmpgtd => Cancelling(4, greater32),
        M::Pcmpgtq | M::Vpcmpgtq => Cancelling(8, greater64),
        M::Pmullw | M::Vpmullw => Lanes(2, multiply_low16),
        M::Pmulld | M::Vpmulld => Lanes(4, multiply_low32),
        M::Pmulhw | M::Vpmulhw => Lanes(2, multiply_high_i16),
        M::Pmulhuw | M::Vpmulhuw => Lanes(2, multiply_high_u16),
        M::Pmulhrsw | M::Vpmulhrsw => Lanes(2, multiply_round16),
        M::Pmuludq | M::Vpmuludq => Lanes(8, multiply_even_u32),
        M::Pmuldq | M::Vpmuldq => Lanes(8, multiply_even_i32),
        M::Pmaddwd | M::Vpmaddwd => Lanes(4, multiply_add_pairs16),
        M::Pmaddubsw | M::Vpmaddubsw => Lanes(2, multiply_add_pairs8),
        M::Psadbw | M::Vpsadbw => Lanes(8, sum_of_differences),
        M::Psignb | M::Vpsignb => Lanes(1, sign_of8),
        M::Psignw | M::Vpsignw => Lanes(2, sign_of16),
        M::Psignd | M::Vpsignd => Lanes(4, sign_of32),
        M::Pabsb | M::Vpabsb => Unary(1, absolute8),
        M::Pabsw | M::Vpabsw => Unary(2, absolute16),
        M::Pabsd | M::Vpabsd => Unary(4, absolute32),
        M::Pxor | M::Vpxor | M::Xorps | M::Vxorps | M::Xorpd | M::Vxorpd => Cancelling(1, exclusive_or),
        M::Pand | M::Vpand | M::Andps | M::Vandps | M::Andpd | M::Vandpd => Lanes(1, and),
        M::Por | M::Vpor | M::Orps | M::Vorps | M::Orpd | M::Vorpd => Lanes(1, or),
        M::Pandn | M::Vpandn | M::Andnps | M::Vandnps | M::Andnpd | M::Vandnpd => Cancelling(1, and_not),
        M::Psllw | M::Vpsllw => Shift(2, left16),
        M::Pslld | M::Vpslld => Shift(4, left32),
        M::Psllq | M::Vpsllq => Shift(8, left64),
        M::Psrlw | M::Vpsrlw => Shift(2, right16),
        M::Psrld | M::Vpsrld => Shift(4, right32),
        M::Psrlq | M::Vpsrlq => Shift(8, right64),
        M::Psraw | M::Vpsraw => Shift(2, arithmetic16),
        M::Psrad | M::Vpsrad => Shift(4, arithmetic32),
        M::Vpsllvd => Lanes(4, shift_each32_left),
        M::Vpsrlvd => Lanes(4, shift_each32_right),
        M::Vpsravd => Lanes(4, shift_each32_arithmetic),
        M::Vpsllvq => Lanes(8, shift_each64_left),
        M::Vpsrlvq => Lanes(8, shift_each64_right),
        _ => return None,
    })
}

//! ue8m0 scales, and the one rule that chooses the scale of a block.
//!
//! A scale is the smallest power of two that brings the block's largest magnitude within the format:
//! `s = 2^ceil(log2(f32(amax * f32(1/max))))`, taken on the bits, because `log2` misrounds at exact powers of two
//! (TileKernels, DeepGEMM).

/// Byte of the NaN scale. A block that holds a NaN or an infinity gets it, so that all of the block reads as NaN.
pub const NAN: u8 = 255;

/// Smallest amax that an e4m3 block is scaled for.
pub const E4M3_AMAX_FLOOR: f32 = 1e-4;
/// Smallest amax that an e2m1 block is scaled for: 6 * 2^-126.
pub const E2M1_AMAX_FLOOR: f32 = 6.0 * f32::MIN_POSITIVE;

/// The value of a scale byte: `2^(byte-127)`, or NaN for 255.
pub fn decode(byte: u8) -> f32 {
    match byte {
        NAN => f32::NAN,
        0 => f32::from_bits(1 << 22), // 2^-127 is subnormal in f32
        exponent => f32::from_bits((exponent as u32) << 23),
    }
}

/// The byte of `2^ceil(log2(ratio))` for a positive normal ratio; [`NAN`] when the ratio is not finite or too large.
pub fn encode_ceil(ratio: f32) -> u8 {
    if !ratio.is_finite() {
        return NAN;
    }
    // The largest finite ratio would need 2^128: its exponent field comes out as 255, which is NAN as it should be.
    (ratio.to_bits().wrapping_add(0x7F_FFFF) >> 23) as u8
}

/// Scale byte of an e4m3 block whose largest magnitude is `amax`.
pub fn for_e4m3(amax: f32) -> u8 {
    block_scale(amax, E4M3_AMAX_FLOOR, 1.0 / super::e4m3::MAX)
}

/// Scale byte of an e2m1 block whose largest magnitude is `amax`.
pub fn for_e2m1(amax: f32) -> u8 {
    block_scale(amax, E2M1_AMAX_FLOOR, 1.0 / super::e2m1::MAX)
}

fn block_scale(amax: f32, floor: f32, reciprocal_of_max: f32) -> u8 {
    if !amax.is_finite() {
        return NAN;
    }
    encode_ceil(amax.max(floor) * reciprocal_of_max)
}

/// The largest magnitude of a block; NaN when the block holds one.
pub fn amax(block: &[f32]) -> f32 {
    block
        .iter()
        .fold(0.0, |largest: f32, x| if x.is_nan() || largest.is_nan() { f32::NAN } else { largest.max(x.abs()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_exponents() {
        assert_eq!(decode(127), 1.0);
        assert_eq!(decode(0), 2f32.powi(-127));
        assert_eq!(decode(254), 2f32.powi(127));
        assert!(decode(NAN).is_nan());
    }

    #[test]
    fn an_exact_power_of_two_is_its_own_scale() {
        for exponent in -20..20 {
            let x = 2f32.powi(exponent);
            assert_eq!(decode(encode_ceil(x)), x);
            assert_eq!(decode(encode_ceil(x.next_up())), 2.0 * x);
            assert_eq!(decode(for_e4m3(448.0 * x)), x.max(2f32.powi(-22)), "amax {}", 448.0 * x);
        }
    }

    #[test]
    fn what_is_not_finite_poisons_the_block() {
        assert_eq!(for_e4m3(amax(&[1.0, f32::NAN, 2.0])), NAN);
        assert_eq!(for_e2m1(amax(&[f32::NEG_INFINITY])), NAN);
        assert_eq!(for_e2m1(0.0), 1);
    }
}

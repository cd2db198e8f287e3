//! FP8 e5m2: sign, 5 exponent bits (bias 15), 2 mantissa bits; subnormal step 2^-16, largest 57344, infinity at `S.11111.00`,
//! NaN at the three codes behind it (OCP 8-bit Floating Point Specification, E5M2). It is the upper byte of an f16.

use half::f16;

/// Largest finite magnitude.
pub const MAX: f32 = 57344.0;
/// Code of NaN, sign clear.
pub const NAN: u8 = 0x7F;

/// The value of a code.
pub fn decode(code: u8) -> f32 {
    f16::from_bits(u16::from(code) << 8).to_f32()
}

/// The nearest code, ties to even mantissa; magnitudes beyond the largest saturate, NaN becomes [`NAN`]. -0 keeps its sign.
pub fn encode(x: f32) -> u8 {
    if x.is_nan() {
        return NAN;
    }
    let sign = (x.to_bits() >> 24) as u8 & 0x80;
    let magnitude = x.abs().min(MAX);
    if magnitude < 1.0 / 16384.0 {
        // Subnormal: adding 2^7 leaves a unit of 2^-16 in the last place, so the addition itself rounds to nearest even.
        return sign | ((magnitude + 128.0).to_bits() & 7) as u8;
    }
    let bits = magnitude.to_bits();
    let rounded = bits + 0xF_FFFF + ((bits >> 21) & 1);
    sign | ((rounded >> 21) - (112 << 2)) as u8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_code_survives_the_round_trip() {
        for code in 0..=255u8 {
            let x = decode(code);
            let want = match x {
                x if x.is_nan() => NAN,
                // Infinities saturate.
                x if x.is_infinite() => code - 1,
                _ => code,
            };
            assert_eq!(encode(x), want, "code {code:#04x} is {x}");
        }
        assert_eq!([decode(0x3C), decode(0x01), decode(0x7B)], [1.0, 2f32.powi(-16), MAX]);
        assert!((0..0x7Bu8).all(|code| decode(code) < decode(code + 1)));
    }

    #[test]
    fn rounds_to_the_nearest_code_and_ties_to_even() {
        for code in 0..0x7Bu8 {
            let middle = (decode(code) + decode(code + 1)) / 2.0;
            let even = code + code % 2;
            assert_eq!(encode(middle), even, "midpoint {middle}");
            assert_eq!(encode(-middle), even | 0x80);
            assert_eq!(encode(middle.next_down()), code);
            assert_eq!(encode(middle.next_up()), code + 1);
        }
        assert_eq!([encode(f32::INFINITY), encode(-1e30), encode(-0.0)], [0x7B, 0xFB, 0x80]);
    }

    proptest! {
        #[test]
        fn the_nearest_of_all_codes(bits in any::<u32>()) {
            let x = f32::from_bits(bits);
            prop_assume!(x.abs() <= MAX);
            let far = |code: u8| (f64::from(decode(code)) - f64::from(x)).abs();
            let least = (0..0x7C).map(far).chain((0x80..0xFC).map(far)).fold(f64::INFINITY, f64::min);
            prop_assert_eq!(far(encode(x)), least);
        }
    }
}

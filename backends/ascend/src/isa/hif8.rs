//! HiF8 (HiFloat8): eight bits whose exponent takes more of them the further a number is from 1.
//!
//! Behind the sign a dot field of two to four bits, a prefix code, says how many bits the exponent has; the mantissa has what
//! is left. An exponent is a sign and a magnitude whose leading 1 is not stored.
//!
//! | dot | exponent | mantissa | value |
//! | --- | --- | --- | --- |
//! | `11` | 4 bits, ±8 to ±15 | 1 bit | `2^E (1 + M/2)` |
//! | `10` | 3 bits, ±4 to ±7 | 2 bits | `2^E (1 + M/4)` |
//! | `01` | 2 bits, ±2 and ±3 | 3 bits | `2^E (1 + M/8)` |
//! | `001` | 1 bit, ±1 | 3 bits | `2^E (1 + M/8)` |
//! | `0001` | none, 0 | 3 bits | `1 + M/8` |
//! | `0000` | none | 3 bits, 1 to 7 | `2^(M - 23)` |
//!
//! `0x00` is zero, which has no sign; `0x80` is NaN, `0x6F` and `0xEF` are the infinities, in the place of ±1.5 x 2^15.
//! Source: "Ascend HiFloat8 Format for Deep Learning" (arXiv 2409.16626), and the table of the vendor's CPU model
//! (`kernel_hif8.h` of CANN's asc-tools). Rounding is that of the API reference of the AscendC development kit (`Cast`: from
//! float to hifloat8_t, "Half To Away Round"); its other mode, which draws at random, is not there.

/// Largest finite magnitude.
pub const MAX: f32 = 32768.0;
/// Code of NaN.
pub const NAN: u8 = 0x80;

/// Codes without a sign.
const MAGNITUDES: usize = 128;

/// Value of every code.
pub const TABLE: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = value(code as u8);
        code += 1;
    }
    table
};

/// Codes without a sign, from the least value to the largest: zero first, the infinity last.
const ASCENDING: [u8; MAGNITUDES] = {
    let mut codes = [0u8; MAGNITUDES];
    let mut code = 0;
    while code < MAGNITUDES {
        let mut below = 0;
        let mut other = 0;
        while other < MAGNITUDES {
            if TABLE[other] < TABLE[code] {
                below += 1;
            }
            other += 1;
        }
        codes[below] = code as u8;
        code += 1;
    }
    codes
};

const fn value(code: u8) -> f32 {
    let low = (code & 0x7F) as u32;
    let negative = code & 0x80 != 0;
    let (width, mantissa_bits) = match low {
        0x60.. => (4, 1),
        0x40..=0x5F => (3, 2),
        0x20..=0x3F => (2, 3),
        0x10..=0x1F => (1, 3),
        0x08..=0x0F => (0, 3),
        0 => return if negative { f32::NAN } else { 0.0 },
        _ => return signed(negative, low + 127 - 23, 0),
    };
    let mantissa = low & ((1 << mantissa_bits) - 1);
    let exponent = match width {
        0 => 127,
        width => {
            let bits = (low >> mantissa_bits) & ((1 << width) - 1);
            let half = 1 << (width - 1);
            // The leading 1 of the magnitude stands where the sign of the exponent is stored.
            let magnitude = half | bits & (half - 1);
            if bits & half != 0 { 127 - magnitude } else { 127 + magnitude }
        }
    };
    if low == 0x6F {
        return if negative { f32::NEG_INFINITY } else { f32::INFINITY };
    }
    signed(negative, exponent, mantissa << (23 - mantissa_bits))
}

const fn signed(negative: bool, exponent: u32, mantissa: u32) -> f32 {
    f32::from_bits((negative as u32) << 31 | exponent << 23 | mantissa)
}

/// The value of a code.
pub fn decode(code: u8) -> f32 {
    TABLE[usize::from(code)]
}

/// The nearest code, of two equally near the one further from zero; magnitudes beyond the largest saturate, NaN becomes
/// [`NAN`]. Zero has no sign, and what becomes zero has none either.
pub fn encode(x: f32) -> u8 {
    if x.is_nan() {
        return NAN;
    }
    let magnitude = x.abs().min(MAX);
    // The first that is not below. It is there: the largest is the infinity.
    let above = ASCENDING.partition_point(|code| decode(*code) < magnitude).min(MAGNITUDES - 1);
    let below = above.saturating_sub(1);
    let (high, low) = (decode(ASCENDING[above]), decode(ASCENDING[below]));
    // Neighbours and what lies between them have a difference that f32 holds, or one that is far from a tie.
    let code = ASCENDING[if high - magnitude <= magnitude - low { above } else { below }];
    if code == 0 { 0 } else { code | if x.is_sign_negative() { 0x80 } else { 0 } }
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
            // Infinities saturate.
            let want = if x.is_infinite() { code - 1 } else { code };
            assert_eq!(encode(x), want, "code {code:#04x} is {x}");
        }
    }

    /// Values that the paper and the vendor's documentation name.
    #[test]
    fn codes_are_those_of_the_format() {
        for (code, x) in [
            (0x08, 1.0),
            (0x0F, 1.875),
            (0x10, 2.0),
            (0x18, 0.5),
            (0x20, 4.0),
            (0x30, 0.25),
            (0x37, 0.46875),
            (0x38, 0.125),
            (0x40, 16.0),
            (0x5F, 1.75 / 128.0),
            (0x6E, 32768.0),
            (0x7E, 1.0 / 32768.0),
            (0x01, 2f32.powi(-22)),
            (0x07, 2f32.powi(-16)),
            (0x00, 0.0),
        ] {
            assert_eq!(decode(code), x, "{code:#04x}");
            if x != 0.0 {
                assert_eq!(decode(code | 0x80), -x, "{code:#04x}");
            }
        }
        assert!(decode(NAN).is_nan());
        assert_eq!([decode(0x6F), decode(0xEF)], [f32::INFINITY, f32::NEG_INFINITY]);
        let of = |exponents: std::ops::RangeInclusive<i32>| {
            let range = 2f32.powi(*exponents.start())..2f32.powi(*exponents.end() + 1);
            (0..128u8).filter(|code| range.contains(&decode(*code))).count()
        };
        // "7 exponent values with 3-bit mantissa, 8 with 2-bit, 16 with 1-bit", and 7 more powers of two below.
        assert_eq!([of(-3..=3), of(-7..=-4) + of(4..=7), of(-15..=-8) + of(8..=15), of(-22..=-16)], [56, 32, 31, 7]);
    }

    /// Each value once, and codes that follow one another have values that do.
    #[test]
    fn magnitudes_ascend() {
        let all = ASCENDING.map(decode);
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
        assert_eq!((all[0], all[126], all[127]), (0.0, MAX, f32::INFINITY));
    }

    #[test]
    fn ties_go_away_from_zero() {
        let all = ASCENDING.map(decode);
        for pair in all[..127].windows(2) {
            let middle = (pair[0] + pair[1]) / 2.0;
            assert_eq!(decode(encode(middle)), pair[1], "{middle}");
            assert_eq!(decode(encode(-middle)), -pair[1], "{middle}");
            assert_eq!(decode(encode(middle.next_down())), pair[0], "{middle}");
        }
        assert_eq!([encode(-0.0), encode(-2f32.powi(-23)), encode(1e30)], [0, 0x81, 0x6E]);
        assert_eq!(encode(-2f32.powi(-24)), 0);
    }

    proptest! {
        #[test]
        fn the_nearest_of_all_codes(bits in any::<u32>()) {
            let x = f32::from_bits(bits);
            prop_assume!(!x.is_nan());
            let x = f64::from(x);
            let finite = (0..=255u8).map(decode).filter(|value| value.is_finite());
            let nearest = finite.min_by(|a, b| {
                let far = |value: f32| (f64::from(value) - x).abs();
                far(*a).total_cmp(&far(*b)).then(b.abs().total_cmp(&a.abs()))
            });
            // Of numbers far beyond the largest all are as far within f64's digits; they saturate.
            let want = if x.abs() > f64::from(MAX) { Some(MAX.copysign(x as f32)) } else { nearest };
            prop_assert_eq!(Some(decode(encode(x as f32))), want);
        }

        #[test]
        fn larger_numbers_have_no_smaller_codes(a in -4e4f32..4e4, b in -4e4f32..4e4, small in -30i32..1) {
            let (a, b) = (a.min(b) * 2f32.powi(small), a.max(b) * 2f32.powi(small));
            prop_assert!(decode(encode(a)) <= decode(encode(b)), "{} {}", a, b);
        }
    }
}

//! FP8 e4m3fn: sign, 4 exponent bits (bias 7), 3 mantissa bits; subnormal step 2^-9, largest 448, no infinity,
//! NaN at `S.1111.111` (OCP 8-bit Floating Point Specification, E4M3).

/// Largest magnitude.
pub const MAX: f32 = 448.0;
/// Code of NaN, sign clear.
pub const NAN: u8 = 0x7F;

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

const fn value(code: u8) -> f32 {
    let (sign, exponent, mantissa) = ((code as u32 & 0x80) << 24, (code >> 3) as u32 & 15, code as u32 & 7);
    if exponent == 15 && mantissa == 7 {
        return f32::NAN;
    }
    if exponent == 0 {
        // 2^-9 per step; exact in f32, and multiplying keeps the sign of zero.
        let magnitude = mantissa as f32 * (1.0 / 512.0);
        return if sign == 0 { magnitude } else { -magnitude };
    }
    f32::from_bits(sign | (exponent + 120) << 23 | mantissa << 20)
}

/// The value of a code.
pub fn decode(code: u8) -> f32 {
    TABLE[code as usize]
}

/// The nearest code, ties to even mantissa; magnitudes beyond 448 saturate, NaN becomes [`NAN`]. -0 keeps its sign.
pub fn encode(x: f32) -> u8 {
    let sign = (x.to_bits() >> 24) as u8 & 0x80;
    if x.is_nan() {
        return NAN;
    }
    let magnitude = x.abs().min(MAX);
    if magnitude < 1.0 / 64.0 {
        // Subnormal: adding 2^14 leaves a unit of 2^-9 in the last place, so the addition itself rounds to nearest even.
        return sign | ((magnitude + 16384.0).to_bits() & 0xF) as u8;
    }
    let bits = magnitude.to_bits();
    let rounded = bits + 0x7_FFFF + ((bits >> 20) & 1);
    sign | ((rounded >> 20) - (120 << 3)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_round_trip() {
        for code in 0..=255u8 {
            let x = decode(code);
            assert_eq!(encode(x), if x.is_nan() { NAN } else { code }, "code {code:#04x} is {x}");
        }
    }

    #[test]
    fn rounds_to_the_nearest_code_and_ties_to_even() {
        for code in 0..0x7Eu8 {
            let (low, high) = (decode(code), decode(code + 1));
            let middle = (low + high) / 2.0;
            let even = if code % 2 == 0 { code } else { code + 1 };
            assert_eq!(encode(middle), even, "midpoint {middle}");
            assert_eq!(encode(-middle), even | 0x80);
            assert_eq!(encode(middle.next_down()), code);
            assert_eq!(encode(middle.next_up()), code + 1);
        }
    }

    #[test]
    fn extremes_saturate() {
        assert_eq!(encode(f32::INFINITY), 0x7E);
        assert_eq!(encode(-1e30), 0xFE);
        assert_eq!(encode(f32::from_bits(1)), 0);
        assert_eq!(decode(0x80).to_bits(), (-0.0f32).to_bits());
    }
}

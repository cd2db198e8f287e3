//! FP4 e2m1: the sixteen values 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives; code = sign << 3 | index
//! (OCP Microscaling Formats v1.0). Two codes to a byte, the even element in the low nibble.

/// Largest magnitude.
pub const MAX: f32 = 6.0;

/// Value of every code.
pub const TABLE: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The value of a code; the upper four bits are ignored.
pub fn decode(code: u8) -> f32 {
    TABLE[(code & 15) as usize]
}

/// The values of the two codes of a byte, the even element first.
pub fn decode_pair(byte: u8) -> [f32; 2] {
    [decode(byte), decode(byte >> 4)]
}

/// The nearest code, ties to the even code (hardware's `cvt.rn.satfinite`): beyond 6 saturates, NaN becomes 6, -0 is kept.
pub fn encode(x: f32) -> u8 {
    if x.is_nan() {
        return 7;
    }
    let a = x.abs();
    // A midpoint goes up only where the upper code is even: (0.75 -> 1), (1.75 -> 2), (3.5 -> 4).
    let index = [a > 0.25, a >= 0.75, a > 1.25, a >= 1.75, a > 2.5, a >= 3.5, a > 5.0];
    index.iter().map(|&passed| passed as u8).sum::<u8>() | ((x.to_bits() >> 28) as u8 & 8)
}

/// Packs two codes into a byte.
pub fn pack(even: u8, odd: u8) -> u8 {
    even & 15 | odd << 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_round_trip() {
        for code in 0..16 {
            assert_eq!(encode(decode(code)), code);
        }
    }

    #[test]
    fn midpoints_go_to_the_even_code() {
        for (middle, want) in [(0.25, 0.0), (0.75, 1.0), (1.25, 1.0), (1.75, 2.0), (2.5, 2.0), (3.5, 4.0), (5.0, 4.0)] {
            assert_eq!(decode(encode(middle)), want);
            assert_eq!(decode(encode(-middle)), -want);
        }
        assert_eq!(decode(encode(1e9)), 6.0);
    }

    #[test]
    fn the_even_element_is_in_the_low_nibble() {
        assert_eq!(decode_pair(pack(encode(1.5), encode(-4.0))), [1.5, -4.0]);
    }
}

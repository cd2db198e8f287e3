//! R1: what no rounding touches is the correctly rounded value.

use super::structure::floats;
use super::{Broken, Rule, coordinate};
use crate::case::Check;
use anychip_core::{DType, Tensor};
use anychip_reference::{Bounded, Real, Values};
use half::{bf16, f16};

/// Rounded once to the nearest number of a float type, ties to even.
///
/// By way of an f32 that is rounded to odd, which keeps what lies below it: `half`'s own conversions from f64 to 16 bits
/// forget the lower half of the fraction, so that a number just beside a tie is taken for one.
pub(crate) fn stored(dtype: DType, x: f64) -> f64 {
    let near = x as f32;
    let towards_zero = if f64::from(near).abs() > x.abs() { f32::from_bits(near.to_bits() - 1) } else { near };
    let odd = if f64::from(near) == x { near } else { f32::from_bits(towards_zero.to_bits() | 1) };
    match dtype {
        DType::BF16 => bf16::from_f32(odd).to_f64(),
        DType::F16 => f16::from_f32(odd).to_f64(),
        _ => f64::from(near),
    }
}

/// Each element that a case claims to be exact equals the oracle's value, rounded once to the output's type. A zero's sign
/// is free; what is no number is R0's.
pub(crate) fn equal(
    name: &'static str,
    tensor: &Tensor,
    got: &[u8],
    want: &Values<Bounded>,
    how: Check,
) -> Result<(), Box<Broken>> {
    let (Check::Exact | Check::Identity, Values::Real(want)) = (how, want) else { return Ok(()) };
    let claimed = |want: &Bounded| want.value().is_finite() && (how == Check::Identity || want.error() == 0.0);
    let pairs = floats(tensor.dtype(), got).into_iter().zip(want).enumerate();
    let right = |want: &Bounded| stored(tensor.dtype(), want.value());
    let mut wrong = pairs.filter(|(_, (got, want))| claimed(want) && got.is_finite() && *got != right(want));
    let Some((index, (got, want))) = wrong.next() else { return Ok(()) };
    let what = format!("{} elements are not exact, where no rounding is allowed before the store", 1 + wrong.count());
    let (got, right) = (format!("{got:?}"), format!("{:?}", right(want)));
    Err(Broken::at(Rule::R1, name, coordinate(tensor.sizes(), index), what, got, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_next_to_a_tie_are_no_tie() {
        let ulp = 2f64.powi(-7);
        for (x, want) in [
            (1.0 + ulp / 2.0, 1.0),
            (1.0 + ulp / 2.0 + 2f64.powi(-50), 1.0 + ulp),
            (-1.0 - ulp / 2.0 - 2f64.powi(-24), -1.0 - ulp),
            (1.0 + ulp / 2.0 - 2f64.powi(-50), 1.0),
            (0.0, 0.0),
            (2f64.powi(-134) * 1.5, 2f64.powi(-133)),
        ] {
            assert_eq!(stored(DType::BF16, x), want, "{x}");
        }
        assert_eq!(stored(DType::F16, 1.0 + 2f64.powi(-11) + 2f64.powi(-40)), 1.0 + 2f64.powi(-10));
        assert_eq!(stored(DType::F32, 0.1), f64::from(0.1f32));
    }
}

//! The conformance suite's rules for one result: `|got - want| <= u |want| + bound + smallest step` for numbers, with `u`
//! the unit roundoff of the output's type and `bound` what the device's declared arithmetic allows before the store;
//! equality for integers, codes and pages; inputs as they were.

use anychip_core::DType;
use anychip_reference::{Bounded, Real, Values};
use half::{bf16, f16};
use std::fmt;

/// The worst element of a wrong result.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrong {
    /// Operand.
    pub operand: &'static str,
    /// Element of the operand, row-major; of inputs, codes and pages the byte.
    pub index: usize,
    /// What the device left there.
    pub got: f64,
    /// What is right.
    pub want: f64,
    /// How far off it may be; 0 where only equality is right.
    pub tolerance: f64,
    /// Wrong elements.
    pub count: usize,
    /// Elements.
    pub of: usize,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wrong { operand, index, got, want, tolerance, count, of } = self;
        write!(f, "{operand}[{index}] is {got}, must be {want} +- {tolerance:.3e}; {count} of {of} elements are wrong")
    }
}

/// Judges the bytes of an output. Gives the largest error over tolerance, 0 where all must be equal and is.
pub(crate) fn output(operand: &'static str, dtype: DType, got: &[u8], want: &Values<Bounded>) -> Result<f64, Wrong> {
    match want {
        Values::Bytes(want) => unchanged(operand, got, want).map(|()| 0.0),
        Values::Integers(want) => {
            let got = got.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into());
            worst(operand, got, want.iter().map(|&x| (x.into(), 0.0)))
        }
        Values::Real(want) => {
            let want = want.iter().map(|b| {
                let tolerance = dtype.unit_roundoff() * b.value().abs() + b.error() + smallest_step(dtype);
                (b.value(), tolerance)
            });
            worst(operand, floats(dtype, got).into_iter(), want)
        }
    }
}

/// Judges bytes that must be equal, an input's for instance.
pub(crate) fn unchanged(operand: &'static str, got: &[u8], want: &[u8]) -> Result<(), Wrong> {
    if got == want {
        return Ok(());
    }
    worst(operand, got.iter().map(|&b| b.into()), want.iter().map(|&b| (b.into(), 0.0))).map(|_| ())
}

/// The largest error over tolerance of pairs of a value and its tolerance.
fn worst(
    operand: &'static str,
    got: impl ExactSizeIterator<Item = f64>,
    want: impl ExactSizeIterator<Item = (f64, f64)>,
) -> Result<f64, Wrong> {
    let of = want.len();
    let mut wrong = Wrong { operand, index: 0, got: 0.0, want: 0.0, tolerance: 0.0, count: of.abs_diff(got.len()), of };
    let mut largest = 0.0;
    for (index, (got, (want, tolerance))) in got.zip(want).enumerate() {
        let off = (got - want).abs();
        let ratio = match want.is_infinite() || tolerance == 0.0 {
            true if got == want => 0.0,
            // NaN, an infinity in the wrong place, and a bound that allows everything judge nothing right.
            false if off.is_finite() && tolerance.is_finite() => off / tolerance,
            _ => f64::INFINITY,
        };
        wrong.count += (ratio > 1.0) as usize;
        if ratio > largest {
            largest = ratio;
            wrong = Wrong { index, got, want, tolerance, ..wrong };
        }
    }
    if wrong.count == 0 { Ok(largest) } else { Err(wrong) }
}

/// How far apart a type's smallest numbers are.
fn smallest_step(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 2f64.powi(-133),
        DType::F16 => 2f64.powi(-24),
        _ => 2f64.powi(-149),
    }
}

fn floats(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        DType::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
        DType::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
        _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use anychip_core::Numerics;
    use anychip_reference::Units;

    fn judge(got: f32, want: f64, bound: f64) -> Result<f64, Wrong> {
        let want = Bounded::read(want, Units::of(&Numerics::f32())).within(bound);
        output("out", DType::F32, &got.to_le_bytes(), &Values::Real(vec![want]))
    }

    #[test]
    fn numbers_lie_within_their_tolerance() {
        assert!((judge(1.5, 1.0, 1.0).unwrap() - 0.5).abs() < 1e-6);
        assert_eq!(judge(1.0f32.next_up(), 1.0, 0.0).unwrap_err().count, 1);
        assert!(judge(f32::NEG_INFINITY, f64::NEG_INFINITY, 0.0).is_ok());
    }

    #[test]
    fn what_is_no_number_is_no_result() {
        for got in [f32::NAN, f32::INFINITY] {
            assert!(judge(got, 1.0, 1e30).is_err());
            assert!(judge(1.0, got.into(), 0.0).is_err());
        }
        assert!(judge(f32::NAN, f64::NAN, 0.0).is_err());
        assert!(judge(1.0, 1.0, f64::INFINITY).is_err(), "a bound that allows everything");
    }

    #[test]
    fn integers_and_bytes_are_equal() {
        let wanted = Values::Integers(vec![7, 8]);
        assert_eq!(output("out", DType::I32, &[7, 0, 0, 0, 8, 0, 0, 0], &wanted), Ok(0.0));
        let wrong = output("out", DType::I32, &[7, 0, 0, 0, 9, 0, 0, 0], &wanted).unwrap_err();
        assert_eq!((wrong.index, wrong.got, wrong.want, wrong.count, wrong.of), (1, 9.0, 8.0, 1, 2));
        assert!(output("out", DType::I32, &[7, 0, 0, 0], &wanted).is_err(), "too short");
        assert_eq!(unchanged("x", &[1, 2], &[1, 3]).unwrap_err().index, 1);
    }
}

//! The conformance suite's rules for one result: `|got - want| <= u |want| + bound + smallest step` for numbers, with `u`
//! the unit roundoff of the output's type and `bound` what the device's declared arithmetic allows before the store;
//! equality for integers, codes and pages; inputs as they were.

use anychip_core::DType;
use anychip_reference::{Bounded, Real, Values};
use half::{bf16, f16};

/// Judges the bytes of an output. Gives the largest error over tolerance, or says what is wrong.
pub(crate) fn output(name: &str, dtype: DType, got: &[u8], want: &Values<Bounded>) -> Result<f64, String> {
    match want {
        Values::Bytes(want) => unchanged(name, got, want),
        Values::Integers(want) => {
            let got =
                got.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect::<Vec<_>>();
            worst(name, &got, want.iter().map(|&x| (x.into(), 0.0)))
        }
        Values::Real(want) => {
            let (got, smallest): (Vec<f64>, i32) = match dtype {
                DType::BF16 => {
                    (got.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f64()).collect(), -133)
                }
                DType::F16 => (got.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f64()).collect(), -24),
                _ => (got.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect(), -149),
            };
            let tolerance = |b: &Bounded| dtype.unit_roundoff() * b.value().abs() + b.error() + 2f64.powi(smallest);
            worst(name, &got, want.iter().map(|b| (b.value(), tolerance(b))))
        }
    }
}

/// Judges bytes that must be equal, an input's for instance.
pub(crate) fn unchanged(name: &str, got: &[u8], want: &[u8]) -> Result<f64, String> {
    match got.iter().zip(want).position(|(got, want)| got != want) {
        None if got.len() == want.len() => Ok(0.0),
        at => Err(format!("{name} differs from byte {} of {} on", at.unwrap_or(got.len().min(want.len())), want.len())),
    }
}

/// The largest error over tolerance, of what is there and of values with their tolerances.
fn worst(name: &str, got: &[f64], want: impl ExactSizeIterator<Item = (f64, f64)>) -> Result<f64, String> {
    let (of, mut wrong, mut largest, mut place) = (want.len(), want.len().abs_diff(got.len()), 0.0, String::new());
    for (index, (&got, (want, tolerance))) in got.iter().zip(want).enumerate() {
        let off = (got - want).abs();
        let ratio = match want.is_infinite() || tolerance == 0.0 {
            true if got == want => 0.0,
            // NaN, an infinity in the wrong place, and a bound that allows everything: none of them is a right result.
            false if off.is_finite() && tolerance.is_finite() => off / tolerance,
            _ => f64::INFINITY,
        };
        wrong += (ratio > 1.0) as usize;
        if ratio > largest {
            largest = ratio;
            if ratio > 1.0 {
                place = format!("[{index}] is {got}, must be {want} +- {tolerance:.3e}");
            }
        }
    }
    if wrong == 0 { Ok(largest) } else { Err(format!("{name}{place}; {wrong} of {of} elements are wrong")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_reference::Units;

    fn judge(got: f32, want: f64, bound: f64) -> Result<f64, String> {
        let want = Bounded::read(want, Units::of(&anychip_core::Numerics::f32())).within(bound);
        output("out", DType::F32, &got.to_le_bytes(), &Values::Real(vec![want]))
    }

    #[test]
    fn numbers_lie_within_their_tolerance() {
        assert!(judge(1.5, 1.0, 1.0).is_ok_and(|ratio| (ratio - 0.5).abs() < 1e-6));
        assert!(judge(f32::NEG_INFINITY, f64::NEG_INFINITY, 0.0).is_ok());
        assert!(judge(1.0f32.next_up(), 1.0, 0.0).is_err());
        for no_number in [f32::NAN, f32::INFINITY] {
            assert!(judge(no_number, 1.0, 1e30).is_err() && judge(1.0, no_number.into(), 0.0).is_err());
        }
        assert!(judge(f32::NAN, f64::NAN, 0.0).is_err() && judge(1.0, 1.0, f64::INFINITY).is_err());
    }

    #[test]
    fn integers_and_bytes_are_equal() {
        let wanted = Values::Integers(vec![7, 8]);
        assert_eq!(output("out", DType::I32, &[7, 0, 0, 0, 8, 0, 0, 0], &wanted), Ok(0.0));
        let wrong = output("out", DType::I32, &[7, 0, 0, 0, 9, 0, 0, 0], &wanted).err().unwrap_or_default();
        assert_eq!(wrong, "out[1] is 9, must be 8 +- 0.000e0; 1 of 2 elements are wrong");
        assert!(output("out", DType::I32, &[7, 0, 0, 0], &wanted).is_err(), "too short");
        assert!(unchanged("x", &[1, 2], &[1, 3]).is_err_and(|wrong| wrong.contains("byte 1 of 2")));
    }
}

//! R2: each element lies within the bound that follows from the device's declared arithmetic.

use super::structure::{floats, same_kind, wrong_length};
use super::{Broken, Rule, coordinate};
use crate::builder::POISON;
use crate::report::Name;
use anychip_core::{DType, Tensor};
use anychip_reference::{Bounded, Real};
use serde::{Deserialize, Serialize};

/// Where a case came nearest to its tolerance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nearest {
    /// Error over tolerance: above 1 is a failure. A correct kernel is somewhere between 0.05 and 1; far below that, the
    /// bound is too loose to find faults.
    pub ratio: f64,
    /// Operand.
    #[serde(deserialize_with = "crate::report::interned")]
    pub operand: Name,
    /// Where in it, outermost axis first.
    pub coordinate: Vec<usize>,
    /// What the device gave.
    pub got: f64,
    /// The oracle's value.
    pub want: f64,
    /// Error that the declared arithmetic allows before the store.
    pub bound: f64,
}

/// The smallest step of a type: how far apart its smallest numbers are.
pub(crate) fn smallest_step(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 2f64.powi(-133),
        DType::F16 => 2f64.powi(-24),
        _ => 2f64.powi(-149),
    }
}

/// A number with as many digits as it takes to tell it from its neighbours, and an exponent where that is shorter.
fn text(x: f64) -> String {
    format!("{x:?}")
}

/// `|got - want| <= u |want| + bound + smallest step`, with `u` the unit roundoff of the store; R0 for what is no number.
///
/// Gives the element that comes nearest, `None` where there is no number at all.
pub(crate) fn within(
    name: &'static str,
    tensor: &Tensor,
    got: &[u8],
    want: &[Bounded],
    expects_nan: bool,
) -> Result<Option<Nearest>, Box<Broken>> {
    let (dtype, bytes, got) = (tensor.dtype(), got, floats(tensor.dtype(), got));
    if got.len() != want.len() {
        return Err(wrong_length(name, got.len(), want.len()));
    }
    let place = |index| coordinate(tensor.sizes(), index);
    let (mut wrong_kind, mut outside, mut nearest) = (Vec::new(), 0, None::<Nearest>);
    for (index, (&got, want)) in got.iter().zip(want).enumerate() {
        let (value, bound) = (want.value(), want.error());
        if value.is_finite() && !bound.is_finite() {
            let what = "the bound of the declared arithmetic is not finite here: the case judges nothing";
            return Err(Broken::at(Rule::R2, name, place(index), what, text(got), text(value)).measured(bound, None));
        }
        match same_kind(dtype, got, value, bound, expects_nan) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(why) => {
                wrong_kind.push((index, why));
                continue;
            }
        }
        let tolerance = dtype.unit_roundoff() * value.abs() + bound + smallest_step(dtype);
        let ratio = (got - value).abs() / tolerance;
        outside += (ratio > 1.0) as usize;
        if nearest.as_ref().is_none_or(|n| ratio > n.ratio) {
            nearest = Some(Nearest { ratio, operand: name, coordinate: place(index), got, want: value, bound });
        }
    }
    if let Some(&(index, why)) = wrong_kind.first() {
        let size = bytes.len() / got.len();
        let unwritten = bytes[index * size..][..size].iter().all(|&b| b == POISON);
        let why = if unwritten { "as it was before the operation: not written?" } else { why };
        let what =
            format!("{} of {} elements are NaN or infinite in the wrong place ({why})", wrong_kind.len(), got.len());
        return Err(Broken::at(Rule::R0, name, place(index), what, text(got[index]), text(want[index].value())));
    }
    match nearest {
        Some(n) if outside > 0 => {
            let what =
                format!("{outside} of {} elements are outside their bound, the worst {:.3} times", got.len(), n.ratio);
            Err(Broken::at(Rule::R2, name, n.coordinate, what, text(n.got), text(n.want))
                .measured(n.bound, Some(n.ratio)))
        }
        within => Ok(within),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use anychip_core::{Device, Numerics};
    use anychip_reference::Units;

    fn judge(got: &[f32], want: &[(f64, f64)], expects_nan: bool) -> Result<Option<Nearest>, Box<Broken>> {
        let device: Box<dyn Device> = anychip_reference::open(1 << 20);
        let tensor = device.tensor(DType::F32, &[1, got.len()]).unwrap();
        let units = Units::of(&Numerics::f32());
        let want: Vec<Bounded> = want.iter().map(|&(v, e)| Bounded::read(v, units).within(e)).collect();
        let bytes: Vec<u8> = got.iter().flat_map(|x| x.to_le_bytes()).collect();
        within("out", &tensor, &bytes, &want, expects_nan)
    }

    #[test]
    fn the_worst_element_is_named() {
        let nearest = judge(&[1.0, 2.0, 3.0], &[(1.0, 1e-3), (2.0005, 1e-3), (3.0001, 1e-3)], false).unwrap().unwrap();
        assert_eq!(nearest.coordinate, [0, 1]);
        assert!((nearest.ratio - 0.5).abs() < 1e-3, "{nearest:?}");
        let broken = judge(&[1.0, 2.0, 3.0], &[(1.0, 0.0), (2.5, 0.1), (3.2, 0.1)], false).unwrap_err();
        assert_eq!((broken.rule, broken.coordinate.as_slice(), broken.got.as_str()), (Rule::R2, &[0, 1][..], "2.0"));
        assert!(broken.what.starts_with("2 of 3 elements"), "{}", broken.what);
    }

    #[test]
    fn one_wrong_bit_of_an_exact_result_is_seen() {
        assert!(judge(&[1.25], &[(1.25, 0.0)], false).is_ok());
        assert!(judge(&[1.25f32.next_up()], &[(1.25, 0.0)], false).is_err());
    }

    #[test]
    fn what_is_no_number_breaks_the_structure() {
        for got in [f32::NAN, f32::INFINITY] {
            assert_eq!(judge(&[0.0, got], &[(0.0, 1e30), (1.0, 1e30)], true).unwrap_err().rule, Rule::R0);
        }
        assert!(judge(&[f32::NEG_INFINITY], &[(f64::NEG_INFINITY, 0.0)], false).unwrap().is_none());
    }

    #[test]
    fn a_bound_that_allows_everything_is_a_failure() {
        assert_eq!(judge(&[1.0], &[(1.0, f64::INFINITY)], false).unwrap_err().rule, Rule::R2);
        assert_eq!(judge(&[1.0], &[(1.0, f64::NAN)], false).unwrap_err().rule, Rule::R2);
    }
}

//! R3: over each row, errors are as large as the declared arithmetic typically makes them.
//!
//! The bound of R2 is what no device that keeps its promise exceeds in any element, so it allows each element of a row
//! what only one in millions would use. A kernel that is off a little everywhere lies far within it. Here the root of the
//! mean square over a row (of a token, a head, an expert's row) is held against what the same arithmetic is expected to
//! give: the baseline that other suites take from a second implementation, in closed form and for every legal order.

use super::bound::smallest_step;
use super::structure::floats;
use super::{Broken, Rule};
use anychip_core::Tensor;
use anychip_reference::{Bounded, Real, Typical, Values};

/// How much more than typical a row's arithmetic may be off by.
///
/// A row whose errors share one cause (a norm's factor, the weight of a softmax's one large key) is off by one draw of it,
/// not by the mean of many: this is the confidence that such a draw is given, as in the bound of a sum. Errors that have a
/// common cause add up instead of their squares, which takes some of it: `docs/numerics.md` has what correct kernels use.
const CONFIDENCE: f64 = 8.0;

/// Errors of a row beside what it is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    /// Error over limit.
    pub(crate) ratio: f64,
    index: usize,
    error: f64,
    /// What the declared arithmetic typically gives, before the store.
    typical: f64,
    limit: f64,
}

/// The row of an output that comes nearest to its limit; nothing where there are no numbers.
///
/// The limit is [`CONFIDENCE`] times what is typical before the store, and what the store can lose: that loss is no matter
/// of chance, so it is not multiplied.
pub(crate) fn worst(tensor: &Tensor, got: &[u8], want: &[Bounded], typical: &[Typical]) -> Option<Row> {
    let (dtype, got) = (tensor.dtype(), floats(tensor.dtype(), got));
    let width = tensor.sizes().last().copied().unwrap_or(1).max(1);
    let count = got.len().min(want.len()).min(typical.len());
    let one = |index: usize| {
        let row = index * width..(index * width + width).min(count);
        let (got, want, typical) = (&got[row.clone()], &want[row.clone()], &typical[row]);
        let (mut error, mut arithmetic, mut store, mut count) = (0.0, 0.0, 0.0, 0.0);
        for ((got, want), typical) in got.iter().zip(want).zip(typical) {
            // What is no number is R0's; no error is typically larger than it can be.
            let (value, off) = (want.value(), typical.error().min(want.error()));
            if got.is_finite() && value.is_finite() && off.is_finite() {
                error += (got - value).powi(2);
                arithmetic += off * off;
                store += (dtype.unit_roundoff() * value.abs() + smallest_step(dtype)).powi(2);
                count += 1.0;
            }
        }
        let [error, typical, store] = [error, arithmetic, store].map(|sum: f64| (sum / count).sqrt());
        let limit = CONFIDENCE * typical + store;
        (count > 0.0).then_some(Row { ratio: error / limit, index, error, typical, limit })
    };
    (0..count.div_ceil(width)).filter_map(one).max_by(|a, b| a.ratio.total_cmp(&b.ratio))
}

/// Rule R3 over one output. Gives the largest ratio of a row's error to its limit.
pub(crate) fn within(
    name: &'static str,
    tensor: &Tensor,
    got: &[u8],
    want: &Values<Bounded>,
    typical: &Values<Typical>,
) -> Result<Option<f64>, Box<Broken>> {
    let (Values::Real(want), Values::Real(typical)) = (want, typical) else { return Ok(None) };
    let Some(row) = worst(tensor, got, want, typical) else { return Ok(None) };
    if row.ratio <= 1.0 {
        return Ok(Some(row.ratio));
    }
    let sizes = tensor.sizes();
    let coordinate = super::coordinate(&sizes[..sizes.len().saturating_sub(1)], row.index);
    let what = format!("all errors of the row together are {:.3} times what the declared arithmetic makes", row.ratio);
    let (got, want) = (format!("a root mean square of {:.3e}", row.error), format!("typically {:.3e}", row.typical));
    Err(Broken::at(Rule::R3, name, coordinate, what, got, want).measured(row.limit, Some(row.ratio)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use anychip_core::{DType, Device, Numerics};
    use anychip_reference::Units;

    /// Rows of 64 ones, each element off by `off` and typically by 1e-6, in f32.
    fn judge(off: impl Fn(usize) -> f32) -> Result<Option<f64>, Box<Broken>> {
        let device: Box<dyn Device> = anychip_reference::open(1 << 20);
        let tensor = device.tensor(DType::F32, &[3, 64]).unwrap();
        let units = Units::of(&Numerics::f32());
        let want = Values::Real(vec![Bounded::read(1.0, units).within(1e-3); 192]);
        let typical = Values::Real(vec![Typical::read(1.0, units).within(1e-6); 192]);
        let got: Vec<u8> = (0..192).flat_map(|i| (1.0 + off(i)).to_le_bytes()).collect();
        within("out", &tensor, &got, &want, &typical)
    }

    #[test]
    fn a_row_that_is_off_a_little_everywhere_is_seen() {
        let share = judge(|_| 2e-6).unwrap().unwrap();
        assert!((share - 0.25).abs() < 0.02, "{share}");
        let broken = judge(|i| if i / 64 == 1 { 2e-5 } else { 0.0 }).unwrap_err();
        assert_eq!((broken.rule, broken.coordinate.as_slice()), (Rule::R3, &[1][..]));
        assert!(broken.ratio.unwrap() > 1.5, "{broken}");
    }

    #[test]
    fn a_single_element_within_its_bound_is_the_bounds_matter() {
        assert!(judge(|i| if i == 70 { 2e-5 } else { 0.0 }).is_ok());
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        assert!(judge(|i| if i < 64 { f32::NAN } else { 0.0 }).is_ok());
        assert!(judge(|_| f32::NAN).unwrap().is_none());
    }
}

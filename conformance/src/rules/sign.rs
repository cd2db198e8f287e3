//! R3, its other half: rounding has no side.
//!
//! A sum that rounds to nearest is too large as often as it is too small. One that truncates, or adds a rounding constant,
//! lies within every bound of magnitude and is still wrong: over a model's layers its errors add up instead of cancelling.

use super::structure::floats;
use super::{Broken, Rule};
use anychip_core::{DType, Numerics, Tensor};
use anychip_reference::{Bounded, Real, Values};

/// Standard deviations that a count of signs may be off by: each of `n` signs is a coin, with a deviation of
/// `sqrt(n) / 2`.
const DEVIATIONS: f64 = 10.0;
/// Fewer results say nothing: all of them on one side could be chance.
const LEAST: f64 = 4.0 * DEVIATIONS * DEVIATIONS;

/// The sign test over the f32 results of a matrix product, whose declared accumulator rounds to nearest. Results that are
/// equal to what is right count as half on each side.
pub(crate) fn even(
    name: &'static str,
    tensor: &Tensor,
    got: &[u8],
    want: &Values<Bounded>,
    numerics: &Numerics,
) -> Result<(), Box<Broken>> {
    let Values::Real(want) = want else { return Ok(()) };
    if tensor.dtype() != DType::F32 || numerics.accumulator.truncates {
        return Ok(());
    }
    let got = floats(tensor.dtype(), got);
    let numbers = got.iter().zip(want).map(|(got, want)| got - want.value()).filter(|error| error.is_finite());
    let (mut count, mut sides) = (0.0, 0.0);
    // Too large counts up, too small counts down, and what is neither counts half each.
    for error in numbers {
        count += 1.0;
        sides += if error == 0.0 { 0.0 } else { error.signum() };
    }
    if count < LEAST || sides.abs() <= DEVIATIONS * count.sqrt() {
        return Ok(());
    }
    let side = if sides > 0.0 { "large" } else { "small" };
    let what = format!("of {count} results far more are too {side} than not: sums are rounded to one side");
    let share = |sides: f64| format!("{:.3} of them too large", 0.5 + sides / count / 2.0);
    Err(Broken::at(Rule::R3, name, Vec::new(), what, share(sides), share(0.0)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use anychip_core::{Accumulator, Device};
    use anychip_reference::Units;

    fn judge(numerics: &Numerics, off: impl Fn(usize) -> f32) -> Result<(), Box<Broken>> {
        let device: Box<dyn Device> = anychip_reference::open(1 << 20);
        let tensor = device.tensor(DType::F32, &[500]).unwrap();
        let want = Values::Real(vec![Bounded::read(1.0, Units::of(numerics)); 500]);
        let got: Vec<u8> = (0..500).flat_map(|i| (1.0 + off(i)).to_le_bytes()).collect();
        even("out", &tensor, &got, &want, numerics)
    }

    #[test]
    fn errors_of_one_side_are_seen() {
        let one = f32::EPSILON;
        assert!(judge(&Numerics::f32(), |i| if i % 2 == 0 { one } else { -one }).is_ok());
        assert!(judge(&Numerics::f32(), |_| 0.0).is_ok());
        assert!(judge(&Numerics::f32(), |i| if i % 3 == 0 { -one } else { 0.0 }).is_ok());
        let broken = judge(&Numerics::f32(), |_| -one).unwrap_err();
        assert_eq!((broken.rule, broken.got.as_str()), (Rule::R3, "0.000 of them too large"));
        assert!(judge(&Numerics::f32(), |i| if i % 20 == 0 { 0.0 } else { one }).is_err());
    }

    #[test]
    fn who_declares_that_it_truncates_may() {
        let accumulator = Accumulator { truncates: true, ..Accumulator::F32 };
        assert!(judge(&Numerics { accumulator, ..Numerics::f32() }, |_| -f32::EPSILON).is_ok());
    }
}

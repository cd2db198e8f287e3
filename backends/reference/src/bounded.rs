//! A value together with the largest error that a device's declared arithmetic allows it.
//!
//! Errors follow the values through each operation to first order and a little beyond: sums by the probabilistic bound
//! of Higham and Mary (`lambda sqrt(n) u S`, with `S` the sum of magnitudes, capped by the certain `n u S`), functions by
//! their declared ulps on top of their derivative, requested roundings by where the ends of the interval round to.

use crate::real::{Grid, Real};
use anychip_core::Numerics;
use anychip_core::formats::scale;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Confidence factor of the bound for sums: 8 standard deviations.
const LAMBDA: f64 = 8.0;

/// The units of a device's declared errors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Units {
    /// Unit roundoff of the accumulator and of single operations.
    accumulator: f64,
    /// Products added exactly between two roundings of a sum.
    terms: f64,
    /// Relative error of an elementary function.
    function: f64,
    /// Magnitude below which a device may read or write zero.
    flushed: f64,
}

impl Units {
    /// The units that `numerics` declares.
    pub fn of(numerics: &Numerics) -> Units {
        Units {
            accumulator: numerics.accumulator.unit_roundoff(),
            terms: numerics.accumulator.terms_per_rounding.max(1) as f64,
            function: numerics.function_ulps * (2f64).powi(-23),
            flushed: if numerics.flushes_subnormals { f32::MIN_POSITIVE as f64 } else { 0.0 },
        }
    }

    fn join(self, other: Units) -> Units {
        Units {
            accumulator: self.accumulator.max(other.accumulator),
            terms: self.terms.max(other.terms),
            function: self.function.max(other.function),
            flushed: self.flushed.max(other.flushed),
        }
    }

    /// Relative error of a sum of `n` terms, with respect to the sum of their magnitudes.
    fn of_sum(self, n: usize) -> f64 {
        let roundings = (n as f64 / self.terms.max(1.0)).ceil();
        self.accumulator * roundings.min(LAMBDA * roundings.sqrt())
    }
}

/// A value, its largest error, and the units that further errors come in.
#[derive(Clone, Copy, Debug)]
pub struct Bounded {
    value: f64,
    error: f64,
    units: Units,
}

impl Bounded {
    fn new(value: f64, error: f64, units: Units) -> Bounded {
        // A device may flush what f32 holds as a subnormal: then all of the value is its error.
        let flushed = if value != 0.0 && value.abs() < units.flushed { value.abs() } else { 0.0 };
        Bounded { value, error: error + flushed, units }
    }

    fn rounded(value: f64, error: f64, units: Units) -> Bounded {
        // An infinity is exact: it marks what is masked and is no number that was rounded.
        let rounding = if value.is_infinite() { 0.0 } else { units.accumulator * normal(value) };
        Bounded::new(value, error + rounding, units)
    }

    /// `value = f(self)` for an elementary `f` whose result moved by `moved` over the interval.
    fn function(self, value: f64, moved: f64) -> Bounded {
        Bounded::new(value, moved + self.units.function * normal(value), self.units)
    }

    fn ends(self) -> [f64; 2] {
        [self.value - self.error, self.value + self.error]
    }
}

/// The magnitude that a rounding error is relative to: below f32's normal numbers the last place no longer shrinks.
fn normal(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value.abs().max(f32::MIN_POSITIVE as f64) }
}

impl From<f64> for Bounded {
    fn from(value: f64) -> Bounded {
        Bounded { value, error: 0.0, units: Units::default() }
    }
}

impl Add for Bounded {
    type Output = Bounded;
    fn add(self, b: Bounded) -> Bounded {
        Bounded::rounded(self.value + b.value, self.error + b.error, self.units.join(b.units))
    }
}

impl Sub for Bounded {
    type Output = Bounded;
    fn sub(self, b: Bounded) -> Bounded {
        Bounded::rounded(self.value - b.value, self.error + b.error, self.units.join(b.units))
    }
}

impl Mul for Bounded {
    type Output = Bounded;
    fn mul(self, b: Bounded) -> Bounded {
        let error = self.value.abs() * b.error + b.value.abs() * self.error + self.error * b.error;
        Bounded::rounded(self.value * b.value, error, self.units.join(b.units))
    }
}

impl Div for Bounded {
    type Output = Bounded;
    fn div(self, b: Bounded) -> Bounded {
        let (value, least) = (self.value / b.value, b.value.abs() - b.error);
        let units = self.units.join(b.units);
        let moved = if self.error + b.error == 0.0 {
            0.0
        } else if least > 0.0 {
            (self.error + value.abs() * b.error) / least
        } else {
            f64::INFINITY
        };
        Bounded::new(value, moved + units.function.max(units.accumulator) * normal(value), units)
    }
}

impl Neg for Bounded {
    type Output = Bounded;
    fn neg(self) -> Bounded {
        Bounded { value: -self.value, ..self }
    }
}

impl Real for Bounded {
    type Units = Units;

    fn read(x: f64, units: Units) -> Bounded {
        Bounded::new(x, 0.0, units)
    }

    fn value(self) -> f64 {
        self.value
    }

    fn within(self, error: f64) -> Bounded {
        Bounded { error, ..self }
    }

    fn error(self) -> f64 {
        self.error
    }

    fn dot(a: &[Bounded], b: &[Bounded]) -> Bounded {
        let (mut value, mut magnitude, mut carried, mut units) = (0.0, 0.0, 0.0, Units::default());
        for (a, b) in a.iter().zip(b) {
            value += a.value * b.value;
            magnitude += (a.value * b.value).abs();
            carried += a.value.abs() * b.error + b.value.abs() * a.error + a.error * b.error;
            units = units.join(a.units).join(b.units);
            // Each product may be flushed on its own.
            carried += if (a.value * b.value).abs() < units.flushed { (a.value * b.value).abs() } else { 0.0 };
        }
        Bounded::new(value, carried + units.of_sum(a.len().min(b.len())) * normal(magnitude), units)
    }

    fn inner(a: &[Bounded], b: &[Bounded]) -> Bounded {
        let sum = Bounded::dot(a, b);
        let (mut magnitude, mut step, mut carried) = (0.0, f64::INFINITY, 0.0);
        for (a, b) in a.iter().zip(b) {
            magnitude += (a.value * b.value).abs();
            step = step.min(last_bit(a.value * b.value));
            carried += a.error + b.error;
        }
        // All partial sums are multiples of `step` and at most `magnitude`.
        let in_range = magnitude <= f32::MAX as f64 && step >= sum.units.flushed.max(f32::from_bits(1) as f64);
        let exact = carried == 0.0 && in_range && magnitude * sum.units.accumulator <= step;
        Bounded { error: if exact { 0.0 } else { sum.error }, ..sum }
    }

    fn sum(a: &[Bounded]) -> Bounded {
        let value = a.iter().fold(0.0, |sum, a| sum + a.value);
        let magnitude: f64 = a.iter().map(|a| a.value.abs()).sum();
        let carried: f64 = a.iter().map(|a| a.error).sum();
        let units = a.iter().fold(Units::default(), |all, a| all.join(a.units));
        Bounded::new(value, carried + units.of_sum(a.len()) * normal(magnitude), units)
    }

    fn exp(self) -> Bounded {
        let value = self.value.exp();
        self.function(value, value * self.error.exp_m1())
    }

    fn rsqrt(self) -> Bounded {
        let value = self.value.sqrt().recip();
        let [low, _] = self.ends();
        // Steepest at the low end.
        let moved = if self.error == 0.0 {
            0.0
        } else if low > 0.0 {
            low.sqrt().recip() - value
        } else {
            f64::INFINITY
        };
        self.function(value, moved)
    }

    fn sqrt(self) -> Bounded {
        let value = self.value.sqrt();
        let [low, high] = self.ends();
        // Steepest at the low end, unless that lies below zero.
        self.function(value, (value - low.max(0.0).sqrt()).max(high.sqrt() - value))
    }

    fn sigmoid(self) -> Bounded {
        let value = Real::sigmoid(self.value);
        // An exponential, an addition and a division; the derivative is value (1 - value). Where e^-x leaves f32's range a
        // device gives 0.
        let rounding = 2.0 * self.units.function * value + (f32::MAX as f64).recip();
        self.function(value, value * (1.0 - value) * self.error.exp_m1() + rounding)
    }

    fn softplus(self) -> Bounded {
        let value = Real::softplus(self.value);
        // The derivative is at most 1. A device may add 1 + e^x in f32 before the logarithm: an absolute error of u.
        self.function(value, self.error + 2.0 * self.units.function.max(self.units.accumulator))
    }

    fn max(self, b: Bounded) -> Bounded {
        let value = Real::max(self.value, b.value);
        Bounded { value, error: self.error.max(b.error), units: self.units.join(b.units) }
    }

    fn min(self, b: Bounded) -> Bounded {
        let value = Real::min(self.value, b.value);
        Bounded { value, error: self.error.max(b.error), units: self.units.join(b.units) }
    }

    fn bf16(self) -> Bounded {
        let value = Real::bf16(self.value);
        let error = if self.error == 0.0 { 0.0 } else { spread(value, self.ends().map(Real::bf16)) };
        Bounded { value, error, ..self }
    }

    fn quantized(block: &[Bounded], grid: Grid) -> Vec<Bounded> {
        let amax_with = |sign: f64| {
            let ends: Vec<f32> = block.iter().map(|x| (x.value.abs() + sign * x.error).max(0.0) as f32).collect();
            scale::amax(&ends)
        };
        let values: Vec<f32> = block.iter().map(|x| x.value as f32).collect();
        let byte = grid.scale_byte(scale::amax(&values));
        let other_bytes = [-1.0, 1.0].map(|sign| grid.scale_byte(amax_with(sign)));
        let one = |x: &Bounded| {
            let value = grid.round(x.value as f32, byte);
            let mut error: f64 = 0.0;
            if x.error != 0.0 || other_bytes != [byte; 2] {
                for byte in other_bytes {
                    error = error.max(spread(value, x.ends().map(|end| grid.round(end as f32, byte))));
                }
            }
            Bounded { value, error, units: x.units }
        };
        block.iter().map(one).collect()
    }
}

/// The power of two that the last one bit of a normal `x` stands for; infinity for zero, which is a multiple of anything.
fn last_bit(x: f64) -> f64 {
    let (exponent, fraction) = (x.to_bits() >> 52 & 0x7FF, x.to_bits() & ((1 << 52) - 1));
    if x == 0.0 {
        return f64::INFINITY;
    }
    // The leading one is bit 52 of the significand.
    let below = 52 - (fraction | 1 << 52).trailing_zeros() as u64;
    f64::from_bits(exponent.saturating_sub(below) << 52)
}

/// How far the ends of an interval lie from `value`.
fn spread(value: f64, ends: [f64; 2]) -> f64 {
    (ends[0] - value).abs().max((ends[1] - value).abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operand(x: f64) -> Bounded {
        Bounded::read(x, Units::of(&Numerics::f32()))
    }

    /// Every f32 computation below must stay within the bound of the same lines over `Bounded`.
    #[test]
    fn f32_stays_within_the_bound() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        for _ in 0..200 {
            let (a, b): (Vec<f32>, Vec<f32>) = (0..300).map(|_| (random(), random())).unzip();
            let sum: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            let got = (sum.exp().sqrt() / (1.0 + a[0].exp())) as f64;
            let [wide_a, wide_b] = [&a, &b].map(|v| v.iter().map(|&x| operand(x as f64)).collect::<Vec<_>>());
            let want = Real::sqrt(Real::exp(Bounded::dot(&wide_a, &wide_b))) * Real::sigmoid(-wide_a[0]);
            let off = (got - want.value()).abs();
            assert!(off <= want.error(), "off by {off:e} of {}, bound {:e}", want.value(), want.error());
            assert!(want.error() <= 2e-2 * want.value(), "a bound this loose says nothing");
        }
    }

    #[test]
    fn a_rounding_costs_only_where_it_can_flip() {
        let exact = operand(1.0 + 1.0 / 256.0); // halfway between two bf16
        assert_eq!(exact.bf16().error(), 0.0);
        let near = exact.within(1e-6);
        assert_eq!(near.bf16().error(), 1.0 / 128.0);
        assert_eq!(operand(1.0).within(1e-6).bf16().error(), 0.0);
    }

    #[test]
    fn a_masked_score_weighs_exactly_nothing() {
        let (terms, sum) = Bounded::softmax(&[operand(-3.0).within(1e-6), operand(f64::NEG_INFINITY)]);
        assert_eq!((terms[1].value(), terms[1].error()), (0.0, 0.0));
        assert!(sum.value() == 1.0 && sum.error() < 2e-6, "{sum:?}");
    }

    #[test]
    fn a_scale_that_may_flip_counts() {
        let least = 1.0 / 512.0; // the smallest code under a scale of 1, halfway to nothing under 2
        let rounded = Bounded::quantized(&[operand(448.0).within(1e-3), operand(least)], Grid::E4M3);
        assert_eq!((rounded[1].value(), rounded[1].error()), (least, least));
        let certain = Bounded::quantized(&[operand(447.0).within(1e-3), operand(least)], Grid::E4M3);
        assert_eq!((certain[1].value(), certain[1].error()), (least, 0.0));
    }

    #[test]
    fn a_root_of_what_may_be_zero_counts_both_ends() {
        let root = Real::sqrt(operand(1e-8).within(1e-6));
        assert!(root.error() >= 1.01e-6f64.sqrt() - 1e-4, "{root:?}");
    }

    #[test]
    fn where_f32_ends_errors_no_longer_shrink_with_the_value() {
        for x in [-80.0f32, -88.0, -95.0, -103.0, -120.0] {
            for (got, want) in [
                (x.exp(), Real::exp(operand(x as f64))),
                (1.0 / (1.0 + (-x).exp()), Real::sigmoid(operand(x as f64))),
                (x.exp() * 0.3, Real::exp(operand(x as f64)) * operand(0.3f32 as f64)),
            ] {
                let off = (got as f64 - want.value()).abs();
                assert!(off <= want.error(), "{x}: {got:e} is off by {off:e}, bound {:e}", want.error());
                assert!(want.error() <= 1e-6 * want.value() + 3e-39);
            }
        }
    }

    #[test]
    fn a_sum_that_f32_holds_in_any_order_is_exact() {
        for (x, bit) in
            [(1.0, 1.0), (-12.0, 4.0), (0.75, 0.25), (448.0 * 6.0, 128.0), (1.0 + 2f64.powi(-52), 2f64.powi(-52))]
        {
            assert_eq!(last_bit(x), bit);
        }
        let sum = |values: &[f64]| {
            let a: Vec<Bounded> = values.iter().map(|&x| operand(x)).collect();
            Bounded::inner(&a, &[operand(1.0); 3]).error()
        };
        assert_eq!(sum(&[16777214.0, 1.0, -1.0]), 0.0);
        assert!(sum(&[16777215.0, 1.0, -1.0]) > 0.0, "one order passes 2^24 + 1, which f32 rounds");
        assert!(sum(&[1.0, 2f64.powi(-24), 0.0]) > 0.0);
        assert_eq!(sum(&[0.0, -0.0, 0.0]), 0.0);
        assert!(Bounded::inner(&[operand(1.0).within(1e-9)], &[operand(1.0)]).error() >= 1e-9);
    }

    #[test]
    fn products_may_be_flushed_one_by_one() {
        let flushing = Units { flushed: f32::MIN_POSITIVE as f64, ..Units::of(&Numerics::f32()) };
        let tiny = [Bounded::read(1e-19, flushing); 500];
        let sum = Bounded::dot(&tiny, &tiny);
        assert!(sum.value() > flushing.flushed && sum.error() >= sum.value(), "all of it may vanish: {sum:?}");
    }
}

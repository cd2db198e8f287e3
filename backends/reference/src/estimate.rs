//! A value together with an estimate of the error that a device's declared arithmetic allows it.
//!
//! Errors follow the values through each operation to first order and a little beyond. There are two kinds of estimate,
//! and the lines are the same for both:
//!
//! - [`Bounded`], of rule R2: what no device that keeps its promise exceeds. Errors add up; a sum by the probabilistic
//!   bound of Higham and Mary (`lambda sqrt(n) u S`, with `S` the sum of magnitudes, capped by the certain `n u S`).
//! - [`Typical`], of rule R3: the root of the mean square of what such devices are off by, over all orders of their sums.
//!   Errors of different roundings are independent, so their squares add up.
//!
//! Functions count by their declared ulps on top of their derivative, requested roundings by where the ends of the
//! interval round to.

use crate::real::{Grid, Real};
use crate::units::{Kind, Sum, Typically, Unit, Units, Worst, normal};
use anychip_core::formats::scale;
use std::marker::PhantomData;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A value and its largest error.
pub type Bounded = Estimate<Worst>;

/// A value and the error that is typical of it, as a root of a mean square.
pub type Typical = Estimate<Typically>;

/// A value, an estimate of its error, and the units that further errors come in.
#[derive(Clone, Copy, Debug)]
pub struct Estimate<K> {
    value: f64,
    error: f64,
    unit: Unit,
    kind: PhantomData<K>,
}

impl<K: Kind> Estimate<K> {
    fn new(value: f64, error: f64, unit: Unit) -> Self {
        // An infinity is exact: it marks what is masked or comes from an operand, and is no number that was rounded.
        if value.is_infinite() {
            return Estimate { value, error: 0.0, unit, kind: PhantomData };
        }
        // A device may flush what f32 holds as a subnormal: then all of the value is its error.
        let flushed = if value != 0.0 && value.abs() < unit.flushed { value.abs() } else { 0.0 };
        Estimate { value, error: K::join(error, flushed), unit, kind: PhantomData }
    }

    fn rounded(value: f64, error: f64, unit: Unit) -> Self {
        let rounding = K::SHARE * unit.accumulator * normal(value);
        Estimate::new(value, K::join(error, rounding), unit)
    }

    /// `value = f(self)` for an elementary `f` whose result moved by `moved` over the interval.
    fn function(self, value: f64, moved: f64) -> Self {
        Estimate::new(value, K::join(moved, K::SHARE * self.unit.function * normal(value)), self.unit)
    }

    /// Where a value may lie that a rounding acts upon.
    fn ends(self) -> [f64; 2] {
        let reach = K::REACH * self.error;
        [self.value - reach, self.value + reach]
    }
}

impl<K> From<f64> for Estimate<K> {
    fn from(value: f64) -> Self {
        Estimate { value, error: 0.0, unit: Unit::default(), kind: PhantomData }
    }
}

impl<K: Kind> Add for Estimate<K> {
    type Output = Self;
    fn add(self, b: Self) -> Self {
        Estimate::rounded(self.value + b.value, K::join(self.error, b.error), self.unit.join(b.unit))
    }
}

impl<K: Kind> Sub for Estimate<K> {
    type Output = Self;
    fn sub(self, b: Self) -> Self {
        Estimate::rounded(self.value - b.value, K::join(self.error, b.error), self.unit.join(b.unit))
    }
}

impl<K: Kind> Mul for Estimate<K> {
    type Output = Self;
    fn mul(self, b: Self) -> Self {
        let error = K::root(product::<K>(self, b));
        Estimate::rounded(self.value * b.value, error, self.unit.join(b.unit))
    }
}

/// What the errors of two factors do to their product, as [`Kind::power`].
fn product<K: Kind>(a: Estimate<K>, b: Estimate<K>) -> f64 {
    K::power(a.value.abs() * b.error) + K::power(b.value.abs() * a.error) + K::power(a.error * b.error)
}

impl<K: Kind> Div for Estimate<K> {
    type Output = Self;
    fn div(self, b: Self) -> Self {
        let (value, least) = (self.value / b.value, b.value.abs() - b.error);
        let unit = self.unit.join(b.unit);
        let moved = if self.error + b.error == 0.0 {
            0.0
        } else if least > 0.0 {
            K::join(self.error, value.abs() * b.error) / least
        } else {
            f64::INFINITY
        };
        let rounding = K::SHARE * unit.function.max(unit.accumulator) * normal(value);
        Estimate::new(value, K::join(moved, rounding), unit)
    }
}

impl<K> Neg for Estimate<K> {
    type Output = Self;
    fn neg(self) -> Self {
        Estimate { value: -self.value, ..self }
    }
}

impl<K: Kind> Real for Estimate<K> {
    type Units = Units;

    fn read(x: f64, units: Units) -> Self {
        Estimate::new(x, 0.0, units.unit)
    }

    fn value(self) -> f64 {
        self.value
    }

    fn within(self, error: f64) -> Self {
        Estimate { error, ..self }
    }

    fn error(self) -> f64 {
        self.error
    }

    fn held(self, name: &str, units: Units) -> Self {
        match units.rounding_of(name) {
            None => self,
            Some((roundoff, step)) => {
                let rounding = K::SHARE * (roundoff * self.value.abs() + step);
                Estimate::new(self.value, K::join(self.error, rounding), self.unit)
            }
        }
    }

    fn dot(a: &[Self], b: &[Self]) -> Self {
        let (mut sum, mut carried, mut unit) = (Sum::default(), 0.0, Unit::default());
        for (&a, &b) in a.iter().zip(b) {
            let term = a.value * b.value;
            sum.add(term);
            carried += product::<K>(a, b);
            unit = unit.join(a.unit).join(b.unit);
            // Each product may be flushed on its own.
            carried += if term.abs() < unit.flushed { K::power(term.abs()) } else { 0.0 };
        }
        Estimate::new(sum.value, K::join(K::root(carried), K::of_sum(unit, &sum)), unit)
    }

    fn inner(a: &[Self], b: &[Self]) -> Self {
        let sum = Self::dot(a, b);
        let erring = a.iter().zip(b).any(|(a, b)| a.error + b.error != 0.0);
        sum.exact_if(!erring && sum.unit.holds(a.iter().zip(b).map(|(a, b)| a.value * b.value)))
    }

    fn sum(a: &[Self]) -> Self {
        let (mut sum, mut carried, mut unit) = (Sum::default(), 0.0, Unit::default());
        for a in a {
            sum.add(a.value);
            carried += K::power(a.error);
            unit = unit.join(a.unit);
        }
        let total: Self = Estimate::new(sum.value, K::join(K::root(carried), K::of_sum(unit, &sum)), unit);
        total.exact_if(carried == 0.0 && unit.holds(a.iter().map(|a| a.value)))
    }

    fn exp(self) -> Self {
        let value = self.value.exp();
        self.function(value, value * self.error.exp_m1())
    }

    fn rsqrt(self) -> Self {
        let value = self.value.sqrt().recip();
        let low = self.value - self.error;
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

    fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        let [low, high] = [self.value - self.error, self.value + self.error];
        // Steepest at the low end, unless that lies below zero.
        self.function(value, (value - low.max(0.0).sqrt()).max(high.sqrt() - value))
    }

    fn sigmoid(self) -> Self {
        let value = Real::sigmoid(self.value);
        // An exponential, an addition and a division; the derivative is value (1 - value). Where e^-x leaves f32's range a
        // device gives 0.
        let rounding = K::SHARE * 2.0 * self.unit.function * value + (f32::MAX as f64).recip();
        self.function(value, K::join(value * (1.0 - value) * self.error.exp_m1(), rounding))
    }

    fn softplus(self) -> Self {
        let value = Real::softplus(self.value);
        // The derivative is at most 1. A device may add 1 + e^x in f32 before the logarithm: an absolute error of u.
        let rounding = K::SHARE * 2.0 * self.unit.function.max(self.unit.accumulator);
        self.function(value, K::join(self.error, rounding))
    }

    fn max(self, b: Self) -> Self {
        Estimate { value: Real::max(self.value, b.value), ..self.either(b) }
    }

    fn min(self, b: Self) -> Self {
        Estimate { value: Real::min(self.value, b.value), ..self.either(b) }
    }

    fn bf16(self) -> Self {
        let value = Real::bf16(self.value);
        let error = if self.error == 0.0 { 0.0 } else { spread(value, self.ends().map(Real::bf16)) };
        Estimate { value, error, ..self }
    }

    fn quantized(block: &[Self], grid: Grid) -> Vec<Self> {
        let amax_with = |end: usize| {
            let ends: Vec<f32> =
                block.iter().map(|x| Estimate { value: x.value.abs(), ..*x }.ends()[end].max(0.0) as f32).collect();
            scale::amax(&ends)
        };
        let values: Vec<f32> = block.iter().map(|x| x.value as f32).collect();
        let byte = grid.scale_byte(scale::amax(&values));
        let other_bytes = [0, 1].map(|end| grid.scale_byte(amax_with(end)));
        let one = |x: &Self| {
            let value = grid.round(x.value as f32, byte);
            let mut error: f64 = 0.0;
            if x.error != 0.0 || other_bytes != [byte; 2] {
                for byte in other_bytes {
                    error = error.max(spread(value, x.ends().map(|end| grid.round(end as f32, byte))));
                }
            }
            Estimate { value, error, ..*x }
        };
        block.iter().map(one).collect()
    }
}

impl<K: Kind> Estimate<K> {
    fn exact_if(self, exact: bool) -> Self {
        Estimate { error: if exact { 0.0 } else { self.error }, ..self }
    }

    /// One of two values, whichever a device takes.
    fn either(self, b: Self) -> Self {
        Estimate { error: self.error.max(b.error), unit: self.unit.join(b.unit), ..self }
    }
}

/// How far the ends of an interval lie from `value`.
fn spread(value: f64, ends: [f64; 2]) -> f64 {
    (ends[0] - value).abs().max((ends[1] - value).abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_core::Numerics;

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
    fn a_mean_lies_among_its_values_however_rough_the_weights_are() {
        let values = [operand(3.0), operand(-5.0)];
        let (terms, sum) = Bounded::softmax(&[operand(900.0).within(40.0), operand(890.0).within(40.0)]);
        assert!((Bounded::dot(&terms, &values) / sum).error() > 1e30);
        let mean = Bounded::mean(&terms, sum, &values);
        assert!(mean.value() > 2.99 && mean.error() == 10.0 + mean.value(), "{mean:?}");
        let (terms, sum) = Bounded::softmax(&[operand(1.0), operand(0.5)]);
        let mean = Bounded::mean(&terms, sum, &values);
        assert!(mean.error() == (Bounded::dot(&terms, &values) / sum).error() && mean.error() < 1e-5);
    }

    #[test]
    fn an_infinite_operand_makes_exact_zeros_and_infinities() {
        let row = [operand(1.5), operand(f64::INFINITY)];
        let norm = Real::rsqrt(Bounded::dot(&row, &row) / Bounded::from(2.0));
        assert_eq!((norm.value(), norm.error()), (0.0, 0.0));
        assert_eq!(((row[0] * norm).value(), (row[0] * norm).error()), (0.0, 0.0));
        assert!((row[1] * norm).value().is_nan());
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
            assert_eq!(crate::units::last_bit(x), bit);
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
        let flushing = Units::of(&Numerics { flushes_subnormals: true, ..Numerics::f32() });
        let tiny = [Bounded::read(1e-19, flushing); 500];
        let sum = Bounded::dot(&tiny, &tiny);
        let least = f64::from(f32::MIN_POSITIVE);
        assert!(sum.value() > least && sum.error() >= sum.value(), "all of it may vanish: {sum:?}");
    }
}

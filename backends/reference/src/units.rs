//! The units of a device's declared errors, and the two ways to add errors up.

use anychip_core::{DType, Numerics};

/// Confidence factor of the bound for sums: 8 standard deviations.
const LAMBDA: f64 = 8.0;
/// Declared further roundings that are followed; the operations have no more places for them.
const PLACES: usize = 6;

/// What a device declares about its arithmetic, as errors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Units {
    pub(crate) unit: Unit,
    /// What is rounded further: its name, the unit roundoff and the smallest step of its type.
    further: [Option<(&'static str, f64, f64)>; PLACES],
}

/// The part of the units that every value carries.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Unit {
    /// Unit roundoff of the accumulator and of single operations.
    pub(crate) accumulator: f64,
    /// Products added exactly between two roundings of a sum.
    terms: f64,
    /// Relative error of an elementary function.
    pub(crate) function: f64,
    /// Magnitude below which a device may read or write zero.
    pub(crate) flushed: f64,
    /// Whether the accumulator truncates: its errors all have one sign.
    truncates: bool,
}

impl Units {
    /// The units that `numerics` declares.
    pub fn of(numerics: &Numerics) -> Units {
        let unit = Unit {
            accumulator: numerics.accumulator.unit_roundoff(),
            terms: numerics.accumulator.terms_per_rounding.max(1) as f64,
            function: numerics.function_ulps * (2f64).powi(-23),
            flushed: if numerics.flushes_subnormals { f32::MIN_POSITIVE as f64 } else { 0.0 },
            truncates: numerics.accumulator.truncates,
        };
        let mut further = [None; PLACES];
        for (place, &(name, dtype)) in further.iter_mut().zip(&numerics.intermediates) {
            *place = Some((name, dtype.unit_roundoff(), half_step(dtype)));
        }
        Units { unit, further }
    }

    /// Unit roundoff and half the smallest step of the type that `name` is rounded to, where the device declares it.
    pub(crate) fn rounding_of(&self, name: &str) -> Option<(f64, f64)> {
        self.further.iter().flatten().find(|(other, ..)| *other == name).map(|&(_, roundoff, step)| (roundoff, step))
    }
}

/// Half the distance of a type's smallest numbers: what a rounding there is off by at most.
fn half_step(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 2f64.powi(-134),
        DType::F16 => 2f64.powi(-25),
        DType::E4M3 => 2f64.powi(-10),
        _ => 2f64.powi(-150),
    }
}

impl Unit {
    pub(crate) fn join(self, other: Unit) -> Unit {
        Unit {
            accumulator: self.accumulator.max(other.accumulator),
            terms: self.terms.max(other.terms),
            function: self.function.max(other.function),
            flushed: self.flushed.max(other.flushed),
            truncates: self.truncates || other.truncates,
        }
    }

    /// Whether the accumulator holds every partial sum of these terms, in whatever order: all are multiples of the terms'
    /// last bit and at most the sum of their magnitudes.
    pub(crate) fn holds(self, terms: impl Iterator<Item = f64>) -> bool {
        let (mut magnitude, mut step) = (0.0, f64::INFINITY);
        for term in terms {
            magnitude += term.abs();
            step = step.min(last_bit(term));
        }
        let in_range = magnitude <= f32::MAX as f64 && step >= self.flushed.max(f32::from_bits(1) as f64);
        in_range && magnitude * self.accumulator <= step
    }

    /// How often the accumulator rounds in a sum of `n` terms.
    fn roundings(self, n: usize) -> f64 {
        (n as f64 / self.terms.max(1.0)).ceil()
    }
}

/// The power of two that the last one bit of a normal `x` stands for; infinity for zero, which is a multiple of anything.
pub(crate) fn last_bit(x: f64) -> f64 {
    let (exponent, fraction) = (x.to_bits() >> 52 & 0x7FF, x.to_bits() & ((1 << 52) - 1));
    if x == 0.0 {
        return f64::INFINITY;
    }
    // The leading one is bit 52 of the significand.
    let below = 52 - (fraction | 1 << 52).trailing_zeros() as u64;
    f64::from_bits(exponent.saturating_sub(below) << 52)
}

/// A sum, and what its error depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    count: usize,
    pub(crate) value: f64,
    /// Sum of the terms' magnitudes.
    magnitude: f64,
    /// Sum of the terms' squares.
    squares: f64,
    /// Sum of the squares of all partial sums, in the order of the terms.
    partials: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, term: f64) {
        self.count += 1;
        self.value += term;
        self.magnitude += term.abs();
        self.squares += term * term;
        self.partials += self.value * self.value;
    }
}

/// How errors add up.
pub trait Kind: Copy + std::fmt::Debug {
    /// Errors that a rounding takes into account, in units of the estimate.
    const REACH: f64;
    /// What a rounding's error counts for, of its largest.
    const SHARE: f64;

    /// What adds up of an error.
    fn power(error: f64) -> f64;

    /// The error that adds up to `power`.
    fn root(power: f64) -> f64;

    /// Two errors together.
    fn join(a: f64, b: f64) -> f64 {
        // A shortcut that is exact for both kinds.
        if b == 0.0 {
            a
        } else if a == 0.0 {
            b
        } else {
            Self::root(Self::power(a) + Self::power(b))
        }
    }

    /// What the accumulator's roundings do to a sum.
    fn of_sum(unit: Unit, sum: &Sum) -> f64;
}

/// As large as they can be.
#[derive(Clone, Copy, Debug)]
pub struct Worst;

impl Kind for Worst {
    const REACH: f64 = 1.0;
    const SHARE: f64 = 1.0;

    fn power(error: f64) -> f64 {
        error
    }

    fn root(power: f64) -> f64 {
        power
    }

    fn of_sum(unit: Unit, sum: &Sum) -> f64 {
        let roundings = unit.roundings(sum.count);
        unit.accumulator * roundings.min(LAMBDA * roundings.sqrt()) * normal(sum.magnitude)
    }
}

/// Roots of mean squares.
#[derive(Clone, Copy, Debug)]
pub struct Typically;

impl Kind for Typically {
    /// What moves further than five standard deviations is not seen in a suite's life.
    const REACH: f64 = 5.0;
    /// The root of the mean square of an error that is uniform up to its largest: `1 / sqrt(3)`.
    const SHARE: f64 = 0.577_350_269_189_625_8;

    fn power(error: f64) -> f64 {
        error * error
    }

    fn root(power: f64) -> f64 {
        power.sqrt()
    }

    /// A rounding is off by `u |partial sum| / sqrt(3)`. For terms in random order the squares of the partial sums add up
    /// to `r (value^2 / 3 + squares / 6)` over `r` roundings; in the order they come in, to what they do. The larger counts,
    /// and the products' own roundings (or their alignment within a block) with it. A truncating accumulator is off by half
    /// a last place each time to the same side.
    fn of_sum(unit: Unit, sum: &Sum) -> f64 {
        let roundings = unit.roundings(sum.count);
        let in_any_order = roundings * (sum.value * sum.value / 3.0 + sum.squares / 6.0);
        let partials = in_any_order.max(sum.partials / unit.terms.max(1.0)) + sum.squares;
        let least = if sum.magnitude == 0.0 { 0.0 } else { f32::MIN_POSITIVE as f64 };
        let partials = partials.max(roundings * least * least);
        let share = if unit.truncates { (roundings / 4.0 + 1.0 / 12.0).sqrt() } else { Self::SHARE };
        unit.accumulator * share * partials.sqrt()
    }
}

/// The magnitude that a rounding error is relative to: below f32's normal numbers the last place no longer shrinks.
pub(crate) fn normal(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value.abs().max(f32::MIN_POSITIVE as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums in f32 of the same terms in many orders: their errors' root mean square is what is foretold, within a factor.
    #[test]
    fn typical_errors_of_sums_are_typical() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        for (count, centre) in [(16, 0.5), (300, 0.5), (300, 0.0), (4000, 0.5), (4000, 0.3)] {
            let mut terms: Vec<f32> = (0..count).map(|_| random() - centre as f32).collect();
            let mut sum = Sum::default();
            terms.iter().for_each(|&t| sum.add(f64::from(t)));
            let (mut squares, orders) = (0.0, 400);
            for _ in 0..orders {
                for i in (1..count).rev() {
                    terms.swap(i, (random() * (i + 1) as f32) as usize % (i + 1));
                }
                let got = terms.iter().fold(0f32, |s, t| s + t);
                squares += (f64::from(got) - sum.value).powi(2);
            }
            let (seen, told) =
                ((squares / f64::from(orders)).sqrt(), Typically::of_sum(Units::of(&Numerics::f32()).unit, &sum));
            assert!((0.3..1.3).contains(&(seen / told)), "{count} {centre}: {seen:e}, foretold {told:e}");
            assert!(Worst::of_sum(Units::of(&Numerics::f32()).unit, &sum) > 4.0 * told);
        }
    }

    #[test]
    fn a_declared_rounding_is_found_by_its_name() {
        let numerics = Numerics { intermediates: vec![("x", DType::BF16), ("h", DType::F16)], ..Numerics::f32() };
        let units = Units::of(&numerics);
        assert_eq!(units.rounding_of("h").map(|(u, _)| u), Some(DType::F16.unit_roundoff()));
        assert!(units.rounding_of("w").is_none() && Units::of(&Numerics::f32()).rounding_of("x").is_none());
    }
}

//! The arithmetic that operations are written in.

use anychip_core::formats::{e2m1, e4m3, round_bf16, scale};
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A real number: an `f64`, or an `f64` that knows how far off a device may be.
///
/// Methods that end an accumulation ([`sum`](Real::sum), [`dot`](Real::dot)) or call an elementary function stand for
/// what a device does in its declared precision. Methods that round ([`bf16`](Real::bf16), [`quantized`](Real::quantized))
/// stand for roundings that the operation itself asks for.
pub trait Real:
    Copy
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + From<f64>
{
    /// What comes with every operand that is read; nothing for `f64`.
    type Units: Copy;

    /// An operand, exact as it lies in memory.
    fn read(x: f64, units: Self::Units) -> Self;

    /// The value.
    fn value(self) -> f64;

    /// This value, known only to within `error` (which `f64` ignores): for results whose error is derived as a whole.
    fn within(self, error: f64) -> Self;

    /// The error so far, 0 for `f64`.
    fn error(self) -> f64;

    /// The value as a device holds it that declares a further rounding of `name`, an operand or one of the intermediate
    /// results that [`Numerics::intermediates`](anychip_core::Numerics::intermediates) lists. The value stays, its error
    /// grows.
    fn held(self, name: &str, units: Self::Units) -> Self;

    /// `sum_i a_i b_i` over the shorter of the two.
    fn dot(a: &[Self], b: &[Self]) -> Self;

    /// [`dot`](Real::dot) of a matrix product's operands, where a device has nothing to fold into the terms: if they lie
    /// exact in memory and the accumulator can hold every partial sum in every order, as it does for most sums of FP8 and
    /// FP4 codes, then the sum is exact.
    fn inner(a: &[Self], b: &[Self]) -> Self;

    /// `sum_i a_i`; exact where the terms are and the accumulator holds every partial sum, as in [`inner`](Real::inner).
    fn sum(a: &[Self]) -> Self;

    /// The terms `e^(z_j - m)` of a softmax and their sum, with `m` the largest `z`.
    ///
    /// `m` shifts terms and sum alike, so that what a device's `m` is off by cancels in their quotient: it is taken as
    /// exact. A largest `z` of -inf gives NaN, as the formula does.
    fn softmax(z: &[Self]) -> (Vec<Self>, Self) {
        let largest = z.iter().fold(f64::NEG_INFINITY, |m, z| Real::max(m, z.value()));
        let terms: Vec<Self> = z.iter().map(|&z| (z - Self::from(largest)).exp()).collect();
        let sum = Self::sum(&terms);
        (terms, sum)
    }

    /// The mean of `values` under the weights of a softmax, whose sum may hold more than these weights.
    ///
    /// However far off the weights are, a mean lies among its values and zero: its error is never more than twice the
    /// largest of them and itself, where the weights' errors alone would allow anything.
    fn mean(weights: &[Self], sum: Self, values: &[Self]) -> Self {
        let mean = Self::dot(weights, values) / sum;
        let largest = values.iter().fold(0.0, |most: f64, v| f64::max(most, v.value().abs() + v.error()));
        mean.within(mean.error().min(mean.value().abs() + 2.0 * largest))
    }

    /// `e^x`.
    fn exp(self) -> Self;

    /// `1 / sqrt(x)`.
    fn rsqrt(self) -> Self;

    /// `sqrt(x)`.
    fn sqrt(self) -> Self;

    /// `1 / (1 + e^-x)`.
    fn sigmoid(self) -> Self;

    /// `ln(1 + e^x)`.
    fn softplus(self) -> Self;

    /// The larger. NaN wins over both: a device may not hide it.
    fn max(self, other: Self) -> Self;

    /// The smaller; NaN as in [`max`](Real::max).
    fn min(self, other: Self) -> Self;

    /// Rounded to f32 and then to bf16, both to nearest even: "f32 sum, then bf16".
    fn bf16(self) -> Self;

    /// A block rounded to `grid` with its ue8m0 scale: what the codes mean, times the scale.
    fn quantized(block: &[Self], grid: Grid) -> Vec<Self>;
}

/// A block format: its codes and the rule for its scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// FP8.
    E4M3,
    /// FP4.
    E2M1,
}

impl Grid {
    /// Scale byte of a block whose largest magnitude is `amax`.
    pub fn scale_byte(self, amax: f32) -> u8 {
        match self {
            Grid::E4M3 => scale::for_e4m3(amax),
            Grid::E2M1 => scale::for_e2m1(amax),
        }
    }

    /// Code of `x` under a scale byte; 0 under the NaN scale.
    pub fn code(self, x: f32, byte: u8) -> u8 {
        if byte == scale::NAN {
            return 0;
        }
        match self {
            Grid::E4M3 => e4m3::encode(x / scale::decode(byte)),
            Grid::E2M1 => e2m1::encode(x / scale::decode(byte)),
        }
    }

    /// Value of a code under a scale byte.
    pub fn value(self, code: u8, byte: u8) -> f64 {
        let unscaled = match self {
            Grid::E4M3 => e4m3::decode(code),
            Grid::E2M1 => e2m1::decode(code),
        };
        // In f64, where no product of a code and a power of two is rounded or subnormal.
        unscaled as f64 * scale::decode(byte) as f64
    }

    /// `x` rounded to the grid of a scale byte.
    pub fn round(self, x: f32, byte: u8) -> f64 {
        self.value(self.code(x, byte), byte)
    }
}

impl Real for f64 {
    type Units = ();

    fn read(x: f64, (): ()) -> f64 {
        x
    }

    fn value(self) -> f64 {
        self
    }

    fn within(self, _error: f64) -> f64 {
        self
    }

    fn error(self) -> f64 {
        0.0
    }

    fn held(self, _name: &str, (): ()) -> f64 {
        self
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        // Folded from 0: the standard library's empty sum is -0.
        a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
    }

    fn inner(a: &[f64], b: &[f64]) -> f64 {
        f64::dot(a, b)
    }

    fn sum(a: &[f64]) -> f64 {
        a.iter().fold(0.0, |sum, a| sum + a)
    }

    fn exp(self) -> f64 {
        f64::exp(self)
    }

    fn rsqrt(self) -> f64 {
        1.0 / f64::sqrt(self)
    }

    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }

    fn sigmoid(self) -> f64 {
        1.0 / (1.0 + f64::exp(-self))
    }

    fn softplus(self) -> f64 {
        // The larger part outside the exponential: right for large arguments too.
        if self.is_nan() { self } else { f64::max(self, 0.0) + f64::exp(-f64::abs(self)).ln_1p() }
    }

    fn max(self, other: f64) -> f64 {
        if self.is_nan() || other.is_nan() { f64::NAN } else { f64::max(self, other) }
    }

    fn min(self, other: f64) -> f64 {
        if self.is_nan() || other.is_nan() { f64::NAN } else { f64::min(self, other) }
    }

    fn bf16(self) -> f64 {
        round_bf16(self as f32) as f64
    }

    fn quantized(block: &[f64], grid: Grid) -> Vec<f64> {
        let values: Vec<f32> = block.iter().map(|&x| x as f32).collect();
        let byte = grid.scale_byte(scale::amax(&values));
        values.iter().map(|&x| grid.round(x, byte)).collect()
    }
}

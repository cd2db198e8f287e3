//! What a device promises about its arithmetic. The conformance suite derives its tolerance from the promise and tests it.

use crate::DType;

/// The accumulator of a sum of products.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accumulator {
    /// Significant bits, the hidden one included: 24 for f32, 53 for f64, about 14 for some FP8 tensor cores.
    pub significand_bits: u32,
    /// Products that are added exactly before the accumulator rounds once: 1 for a scalar loop.
    pub terms_per_rounding: u32,
    /// Whether the accumulator truncates instead of rounding to nearest.
    pub truncates: bool,
}

impl Accumulator {
    /// IEEE f32, one rounding per product.
    pub const F32: Accumulator = Accumulator { significand_bits: 24, terms_per_rounding: 1, truncates: false };
    /// IEEE f64, one rounding per product.
    pub const F64: Accumulator = Accumulator { significand_bits: 53, terms_per_rounding: 1, truncates: false };

    /// Largest relative error of one rounding.
    pub fn unit_roundoff(self) -> f64 {
        (2f64).powi(if self.truncates { 1 } else { 0 } - self.significand_bits as i32)
    }

    /// Roundings in a sum of `terms` products.
    pub fn roundings(self, terms: usize) -> usize {
        terms.div_ceil(self.terms_per_rounding.max(1) as usize)
    }
}

/// How far equal inputs give equal bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Determinism {
    /// Nothing promised.
    None,
    /// The same call gives the same bits, run after run.
    RunToRun,
    /// A row's bits do not depend on what else is in the batch, nor on how much.
    BatchInvariant,
    /// Every device of the family gives the same bits.
    CrossDevice,
}

/// A device's promise for one operation.
///
/// Roundings that the operation itself asks for (an FP8 operand, `Rounding::Bf16` of a score) are part of its
/// definition and are not repeated here: this lists what the device does beyond it.
#[derive(Clone, Debug, PartialEq)]
pub struct Numerics {
    /// Accumulator of its sums.
    pub accumulator: Accumulator,
    /// Largest error of its elementary functions (exp, log, division, square root, sigmoid), in units of 2^-23 of the
    /// result.
    pub function_ulps: f64,
    /// Roundings that the operation does not ask for: what is rounded, and to what. An operand goes by its operand name
    /// (`("x", DType::BF16)`: a unit that takes only bf16), attention's unnormalised weights are `"weights"`, the result of
    /// SwiGLU is `"h"`. Matrix products, attention and experts know all of theirs; elsewhere operands that no kernel has a
    /// reason to round are taken as they are.
    pub intermediates: Vec<(&'static str, DType)>,
    /// Whether f32 subnormals may be read or written as zero.
    pub flushes_subnormals: bool,
    /// Determinism class.
    pub determinism: Determinism,
}

impl Numerics {
    /// f32 throughout: f32 accumulation, functions within 2 ulp, batch-invariant.
    pub fn f32() -> Numerics {
        Numerics {
            accumulator: Accumulator::F32,
            function_ulps: 2.0,
            intermediates: Vec::new(),
            flushes_subnormals: false,
            determinism: Determinism::BatchInvariant,
        }
    }

    /// f64 throughout, results rounded once.
    pub fn f64() -> Numerics {
        Numerics { accumulator: Accumulator::F64, function_ulps: 1e-8, ..Numerics::f32() }
    }
}

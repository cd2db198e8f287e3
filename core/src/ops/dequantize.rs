use super::{Access, Check, Operation, Visitor};
use crate::{Cost, Invalid, Matrix, Result, Tensor};

/// The values of a matrix: codes times their scales, exact in f32 and rounded once on the store.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `x` | any format | `[G, R, K]` |
/// | `out` | float | `[G, R, K]` |
///
/// Source: OCP Microscaling Formats v1.0; for FP8 blocks DeepSeek V3 `inference/kernel.py` (`weight_dequant`).
#[derive(Clone, Debug)]
pub struct Dequantize {
    /// Codes and scales.
    pub x: Matrix,
    /// Values.
    pub out: Tensor,
}

impl Operation for Dequantize {
    const NAME: &'static str = "dequantize";

    fn check(&self) -> Result<(), Invalid> {
        let want = [self.x.groups(), self.x.rows(), self.x.cols()];
        Check(Self::NAME).floats("out", &self.out, &want, "[G, R, K]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        self.x.visit(["x", "x scales"], Access::Read, f)?;
        f("out", Access::Write, &mut self.out)
    }

    fn cost(&self) -> Cost {
        Cost { flops: self.out.count() as u64, read: self.x.bytes(), written: self.out.bytes() }
    }
}

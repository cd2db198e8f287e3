use super::{Access, Check, Operation, Rounding, Visitor, product};
use crate::{Cost, Invalid, Result, Tensor};

/// Root-mean-square normalisation: `out[r] = w * x[r] / sqrt(mean(x[r]^2) + eps)`.
///
/// With [`Rounding::Bf16`], which V4 uses for the per-head query norm and which takes no weight, each step is rounded to
/// bf16: the squares, their (f32) mean, the sum with `eps`, and the reciprocal square root, before the final product.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `x` | float | `[R, d]` |
/// | `weight` | float | `[d]` |
/// | `out` | float | `[R, d]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`RMSNorm`, and the query norm in `Attention.forward`).
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// Rows.
    pub x: Tensor,
    /// Weight, all ones if absent.
    pub weight: Option<Tensor>,
    /// Added to the mean square; positive.
    pub eps: f32,
    /// Rounding of the steps.
    pub rounding: Rounding,
    /// Result.
    pub out: Tensor,
}

impl Operation for RmsNorm {
    const NAME: &'static str = "rms_norm";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.float("x", &self.x)?;
        check.rank("x", &self.x, 2, "[R, d]")?;
        check.require(self.x.size(1) > 0, "d", "at least 1", 0)?;
        if let Some(weight) = &self.weight {
            check.floats("weight", weight, &[self.x.size(1)], "[d]")?;
            check.require(self.rounding == Rounding::None, "weight", "absent with rounding in steps", "a weight")?;
        }
        check.require(self.eps > 0.0 && self.eps.is_finite(), "eps", "positive and finite", self.eps)?;
        check.floats("out", &self.out, self.x.sizes(), "[R, d]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("x", Access::Read, &mut self.x)?;
        if let Some(weight) = &mut self.weight {
            f("weight", Access::Read, weight)?;
        }
        f("out", Access::Write, &mut self.out)
    }

    fn cost(&self) -> Cost {
        let weight = self.weight.as_ref().map_or(0, Tensor::bytes);
        Cost { flops: product(&[4, self.x.count()]), read: self.x.bytes() + weight, written: self.out.bytes() }
    }
}

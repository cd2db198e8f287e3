use super::{Access, Check, Operation, Visitor, product};
use crate::{Cost, DType, Invalid, Result, Tensor};

/// Muon's orthogonalisation by a hybrid Newton-Schulz iteration.
///
/// `M = g / |g|_F`, then for each step `(a, b, c)`: `A = M M^T`, `M <- a M + (b A + c A A) M`. With more rows than columns
/// the transpose is iterated and transposed back. A zero matrix gives zero.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `g` | f32 | `[n, m]` |
/// | `out` | f32 | `[n, m]` |
///
/// Source: DeepSeek V4 technical report, section 2.4, algorithm 1.
#[derive(Clone, Debug)]
pub struct NewtonSchulz {
    /// Momentum or gradient.
    pub g: Tensor,
    /// Coefficients of each step.
    pub steps: Vec<[f32; 3]>,
    /// The orthogonal factor, approximately.
    pub out: Tensor,
}

impl NewtonSchulz {
    /// V4's ten steps: eight that grow small singular values fast, two that settle them at 1.
    pub const V4_STEPS: [[f32; 3]; 10] = {
        let (grow, settle) = ([3.4445, -4.7750, 2.0315], [2.0, -1.5, 0.5]);
        [grow, grow, grow, grow, grow, grow, grow, grow, settle, settle]
    };
}

impl Operation for NewtonSchulz {
    const NAME: &'static str = "newton_schulz";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.dtype("g", &self.g, &[DType::F32])?;
        check.rank("g", &self.g, 2, "[n, m]")?;
        check.require(!self.steps.is_empty() && self.steps.len() <= 64, "steps", "1 to 64", self.steps.len())?;
        check.is("out", &self.out, DType::F32, self.g.sizes(), "[n, m]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("g", Access::Read, &mut self.g)?;
        f("out", Access::Write, &mut self.out)
    }

    fn cost(&self) -> Cost {
        let (n, m) = (self.g.size(0).min(self.g.size(1)), self.g.size(0).max(self.g.size(1)));
        let step = product(&[4, n, n, m]).saturating_add(product(&[2, n, n, n]));
        Cost {
            flops: step.saturating_mul(self.steps.len() as u64),
            read: self.g.bytes(),
            written: self.out.bytes(),
        }
    }
}

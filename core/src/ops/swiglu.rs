use super::{Access, Check, Operation, Visitor, bytes, product};
use crate::{Cost, DType, Invalid, Result, Tensor};

/// Clamped SwiGLU: `out = w * silu(min(gate, limit)) * clamp(up, -limit, limit)`, `silu(a) = a / (1 + e^-a)`.
///
/// The gate has no lower clamp. `w` is one factor per row, 1 if absent.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `gate`, `up` | float | `[R, I]` |
/// | `weights` | f32 | `[R]` |
/// | `out` | float | `[R, I]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`Expert.forward`).
#[derive(Clone, Debug)]
pub struct Swiglu {
    /// W1 x.
    pub gate: Tensor,
    /// W3 x.
    pub up: Tensor,
    /// Factor of each row.
    pub weights: Option<Tensor>,
    /// `swiglu_limit`, positive; infinity for none.
    pub limit: f32,
    /// Result.
    pub out: Tensor,
}

impl Operation for Swiglu {
    const NAME: &'static str = "swiglu";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.float("gate", &self.gate)?;
        check.rank("gate", &self.gate, 2, "[R, I]")?;
        check.floats("up", &self.up, self.gate.sizes(), "[R, I]")?;
        if let Some(weights) = &self.weights {
            check.is("weights", weights, DType::F32, &[self.gate.size(0)], "[R]")?;
        }
        check.require(self.limit > 0.0, "limit", "positive", self.limit)?;
        check.floats("out", &self.out, self.gate.sizes(), "[R, I]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("gate", Access::Read, &mut self.gate)?;
        f("up", Access::Read, &mut self.up)?;
        if let Some(weights) = &mut self.weights {
            f("weights", Access::Read, weights)?;
        }
        f("out", Access::Write, &mut self.out)
    }

    fn cost(&self) -> Cost {
        let weights = self.weights.as_ref().map_or(0, Tensor::bytes);
        let read = bytes(&[&self.gate, &self.up]) + weights;
        Cost { flops: product(&[7, self.gate.count()]), read, written: self.out.bytes() }
    }
}

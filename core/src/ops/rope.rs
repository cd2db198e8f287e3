use super::{Access, Check, Operation, Visitor, product};
use crate::{Cost, DType, Invalid, Result, Tensor};

/// Rotary position embedding of the last `2 R` elements of each head, in neighbouring pairs; the rest is copied.
///
/// With `(c, s) = angles[t, i]` the pair `(a, b)` of elements `D - 2R + 2i` and the next becomes `(a c - b s, b c + a s)`.
/// With `inverse`, `s` is negated. Copied elements keep their value; if `out` is narrower than `x` they are rounded too.
///
/// The angles come from the host, from [`RopeTable`](crate::RopeTable): positions reach 2^20, where an f32 angle is
/// already wrong in the third digit, and many chips have no f64.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `x` | float | `[T, H, D]` |
/// | `angles` | f32 | `[T, R, 2]`: cosine, sine |
/// | `out` | float | `[T, H, D]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`apply_rotary_emb`), interleaved as in GPT-J.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Rows of heads.
    pub x: Tensor,
    /// Cosine and sine of each row's angles.
    pub angles: Tensor,
    /// Rotates back.
    pub inverse: bool,
    /// Result.
    pub out: Tensor,
}

impl Operation for Rope {
    const NAME: &'static str = "rope";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.float("x", &self.x)?;
        check.rank("x", &self.x, 3, "[T, H, D]")?;
        let (rows, pairs, dim) = (self.x.size(0), self.angles.size(1), self.x.size(2));
        check.is("angles", &self.angles, DType::F32, &[rows, pairs, 2], "[T, R, 2]")?;
        check.require(pairs <= dim / 2, "pairs", format!("at most D / 2 = {}", dim / 2), pairs)?;
        check.floats("out", &self.out, self.x.sizes(), "[T, H, D]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("x", Access::Read, &mut self.x)?;
        f("angles", Access::Read, &mut self.angles)?;
        f("out", Access::Write, &mut self.out)
    }

    fn cost(&self) -> Cost {
        let pairs = product(&[self.x.size(0), self.x.size(1), self.angles.size(1)]);
        Cost { flops: pairs.saturating_mul(6), read: self.x.bytes() + self.angles.bytes(), written: self.out.bytes() }
    }
}

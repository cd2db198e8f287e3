use super::{Access, Check, Operation, Visitor, product};
use crate::{Cost, DType, Invalid, Result, Tensor};

/// The places of the `k` largest scores of each row, best first.
///
/// Of equal scores the lower place comes first. Places whose score is -inf or NaN are never taken; where fewer than `k`
/// are left, the rest of the row is -1. With `k = 1` over logits this is greedy sampling.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `scores` | f32 | `[T, N]` |
/// | `out` | i32 | `[T, k]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`topk`), which leaves ties open; the lowest place is this contract's rule.
#[derive(Clone, Debug)]
pub struct TopK {
    /// Scores.
    pub scores: Tensor,
    /// Places, `k` per row.
    pub out: Tensor,
}

impl Operation for TopK {
    const NAME: &'static str = "top_k";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.dtype("scores", &self.scores, &[DType::F32])?;
        check.rank("scores", &self.scores, 2, "[T, N]")?;
        check.require(i32::try_from(self.scores.size(1)).is_ok(), "scores of a row", "below 2^31", self.scores.size(1))?;
        check.is("out", &self.out, DType::I32, &[self.scores.size(0), self.out.size(1)], "[T, k]")?;
        check.require(self.out.size(1) > 0, "k", "at least 1", 0)
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("scores", Access::Read, &mut self.scores)?;
        f("out", Access::Write, &mut self.out)
    }

    /// One comparison per score.
    fn cost(&self) -> Cost {
        Cost { flops: product(self.scores.sizes()), read: self.scores.bytes(), written: self.out.bytes() }
    }
}

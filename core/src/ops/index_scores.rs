use super::{Access, Check, Operation, Rounding, Visitor, bytes, product};
use crate::{Cost, DType, Invalid, Matrix, Paged, Result, Tensor};

/// The lightning indexer's score of each compressed entry.
///
/// ```text
/// out[t,e] = sum_h (scale * weights[t,h]) * max(0, q[t,h] . k_e)      e < visible[t]
/// out[t,e] = -inf                                                     otherwise, and where the pool has no entry e
/// ```
///
/// With [`Rounding::Bf16`] each step is rounded to bf16: the scaled weight, the product, its weighting, and the sum over
/// heads (itself f32).
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `q` | float, or e2m1 with a scale per 32 | `T * heads` rows of `D`, row `t * heads + h` |
/// | `weights` | float | `[T, heads]` |
/// | `keys` | pool of entry size `D` | |
/// | `visible` | i32 | `[T]`, entries that the row may see |
/// | `out` | f32 | `[T, N]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`Indexer`); DeepGEMM `fp8_fp4_mqa_logits`.
#[derive(Clone, Debug)]
pub struct IndexScores {
    /// Queries.
    pub q: Matrix,
    /// Weight of each head, which may be negative.
    pub weights: Tensor,
    /// Factor of the weights, `(D * heads)^-1/2` in V4.
    pub scale: f32,
    /// Keys.
    pub keys: Paged,
    /// Entries that each row may see.
    pub visible: Tensor,
    /// Rounding of the steps.
    pub rounding: Rounding,
    /// Scores.
    pub out: Tensor,
}

impl Operation for IndexScores {
    const NAME: &'static str = "index_scores";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.float("weights", &self.weights)?;
        check.rank("weights", &self.weights, 2, "[T, heads]")?;
        let (rows, heads, dim) = (self.weights.size(0), self.weights.size(1), self.keys.pool.format().dim());
        check.matrix("q", &self.q, [1, rows * heads, dim], "[1, T * heads, D]")?;
        check.require(
            self.q.format().layout().is_none_or(|l| l.rows == 1),
            "scale block of q",
            "one row",
            self.q.format(),
        )?;
        check.require(self.scale.is_finite(), "scale", "finite", self.scale)?;
        self.keys.check(Self::NAME, rows)?;
        check.is("visible", &self.visible, DType::I32, &[rows], "[T]")?;
        check.is("out", &self.out, DType::F32, &[rows, self.out.size(1)], "[T, N]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        self.q.visit(["q", "q scales"], Access::Read, f)?;
        f("weights", Access::Read, &mut self.weights)?;
        self.keys.visit(["pool", "page table", "sequence numbers"], Access::Read, f)?;
        f("visible", Access::Read, &mut self.visible)?;
        f("out", Access::Write, &mut self.out)
    }

    /// All `N` entries counted as visible.
    fn cost(&self) -> Cost {
        let (rows, entries) = (self.out.size(0), self.out.size(1));
        let pairs = product(&[rows, entries, self.weights.size(1)]);
        let keys = product(&[rows, entries, self.keys.pool.format().entry_bytes()]).min(self.keys.pool.pages().bytes());
        Cost {
            flops: pairs.saturating_mul(2 * self.q.cols() as u64 + 2),
            read: self.q.bytes() + bytes(&[&self.weights, &self.visible]) + keys,
            written: self.out.bytes(),
        }
    }
}

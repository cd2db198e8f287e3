use super::{Access, Check, Operation, Visitor, bytes, product};
use crate::{Cost, DType, Invalid, Result, Tensor};

/// Expands a sublayer's result into the residual streams: `out_k = post_k y + sum_j comb[j][k] X_j`.
///
/// The sum runs over the first index of `comb`: its transpose is applied.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `y` | float | `[T, d]` |
/// | `streams` | float | `[T, n, d]` |
/// | `post`, `comb` | f32 | `[T, n]`, `[T, n, n]` |
/// | `out` | float | `[T, n, d]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`hc_post`).
#[derive(Clone, Debug)]
pub struct HyperPost {
    /// The sublayer's result.
    pub y: Tensor,
    /// Residual streams that went into it.
    pub streams: Tensor,
    /// From [`HyperPre`](super::HyperPre).
    pub post: Tensor,
    /// From [`HyperPre`](super::HyperPre).
    pub comb: Tensor,
    /// New residual streams.
    pub out: Tensor,
}

impl Operation for HyperPost {
    const NAME: &'static str = "hyper_post";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.float("streams", &self.streams)?;
        check.rank("streams", &self.streams, 3, "[T, n, d]")?;
        let (rows, n, d) = (self.streams.size(0), self.streams.size(1), self.streams.size(2));
        check.floats("y", &self.y, &[rows, d], "[T, d]")?;
        check.is("post", &self.post, DType::F32, &[rows, n], "[T, n]")?;
        check.is("comb", &self.comb, DType::F32, &[rows, n, n], "[T, n, n]")?;
        check.floats("out", &self.out, &[rows, n, d], "[T, n, d]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("y", Access::Read, &mut self.y)?;
        f("streams", Access::Read, &mut self.streams)?;
        f("post", Access::Read, &mut self.post)?;
        f("comb", Access::Read, &mut self.comb)?;
        f("out", Access::Write, &mut self.out)
    }

    fn cost(&self) -> Cost {
        Cost {
            flops: product(&[2, self.out.count(), self.streams.size(1) + 1]),
            read: bytes(&[&self.y, &self.streams, &self.post, &self.comb]),
            written: self.out.bytes(),
        }
    }
}

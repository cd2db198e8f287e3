use super::{Access, Check, Operation, Visitor, bytes, product};
use crate::{Cost, DType, Invalid, Result, Tensor};

/// Collapses the residual streams after the last layer: `out = sum_i pre_i X_i`,
/// `pre = sigmoid(mix * scale + base) + eps`, `mix = (fn f) / sqrt(mean(f^2) + norm_eps)` as in
/// [`HyperPre`](super::HyperPre).
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `streams` | float | `[T, n, d]` |
/// | `mixer` | f32 | `[n, n d]` |
/// | `base`, `scale` | f32 | `[n]`, `[1]` |
/// | `out` | float | `[T, d]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`hc_head`).
#[derive(Clone, Debug)]
pub struct HyperHead {
    /// Residual streams.
    pub streams: Tensor,
    /// `hc_head_fn`.
    pub mixer: Tensor,
    /// `hc_head_base`.
    pub base: Tensor,
    /// `hc_head_scale`.
    pub scale: Tensor,
    /// Epsilon of the norm, positive.
    pub norm_eps: f32,
    /// `hc_eps`, positive.
    pub eps: f32,
    /// Result.
    pub out: Tensor,
}

impl Operation for HyperHead {
    const NAME: &'static str = "hyper_head";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.float("streams", &self.streams)?;
        check.rank("streams", &self.streams, 3, "[T, n, d]")?;
        let (rows, n, d) = (self.streams.size(0), self.streams.size(1), self.streams.size(2));
        check.require((1..=16).contains(&n) && d > 0, "streams", "1 to 16 of at least one element", n)?;
        check.is("mixer", &self.mixer, DType::F32, &[n, n * d], "[n, n d]")?;
        check.is("base", &self.base, DType::F32, &[n], "[n]")?;
        check.is("scale", &self.scale, DType::F32, &[1], "[1]")?;
        check.require(self.norm_eps > 0.0, "norm_eps", "positive", self.norm_eps)?;
        check.require(self.eps > 0.0, "eps", "positive", self.eps)?;
        check.floats("out", &self.out, &[rows, d], "[T, d]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("streams", Access::Read, &mut self.streams)?;
        f("mixer", Access::Read, &mut self.mixer)?;
        f("base", Access::Read, &mut self.base)?;
        f("scale", Access::Read, &mut self.scale)?;
        f("out", Access::Write, &mut self.out)
    }

    fn cost(&self) -> Cost {
        let n = self.streams.size(1);
        Cost {
            flops: product(&[2, self.streams.count(), n + 2]),
            read: bytes(&[&self.streams, &self.mixer, &self.base, &self.scale]),
            written: self.out.bytes(),
        }
    }
}

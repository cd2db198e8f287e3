use super::{Access, Check, Operation, Visitor, bytes, product};
use crate::{Cost, DType, Invalid, Result, Tensor};

/// Collapses `n` residual streams into a sublayer's input and computes how its result goes back (mHC).
///
/// With `f` a row's streams one behind the other and `mix = (fn f) / sqrt(mean(f^2) + norm_eps)`, whose `n (2 + n)` entries
/// are pre, post and comb (row-major):
///
/// ```text
/// pre_i  = sigmoid(mix_i * scale[0] + base_i) + eps                 x = sum_i pre_i X_i
/// post_i = 2 sigmoid(mix_{n+i} * scale[1] + base_{n+i})
/// C      = softmax of each row of (mix_{2n..} * scale[2] + base_{2n..}) + eps
/// C_jk  /= sum_j C_jk + eps,   then iterations - 1 times:   C_jk /= sum_k C_jk + eps,   C_jk /= sum_j C_jk + eps
/// ```
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `streams` | float | `[T, n, d]` |
/// | `mixer` | f32 | `[n (2 + n), n d]` |
/// | `base`, `scale` | f32 | `[n (2 + n)]`, `[3]` |
/// | `x` | float | `[T, d]` |
/// | `post`, `comb` | f32 | `[T, n]`, `[T, n, n]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`hc_pre`, `hc_split_sinkhorn`); the paper's order of passes differs.
#[derive(Clone, Debug)]
pub struct HyperPre {
    /// Residual streams.
    pub streams: Tensor,
    /// `hc_fn`.
    pub mixer: Tensor,
    /// `hc_base`.
    pub base: Tensor,
    /// `hc_scale`.
    pub scale: Tensor,
    /// Column passes of Sinkhorn's iteration, 1 to 1000.
    pub iterations: usize,
    /// Epsilon of the norm, positive.
    pub norm_eps: f32,
    /// `hc_eps`, positive.
    pub eps: f32,
    /// The sublayer's input.
    pub x: Tensor,
    /// Weight of the sublayer's result in each stream.
    pub post: Tensor,
    /// How streams mix into each other.
    pub comb: Tensor,
}

impl Operation for HyperPre {
    const NAME: &'static str = "hyper_pre";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.float("streams", &self.streams)?;
        check.rank("streams", &self.streams, 3, "[T, n, d]")?;
        let (rows, n, d) = (self.streams.size(0), self.streams.size(1), self.streams.size(2));
        check.require((1..=16).contains(&n) && d > 0, "streams", "1 to 16 of at least one element", n)?;
        let mixes = n * (2 + n);
        check.is("mixer", &self.mixer, DType::F32, &[mixes, n * d], "[n (2 + n), n d]")?;
        check.is("base", &self.base, DType::F32, &[mixes], "[n (2 + n)]")?;
        check.is("scale", &self.scale, DType::F32, &[3], "[3]")?;
        check.require((1..=1000).contains(&self.iterations), "iterations", "1 to 1000", self.iterations)?;
        check.require(self.norm_eps > 0.0, "norm_eps", "positive", self.norm_eps)?;
        check.require(self.eps > 0.0, "eps", "positive", self.eps)?;
        check.floats("x", &self.x, &[rows, d], "[T, d]")?;
        check.is("post", &self.post, DType::F32, &[rows, n], "[T, n]")?;
        check.is("comb", &self.comb, DType::F32, &[rows, n, n], "[T, n, n]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("streams", Access::Read, &mut self.streams)?;
        f("mixer", Access::Read, &mut self.mixer)?;
        f("base", Access::Read, &mut self.base)?;
        f("scale", Access::Read, &mut self.scale)?;
        f("x", Access::Write, &mut self.x)?;
        f("post", Access::Write, &mut self.post)?;
        f("comb", Access::Write, &mut self.comb)
    }

    fn cost(&self) -> Cost {
        let (rows, n, d) = (self.streams.size(0), self.streams.size(1), self.streams.size(2));
        let mix = product(&[2, rows, n * (2 + n) + 2, n * d]);
        let sinkhorn = product(&[4, rows, self.iterations, n * n]);
        Cost {
            flops: mix.saturating_add(sinkhorn),
            read: bytes(&[&self.streams, &self.mixer, &self.base, &self.scale]),
            written: bytes(&[&self.x, &self.post, &self.comb]),
        }
    }
}

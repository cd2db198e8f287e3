use super::{Access, Check, Operation, Visitor, bytes, product};
use crate::{Cost, DType, Invalid, Result, Tensor};

/// Attention over all keys of a sequence, for dense models: multi-head, grouped-query or multi-query.
///
/// Head `h` reads key-value head `h * G / H`. With `causal`, row `t` sees keys `j <= t + N - T`: the rows are the last `T`
/// of the `N` tokens. A sink, where given, adds `exp(sink[h])` to the denominator. A row that sees no key gives zero.
///
/// ```text
/// out[b,t,h] = sum_j softmax_j(scale * q[b,t,h] . k[b,j,g]) v[b,j,g]
/// ```
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `q` | float | `[B, T, H, D]` |
/// | `k` | float | `[B, N, G, D]`, `G` divides `H` |
/// | `v` | float | `[B, N, G, E]` |
/// | `sink` | f32 | `[H]` |
/// | `out` | float | `[B, T, H, E]` |
///
/// Source: Vaswani et al. 2017; grouped queries, Ainslie et al. 2023.
#[derive(Clone, Debug)]
pub struct DenseAttention {
    /// Queries.
    pub q: Tensor,
    /// Keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
    /// Factor of the scores.
    pub scale: f32,
    /// Whether a row sees only keys up to its own.
    pub causal: bool,
    /// Sink score per head.
    pub sink: Option<Tensor>,
    /// Result.
    pub out: Tensor,
}

impl Operation for DenseAttention {
    const NAME: &'static str = "dense_attention";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        for (name, tensor) in [("q", &self.q), ("k", &self.k), ("v", &self.v)] {
            check.float(name, tensor)?;
            check.rank(name, tensor, 4, "[batch, tokens, heads, size]")?;
        }
        let (batch, rows, heads, dim) = (self.q.size(0), self.q.size(1), self.q.size(2), self.q.size(3));
        let (keys, groups, value) = (self.k.size(1), self.k.size(2), self.v.size(3));
        check.require(groups > 0 && heads.is_multiple_of(groups), "key-value heads", format!("a divisor of {heads}"), {
            groups
        })?;
        check.shape("k", &self.k, &[batch, keys, groups, dim], "[B, N, G, D]")?;
        check.shape("v", &self.v, &[batch, keys, groups, value], "[B, N, G, E]")?;
        check.require(!self.causal || keys >= rows, "keys of a causal call", format!("at least T = {rows}"), keys)?;
        check.require(self.scale.is_finite(), "scale", "finite", self.scale)?;
        if let Some(sink) = &self.sink {
            check.is("sink", sink, DType::F32, &[heads], "[H]")?;
        }
        check.floats("out", &self.out, &[batch, rows, heads, value], "[B, T, H, E]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("q", Access::Read, &mut self.q)?;
        f("k", Access::Read, &mut self.k)?;
        f("v", Access::Read, &mut self.v)?;
        if let Some(sink) = &mut self.sink {
            f("sink", Access::Read, sink)?;
        }
        f("out", Access::Write, &mut self.out)
    }

    fn cost(&self) -> Cost {
        let (batch, rows, heads, keys) = (self.q.size(0), self.q.size(1), self.q.size(2), self.k.size(1));
        // Of a causal call's T x N pairs, the T (T - 1) / 2 beyond the diagonal are not computed.
        let masked = if self.causal { product(&[rows, rows.saturating_sub(1)]) / 2 } else { 0 };
        let pairs = product(&[rows, keys]).saturating_sub(masked);
        let per_pair = product(&[2, batch, heads, self.q.size(3) + self.v.size(3)]);
        Cost {
            flops: pairs.saturating_mul(per_pair),
            read: bytes(&[&self.q, &self.k, &self.v]),
            written: self.out.bytes(),
        }
    }
}

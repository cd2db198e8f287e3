use super::{Access, Check, Operation, Rounding, Visitor, bytes, product};
use crate::{Cost, DType, Invalid, Paged, Result, Tensor};

/// Keys that one scope of a [`SparseAttention`] offers: entries of a paged pool, by number.
#[derive(Clone, Debug)]
pub struct KeyScope {
    /// The pool, and how a row finds its entries.
    pub kv: Paged,
    /// i32 `[T, N]`: entry numbers within the row's sequence. -1, and whatever lies outside the pool, contributes
    /// nothing; an entry listed twice counts twice.
    pub entries: Tensor,
}

/// Shared-KV attention over lists of entries, with a sink: serves sliding-window, CSA and HCA layers.
///
/// Each row `t` attends to the entries that its lists name, scope by scope in list order; the same vector is key and
/// value for all heads. With `z_j = scale * (q[t,h] . K_j)`:
///
/// ```text
/// out[t,h] = sum_j exp(z_j - m) K_j / (sum_j exp(z_j - m) + exp(sink[h] - m)),     m any number
/// ```
///
/// The sink adds to the denominator only. A row without keys gives zero.
///
/// With [`Rounding::Bf16`] the unnormalised weight is rounded to bf16 before it multiplies `K_j`, but not in the
/// denominator. Then `m` matters: it is the running maximum of DeepSeek's `sparse_attn` kernel, without the sink. The
/// lists of both scopes one behind the other are cut into blocks of 64 places, -1 and other empty places counted:
///
/// ```text
/// m = -inf, den = 0, acc = 0
/// for each block that has a key:
///     m' = max(m, z_j of the block);   den = den exp(m - m'), acc = acc exp(m - m'), m = m'
///     for each key:   e = exp(z_j - m);   den += e;   acc += bf16(e) K_j
/// out = acc / (den + exp(sink - m))
/// ```
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `q` | float | `[T, H, D]` |
/// | `scopes` (1 or 2) | pool of entry size `D`; i32 lists | `[T, N]` each |
/// | `sink` | f32 | `[H]` |
/// | `out` | float | `[T, H, D]` |
///
/// Source: DeepSeek V4 `inference/model.py` (`sparse_attn`); FlashMLA's sparse decoding with two KV scopes.
#[derive(Clone, Debug)]
pub struct SparseAttention {
    /// Queries.
    pub q: Tensor,
    /// Keys and values: the window, then the compressed entries.
    pub scopes: Vec<KeyScope>,
    /// Sink score per head, in the units of `z`.
    pub sink: Tensor,
    /// Factor of the scores, `D^-1/2` in V4.
    pub scale: f32,
    /// Rounding of the weights.
    pub rounding: Rounding,
    /// Result.
    pub out: Tensor,
}

impl SparseAttention {
    /// List places that share a running maximum where weights are rounded.
    pub const BLOCK: usize = 64;
}

impl Operation for SparseAttention {
    const NAME: &'static str = "sparse_attention";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        check.float("q", &self.q)?;
        check.rank("q", &self.q, 3, "[T, H, D]")?;
        let (rows, heads, dim) = (self.q.size(0), self.q.size(1), self.q.size(2));
        check.require(matches!(self.scopes.len(), 1 | 2), "number of scopes", "1 or 2", self.scopes.len())?;
        for scope in &self.scopes {
            scope.kv.check(Self::NAME, rows)?;
            check.require(scope.kv.pool.format().dim() == dim, "entry size", format!("D = {dim}"), {
                scope.kv.pool.format().dim()
            })?;
            check.dtype("entries", &scope.entries, &[DType::I32])?;
            check.shape("entries", &scope.entries, &[rows, scope.entries.size(1)], "[T, N]")?;
        }
        check.is("sink", &self.sink, DType::F32, &[heads], "[H]")?;
        check.require(self.scale.is_finite(), "scale", "finite", self.scale)?;
        check.floats("out", &self.out, &[rows, heads, dim], "[T, H, D]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("q", Access::Read, &mut self.q)?;
        let names = [
            (["pool", "page table", "sequence numbers"], "entries"),
            (["second pool", "second page table", "second sequence numbers"], "second entries"),
        ];
        for (scope, (kv, entries)) in self.scopes.iter_mut().zip(names) {
            scope.kv.visit(kv, Access::Read, f)?;
            f(entries, Access::Read, &mut scope.entries)?;
        }
        f("sink", Access::Read, &mut self.sink)?;
        f("out", Access::Write, &mut self.out)
    }

    /// Every list place counted as a key; an entry that several rows share is read once per row, or once from the pool
    /// where the pool is smaller.
    fn cost(&self) -> Cost {
        let (rows, heads, dim) = (self.q.size(0), self.q.size(1), self.q.size(2));
        let keys: usize = self.scopes.iter().map(|s| s.entries.size(1)).sum();
        let gathered = self.scopes.iter().map(|s| {
            let entries = product(&[rows, s.entries.size(1), s.kv.pool.format().entry_bytes()]);
            entries.min(s.kv.pool.pages().bytes()) + s.entries.bytes()
        });
        Cost {
            flops: product(&[4, rows, heads, dim, keys]),
            read: bytes(&[&self.q, &self.sink]) + gathered.sum::<u64>(),
            written: self.out.bytes(),
        }
    }
}

use super::{Access, Check, Operation, Visitor, product};
use crate::{Cost, DType, Invalid, Paged, Result, Tensor};

/// Stores rows as entries of a paged pool, in the pool's own format.
///
/// Row `t` becomes entry `entries[t]` of sequence `sequence[t]`; -1, and whatever lies outside the pool, is stored
/// nowhere. Where two rows name one entry the later row stays. Packed forms quantise as [`Quantize`](super::Quantize)
/// does, in the blocks that [`KvFormat`](crate::KvFormat) names, from the row rounded to bf16 first; the padding
/// behind an entry's own scales is written as zero. Other entries and the end of the page keep their bytes.
///
/// | operand | type | shape |
/// | --- | --- | --- |
/// | `x` | float | `[T, D]`, rope part last |
/// | `kv` | pool of entry size `D`, changed | |
/// | `entries` | i32 | `[T]` |
///
/// Source: the page layouts of FlashMLA (MODEL1), vLLM (`fp8_ds_mla`) and DeepGEMM (paged indexer cache).
#[derive(Clone, Debug)]
pub struct KvStore {
    /// Rows.
    pub x: Tensor,
    /// The pool.
    pub kv: Paged,
    /// Entry that each row becomes.
    pub entries: Tensor,
}

impl Operation for KvStore {
    const NAME: &'static str = "kv_store";

    fn check(&self) -> Result<(), Invalid> {
        let check = Check(Self::NAME);
        let (rows, dim) = (self.x.size(0), self.kv.pool.format().dim());
        check.floats("x", &self.x, &[rows, dim], "[T, D]")?;
        self.kv.check(Self::NAME, rows)?;
        check.is("entries", &self.entries, DType::I32, &[rows], "[T]")
    }

    fn visit(&mut self, f: &mut Visitor<'_>) -> Result<()> {
        f("x", Access::Read, &mut self.x)?;
        self.kv.visit(["pool", "page table", "sequence numbers"], Access::ReadWrite, f)?;
        f("entries", Access::Read, &mut self.entries)
    }

    fn cost(&self) -> Cost {
        let written = product(&[self.x.size(0), self.kv.pool.format().entry_bytes()]);
        Cost { flops: self.x.count() as u64, read: self.x.bytes() + self.entries.bytes(), written }
    }
}

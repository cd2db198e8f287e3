//! Attention of one layer: sliding window, with compressed entries where the layer compresses (DeepSeek V4
//! `inference/model.py`, `Attention`, `Compressor` and `Indexer`).

use super::Precision;
use super::batch::{Inputs, RatioInputs};
use super::cache::Compressed;
use super::graph::{Graph, paged, plain, reshape};
use super::weights::{Attention, Compressor, Indexer};
use crate::Result;
use anychip_core::ops::{IndexScores, KeyScope, KvCompress, KvStore, RmsNorm, SparseAttention, TopK};
use anychip_core::{DType, KvFormat, KvPool, Matrix, Tensor};

/// Where a layer keeps its keys, and the angles it rotates by.
pub(crate) struct Memory<'a> {
    pub(crate) window: &'a KvPool,
    pub(crate) compressed: Option<&'a Compressed>,
    pub(crate) angles: &'a Tensor,
}

impl Graph<'_> {
    /// The attention's result for the normed input `x`, `[T, d]`.
    pub(crate) fn attention(
        &mut self,
        name: &str,
        weights: &Attention,
        memory: Memory<'_>,
        inputs: &Inputs,
        x: &Tensor,
    ) -> Result<Tensor> {
        let (rows, heads, dim) = (x.size(0), self.config.heads, self.config.head_dim);
        let quantized_x = self.quantized(["attn x", "attn x scales"], x, &weights.wq_a)?;
        let qa = self.linear("wq_a", &quantized_x, &weights.wq_a)?;
        let qr = self.rms_norm("q_norm", &qa, &weights.q_norm)?;
        self.tap(|| format!("{name}self_attn.q_a_norm.out"), &qr);
        let quantized_qr = self.quantized(["qr", "qr scales"], &qr, &weights.wq_b)?;
        let q = self.linear("wq_b", &quantized_qr, &weights.wq_b)?;
        let q = self.head_norm(&reshape(&q, &[rows * heads, dim])?)?;
        let q = self.rope("q", &reshape(&q, &[rows, heads, dim])?, memory.angles, false)?;

        let kv = self.linear("wkv", &quantized_x, &weights.wkv)?;
        let kv = self.rms_norm("kv_norm", &kv, &weights.kv_norm)?;
        self.tap(|| format!("{name}self_attn.kv_norm.out"), &kv);
        let kv = self.rope("kv", &reshape(&kv, &[rows, 1, dim])?, memory.angles, false)?;
        let window = paged(memory.window, &self.cache.window_table, &inputs.sequence);
        self.push(KvStore {
            x: reshape(&kv, &[rows, dim])?,
            kv: window.clone(),
            entries: inputs.window_place.clone(),
        })?;
        let mut scopes = vec![KeyScope { kv: window, entries: inputs.window.clone() }];

        let compressing = memory.compressed.zip(weights.compressor.as_ref());
        if let Some((compressed, compressor)) = compressing
            && let (Some(ratio), Some(group)) =
                (inputs.ratios.get(&compressed.ratio), self.cache.groups.get(&compressed.ratio))
        {
            let prefix = format!("{name}self_attn.compressor.");
            let pools = (&compressed.entries, &compressed.state);
            self.compress(&prefix, compressor, pools, &group.table, inputs, ratio, x)?;
            let entries = match weights.indexer.as_ref().zip(compressed.indexer.as_ref()) {
                Some((indexer, cache)) => {
                    let prefix = format!("{prefix}indexer.");
                    let pools = (&cache.keys, &cache.state);
                    self.compress(&prefix, &indexer.compressor, pools, &group.table, inputs, ratio, x)?;
                    let keys = paged(&cache.keys, &group.table, &inputs.sequence);
                    Some(self.select(&prefix, indexer, keys, memory.angles, ratio, x, &quantized_qr)?)
                }
                None => ratio.all.clone(),
            };
            if let Some(entries) = entries {
                let kv = paged(&compressed.entries, &group.table, &inputs.sequence);
                scopes.push(KeyScope { kv, entries });
            }
        }

        let o = self.activation("attention", &[rows, heads, dim])?;
        self.push(SparseAttention {
            q,
            scopes,
            sink: weights.sink.clone(),
            scale: (dim as f32).sqrt().recip(),
            rounding: self.rounding(),
            out: o.clone(),
        })?;
        let o = self.rope("attention out", &o, memory.angles, true)?;
        // The served model multiplies wo_a in bf16: its input is never quantised.
        let u = self.linear("wo_a", &plain(&reshape(&o, &[rows, heads * dim])?)?, &weights.wo_a)?;
        self.tap(|| format!("{name}self_attn.o_a_proj.out"), &u);
        let quantized_u = self.quantized(["u", "u scales"], &u, &weights.wo_b)?;
        self.linear("wo_b", &quantized_u, &weights.wo_b)
    }

    /// The query's norm per head, without a weight.
    fn head_norm(&mut self, q: &Tensor) -> Result<Tensor> {
        let out = self.activation("head_norm", q.sizes())?;
        let (eps, rounding) = (self.config.rms_norm_eps as f32, self.rounding());
        self.push(RmsNorm { x: q.clone(), weight: None, eps, rounding, out: out.clone() })?;
        Ok(out)
    }

    /// Pools what `x` completes into entries of `pool`, and carries the rest in `state`.
    fn compress(
        &mut self,
        name: &str,
        weights: &Compressor,
        (pool, state): (&KvPool, &Tensor),
        table: &Tensor,
        inputs: &Inputs,
        ratio: &RatioInputs,
        x: &Tensor,
    ) -> Result<()> {
        let indexer = matches!(pool.format(), KvFormat::Fp4 { .. });
        let (dim, closings) = (pool.format().dim(), ratio.closing.count());
        let x = plain(x)?;
        // f32 in both precisions: the state is never rounded.
        let kv = self.linear_as("compressor kv", DType::F32, &x, &weights.wkv)?;
        let gate = self.linear_as("compressor gate", DType::F32, &x, &weights.wgate)?;
        let pooled = self.activation("pooled", &[closings, dim])?;
        self.push(KvCompress {
            kv,
            gate,
            overlap: weights.ape.size(1) == 2 * dim,
            ape: weights.ape.clone(),
            state: state.clone(),
            sequence: inputs.sequence.clone(),
            position: inputs.position.clone(),
            closing: ratio.closing.clone(),
            out: pooled.clone(),
        })?;
        let normed = self.rms_norm("pooled norm", &pooled, &weights.norm)?;
        self.tap(|| format!("{name}kv_norm.out"), &normed);
        let rotated = self.rope("pooled rope", &reshape(&normed, &[closings, 1, dim])?, &ratio.angles, false)?;
        let mut entry = reshape(&rotated, &[closings, dim])?;
        self.tap(|| format!("{name}compressed_kv"), &entry);
        if indexer {
            entry = self.hadamard("pooled hadamard", entry)?;
        }
        self.push(KvStore { x: entry, kv: paged(pool, table, &ratio.sequence), entries: ratio.entry.clone() })
    }

    /// The entries that the indexer chooses for each row, best first.
    fn select(
        &mut self,
        name: &str,
        weights: &Indexer,
        keys: anychip_core::Paged,
        angles: &Tensor,
        ratio: &RatioInputs,
        x: &Tensor,
        qr: &Matrix,
    ) -> Result<Tensor> {
        let (rows, heads, dim) = (x.size(0), self.config.index_n_heads, self.config.index_head_dim);
        let q = self.linear("index wq_b", qr, &weights.wq_b)?;
        let q = self.rope("index q", &reshape(&q, &[rows, heads, dim])?, angles, false)?;
        self.tap(|| format!("{name}scorer.q"), &q);
        let q = self.hadamard("index q hadamard", reshape(&q, &[rows * heads, dim])?)?;
        let q = match self.precision {
            Precision::Exact => plain(&q)?,
            Precision::Served => self.quantize(["index q codes", "index q scales"], &q, DType::E2M1, 32)?,
        };
        let weights = self.linear("index weights", &plain(x)?, &weights.weights_proj)?;
        let scores = self.tensor("index scores", DType::F32, &[rows, ratio.width])?;
        self.push(IndexScores {
            q,
            weights,
            scale: ((dim as f64).powf(-0.5) * (heads as f64).powf(-0.5)) as f32,
            keys,
            visible: ratio.visible.clone(),
            rounding: self.rounding(),
            out: scores.clone(),
        })?;
        self.tap(|| format!("{name}scorer.scores"), &scores);
        let entries = self.tensor("index entries", DType::I32, &[rows, self.config.index_topk])?;
        self.push(TopK { scores, out: entries.clone() })?;
        self.tap(|| format!("{name}topk_indices"), &entries);
        Ok(entries)
    }
}

//! Sizes and formats of DeepSeek V4-Flash, from its published `config.json`.

use anychip_conformance::{Builder, HostMatrix};
use anychip_core::{DType, Format, KvFormat, Matrix, Result, ScaleLayout};

/// `hidden_size`.
pub const HIDDEN: usize = 4096;
/// `num_attention_heads`.
pub const HEADS: usize = 64;
/// `head_dim`: one vector per token is key and value of all heads.
pub const HEAD_DIM: usize = 512;
/// `sliding_window`.
pub const WINDOW: usize = 128;
/// `q_lora_rank`.
pub const Q_RANK: usize = 1024;
/// `o_groups`, whose projections are [`O_RANK`] high.
pub const O_GROUPS: usize = 8;
/// `o_lora_rank`.
pub const O_RANK: usize = 1024;
/// `index_n_heads`.
pub const INDEX_HEADS: usize = 64;
/// `index_head_dim`.
pub const INDEX_DIM: usize = 128;
/// `index_topk`.
pub const INDEX_TOP_K: usize = 512;
/// `num_experts_per_tok`.
pub const EXPERTS_PER_TOKEN: usize = 6;
/// `moe_intermediate_size`.
pub const EXPERT_INNER: usize = 2048;
/// `swiglu_limit`.
pub const SWIGLU_LIMIT: f32 = 10.0;
/// `hc_mult`.
pub const STREAMS: usize = 4;
/// `hc_sinkhorn_iters`.
pub const SINKHORN_ITERATIONS: usize = 20;
/// `rms_norm_eps` and `hc_eps`.
pub const EPS: f32 = 1e-6;

/// Activations: e4m3 with a ue8m0 scale per 128 columns.
pub const ACTIVATIONS: Format = Format::E4M3(ScaleLayout::per_row(128));
/// Dense weights: e4m3 with a ue8m0 scale per 128 x 128 block.
pub const WEIGHTS: Format = Format::E4M3(ScaleLayout::BLOCK_128);
/// Routed experts: e2m1 with a ue8m0 scale per 32 columns.
pub const EXPERTS: Format = Format::E2M1(ScaleLayout::per_row(32));
/// bf16 without scales.
pub const BF16: Format = Format::Plain(DType::BF16);
/// Entries of window and compressed KV pools.
pub const KV: KvFormat = KvFormat::Fp8 { nope: 448, rope: 64 };
/// Entries of the indexer's key pools.
pub const INDEX_KEYS: KvFormat = KvFormat::Fp4 { dim: INDEX_DIM };

/// FP4 matrices of random codes under scales that keep the size of what they multiply. Rounding as many random values would
/// take a minute.
///
/// # Errors
/// Those of the builder's device.
pub fn random_experts(b: &mut Builder<'_>, sizes: [usize; 3]) -> Result<Matrix> {
    let [groups, rows, cols] = sizes;
    // Every nibble is a number, and their root mean square is near 3.
    let codes = (0..groups * rows * cols / 2).map(|_| b.random().byte()).collect();
    let blocks = EXPERTS.scale_sizes(groups, rows, cols).map_or(0, |sizes| sizes.iter().product());
    let middle = 127 - 2 - (cols.ilog2() / 2) as u8;
    let scales = (0..blocks).map(|_| middle - 1 + b.random().byte() % 3).collect();
    b.matrix_of(&HostMatrix { format: EXPERTS, sizes, codes, scales })
}

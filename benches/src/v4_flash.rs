//! Sizes and formats of DeepSeek V4-Flash, from its published `config.json`, and operands that need them.

use anychip_conformance::{Builder, HostMatrix};
use anychip_core::{DType, Format, KvFormat, Matrix, Result, ScaleLayout};

/// `hidden_size`.
pub const HIDDEN: usize = 4096;
/// `num_attention_heads` and `index_n_heads`.
pub const HEADS: usize = 64;
/// `head_dim`: one vector per token is key and value of all heads.
pub const HEAD_DIM: usize = 512;
/// `index_head_dim`.
pub const INDEX_DIM: usize = 128;
/// `index_topk`.
pub const INDEX_TOP_K: usize = 512;
/// `num_experts_per_tok`.
pub const EXPERTS_PER_TOKEN: usize = 6;
/// Experts that benchmarks load, of 256: as many as can be made and judged in seconds.
pub const EXPERTS: usize = 32;
/// `moe_intermediate_size`.
pub const EXPERT_INNER: usize = 2048;
/// `hc_mult`.
pub const STREAMS: usize = 4;
/// `rms_norm_eps` and `hc_eps`.
pub const EPS: f32 = 1e-6;

/// bf16 without scales.
pub const BF16: Format = Format::Plain(DType::BF16);
/// Activations: e4m3 with a ue8m0 scale per 128 columns.
pub const E4M3_ROWS: Format = Format::E4M3(ScaleLayout::per_row(128));
/// Dense weights: e4m3 with a ue8m0 scale per 128 x 128 block.
pub const E4M3_BLOCKS: Format = Format::E4M3(ScaleLayout::BLOCK_128);
/// Routed experts and the indexer's queries: e2m1 with a ue8m0 scale per 32 columns.
pub const E2M1_ROWS: Format = Format::E2M1(ScaleLayout::per_row(32));
/// Entries of window and compressed KV pools.
pub const KV: KvFormat = KvFormat::Fp8 { nope: 448, rope: 64 };
/// Entries of the indexer's key pool.
pub const INDEX_KEYS: KvFormat = KvFormat::Fp4 { dim: INDEX_DIM };

/// The experts that each of `rows` tokens chooses, all different, token by token.
pub fn chosen_experts(b: &mut Builder<'_>, rows: usize) -> Vec<i32> {
    let one = |_| b.random().permutation(EXPERTS)[..EXPERTS_PER_TOKEN].iter().map(|&e| e as i32).collect::<Vec<_>>();
    (0..rows).flat_map(one).collect()
}

/// FP4 matrices `[EXPERTS, rows, cols]` of random codes, under scales that keep the size of what they multiply. To round
/// as many random values would take a minute.
///
/// # Errors
/// Those of the builder's device.
pub fn expert_matrices(b: &mut Builder<'_>, rows: usize, cols: usize) -> Result<Matrix> {
    // Every nibble is a number; the root of their mean square is near 3.
    let codes = (0..EXPERTS * rows * cols / 2).map(|_| b.random().byte()).collect();
    let least = 127 - 3 - (cols.max(1).ilog2() / 2) as u8;
    let scales = (0..EXPERTS * rows * cols.div_ceil(32)).map(|_| least + b.random().byte() % 3).collect();
    b.matrix_of(&HostMatrix { format: E2M1_ROWS, sizes: [EXPERTS, rows, cols], codes, scales })
}

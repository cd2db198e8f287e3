//! The configurations that need no file: the two released models and the golden tiny one.

use super::{Compression, Config, ExpertDtype, LayerKind, Quantization, Yarn};
use anychip_core::DType;

use Compression::{None as Window, Overlap, Pooled};

/// `[first, first, Overlap(4), Pooled(128), ..., Overlap(4)]`: both released models alternate after two layers, end on
/// CSA and hash-route their first three layers.
fn schedule(first: Compression, layers: usize) -> Vec<LayerKind> {
    (0..layers)
        .map(|index| LayerKind {
            compression: match index {
                0 | 1 => first,
                even if even % 2 == 0 => Overlap(4),
                _ => Pooled(128),
            },
            hash_routed: index < 3,
        })
        .collect()
}

impl Config {
    /// DeepSeek-V4-Flash as released (43 layers, one MTP layer): 284.3 G parameters, 13.3 G of them active.
    pub fn v4_flash() -> Config {
        Config {
            hidden_size: 4096,
            layers: schedule(Window, 43),
            heads: 64,
            q_lora_rank: 1024,
            o_groups: 8,
            index_topk: 512,
            experts: 256,
            moe_intermediate_size: 2048,
            routed_scaling_factor: 1.5,
            ..Config::v4_pro()
        }
    }

    /// DeepSeek-V4-Pro as released (61 layers, one MTP layer): 1573 G parameters, 48.8 G of them active.
    pub fn v4_pro() -> Config {
        Config {
            hidden_size: 7168,
            vocab_size: 129280,
            layers: schedule(Pooled(128), 61),
            mtp: Some(LayerKind { compression: Window, hash_routed: false }),
            heads: 128,
            head_dim: 512,
            rope_dim: 64,
            q_lora_rank: 1536,
            o_groups: 16,
            o_lora_rank: 1024,
            index_n_heads: 64,
            index_head_dim: 128,
            index_topk: 1024,
            sliding_window: 128,
            experts: 384,
            experts_per_token: 6,
            n_shared_experts: 1,
            moe_intermediate_size: 3072,
            routed_scaling_factor: 2.5,
            swiglu_limit: 10.0,
            hc_mult: 4,
            sinkhorn_iters: 20,
            hc_eps: 1e-6,
            rms_norm_eps: 1e-6,
            rope_theta: 10000.0,
            compress_rope_theta: 160000.0,
            yarn: Some(Yarn { factor: 16.0, original: 65536, beta_fast: 32.0, beta_slow: 1.0 }),
            max_position_embeddings: 1 << 20,
            bos: 0,
            eos: vec![1],
            dtype: DType::BF16,
            quantization: Some(Quantization { weight_block: [128, 128], expert_dtype: ExpertDtype::Fp4 }),
        }
    }

    /// The model of `golden/tiny`: 2.5 M parameters, four layers of all three kinds, the real ratios.
    pub fn tiny() -> Config {
        let kinds = [Window, Overlap(4), Pooled(128), Overlap(4)];
        let layer = |(index, compression)| LayerKind { compression, hash_routed: index < 1 };
        Config {
            hidden_size: 128,
            vocab_size: 1024,
            layers: kinds.into_iter().enumerate().map(layer).collect(),
            mtp: None,
            heads: 4,
            head_dim: 64,
            rope_dim: 16,
            q_lora_rank: 64,
            o_groups: 2,
            o_lora_rank: 32,
            index_n_heads: 8,
            index_head_dim: 32,
            index_topk: 32,
            experts: 8,
            experts_per_token: 2,
            moe_intermediate_size: 128,
            routed_scaling_factor: 1.5,
            ..Config::v4_pro()
        }
    }
}

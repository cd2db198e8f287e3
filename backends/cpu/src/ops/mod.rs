//! The kernels, one file per operation: `run(op)` computes a description that was already checked.

pub(crate) mod dense_attention;
pub(crate) mod dequantize;
pub(crate) mod embed;
pub(crate) mod expert_ffn;
pub(crate) mod expert_gemm;
pub(crate) mod hadamard;
pub(crate) mod hyper_head;
pub(crate) mod hyper_post;
pub(crate) mod hyper_pre;
pub(crate) mod index_scores;
pub(crate) mod kv_compress;
pub(crate) mod kv_store;
pub(crate) mod linear;
pub(crate) mod newton_schulz;
pub(crate) mod quantize;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod route;
pub(crate) mod sparse_attention;
pub(crate) mod swiglu;
pub(crate) mod top_k;

//! One file per operation, each a function from the description to what the operation writes.

mod dense_attention;
mod dequantize;
mod embed;
mod expert_ffn;
mod expert_gemm;
mod hadamard;
mod hyper_head;
mod hyper_post;
mod hyper_pre;
mod index_scores;
mod kv_compress;
mod kv_store;
mod linear;
mod newton_schulz;
mod quantize;
mod rms_norm;
mod rope;
mod route;
mod sparse_attention;
mod swiglu;
mod top_k;

use crate::{Output, Real};
use anychip_core::ops::OpKind;
use anychip_core::{Error, Op, Result};

/// What `op` gives, as reals of kind `R`.
pub(crate) fn evaluate<R: Real>(op: &Op, units: R::Units) -> Result<Vec<Output<R>>> {
    match op.kind() {
        OpKind::SparseAttention(op) => sparse_attention::evaluate(op, units),
        OpKind::DenseAttention(op) => dense_attention::evaluate(op, units),
        OpKind::KvCompress(op) => kv_compress::evaluate(op, units),
        OpKind::IndexScores(op) => index_scores::evaluate(op, units),
        OpKind::TopK(op) => top_k::evaluate(op, units),
        OpKind::KvStore(op) => kv_store::evaluate(op, units),
        OpKind::Route(op) => route::evaluate(op, units),
        OpKind::ExpertGemm(op) => expert_gemm::evaluate(op, units),
        OpKind::ExpertFfn(op) => expert_ffn::evaluate(op, units),
        OpKind::Linear(op) => linear::evaluate(op, units),
        OpKind::Embed(op) => embed::evaluate(op, units),
        OpKind::RmsNorm(op) => rms_norm::evaluate(op, units),
        OpKind::Rope(op) => rope::evaluate(op, units),
        OpKind::Swiglu(op) => swiglu::evaluate(op, units),
        OpKind::Quantize(op) => quantize::evaluate(op, units),
        OpKind::Dequantize(op) => dequantize::evaluate(op, units),
        OpKind::Hadamard(op) => hadamard::evaluate(op, units),
        OpKind::HyperPre(op) => hyper_pre::evaluate(op, units),
        OpKind::HyperPost(op) => hyper_post::evaluate(op, units),
        OpKind::HyperHead(op) => hyper_head::evaluate(op, units),
        OpKind::NewtonSchulz(op) => newton_schulz::evaluate(op, units),
        // The contract may grow: an oracle that is older says so instead of guessing.
        _ => Err(Error::Device { device: "reference".into(), cause: format!("no oracle for `{}`", op.name()) }),
    }
}

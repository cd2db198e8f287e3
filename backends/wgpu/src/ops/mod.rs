//! Each operation as a plan of kernels.

use crate::limits::Limits;
use crate::plan::Plan;
use anychip_core::ops::OpKind;
use anychip_core::{Determinism, Numerics, Op, Reason};

mod attention_join;
mod hyper;

/// One arm per operation, from which both answers come: whether there are kernels, and which.
macro_rules! kernels {
    ($($Kind:ident => $module:ident),* $(,)?) => {
        $(mod $module;)*

        /// The operations that there are kernels for.
        #[cfg(test)]
        pub(crate) const KERNELS: &[&str] = &[$(<anychip_core::ops::$Kind as anychip_core::Operation>::NAME),*];

        fn kernels(op: &Op, plan: &mut Plan) -> Result<(), Reason> {
            match op.kind() {
                $(OpKind::$Kind(op) => $module::plan(op, plan),)*
                _ => Err(Reason {
                    rule: "operation".into(),
                    limit: "one the device has a kernel for".into(),
                    got: op.name().into(),
                }),
            }
        }
    };
}

kernels! {
    SparseAttention => sparse_attention,
    DenseAttention => dense_attention,
    KvCompress => kv_compress,
    IndexScores => index_scores,
    TopK => top_k,
    KvStore => kv_store,
    Route => route,
    ExpertGemm => expert_gemm,
    ExpertFfn => expert_ffn,
    Linear => linear,
    Embed => embed,
    RmsNorm => rms_norm,
    Rope => rope,
    Swiglu => swiglu,
    Quantize => quantize,
    Dequantize => dequantize,
    Hadamard => hadamard,
    HyperPre => hyper_pre,
    HyperPost => hyper_post,
    HyperHead => hyper_head,
    NewtonSchulz => newton_schulz,
}

/// The kernels of an operation, or why there are none for it as given.
pub(crate) fn plan(op: &Op, limits: &Limits) -> Result<Plan, Reason> {
    for (name, _, tensor) in op.operands() {
        let refused = |rule: &str, limit: String, got: u64| Reason {
            rule: format!("{rule} of {name}"),
            limit,
            got: got.to_string(),
        };
        if !tensor.offset().is_multiple_of(limits.alignment) {
            let (limit, offset) = (format!("a multiple of {} bytes", limits.alignment), tensor.offset());
            return Err(Reason { rule: "alignment".into(), ..refused("alignment", limit, offset) });
        }
        // Kernels count elements in 32 bits.
        if tensor.count() as u64 >= u32::MAX as u64 - 1024 {
            return Err(refused("elements", "below 2^32 - 1024".into(), tensor.count() as u64));
        }
    }
    let mut plan = Plan::new(*limits);
    kernels(op, &mut plan)?;
    plan.count_moved(op.cost().bytes());
    match plan.steps.iter().find_map(|step| step.refusal(limits)) {
        Some(reason) => Err(reason),
        None => Ok(plan),
    }
}

/// f32 sums, one rounding per product. Functions are the kernels' own, over a division and a square root that Vulkan allows
/// 2.5 units each. Kernels for few rows and for many add in different orders.
pub(crate) fn numerics(_op: &Op) -> Numerics {
    Numerics { function_ulps: 4.0, flushes_subnormals: true, determinism: Determinism::RunToRun, ..Numerics::f32() }
}

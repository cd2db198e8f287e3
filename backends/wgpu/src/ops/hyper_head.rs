use super::hyper::Hyper;
use crate::plan::Plan;
use anychip_core::Reason;
use anychip_core::ops::HyperHead;

/// `out[t] = sum_i pre_i X_i`, `pre = sigmoid(mix * scale + base) + eps`
pub(crate) fn plan(op: &HyperHead, plan: &mut Plan) -> Result<(), Reason> {
    let hyper = Hyper {
        kernel: "hyper_head",
        each: 1,
        streams: &op.streams,
        mixer: &op.mixer,
        base: &op.base,
        scale: &op.scale,
        out: &op.out,
        iterations: 0,
        norm_eps: op.norm_eps,
        eps: op.eps,
    };
    hyper.plan(plan, |kernel| kernel);
    Ok(())
}

use super::hyper::Hyper;
use crate::plan::Plan;
use anychip_core::Reason;
use anychip_core::ops::HyperPre;

/// `x = sum_i pre_i X_i`, and the weights with which the sublayer's result goes back into the streams.
pub(crate) fn plan(op: &HyperPre, plan: &mut Plan) -> Result<(), Reason> {
    let hyper = Hyper {
        kernel: "hyper_pre",
        // Eight lines of three are the 24 mixes of four streams.
        each: 3,
        streams: &op.streams,
        mixer: &op.mixer,
        base: &op.base,
        scale: &op.scale,
        out: &op.x,
        iterations: op.iterations,
        norm_eps: op.norm_eps,
        eps: op.eps,
    };
    hyper.plan(plan, |kernel| kernel.write("post", &op.post).write("comb", &op.comb));
    Ok(())
}

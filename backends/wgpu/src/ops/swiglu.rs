use crate::plan::Plan;
use anychip_core::Reason;
use anychip_core::ops::Swiglu;

/// `out = w * silu(min(gate, limit)) * clamp(up, -limit, limit)`
pub(crate) fn plan(op: &Swiglu, plan: &mut Plan) -> Result<(), Reason> {
    let count = op.out.count();
    plan.kernel("swiglu")
        .read("gate", &op.gate)
        .read("up", &op.up)
        .read_or("weights", op.weights.as_ref(), 1.0)
        .write("out", &op.out)
        .sizes(&[op.gate.size(1), count])
        .floats(&[op.limit])
        .turns(0)
        .run_each(count.div_ceil(2));
    Ok(())
}

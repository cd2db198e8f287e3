use crate::limits::{halvings, turns};
use crate::plan::Plan;
use anychip_core::Reason;
use anychip_core::ops::{RmsNorm, Rounding};

/// `out[r] = w * x[r] / sqrt(mean(x[r]^2) + eps)`
pub(crate) fn plan(op: &RmsNorm, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, width, group) = (op.x.size(0), op.x.size(1), plan.limits.group());
    plan.kernel("rms_norm")
        .flag("STEPS", op.rounding == Rounding::Bf16)
        .read("x", &op.x)
        .read_or("weight", op.weight.as_ref(), 1.0)
        .write("out", &op.out)
        .sizes(&[rows, width])
        .floats(&[op.eps])
        .turns(turns(width, group as usize) + halvings(group) + turns(width, 2 * group as usize))
        .run(group, rows);
    Ok(())
}

use crate::plan::Plan;
use anychip_core::Reason;
use anychip_core::ops::Rope;

/// Pairs `(a, b)` become `(a c - b s, b c + a s)`
pub(crate) fn plan(op: &Rope, plan: &mut Plan) -> Result<(), Reason> {
    let (heads, width, pairs, count) = (op.x.size(1), op.x.size(2), op.angles.size(1), op.out.count());
    plan.kernel("rope")
        .flag("INVERSE", op.inverse)
        .read("x", &op.x)
        .read("angles", &op.angles)
        .write("out", &op.out)
        .sizes(&[heads, width, pairs, count])
        .turns(0)
        .run_each(count.div_ceil(2));
    Ok(())
}

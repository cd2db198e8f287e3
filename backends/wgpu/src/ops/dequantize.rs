use crate::plan::Plan;
use anychip_core::Reason;
use anychip_core::ops::Dequantize;

/// Codes times their scales.
pub(crate) fn plan(op: &Dequantize, plan: &mut Plan) -> Result<(), Reason> {
    let count = op.out.count();
    plan.kernel("dequantize")
        .matrix("x", "x_scale", &op.x)
        .write("out", &op.out)
        .sizes(&[op.x.rows(), op.x.cols(), count])
        .turns(0)
        .run_each(count.div_ceil(2));
    Ok(())
}

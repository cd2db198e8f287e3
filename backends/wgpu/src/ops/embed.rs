use crate::plan::Plan;
use anychip_core::Reason;
use anychip_core::ops::Embed;

/// `out[t, i] = table[ids[t]]`, zeros for a number outside the table.
pub(crate) fn plan(op: &Embed, plan: &mut Plan) -> Result<(), Reason> {
    let (known, width, copies) = (op.table.size(0), op.table.size(1), op.out.size(1));
    plan.kernel("embed")
        .read("table", &op.table)
        .read("ids", &op.ids)
        .write("out", &op.out)
        .sizes(&[known, width, copies, op.out.count()])
        .turns(0)
        .run_each(op.out.count().div_ceil(2));
    Ok(())
}

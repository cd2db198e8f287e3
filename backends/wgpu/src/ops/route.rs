use crate::plan::Plan;
use anychip_core::Reason;
use anychip_core::ops::{Choice, Route};

/// `score = sqrt(softplus(logit))`, `weight = scale * score / (sum of the chosen scores + 1e-20)`
pub(crate) fn plan(op: &Route, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, count, k) = (op.logits.size(0), op.logits.size(1), op.experts.size(1));
    let (bias, table, tokens) = match &op.choice {
        Choice::Best { bias } => (Some(bias), None, None),
        Choice::Hash { table, tokens } => (None, Some(table), Some(tokens)),
    };
    let known = table.map_or(0, |table| table.size(0));
    let size = plan.limits.group();
    plan.kernel("route")
        .flag("HASH", table.is_some())
        .read("logits", &op.logits)
        .read_or("bias", bias, 0.0)
        .read_or("table", table, 0.0)
        .read_or("tokens", tokens, 0.0)
        .change("experts", &op.experts)
        .write("weights", &op.weights)
        .sizes(&[rows, count, k, known])
        .floats(&[op.scale])
        .run(size, rows);
    Ok(())
}

use crate::limits::{halvings, nested, turns};
use crate::plan::Plan;
use anychip_core::Reason;
use anychip_core::ops::{Choice, Route};

/// Experts that workgroup memory holds; as in the kernel.
const TILE: usize = 1024;

/// `score = sqrt(softplus(logit))`, `weight = scale * score / (sum of the chosen scores + 1e-20)`
pub(crate) fn plan(op: &Route, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, count, k) = (op.logits.size(0), op.logits.size(1), op.experts.size(1));
    let (bias, table, tokens) = match &op.choice {
        Choice::Best { bias } => (Some(bias), None, None),
        Choice::Hash { table, tokens } => (None, Some(table), Some(tokens)),
    };
    let known = table.map_or(0, |table| table.size(0));
    let size = plan.limits.group();
    let lanes = size as usize;
    // Where all experts fit into a tile, it is filled once.
    let tiles = count.div_ceil(TILE);
    let filled = if tiles > 1 { turns(TILE, lanes) } else { 0 };
    let chosen = match table {
        None => nested(count.div_ceil(lanes), nested(tiles, turns(count.min(TILE), 1) + filled)) + turns(TILE, lanes),
        Some(_) => turns(k, lanes),
    };
    plan.kernel("route")
        .flag("HASH", table.is_some())
        .read("logits", &op.logits)
        .read_or("bias", bias, 0.0)
        .read_or_none("table", table)
        .read_or_none("tokens", tokens)
        .change("experts", &op.experts)
        .write("weights", &op.weights)
        .sizes(&[rows, count, k, known])
        .floats(&[op.scale])
        .turns(chosen + 2 * turns(k, lanes) + halvings(size))
        .run(size, rows);
    Ok(())
}

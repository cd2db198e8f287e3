use crate::limits::{nested, turns};
use crate::plan::Plan;
use crate::product::Tiling;
use anychip_core::Reason;
use anychip_core::ops::{IndexScores, Rounding};
use anychip_shaders::Access;

/// `out[t,e] = sum_h (scale * weights[t,h]) * max(0, q[t,h] . k_e)` for the entries that row `t` may see, else -inf
pub(crate) fn plan(op: &IndexScores, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, heads, width, depth) = (op.weights.size(0), op.weights.size(1), op.out.size(1), op.q.cols());
    let (tiling, kv) = (Tiling::of_tiles(&plan.limits, heads), &op.keys);
    let [_, tiles] = tiling.tiles(heads, width);
    let of_heads = nested(heads.div_ceil(tiling.rows), tiling.turns(depth) + tiling.stored());
    plan.kernel("index_scores")
        .tiled(&tiling, 1)
        .flag("STEPS", op.rounding == Rounding::Bf16)
        .matrix("q", "q_scale", &op.q)
        .read("weights", &op.weights)
        .pool("pool", "pool_table", Access::Read, kv)
        .read("sequence", &kv.sequence)
        .read("visible", &op.visible)
        .write("out", &op.out)
        .sizes(&[rows, heads, depth, width, tiles, kv.table.size(0), kv.table.size(1), kv.pool.page_count()])
        .floats(&[op.scale])
        .turns(turns(tiling.cols, tiling.size as usize) + of_heads)
        .run_tiles(&tiling, rows * tiles);
    Ok(())
}

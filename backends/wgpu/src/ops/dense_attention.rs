use crate::limits::{nested, turns};
use crate::plan::Plan;
use crate::product::Tiling;
use anychip_core::Reason;
use anychip_core::ops::DenseAttention;

/// `out[b,t,h] = sum_j softmax_j(scale * q[b,t,h] . k[b,j,g]) v[b,j,g]`
pub(crate) fn plan(op: &DenseAttention, plan: &mut Plan) -> Result<(), Reason> {
    let (batch, rows, heads, depth) = (op.q.size(0), op.q.size(1), op.q.size(2), op.q.size(3));
    let (keys, groups, width) = (op.k.size(1), op.k.size(2), op.v.size(3));
    let tiling = Tiling::of_tiles(&plan.limits, rows);
    let [row_tiles, col_tiles] = tiling.tiles(rows, width);
    let (block, size) = (tiling.cols, tiling.size as usize);
    // Few blocks are such that some rows see a key and others do not.
    let products = tiling.turns(depth) + tiling.held(block) + 2 * tiling.stored();
    let each = turns(tiling.rows * block, size) + tiling.weighed(block) + products;
    let by_key = 2 * nested(tiling.rows * tiling.cols / 4 / size, nested(block, 5));
    let most = turns(tiling.rows, size) + nested(keys.div_ceil(block), each) + by_key + tiling.stored();
    plan.kernel("dense_attention")
        .tiled(&tiling, 1)
        .flag("CAUSAL", op.causal)
        .rows("q", &op.q, depth)
        .rows("k", &op.k, depth)
        .read("v", &op.v)
        .read_or("sink", op.sink.as_ref(), f32::NEG_INFINITY)
        .write("out", &op.out)
        .sizes(&[batch, rows, heads, depth, keys, groups, width, row_tiles, col_tiles])
        .floats(&[op.scale])
        .turns(most)
        .run_tiles(&tiling, batch * heads * row_tiles * col_tiles);
    Ok(())
}

use crate::plan::Plan;
use crate::product::Tiling;
use anychip_core::Reason;
use anychip_core::ops::Linear;

/// `out[t, g*N + n] = sum_k x[t, g*K + k] * w[g, n, k]`
pub(crate) fn plan(op: &Linear, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, groups, cols, depth) = (op.x.rows(), op.w.groups(), op.w.rows(), op.w.cols());
    let most = |tiling: &Tiling| tiling.turns(depth) + tiling.stored();
    let tiling = Tiling::of_codes(&plan.limits, rows, depth, &op.x, &[&op.w]).within(&plan.limits, rows, most);
    let [row_tiles, col_tiles] = tiling.tiles(rows, cols);
    plan.kernel("linear")
        .tiled(&tiling, 1)
        .matrix_in("x", "x_scale", &op.x, depth)
        .matrix("w", "w_scale", &op.w)
        .write("out", &op.out)
        .sizes(&[rows, cols, depth, groups, row_tiles, col_tiles])
        .turns(most(&tiling))
        .run_tiles(&tiling, row_tiles * col_tiles * groups);
    Ok(())
}

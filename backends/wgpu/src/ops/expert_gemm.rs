use crate::limits::{nested, turns};
use crate::plan::Plan;
use crate::product::Tiling;
use anychip_core::Reason;
use anychip_core::ops::ExpertGemm;
use anychip_shaders::{Access, Storage};

/// `out[r] = w[e] x[r]` for `offsets[e] <= r < offsets[e+1]`
pub(crate) fn plan(op: &ExpertGemm, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, cols, depth, experts) = (op.x.rows(), op.w.rows(), op.w.cols(), op.w.groups());
    if op.out.count() == 0 {
        return Ok(());
    }
    let owner = plan.scratch(rows);
    let group = plan.limits.group();
    plan.kernel("expert_owners")
        .read("offsets", &op.offsets)
        .scratch("owner", Storage::I32, Access::Write, owner)
        .write("out", &op.out)
        .sizes(&[rows, cols, experts])
        .turns(turns(experts, group as usize) + nested(cols.div_ceil(4 * group as usize), 5))
        .run(group, rows);
    // A tile is as high as an expert has rows, on average.
    let each = rows.div_ceil(experts.max(1));
    let most = |tiling: &Tiling| tiling.by_expert(rows, experts, tiling.turns(depth));
    let tiling = Tiling::of_codes(&plan.limits, each, depth, &op.x, &[&op.w]).within(&plan.limits, each, most);
    let [row_tiles, col_tiles] = tiling.tiles(rows, cols);
    plan.kernel("expert_gemm")
        .tiled(&tiling, 1)
        .matrix("x", "x_scale", &op.x)
        .matrix("w", "w_scale", &op.w)
        .scratch("owner", Storage::I32, Access::Read, owner)
        .write("out", &op.out)
        .sizes(&[rows, cols, depth, row_tiles, col_tiles])
        .turns(most(&tiling))
        .run_tiles(&tiling, row_tiles * col_tiles);
    Ok(())
}

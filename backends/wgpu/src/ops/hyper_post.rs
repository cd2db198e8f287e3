use crate::limits::{nested, turns};
use crate::plan::Plan;
use anychip_core::Reason;
use anychip_core::ops::HyperPost;

/// Channels of a workgroup; as in the kernel.
const CHUNK: usize = 128;

/// `out[t, k] = post[t, k] y[t] + sum_j comb[t, j, k] X[t, j]`
pub(crate) fn plan(op: &HyperPost, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, n, d) = (op.streams.size(0), op.streams.size(1), op.streams.size(2));
    let chunks = d.div_ceil(CHUNK);
    // Without streams there is nothing to write.
    let groups = if n == 0 { 0 } else { rows * chunks };
    let size = plan.limits.group();
    plan.kernel("hyper_post")
        .read("y", &op.y)
        .read("streams", &op.streams)
        .read("post", &op.post)
        .read("comb", &op.comb)
        .write("out", &op.out)
        .sizes(&[groups, chunks, n, d])
        .turns(nested(n.div_ceil(size as usize / (CHUNK / 2)), turns(n, 1)))
        .run(size, groups);
    Ok(())
}

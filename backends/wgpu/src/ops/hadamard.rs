use crate::limits::{nested, turns};
use crate::plan::{Plan, Scratch};
use anychip_core::Reason;
use anychip_core::ops::Hadamard;
use anychip_shaders::{Access, Storage};

/// Elements that a workgroup holds: 16 KiB.
const CHUNK: usize = 4096;

/// `out[r] = H x[r] / sqrt(n)`
pub(crate) fn plan(op: &Hadamard, plan: &mut Plan) -> Result<(), Reason> {
    let (rows, width) = (op.x.size(0), op.x.size(1));
    let factor = (1.0 / (width as f64).sqrt()) as f32;
    let (chunk, count, group) = (width.min(CHUNK), op.out.count(), plan.limits.group());
    // Stages across chunks go from one memory to another: the last into the result.
    let across = (width / chunk).trailing_zeros() as usize;
    let between: Vec<Scratch> = (0..across.min(2)).map(|_| plan.scratch(count)).collect();
    let pairs = turns(chunk / 2, group as usize);
    let most = turns(chunk, group as usize) + nested(chunk.trailing_zeros() as usize, pairs) + pairs;
    for stage in 0..=across {
        let kernel = plan.kernel("hadamard").number("CHUNK", chunk as u32).flag("ACROSS", stage > 0);
        let kernel = match stage.checked_sub(1) {
            None => kernel.read("x", &op.x),
            Some(before) => kernel.scratch("x", Storage::F32, Access::Read, between[before % 2]),
        };
        let last = stage == across;
        let kernel = match last {
            true => kernel.write("out", &op.out),
            false => kernel.scratch("out", Storage::F32, Access::Write, between[stage % 2]),
        };
        let kernel = kernel.sizes(&[rows, width]).floats(&[if last { factor } else { 1.0 }]);
        match stage {
            0 => kernel.sizes(&[1]).turns(most).run(group, count / chunk),
            _ => kernel.sizes(&[chunk << (stage - 1)]).turns(0).run_each(count / 2),
        }
    }
    Ok(())
}

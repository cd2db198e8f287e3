use crate::limits::{nested, turns};
use crate::plan::{Building, Place, Plan, Scratch};
use anychip_core::Tensor;
use anychip_shaders::{Access, Storage};

/// What the parts of an attention's keys leave for `attention_join`: sums of weighted values, their maxima, sums of weights.
pub(crate) struct Parts {
    memory: [Scratch; 3],
    count: usize,
    width: usize,
}

const NAMES: [&str; 3] = ["part", "part_max", "part_sum"];

impl Parts {
    /// Memory for `count` parts of `rows` rows of `width`.
    pub(crate) fn new(plan: &mut Plan, count: usize, rows: usize, width: usize) -> Parts {
        Parts { memory: [width, 1, 1].map(|n| plan.scratch(count * rows * n)), count, width }
    }

    /// Makes `rows` rows of `out`, from row `first` on, of what the parts left; rows of all heads follow one another.
    pub(crate) fn join(
        &self,
        plan: &mut Plan,
        [first, rows]: [usize; 2],
        heads: usize,
        sink: Option<&Tensor>,
        out: &Tensor,
    ) {
        let step = plan.kernel("attention_join").read_or("sink", sink, f32::NEG_INFINITY).write("out", out);
        step.parts(Access::Read, Some(self))
            .sizes(&[first, rows, self.width, heads, self.count])
            .turns(turns(self.count, 1) + nested(self.count, turns(4, 1)) + turns(4, 1))
            .run_each(rows * self.width.div_ceil(4));
    }
}

impl Building<'_> {
    /// What is left for `attention_join`, where it is.
    pub(crate) fn parts(self, access: Access, parts: Option<&Parts>) -> Self {
        match parts {
            Some(parts) => {
                let all = NAMES.into_iter().zip(parts.memory);
                all.fold(self, |step, (name, of)| step.scratch(name, Storage::F32, access, of))
            }
            None => NAMES.into_iter().fold(self, |step, name| step.slot(name, Storage::F32, access, Place::Absent)),
        }
    }
}

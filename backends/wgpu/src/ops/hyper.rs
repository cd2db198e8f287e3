//! What hyper_pre and hyper_head share: the mix of each row, by which its streams collapse.

use crate::limits::{nested, turns};
use crate::plan::{Building, Plan, Scratch};
use anychip_core::Tensor;
use anychip_shaders::{Access, Storage};

/// Elements of the mixer that one workgroup reads in the time that a dispatch takes.
const SHORT: usize = 1 << 16;
/// Columns that a workgroup of the first step has at least, and a multiple of what it reads at a time.
const LEAST_COLUMNS: usize = 256;
/// Workgroups that keep a GPU busy.
const BUSY: usize = 256;
/// Rows of streams that share what is read of the mixer, where there are several.
const TILE: usize = 8;

pub(super) struct Hyper<'a> {
    pub(super) kernel: &'static str,
    /// Rows of the mixer that an invocation has at a time.
    pub(super) each: usize,
    pub(super) streams: &'a Tensor,
    pub(super) mixer: &'a Tensor,
    pub(super) base: &'a Tensor,
    pub(super) scale: &'a Tensor,
    pub(super) out: &'a Tensor,
    pub(super) iterations: usize,
    pub(super) norm_eps: f32,
    pub(super) eps: f32,
}

/// What the two steps agree on.
#[derive(Clone, Copy)]
struct Split {
    first_row: usize,
    end_row: usize,
    slices: usize,
    sums: Scratch,
    whole: bool,
}

impl Hyper<'_> {
    /// One dispatch where a row is short. Else a first one adds up slices of the rows, so that few long rows also keep the
    /// whole GPU busy. `own` binds what only one of the operations has.
    pub(super) fn plan(&self, plan: &mut Plan, own: impl Fn(Building<'_>) -> Building<'_>) {
        let (rows, width, mixes) = (self.streams.size(0), self.mixer.size(1), self.mixer.size(0));
        if width * mixes <= SHORT {
            let sums = plan.scratch(0);
            return self.finish(plan, Split { first_row: 0, end_row: rows, slices: 1, sums, whole: true }, own);
        }
        let tile = if rows < TILE / 2 { 1 } else { TILE };
        let most = (BUSY / rows.div_ceil(tile).max(1)).clamp(1, width.div_ceil(LEAST_COLUMNS));
        let length = width.div_ceil(most).next_multiple_of(LEAST_COLUMNS);
        let slices = width.div_ceil(length);
        let sums_of_row = slices * (mixes + 1);
        let at_once = (plan.limits.binding_bytes as usize / 4 / sums_of_row).clamp(1, rows.max(1));
        let sums = plan.scratch(at_once * sums_of_row);
        for first_row in (0..rows).step_by(at_once) {
            let split = Split { first_row, end_row: rows.min(first_row + at_once), slices, sums, whole: false };
            let groups = (split.end_row - first_row).div_ceil(tile) * slices;
            let size = plan.limits.group();
            self.mixing(plan.kernel("hyper_mix"), tile)
                .scratch("sums", Storage::F32, Access::Write, sums)
                .sizes(&[first_row, split.end_row, groups, slices, length, width, mixes])
                .turns(self.summed(size as usize, tile, length))
                .run(size, groups);
            self.finish(plan, split, &own);
        }
    }

    /// Lines that invocations stand in.
    fn lines(&self) -> usize {
        self.mixer.size(0).div_ceil(self.each).next_power_of_two().min(8)
    }

    /// Turns of the sums over `length` columns in a workgroup of `size`.
    fn summed(&self, size: usize, tile: usize, length: usize) -> usize {
        let blocks = self.mixer.size(0).div_ceil(self.lines() * self.each);
        nested(blocks, turns(length, 4 * size / self.lines()) + nested(tile, 8))
    }

    /// What the sums over columns need.
    fn mixing<'a>(&self, kernel: Building<'a>, tile: usize) -> Building<'a> {
        let width = self.mixer.size(1);
        kernel
            .number("LINES", self.lines() as u32)
            .number("EACH", self.each as u32)
            .number("ROWS", tile as u32)
            .rows("streams", self.streams, width)
            .rows("mixer", self.mixer, width)
    }

    fn finish(&self, plan: &mut Plan, split: Split, own: impl Fn(Building<'_>) -> Building<'_>) {
        let (n, d) = (self.streams.size(1), self.streams.size(2));
        let size = plan.limits.group();
        let rows = split.end_row - split.first_row;
        let most = if split.whole { 1 } else { (BUSY / rows.max(1)).clamp(1, d.div_ceil(2 * size as usize)) };
        let chunk = d.div_ceil(most).next_multiple_of(2);
        let chunks = d.div_ceil(chunk);
        let groups = rows * chunks;
        let (mixes, lanes) = (self.mixer.size(0), size as usize);
        let mix = match split.whole {
            true => self.summed(lanes, 1, self.mixer.size(1)),
            false => nested((mixes + 1).div_ceil(lanes / 8), turns(split.slices, 8)),
        };
        let entries = (n * n).div_ceil(lanes);
        let collapsed = nested(chunk.div_ceil(2 * lanes), turns(n, 1));
        // The balancing of an n x n matrix, which only one of the operations has.
        let balanced = nested(2 * self.iterations + 3, nested(entries, turns(n, 1)));
        let kernel = self
            .mixing(plan.kernel(self.kernel), 1)
            .flag("WHOLE", split.whole)
            .scratch("sums", Storage::F32, Access::Read, split.sums)
            .read("base", self.base)
            .read("scale", self.scale)
            .write("out", self.out);
        own(kernel)
            .sizes(&[split.first_row, split.end_row, groups, split.slices, self.mixer.size(1), self.mixer.size(0)])
            .sizes(&[n, d, chunk, chunks, self.iterations])
            .floats(&[self.norm_eps, self.eps])
            .turns(mix + collapsed + balanced)
            .run(size, groups);
    }
}

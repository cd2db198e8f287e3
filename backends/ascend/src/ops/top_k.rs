//! The places of the `k` largest of each row: the best of each step of a row, and the best so far merged with them. Steps are
//! sorted; the 950 finds the last rank of long ones first, and sorts what is above it.

mod finder;
mod sorting;
#[cfg(test)]
mod tests;
mod threshold;

use super::sorted::RUN;
use crate::device::Npu;
use crate::isa::{Elem, Global, Mode, Pipe};
use crate::kernel::{Context, Kernel};
use crate::machine::{Arch, Profile};
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};
use finder::Finder;

/// Scores that segments of a row are a multiple of, and ranks that are found in a pass over a row.
const STEP: u32 = sorting::STEP;
/// Flag between all cores.
const ALL: u8 = 0;

pub(crate) fn supports(_op: &ops::TopK, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(_op: &ops::TopK, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::TopK, npu: &Npu) -> Result<()> {
    let [rows, width, k] = [op.scores.size(0), op.scores.size(1), op.out.size(1)].map(|size| size as u32);
    if rows == 0 {
        return Ok(());
    }
    let (scores, mut out) = (read(&op.scores)?, write(&op.out)?);
    let mut gm = Gm::default();
    let plan = Plan::of(npu.profile(), rows, width, k);
    let scores = Global::new(gm.input("scores", scores.bytes()), 0, Elem::F32, rows, width);
    let out = Global::new(gm.output("out", out.bytes_mut()), 0, Elem::I32, rows, k);
    let cores = npu.vector_cores((rows * plan.segments) as usize);
    let kernel = TopK::new(&mut gm, scores, out, plan, cores);
    npu.launch(ops::TopK::NAME, &kernel, &gm)
}

/// How the best of a step are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// All of it is sorted.
    Sorting,
    /// What is above the last rank is sorted, in steps of so many scores.
    Threshold(u32),
}

impl Way {
    /// For `k` ranks of `width` scores, which may be a segment of a row.
    fn of(profile: &Profile, width: u32, k: u32, has_lists: bool) -> Way {
        let is_sooner = profile.arch == Arch::V3510 && k <= STEP && threshold::is_sooner(width, k);
        let step = if is_sooner { threshold::step(profile, k, finder::bytes(k, has_lists)) } else { 0 };
        if step > 0 { Way::Threshold(step) } else { Way::Sorting }
    }
}

/// How rows are cut and searched.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Scores of a segment: a multiple of [`STEP`].
    segment: u32,
    segments: u32,
    way: Way,
}

impl Plan {
    /// Few rows are cut into segments, whose best are merged behind.
    fn of(profile: &Profile, rows: u32, width: u32, k: u32) -> Plan {
        let lanes = 2 * profile.figures.cube_cores as u32;
        let steps = width.div_ceil(STEP).max(1);
        let segments = if k > STEP { 1 } else { (lanes / rows).clamp(1, steps) };
        let segment = steps.div_ceil(segments) * STEP;
        let segments = width.div_ceil(segment).max(1);
        Plan { segment, segments, way: Way::of(profile, segment.min(width), k, segments > 1) }
    }
}

struct TopK {
    scores: Global,
    out: Global,
    /// The best of each segment, where rows have more than one.
    lists: Option<Global>,
    plan: Plan,
    cores: usize,
}

impl TopK {
    fn new(gm: &mut Gm<'_>, scores: Global, out: Global, plan: Plan, cores: usize) -> TopK {
        let lists = (plan.segments > 1).then(|| {
            let (rows, cols) = (scores.rows * plan.segments, 2 * out.cols);
            let region = gm.scratch("lists", 4 * u64::from(rows) * u64::from(cols));
            Global::new(region, 0, Elem::F32, rows, cols)
        });
        TopK { scores, out, lists, plan, cores }
    }
}

impl Kernel for TopK {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let mut finder = Finder::new(cx, self.plan.way, self.out.cols.min(STEP), self.lists.is_some());
        let rows = u64::from(self.scores.rows);
        let Some(lists) = self.lists else {
            for row in cx.share(rows) {
                self.row(cx, &mut finder, row);
            }
            return finder.close(cx);
        };
        let Plan { segment: length, segments, .. } = self.plan;
        for piece in cx.share(rows * u64::from(segments)) {
            let (row, segment) = (piece / u64::from(segments), (piece % u64::from(segments)) as u32);
            let scores = self.scores.part(row, 1, segment * length, self.length(segment));
            if let Some(best) = finder.best(cx, scores, segment * length, self.out.cols, None) {
                finder.keep(cx, best, lists.part(piece, 1, 0, best.cols));
            }
        }
        cx.cross_set(Pipe::Mte3, Mode::Everywhere, ALL);
        cx.cross_wait(Pipe::Mte2, Mode::Everywhere, ALL);
        for row in cx.share(rows) {
            let mut best = None;
            for segment in 0..segments {
                let found = self.length(segment).next_multiple_of(RUN).min(self.out.cols);
                let place = row * u64::from(segments) + u64::from(segment);
                best = Some(finder.take(cx, lists.part(place, 1, 0, 2 * found), best, self.out.cols));
            }
            finder.ranks(cx, best, self.out.part(row, 1, 0, self.out.cols));
        }
        finder.close(cx);
    }
}

impl TopK {
    fn length(&self, segment: u32) -> u32 {
        self.plan.segment.min(self.scores.cols - segment * self.plan.segment)
    }

    /// A whole row. Each pass finds as many ranks as UB holds, of what comes behind the last.
    fn row(&self, cx: &mut Context<'_>, finder: &mut Finder, row: u64) {
        let k = self.out.cols;
        let mut last = None;
        for rank in (0..k).step_by(STEP as usize) {
            let most = STEP.min(k - rank);
            let scores = self.scores.part(row, 1, 0, self.scores.cols);
            let best = if rank < scores.cols { finder.best(cx, scores, 0, most, last) } else { None };
            if let (true, Some(best)) = (rank + most < k, best) {
                last = Some(finder.last(cx, best));
            }
            finder.ranks(cx, best, self.out.part(row, 1, rank, most));
        }
    }
}

//! A matrix over its norm: squares of each vector half's share, then a quotient with all of them.

use super::super::rows::{Loads, Stores, step};
use crate::isa::{Axis, Cmp, Elem, Global, Pipe, Red, Tile};
use crate::kernel::{Context, Kernel};

/// Elements of a step at most.
const STEP: u32 = 8192;
/// Bytes of UB that are not for elements: what is one number each, and the sums of all halves.
const OTHERS: u32 = 2048;

/// A vector half's part of a row of elements, in steps of as many as UB has room for, `buffers` f32 of each.
pub(super) fn steps(cx: &Context<'_>, count: u32, buffers: u32) -> Vec<(u32, u32)> {
    let mine = cx.share(count.into());
    let (first, end) = (mine.start as u32, mine.end as u32);
    let most = step(cx.profile(), STEP, 4 * buffers, OTHERS);
    (first..end).step_by(most as usize).map(|at| (at, most.min(end - at))).collect()
}

/// Elements of the longest step.
pub(super) fn longest(steps: &[(u32, u32)]) -> u32 {
    steps.first().map_or(1, |(_, count)| *count)
}

/// The sum of squares of each vector half's share.
pub(super) struct Squares {
    /// All elements as one row.
    pub(super) g: Global,
    pub(super) parts: Global,
    pub(super) cores: usize,
}

impl Kernel for Squares {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let steps = steps(cx, self.g.cols, 3);
        let mut loads = Loads::new(cx, Elem::F32, 1, longest(&steps), 2);
        let squares = cx.ub(Elem::F32, 1, longest(&steps));
        let [sum, more] = [(); 2].map(|()| cx.ub(Elem::F32, 1, 1));
        cx.bcast(sum, 0.0);
        for &(at, count) in &steps {
            let g = loads.load(cx, self.g.part(0, 1, at, count));
            let squares = Tile { cols: count, pitch: count, ..squares };
            cx.fused(|cx| {
                cx.mul(squares, g, g);
                cx.reduce(Red::Sum, Axis::Row, more, squares);
                cx.add(sum, sum, more);
            });
            loads.free(cx);
        }
        loads.close(cx);
        let done = cx.flag(Pipe::V, Pipe::Mte3);
        cx.set_flag(Pipe::V, Pipe::Mte3, done);
        cx.wait_flag(Pipe::V, Pipe::Mte3, done);
        cx.store(sum, self.parts.part(0, 1, cx.lane() as u32, 1));
        cx.free_flag(Pipe::V, Pipe::Mte3, done);
    }
}

/// `out = g / sqrt(sum of the parts)`; zeros where that is zero.
pub(super) struct Divide {
    pub(super) g: Global,
    pub(super) parts: Global,
    pub(super) out: Global,
    pub(super) cores: usize,
}

impl Kernel for Divide {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let steps = steps(cx, self.g.cols, 4);
        if steps.is_empty() {
            return;
        }
        let mut parts = Loads::new(cx, Elem::F32, 1, self.parts.cols, 1);
        let mut loads = Loads::new(cx, Elem::F32, 1, longest(&steps), 2);
        let mut stores = Stores::new(cx, Elem::F32, 1, longest(&steps), 2);
        let norm = cx.ub(Elem::F32, 1, 1);
        let all = parts.load(cx, self.parts);
        cx.fused(|cx| {
            cx.reduce(Red::Sum, Axis::Row, norm, all);
            cx.sqrt(norm, norm);
            cx.select(norm, (norm, Cmp::Eq, 0.0), 1.0, norm);
        });
        parts.free(cx);
        for &(at, count) in &steps {
            let g = loads.load(cx, self.g.part(0, 1, at, count));
            let out = stores.begin(cx, 1, count);
            cx.div(out, g, norm);
            loads.free(cx);
            stores.store(cx, out, self.out.part(0, 1, at, count));
        }
        parts.close(cx);
        loads.close(cx);
        stores.close(cx);
    }
}

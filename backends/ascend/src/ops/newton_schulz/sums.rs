//! Sums of matrices, and transposes.

use super::super::rows::{Loads, Stores};
use super::norm::{longest, steps};
use crate::isa::{Elem, Global, Pipe, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;

/// `out = a x + b y`, matrices as one row each.
pub(super) struct WeightedSum {
    pub(super) terms: [(f32, Global); 2],
    pub(super) out: Global,
    pub(super) cores: usize,
}

impl Kernel for WeightedSum {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let steps = steps(cx, self.out.cols, 6);
        if steps.is_empty() {
            return;
        }
        let wide = longest(&steps);
        let [(a, x), (b, y)] = self.terms;
        let mut xs = Loads::new(cx, Elem::F32, 1, wide, 2);
        let mut ys = Loads::new(cx, Elem::F32, 1, wide, 2);
        let mut stores = Stores::new(cx, Elem::F32, 1, wide, 2);
        for &(at, count) in &steps {
            let x = xs.load(cx, x.part(0, 1, at, count));
            let y = ys.load(cx, y.part(0, 1, at, count));
            let out = stores.begin(cx, 1, count);
            cx.fused(|cx| {
                cx.mul(out, x, a);
                cx.mul(y, y, b);
                cx.add(out, out, y);
            });
            xs.free(cx);
            ys.free(cx);
            stores.store(cx, out, self.out.part(0, 1, at, count));
        }
        xs.close(cx);
        ys.close(cx);
        stores.close(cx);
    }
}

/// Rows and columns that are turned at a time.
const EDGE: u32 = 64;

/// `out[j, i] = x[i, j]`
pub(super) struct Transpose {
    pub(super) x: Global,
    pub(super) out: Global,
    pub(super) cores: usize,
}

impl Kernel for Transpose {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let Global { rows, cols, .. } = self.x;
        let across = u64::from(cols.div_ceil(EDGE));
        let mine = cx.share(u64::from(rows.div_ceil(EDGE)) * across);
        if mine.is_empty() {
            return;
        }
        let mut loads = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, 4 * EDGE * EDGE, 2);
        let mut stores = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, 4 * EDGE * EDGE, 2);
        for block in mine {
            let (row, col) = ((block / across) as u32 * EDGE, (block % across) as u32 * EDGE);
            let (high, wide) = (EDGE.min(rows - row), EDGE.min(cols - col));
            let from = Tile::rows_of(Space::Ub, loads.alloc(cx), Elem::F32, high, wide);
            cx.load_ub(self.x.part(row.into(), high, col, wide), from);
            loads.push(cx);
            loads.pop(cx);
            let to = Tile::rows_of(Space::Ub, stores.alloc(cx), Elem::F32, wide, high);
            cx.transpose(to, from);
            loads.free(cx);
            stores.push(cx);
            stores.pop(cx);
            cx.store(to, self.out.part(col.into(), wide, row, high));
            stores.free(cx);
        }
        loads.close(cx);
        stores.close(cx);
    }
}

//! Rows in the order of a list.

use crate::isa::{Elem, Global, Pipe, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;

/// Bytes of a step.
const STEP: u32 = 65536;
/// Rows of a step, whose numbers lie in UB.
const MOST: u32 = 256;

/// `out[i] = from[list[i]]`; zeros where the list names no row. Elements are bytes.
pub(super) struct Gather {
    pub(super) from: Global,
    pub(super) list: Global,
    pub(super) out: Global,
    pub(super) cores: usize,
}

impl Kernel for Gather {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let wide = self.out.cols.min(STEP);
        let mine = cx.share(self.out.rows.into());
        let most = (mine.end - mine.start).max(1) as u32;
        let high = (STEP / wide.next_multiple_of(32)).clamp(1, MOST.min(most));
        if mine.is_empty() {
            return;
        }
        let bytes = Tile::rows_of(Space::Ub, 0, Elem::U8, high, wide).end().next_multiple_of(32) as u32;
        let index = cx.ub(Elem::I32, 1, high);
        let mut queue = Queue::new(cx, Pipe::Mte2, Pipe::Mte3, Space::Ub, bytes, 2);
        for first in mine.clone().step_by(high as usize) {
            let rows = high.min((mine.end - first) as u32);
            let index = Tile { cols: rows, pitch: rows, ..index };
            cx.load_ub(self.list.part(0, 1, first as u32, rows), index);
            for col in (0..self.out.cols).step_by(wide as usize) {
                let cols = wide.min(self.out.cols - col);
                let tile = Tile::rows_of(Space::Ub, queue.alloc(cx), Elem::U8, rows, cols);
                cx.gather_rows(self.from.part(0, self.from.rows, col, cols), index, tile);
                queue.push(cx);
                queue.pop(cx);
                cx.store(tile, self.out.part(first, rows, col, cols));
                queue.free(cx);
            }
        }
        queue.close(cx);
    }
}

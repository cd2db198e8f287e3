//! The sum over a row's experts.

use super::super::rows::{Loads, Stores, f32_bytes};
use crate::isa::{Elem, Global, Pipe, Round, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;

/// Elements of a step.
const STEP: u32 = 8192;

/// Columns of a step: the rest are rows, which the vectors take together.
const WIDE: u32 = 4096;

/// Results of routed experts, sorted by expert.
#[derive(Clone, Copy)]
pub(super) struct Routed {
    pub(super) results: Global,
    /// Which of them are a row's, ascending: `[k, T]`; -1 behind the last.
    pub(super) places: Global,
}

/// `out = sum of a row's results, ascending, + shared`
pub(super) struct Combine {
    pub(super) routed: Option<Routed>,
    pub(super) shared: Option<Global>,
    pub(super) out: Global,
    pub(super) cores: usize,
}

impl Kernel for Combine {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let wide = self.out.cols.min(WIDE);
        let mine = cx.share(self.out.rows.into());
        if mine.is_empty() {
            return;
        }
        let most = (mine.end - mine.start) as u32;
        let high = (STEP / wide.next_multiple_of(16)).clamp(1, most);
        let mut stores = Stores::new(cx, self.out.elem, high, wide, 2);
        let mut shared = self.shared.map(|from| (from, Loads::new(cx, from.elem, high, wide, 2)));
        let mut routed = self.routed.map(|routed| Rows::new(cx, routed, [high, wide]));
        for first in mine.clone().step_by(high as usize) {
            let rows = high.min((mine.end - first) as u32);
            for col in (0..self.out.cols).step_by(wide as usize) {
                let cols = wide.min(self.out.cols - col);
                let sum = stores.begin(cx, rows, cols);
                cx.bcast(sum, 0.0);
                if let Some(routed) = &mut routed {
                    routed.add(cx, sum, (first as u32, col));
                }
                if let Some((from, loads)) = &mut shared {
                    let last = loads.load(cx, from.part(first, rows, col, cols));
                    cx.add(sum, sum, last);
                    loads.free(cx);
                }
                stores.store(cx, sum, self.out.part(first, rows, col, cols));
            }
        }
        stores.close(cx);
        if let Some((_, loads)) = shared {
            loads.close(cx);
        }
        if let Some(routed) = routed {
            routed.queue.close(cx);
        }
    }
}

/// Results on their way into sums.
struct Rows {
    from: Routed,
    queue: Queue,
    index: Tile,
    wide: Option<u32>,
}

impl Rows {
    fn new(cx: &mut Context<'_>, from: Routed, [high, wide]: [u32; 2]) -> Rows {
        let elem = from.results.elem;
        let bytes = Tile::rows_of(Space::Ub, 0, elem, high, wide).end().next_multiple_of(32) as u32;
        let queue = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes, 2);
        let index = cx.ub(Elem::I32, 1, high);
        let wide = (elem != Elem::F32).then(|| cx.alloc(Space::Ub, f32_bytes(high, wide)));
        Rows { from, queue, index, wide }
    }

    /// Rows from `row` on, columns from `col` on.
    fn add(&mut self, cx: &mut Context<'_>, sum: Tile, (row, col): (u32, u32)) {
        let Routed { results, places } = self.from;
        let index = Tile { cols: sum.rows, pitch: sum.rows, ..self.index };
        for choice in 0..places.rows {
            let tile = Tile::rows_of(Space::Ub, self.queue.alloc(cx), results.elem, sum.rows, sum.cols);
            let line = u64::from(choice) * places.pitch + u64::from(row) * 4;
            let wanted: Vec<i32> =
                (0..u64::from(sum.rows)).map(|row| cx.load_i32(places.region, places.at + line + 4 * row)).collect();
            if wanted.iter().all(|place| *place >= 0) {
                for (row, place) in (0..).zip(wanted) {
                    let from = results.part(place as u64, 1, col, sum.cols);
                    cx.load_ub(from, tile.row_range(row, 1));
                }
            } else {
                // Only a list gives zeros for what is not there.
                cx.load_ub(places.part(choice.into(), 1, row, sum.rows), index);
                cx.gather_rows(results.part(0, results.rows, col, sum.cols), index, tile);
            }
            self.queue.push(cx);
            self.queue.pop(cx);
            let mut term = tile;
            if let Some(at) = self.wide {
                term = Tile::rows_of(Space::Ub, at, Elem::F32, sum.rows, sum.cols);
                cx.cast(term, tile, Round::Even);
            }
            cx.add(sum, sum, term);
            self.queue.free(cx);
        }
    }
}

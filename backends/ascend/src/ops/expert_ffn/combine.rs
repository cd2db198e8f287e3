//! The sum over a row's experts.

use super::super::rows::{Stores, f32_bytes, step};
use crate::isa::{Elem, Global, Pipe, Round, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;

/// Elements of a step at most.
const STEP: u32 = 8192;
/// Columns of a step: the rest are rows, which the vectors take together.
const WIDE: u32 = 4096;
/// Terms in UB at a time.
const AHEAD: usize = 3;
/// Bytes of UB for an element of a step: two stores and their f32, or two of f32; terms, with one f32 where they are none.
const ELEMENT: u32 = 8 + 4 * AHEAD as u32;
/// Bytes of UB for the places of a step's rows, of 16 elements or more.
const PLACES: u32 = 4 * STEP / 16;

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
        let step = step(cx.profile(), STEP, ELEMENT, PLACES);
        let high = (step / wide.next_multiple_of(16)).clamp(1, most);
        let mut stores = Stores::new(cx, self.out.elem, high, wide, 2);
        let index = cx.ub(Elem::I32, 1, high);
        let elem = self.routed.map(|routed| routed.results).or(self.shared).map(|results| results.elem);
        let mut terms = elem.map(|elem| Terms::new(cx, elem, [high, wide]));
        for first in mine.clone().step_by(high as usize) {
            let rows = high.min((mine.end - first) as u32);
            for col in (0..self.out.cols).step_by(wide as usize) {
                let cols = wide.min(self.out.cols - col);
                let sum = stores.begin(cx, rows, cols);
                cx.bcast(sum, 0.0);
                if let Some(terms) = &mut terms {
                    self.add(cx, terms, sum, index, (first, col));
                }
                stores.store(cx, sum, self.out.part(first, rows, col, cols));
            }
        }
        stores.close(cx);
        if let Some(terms) = terms {
            terms.queue.close(cx);
        }
    }
}

impl Combine {
    /// Adds the results of rows from `row` on, columns from `col` on.
    fn add(&self, cx: &mut Context<'_>, terms: &mut Terms, sum: Tile, index: Tile, (row, col): (u64, u32)) {
        for choice in 0..self.routed.map_or(0, |routed| routed.places.rows) {
            terms.add(cx, sum, |cx, tile| {
                if let Some(routed) = &self.routed {
                    routed.load(cx, tile, index, choice, (row as u32, col));
                }
            });
        }
        if let Some(shared) = self.shared {
            terms.add(cx, sum, |cx, tile| cx.load_ub(shared.part(row, sum.rows, col, sum.cols), tile));
        }
    }
}

impl Routed {
    /// The results of one choice of some rows. `index` is room for their places.
    fn load(&self, cx: &mut Context<'_>, tile: Tile, index: Tile, choice: u32, (row, col): (u32, u32)) {
        let Routed { results, places } = *self;
        let line = u64::from(choice) * places.pitch + u64::from(row) * 4;
        let wanted: Vec<i32> =
            (0..u64::from(tile.rows)).map(|row| cx.load_i32(places.region, places.at + line + 4 * row)).collect();
        if wanted.iter().all(|place| *place >= 0) {
            for (row, place) in (0..).zip(wanted) {
                cx.load_ub(results.part(place as u64, 1, col, tile.cols), tile.row_range(row, 1));
            }
        } else {
            // Only a list gives zeros for what is not there.
            let index = Tile { cols: tile.rows, pitch: tile.rows, ..index };
            cx.load_ub(places.part(choice.into(), 1, row, tile.rows), index);
            cx.gather_rows(results.part(0, results.rows, col, tile.cols), index, tile);
        }
    }
}

/// Results on their way into sums: those of routed experts and of the shared one are of one type.
struct Terms {
    elem: Elem,
    queue: Queue,
    wide: Option<u32>,
}

impl Terms {
    fn new(cx: &mut Context<'_>, elem: Elem, [high, wide]: [u32; 2]) -> Terms {
        let bytes = Tile::rows_of(Space::Ub, 0, elem, high, wide).end().next_multiple_of(32) as u32;
        let queue = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes, AHEAD);
        let wide = (elem != Elem::F32).then(|| cx.alloc(Space::Ub, f32_bytes(high, wide)));
        Terms { elem, queue, wide }
    }

    /// Adds what `load` brings to a tile.
    fn add(&mut self, cx: &mut Context<'_>, sum: Tile, load: impl FnOnce(&mut Context<'_>, Tile)) {
        let tile = Tile::rows_of(Space::Ub, self.queue.alloc(cx), self.elem, sum.rows, sum.cols);
        load(cx, tile);
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

//! The places of the `k` largest of each row: steps of a row are sorted, and the best so far merged with each step's best.

use super::sorted::{Parts, RUN, Sorter, list, merge, pairs};
use crate::device::Npu;
use crate::isa::{Cmp, Elem, Global, Mode, Pipe, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};

/// Scores of a step, and ranks that are found in a pass over a row: UB has room for some twenty words of each.
const STEP: u32 = 2048;
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
    // Few rows are cut into segments, whose best are merged behind.
    let lanes = 2 * npu.profile().figures.cube_cores as u32;
    let steps = width.div_ceil(STEP).max(1);
    let segments = if k > STEP { 1 } else { (lanes / rows).clamp(1, steps) };
    let segment = steps.div_ceil(segments) * STEP;
    let segments = width.div_ceil(segment).max(1);
    let lists = (segments > 1).then(|| {
        let region = gm.scratch("lists", 8 * u64::from(k) * u64::from(rows) * u64::from(segments));
        Global::new(region, 0, Elem::F32, rows * segments, 2 * k)
    });
    let kernel = TopK {
        scores: Global::new(gm.input("scores", scores.bytes()), 0, Elem::F32, rows, width),
        out: Global::new(gm.output("out", out.bytes_mut()), 0, Elem::I32, rows, k),
        lists,
        segment,
        segments,
        cores: npu.vector_cores((rows * segments) as usize),
    };
    npu.launch(ops::TopK::NAME, &kernel, &gm)
}

struct TopK {
    scores: Global,
    out: Global,
    /// The best of each segment, where rows have more than one.
    lists: Option<Global>,
    /// Scores of a segment: whole steps.
    segment: u32,
    segments: u32,
    cores: usize,
}

impl Kernel for TopK {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let mut finder = Finder::new(cx, self.out.cols.min(STEP), self.lists.is_some());
        let rows = u64::from(self.scores.rows);
        let Some(lists) = self.lists else {
            for row in cx.share(rows) {
                self.row(cx, &mut finder, row);
            }
            return finder.close(cx);
        };
        for piece in cx.share(rows * u64::from(self.segments)) {
            let (row, segment) = (piece / u64::from(self.segments), (piece % u64::from(self.segments)) as u32);
            let scores = self.scores.part(row, 1, segment * self.segment, self.length(segment));
            if let Some(best) = finder.best(cx, scores, segment * self.segment, self.out.cols, None) {
                finder.keep(cx, best, lists.part(piece, 1, 0, best.cols));
            }
        }
        cx.cross_set(Pipe::Mte3, Mode::Everywhere, ALL);
        cx.cross_wait(Pipe::Mte2, Mode::Everywhere, ALL);
        for row in cx.share(rows) {
            let mut best = None;
            for segment in 0..self.segments {
                let found = self.length(segment).next_multiple_of(RUN).min(self.out.cols);
                let place = row * u64::from(self.segments) + u64::from(segment);
                best = Some(finder.take(cx, lists.part(place, 1, 0, 2 * found), best, self.out.cols));
            }
            finder.ranks(cx, best, self.out.part(row, 1, 0, self.out.cols));
        }
        finder.close(cx);
    }
}

impl TopK {
    fn length(&self, segment: u32) -> u32 {
        self.segment.min(self.scores.cols - segment * self.segment)
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

/// The buffers of a vector half.
struct Finder {
    loads: Queue,
    stores: Queue,
    sorter: Sorter,
    parts: Parts,
    scores: Tile,
    places: Tile,
    /// Of what comes behind the last rank: scores of equals.
    equals: Tile,
    last: [Tile; 3],
    /// The best so far, before and after a merge.
    best: [u32; 2],
    found: u32,
}

impl Finder {
    /// For so many ranks; lists of pairs come and go where rows have segments.
    fn new(cx: &mut Context<'_>, most: u32, has_lists: bool) -> Finder {
        let pairs = 8 * most.next_multiple_of(4);
        let words = if has_lists { pairs } else { pairs / 2 };
        let loads = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, words.max(4 * STEP), 2);
        let stores = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, words.next_multiple_of(32), 2);
        Finder {
            loads,
            stores,
            sorter: Sorter::new(cx, 1, STEP),
            parts: Parts::new(cx, most),
            scores: cx.ub(Elem::F32, 1, STEP),
            places: cx.ub(Elem::I32, 1, STEP),
            equals: cx.ub(Elem::F32, 1, STEP),
            last: [Elem::F32, Elem::I32, Elem::I32].map(|elem| cx.ub(elem, 1, 1)),
            best: [(); 2].map(|()| cx.alloc(Space::Ub, pairs)),
            found: cx.alloc(Space::Ub, pairs),
        }
    }

    /// The best `most` of a row, whose first score is at place `first`; of those behind the last rank alone if there is one.
    fn best(
        &mut self,
        cx: &mut Context<'_>,
        row: Global,
        first: u32,
        most: u32,
        last: Option<[Tile; 2]>,
    ) -> Option<Tile> {
        let mut best = None;
        for start in (0..row.cols).step_by(STEP as usize) {
            let count = STEP.min(row.cols - start);
            let padded = count.next_multiple_of(RUN);
            let loaded = Tile::rows_of(Space::Ub, self.loads.alloc(cx), Elem::F32, 1, count);
            cx.load_ub(row.part(0, 1, start, count), loaded);
            self.loads.push(cx);
            self.loads.pop(cx);
            let [scores, equals] = [self.scores, self.equals].map(|tile| Tile { cols: padded, ..tile });
            let places = Tile { cols: padded, ..self.places };
            cx.fused(|cx| {
                if padded > count {
                    cx.bcast(scores, f32::NEG_INFINITY);
                }
                // A NaN is above nothing.
                let above = (loaded, Cmp::Gt, f32::NEG_INFINITY);
                cx.select(Tile { cols: count, ..scores }, above, loaded, f32::NEG_INFINITY);
                cx.ramp(places, (first + start) as i32, 1);
                if let Some([number, place]) = last {
                    cx.select(equals, (scores, Cmp::Eq, number), scores, f32::NEG_INFINITY);
                    cx.select(equals, (places, Cmp::Gt, place), equals, f32::NEG_INFINITY);
                    cx.select(scores, (scores, Cmp::Lt, number), scores, f32::NEG_INFINITY);
                    cx.max(scores, scores, equals);
                }
            });
            self.loads.free(cx);
            self.sorter.runs(cx, scores, places);
            let to = if best.is_some() { self.found } else { self.best[0] };
            let found = self.sorter.best(cx, 0, padded, most, to);
            best = Some(self.join(cx, best, found, most));
        }
        best
    }

    /// The best of those so far and those found; the first found are there already.
    fn join(&mut self, cx: &mut Context<'_>, best: Option<Tile>, found: Tile, most: u32) -> Tile {
        let Some(best) = best else { return found };
        let joined = merge(cx, &[best, found], most, self.best[1]);
        self.best.reverse();
        joined
    }

    /// Number and place of a list's last pair, for the next pass.
    fn last(&mut self, cx: &mut Context<'_>, best: Tile) -> [Tile; 2] {
        let [number, place, index] = self.last;
        let at = 2 * (pairs(&best) - 1);
        cx.bcast(index, at as i32);
        cx.gather(number, best, index);
        cx.bcast(index, at as i32 + 1);
        cx.gather(place, best.of(Elem::I32), index);
        [number, place]
    }

    /// Puts a list to global memory.
    fn keep(&mut self, cx: &mut Context<'_>, best: Tile, to: Global) {
        let out = list(self.stores.alloc(cx), pairs(&best));
        cx.copy(out, best);
        self.store(cx, out, to);
    }

    /// Takes a list from global memory up into the best so far.
    fn take(&mut self, cx: &mut Context<'_>, from: Global, best: Option<Tile>, most: u32) -> Tile {
        let found = list(self.loads.alloc(cx), from.cols / 2);
        cx.load_ub(from, found);
        self.loads.push(cx);
        self.loads.pop(cx);
        let joined = match best {
            None => merge(cx, &[found], most, self.best[0]),
            best => self.join(cx, best, found, most),
        };
        self.loads.free(cx);
        joined
    }

    /// The places of a list, -1 for what is no score and where there is none.
    fn ranks(&mut self, cx: &mut Context<'_>, best: Option<Tile>, to: Global) {
        let out = Tile::rows_of(Space::Ub, self.stores.alloc(cx), Elem::I32, 1, to.cols);
        if best.is_none_or(|best| pairs(&best) < to.cols) {
            cx.bcast(out, -1);
        }
        if let Some(best) = best {
            let cols = pairs(&best);
            // A row's scores are through.
            let (numbers, integers) = (Tile { cols, ..self.scores }, Tile { cols, ..self.places });
            self.parts.split(cx, best, numbers, integers);
            cx.select(Tile { cols, ..out }, (numbers, Cmp::Gt, f32::NEG_INFINITY), integers, -1);
        }
        self.store(cx, out, to);
    }

    fn store(&mut self, cx: &mut Context<'_>, from: Tile, to: Global) {
        self.stores.push(cx);
        self.stores.pop(cx);
        cx.store(from, to);
        self.stores.free(cx);
    }

    fn close(self, cx: &mut Context<'_>) {
        self.loads.close(cx);
        self.stores.close(cx);
    }
}

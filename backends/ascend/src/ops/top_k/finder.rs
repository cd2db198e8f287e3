//! The buffers of a vector half, and the best so far.

use super::Way;
use super::sorting::{self, Sorting};
use super::threshold::{self, Threshold};
use crate::isa::{Cmp, Elem, Global, Pipe, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use crate::ops::sorted::{Parts, RUN, list, merge, pairs};

/// Bytes of UB that a finder takes for so many ranks beside scores and what its way takes: twice what is stored, two lists, the
/// places of their parts, a number, its place and an index.
pub(super) fn bytes(most: u32, has_lists: bool) -> u32 {
    let ranks = most.next_multiple_of(RUN);
    2 * words(most, has_lists).next_multiple_of(32) + 2 * 8 * ranks + 2 * 4 * ranks + 3 * 32
}

/// Bytes of what comes and goes for so many ranks: pairs where rows have segments.
fn words(most: u32, has_lists: bool) -> u32 {
    let words = 4 * most.next_multiple_of(4);
    if has_lists { 2 * words } else { words }
}

enum Search {
    Sorting(Sorting),
    Threshold(Box<Threshold>),
}

/// Finds the best of rows.
pub(super) struct Finder {
    loads: Queue,
    stores: Queue,
    search: Search,
    parts: Parts,
    last: [Tile; 3],
    /// The best so far, before and after a merge.
    best: [u32; 2],
}

impl Finder {
    /// For so many ranks; lists of pairs come and go where rows have segments.
    pub(super) fn new(cx: &mut Context<'_>, way: Way, most: u32, has_lists: bool) -> Finder {
        let words = words(most, has_lists);
        let loaded = match way {
            Way::Sorting => 4 * sorting::STEP,
            Way::Threshold(step) => threshold::loaded(step, most),
        };
        let loads = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, words.max(loaded), 2);
        let stores = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, words.next_multiple_of(32), 2);
        let search = match way {
            Way::Sorting => Search::Sorting(Sorting::new(cx, most)),
            Way::Threshold(step) => Search::Threshold(Box::new(Threshold::new(cx, step, most))),
        };
        let pairs = 8 * most.next_multiple_of(RUN);
        Finder {
            loads,
            stores,
            search,
            parts: Parts::new(cx, most),
            last: [Elem::F32, Elem::I32, Elem::I32].map(|elem| cx.ub(elem, 1, 1)),
            best: [(); 2].map(|()| cx.alloc(Space::Ub, pairs)),
        }
    }

    /// The best `most` of a row, whose first score is at place `first`; of those behind the last rank alone if there is one,
    /// which only sorting knows.
    pub(super) fn best(
        &mut self,
        cx: &mut Context<'_>,
        row: Global,
        first: u32,
        most: u32,
        last: Option<[Tile; 2]>,
    ) -> Option<Tile> {
        let sorting = match &self.search {
            Search::Sorting(sorting) => sorting,
            Search::Threshold(threshold) => {
                return (row.cols > 0).then(|| threshold.best(cx, &mut self.loads, row, first, (most, self.best[0])));
            }
        };
        let mut best = None;
        for start in (0..row.cols).step_by(sorting::STEP as usize) {
            let count = sorting::STEP.min(row.cols - start);
            let loaded = Tile::rows_of(Space::Ub, self.loads.alloc(cx), Elem::F32, 1, count);
            cx.load_ub(row.part(0, 1, start, count), loaded);
            self.loads.push(cx);
            self.loads.pop(cx);
            let to = if best.is_some() { sorting.found } else { self.best[0] };
            let found = sorting.best(cx, &mut self.loads, loaded, first + start, last, (most, to));
            best = Some(match best {
                Some(best) => join(cx, &mut self.best, &[best, found], most),
                None => found,
            });
        }
        best
    }

    /// Number and place of a list's last pair, for the next pass.
    pub(super) fn last(&mut self, cx: &mut Context<'_>, best: Tile) -> [Tile; 2] {
        let [number, place, index] = self.last;
        let at = 2 * (pairs(&best) - 1);
        cx.bcast(index, at as i32);
        cx.gather(number, best, index);
        cx.bcast(index, at as i32 + 1);
        cx.gather(place, best.of(Elem::I32), index);
        [number, place]
    }

    /// Puts a list to global memory.
    pub(super) fn keep(&mut self, cx: &mut Context<'_>, best: Tile, to: Global) {
        let out = list(self.stores.alloc(cx), pairs(&best));
        cx.copy(out, best);
        self.store(cx, out, to);
    }

    /// Takes a list from global memory up into the best so far.
    pub(super) fn take(&mut self, cx: &mut Context<'_>, from: Global, best: Option<Tile>, most: u32) -> Tile {
        let found = list(self.loads.alloc(cx), from.cols / 2);
        cx.load_ub(from, found);
        self.loads.push(cx);
        self.loads.pop(cx);
        let lists: Vec<Tile> = best.into_iter().chain([found]).collect();
        let joined = join(cx, &mut self.best, &lists, most);
        self.loads.free(cx);
        joined
    }

    /// The places of a list, -1 for what is no score and where there is none.
    pub(super) fn ranks(&mut self, cx: &mut Context<'_>, best: Option<Tile>, to: Global) {
        let out = Tile::rows_of(Space::Ub, self.stores.alloc(cx), Elem::I32, 1, to.cols);
        if best.is_none_or(|best| pairs(&best) < to.cols) {
            cx.bcast(out, -1);
        }
        if let Some(best) = best {
            let cols = pairs(&best);
            let spare = match &self.search {
                Search::Sorting(sorting) => sorting.spare(),
                Search::Threshold(threshold) => threshold.spare(),
            };
            let [numbers, integers] = spare.map(|tile| Tile { cols, ..tile });
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

    pub(super) fn close(self, cx: &mut Context<'_>) {
        self.loads.close(cx);
        self.stores.close(cx);
    }
}

/// The best of those so far and those found; the first of both places has what is best from now on.
fn join(cx: &mut Context<'_>, places: &mut [u32; 2], lists: &[Tile], most: u32) -> Tile {
    places.reverse();
    merge(cx, lists, most, places[0])
}

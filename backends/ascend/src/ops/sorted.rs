//! Lists of pairs, a number and an integer, the largest number first and of equals the one that came first.
//!
//! Both generations sort 32 pairs at a time and merge up to four lists; what is not wanted of a list is never merged.

use crate::isa::{Elem, Tile};
use crate::kernel::Context;
use crate::machine::Space;

/// Pairs that are sorted at a time.
pub(super) const RUN: u32 = 32;
/// Lists that are merged at a time.
const LISTS: usize = 4;

/// A list of pairs at a place in UB.
pub(super) fn list(at: u32, pairs: u32) -> Tile {
    Tile::dense(Space::Ub, at, Elem::F32, 1, 2 * pairs)
}

/// Pairs of a list.
pub(super) fn pairs(list: &Tile) -> u32 {
    list.cols / 2
}

/// Room to sort in.
pub(super) struct Sorter {
    runs: Tile,
    merged: u32,
}

impl Sorter {
    /// For rows of at most so many numbers, a multiple of [`RUN`].
    pub(super) fn new(cx: &mut Context<'_>, rows: u32, cols: u32) -> Sorter {
        Sorter { runs: cx.ub(Elem::F32, rows, 2 * cols), merged: cx.alloc(Space::Ub, 8 * cols) }
    }

    /// Sorts rows of numbers, with their integers, 32 at a time.
    pub(super) fn runs(&self, cx: &mut Context<'_>, numbers: Tile, integers: Tile) {
        let (rows, cols) = (numbers.rows, 2 * numbers.cols);
        cx.sort32(Tile { rows, cols, pitch: cols, ..self.runs }, numbers, integers);
    }

    /// The best `most` pairs of a row of `cols` numbers that was sorted, as a list at `to`. What was sorted is used up.
    pub(super) fn best(&self, cx: &mut Context<'_>, row: u32, cols: u32, most: u32, to: u32) -> Tile {
        let start = self.runs.at + row * 8 * cols;
        let mut lists: Vec<Tile> = (0..cols / RUN).map(|run| list(start + run * 8 * RUN, RUN)).collect();
        let mut room = [self.merged, start];
        loop {
            let is_last = lists.len() <= LISTS;
            let mut at = if is_last { to } else { room[0] };
            let mut merged = Vec::new();
            for some in lists.chunks(LISTS) {
                let one = merge(cx, some, most, at);
                at = (at + 8 * pairs(&one)).next_multiple_of(32);
                merged.push(one);
            }
            if let (true, Some(&one)) = (is_last, merged.first()) {
                return one;
            }
            lists = merged;
            room.reverse();
        }
    }
}

/// The best `most` pairs of some lists, as a list at `to`.
pub(super) fn merge(cx: &mut Context<'_>, lists: &[Tile], most: u32, to: u32) -> Tile {
    let all: u32 = lists.iter().map(pairs).sum();
    let merged = list(to, all.min(most));
    cx.merge(merged, lists);
    merged
}

/// Numbers and integers of pairs, each taken together.
pub(super) struct Parts {
    even: Tile,
    odd: Tile,
}

impl Parts {
    /// For lists of at most so many pairs.
    pub(super) fn new(cx: &mut Context<'_>, most: u32) -> Parts {
        let [even, odd] = [0, 1].map(|start| {
            let tile = cx.ub(Elem::I32, 1, most);
            cx.ramp(tile, start, 2);
            tile
        });
        Parts { even, odd }
    }

    /// Puts the numbers of a list to `numbers` and its integers to `integers`.
    pub(super) fn split(&self, cx: &mut Context<'_>, list: Tile, numbers: Tile, integers: Tile) {
        let cols = pairs(&list);
        cx.gather(numbers, list, Tile { cols, ..self.even });
        cx.gather(integers, list.of(Elem::I32), Tile { cols, ..self.odd });
    }
}

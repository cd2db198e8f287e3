//! The best of a row by the score of its last rank, which only the 950 can: histograms find it, byte by byte from the top, and
//! what is above it and what equals it are squeezed out. Only that is sorted, once the whole row was searched.
//!
//! A kernel cannot go by what it computes, so that all sizes are those of the worst case: there are as many above the last rank
//! as there are ranks, and as many at it, and what is not filled stands for no score. Scores are searched as integers of the
//! same order: a byte of a float is no number.

use super::sorting;
use crate::isa::{Axis, Cmp, Count, Elem, Global, Red, Round, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::{Profile, Space};
use crate::ops::sorted::{RUN, Sorter};
use crate::sim::capacity;

/// Elements before all others, which stand for none: as many as a tile's place is a multiple of.
const FRONT: u32 = 8;
/// The key of what stands for no score: that of -inf.
const NONE: i32 = !f32::NEG_INFINITY.to_bits() as i32;
/// Values of a byte.
const VALUES: u32 = 256;
/// A mark.
const MARK: i32 = 255;
/// Bytes of UB for each score and each rank of a step: another of its size, its place, its four bytes, two marks.
const SEARCHED: u32 = 4 + 4 + 4 + 2;
/// Scores of a step and of a row, by ranks: of fewer, what is above the last rank is too much of them.
const LEAST: u32 = 4;
/// Steps are a multiple of so many scores.
const UNIT: u32 = 1024;

/// Whether a row of so many scores has its `most` ranks sooner this way than by sorting.
pub(super) fn is_sooner(width: u32, most: u32) -> bool {
    width >= sorting::STEP.max(LEAST * most)
}

/// Scores of a step beside which UB has room for `others` bytes and for `most` ranks; 0 if there are too few.
pub(super) fn step(profile: &Profile, most: u32, others: u32) -> u32 {
    let ranks = most.next_multiple_of(RUN);
    // What comes before the scores, two rows of places and one of all, what is kept, pairs twice.
    let each = 2 * 4 + 3 * 4 + 2 * 4 + 2 * 8 + SEARCHED;
    let fixed = 3 * 4 * FRONT + 4 * VALUES + 2 * 32;
    let room = (capacity(profile, Space::Ub) as u32).saturating_sub(others + each * ranks + fixed);
    let step = room / (2 * 4 + SEARCHED) / UNIT * UNIT;
    if step < LEAST * ranks { 0 } else { step }
}

/// Bytes of a buffer for so many scores and what comes before them.
pub(super) fn loaded(step: u32, most: u32) -> u32 {
    4 * (FRONT + most.next_multiple_of(RUN) + step)
}

/// Room to search a row in, for so many ranks.
pub(super) struct Threshold {
    step: u32,
    ranks: u32,
    sorter: Sorter,
    spare: Tile,
    places: Tile,
    /// A byte of each score, the highest first.
    bytes: [Tile; 4],
    /// Marks of scores whose bytes so far are those of the last rank, and of those above it.
    within: Tile,
    above: Tile,
    counts: Tile,
    found: [Tile; 2],
    /// Elements above the last rank and at it, a row each.
    both: Tile,
    chosen: Tile,
    /// The best so far and, behind the places of what stands for none, their places. Of equals the lower place comes first.
    keys: Tile,
    kept: Tile,
}

impl Threshold {
    /// For steps of so many scores.
    pub(super) fn new(cx: &mut Context<'_>, step: u32, most: u32) -> Threshold {
        let ranks = most.next_multiple_of(RUN);
        let all = ranks + step;
        let places = cx.ub(Elem::I32, 1, all);
        cx.ramp(places, FRONT as i32, 1);
        let kept = cx.ub(Elem::I32, 1, FRONT + ranks);
        cx.bcast(kept, 0);
        let bytes = cx.alloc(Space::Ub, 6 * all);
        let byte = |number: u32| Tile::dense(Space::Ub, bytes + number * all, Elem::U8, 1, all);
        Threshold {
            step,
            ranks,
            sorter: Sorter::new(cx, 1, ranks),
            spare: cx.ub(Elem::I32, 1, all),
            places,
            bytes: [0, 1, 2, 3].map(byte),
            within: byte(4),
            above: byte(5),
            counts: cx.ub(Elem::I32, 1, VALUES),
            found: [Elem::I32, Elem::U8].map(|elem| cx.ub(elem, 1, 1)),
            both: cx.ub(Elem::I32, 2, ranks),
            chosen: cx.ub(Elem::I32, 1, ranks),
            keys: cx.ub(Elem::I32, 1, ranks),
            kept,
        }
    }

    /// The best `most` of a row, whose first score is at place `first`, as a list at `to`.
    pub(super) fn best(
        &self,
        cx: &mut Context<'_>,
        loads: &mut Queue,
        row: Global,
        first: u32,
        (most, to): (u32, u32),
    ) -> Tile {
        let cols = most.min(row.cols).next_multiple_of(RUN);
        let keys = Tile { cols, ..self.keys };
        for start in (0..row.cols).step_by(self.step as usize) {
            let count = self.step.min(row.cols - start);
            let front = 4 * (FRONT + self.ranks);
            let loaded = Tile::rows_of(Space::Ub, loads.alloc(cx) + front, Elem::F32, 1, count);
            cx.load_ub(row.part(0, 1, start, count), loaded);
            loads.push(cx);
            loads.pop(cx);
            // What is kept of the steps before comes before this one's: its places are lower.
            let ranks = if start > 0 { self.ranks } else { 0 };
            let all = loaded.of(Elem::I32);
            let all = Tile { at: all.at - 4 * ranks, cols: ranks + count, ..all };
            self.search(cx, all, ranks, most);
            let chosen = Tile { cols, ..self.chosen };
            cx.gather(keys, Tile { at: all.at - 4 * FRONT, cols: FRONT + all.cols, ..all }, chosen);
            loads.free(cx);
            self.keep(cx, chosen, ranks, (first + start) as i32);
        }
        let [numbers, bits] = self.spare().map(|tile| Tile { cols, ..tile });
        cx.fused(|cx| {
            cx.select(bits, (keys, Cmp::Ge, 0), -1, i32::MIN);
            cx.xor(numbers.of(Elem::I32), keys, bits);
        });
        self.sorter.runs(cx, numbers, self.kept.col_range(FRONT, cols));
        self.sorter.best(cx, 0, cols, most, to)
    }

    /// Finds the best of `all`, whose first `ranks` are keys that were kept and whose others are scores, and which has room for
    /// [`FRONT`] more before it: they are `chosen`, counted from there.
    fn search(&self, cx: &mut Context<'_>, all: Tile, ranks: u32, most: u32) {
        let cols = all.cols;
        let [spare, places, within, above] =
            [self.spare, self.places, self.within, self.above].map(|tile| Tile { cols, ..tile });
        let bytes = self.bytes.map(|tile| Tile { cols, ..tile });
        let [bin, byte] = self.found;
        cx.fused(|cx| {
            cx.bcast(Tile { at: all.at - 4 * FRONT, cols: FRONT, ..all }, NONE);
            cx.bcast(self.both, 0);
            cx.bcast(self.chosen, 0);
            if ranks > 0 {
                cx.copy(all.col_range(0, ranks), self.keys);
            }
            self.order(cx, all.col_range(ranks, cols - ranks));
            for (to, shift) in bytes.into_iter().zip([24, 16, 8]) {
                cx.shr(spare, all, shift);
                cx.and(spare, spare, 0xFF);
                cx.cast(to, spare, Round::Zero);
            }
            cx.and(spare, all, 0xFF);
            cx.cast(bytes[3], spare, Round::Zero);
            cx.histogram(self.counts, bytes[0], Count::Accumulate);
        });
        for (number, now) in bytes.into_iter().enumerate() {
            cx.fused(|cx| {
                // The highest value that as many reach as there are ranks: below it are as many values as leave so many.
                cx.select(self.counts, (self.counts, Cmp::Le, cols as i32 - most as i32), 1, 0);
                cx.reduce(Red::Sum, Axis::Row, bin, self.counts);
                cx.cast(byte, bin, Round::Zero);
                if number == 0 {
                    cx.select(within, (now, Cmp::Eq, byte), MARK, 0);
                    cx.select(above, (now, Cmp::Gt, byte), MARK, 0);
                } else {
                    cx.select(within, (now, Cmp::Eq, byte), within, 0);
                    cx.select(above, (now, Cmp::Gt, byte), MARK, above);
                }
                if let Some(&next) = bytes.get(number + 1) {
                    // What is above reaches every value; what is below reaches 0, as all do.
                    cx.and(next, next, within);
                    cx.or(next, next, above);
                    cx.histogram(self.counts, next, Count::Accumulate);
                }
            });
        }
        let [higher, equal] = [0, 1].map(|row| self.both.row_range(row, 1));
        cx.fused(|cx| {
            cx.squeeze(higher, places, (above, Cmp::Ne, 0));
            cx.squeeze(equal, places, (within, Cmp::Ne, 0));
        });
        // Both rows without what is not filled: at least as many as there are ranks.
        let both = Tile { rows: 1, cols: 2 * self.ranks, pitch: 2 * self.ranks, ..self.both };
        cx.squeeze(self.chosen, both, (both, Cmp::Ne, 0));
    }

    /// Scores, where they lie, to integers that have their order if taken without a sign.
    fn order(&self, cx: &mut Context<'_>, scores: Tile) {
        let (numbers, spare) = (scores.of(Elem::F32), Tile { cols: scores.cols, ..self.spare });
        // One zero, of which the machine also has what is too small for it; a NaN is above nothing.
        cx.add(numbers, numbers, 0.0);
        cx.select(numbers, (numbers, Cmp::Gt, f32::NEG_INFINITY), numbers, f32::NEG_INFINITY);
        cx.select(spare, (scores, Cmp::Lt, 0), -1, i32::MIN);
        cx.xor(scores, scores, spare);
    }

    /// Places of what was chosen of a step that began with `ranks` of those before and with the score at place `first`.
    fn keep(&self, cx: &mut Context<'_>, chosen: Tile, ranks: u32, first: i32) {
        let (kept, begin) = (self.kept.col_range(FRONT, chosen.cols), (FRONT + ranks) as i32);
        if ranks == 0 {
            return cx.add(kept, chosen, first - begin);
        }
        let [before, index] = self.spare().map(|tile| Tile { cols: chosen.cols, ..tile.of(Elem::I32) });
        cx.min(index, chosen, begin - 1);
        cx.gather(before, self.kept, index);
        cx.fused(|cx| {
            cx.add(index, chosen, first - begin);
            cx.select(kept, (chosen, Cmp::Ge, begin), index, before);
        });
    }

    /// Room for numbers and integers of a list, between steps.
    pub(super) fn spare(&self) -> [Tile; 2] {
        let [numbers, integers] = [0, self.ranks].map(|start| self.spare.col_range(start, self.ranks));
        [numbers.of(Elem::F32), integers]
    }
}

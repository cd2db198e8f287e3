//! The best of a step of scores by sorting all of them.

use crate::isa::{Cmp, Elem, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use crate::ops::sorted::{RUN, Sorter};

/// Scores of a step: UB has room for some twenty words of each.
pub(super) const STEP: u32 = 2048;

/// Room to sort a step in.
pub(super) struct Sorting {
    sorter: Sorter,
    scores: Tile,
    places: Tile,
    /// Of what comes behind the last rank: scores of equals.
    equals: Tile,
    /// Where what was found is put while there is a best so far.
    pub(super) found: u32,
}

impl Sorting {
    pub(super) fn new(cx: &mut Context<'_>, most: u32) -> Sorting {
        Sorting {
            sorter: Sorter::new(cx, 1, STEP),
            scores: cx.ub(Elem::F32, 1, STEP),
            places: cx.ub(Elem::I32, 1, STEP),
            equals: cx.ub(Elem::F32, 1, STEP),
            found: cx.alloc(Space::Ub, 8 * most.next_multiple_of(RUN)),
        }
    }

    /// The best `most` of the scores in `loads`, of which the first is at place `first`, as a list at `to`; of those behind
    /// the last rank alone if there is one.
    pub(super) fn best(
        &self,
        cx: &mut Context<'_>,
        loads: &mut Queue,
        loaded: Tile,
        first: u32,
        last: Option<[Tile; 2]>,
        (most, to): (u32, u32),
    ) -> Tile {
        let cols = loaded.cols.next_multiple_of(RUN);
        let [scores, places, equals] = [self.scores, self.places, self.equals].map(|tile| Tile { cols, ..tile });
        cx.fused(|cx| {
            if cols > loaded.cols {
                cx.bcast(scores, f32::NEG_INFINITY);
            }
            // A NaN is above nothing.
            let above = (loaded, Cmp::Gt, f32::NEG_INFINITY);
            cx.select(Tile { cols: loaded.cols, ..scores }, above, loaded, f32::NEG_INFINITY);
            cx.ramp(places, first as i32, 1);
            if let Some([number, place]) = last {
                cx.select(equals, (scores, Cmp::Eq, number), scores, f32::NEG_INFINITY);
                cx.select(equals, (places, Cmp::Gt, place), equals, f32::NEG_INFINITY);
                cx.select(scores, (scores, Cmp::Lt, number), scores, f32::NEG_INFINITY);
                cx.max(scores, scores, equals);
            }
        });
        loads.free(cx);
        self.sorter.runs(cx, scores, places);
        self.sorter.best(cx, 0, cols, most, to)
    }

    /// Room for numbers and integers of a list, between steps.
    pub(super) fn spare(&self) -> [Tile; 2] {
        [self.scores, self.places]
    }
}

//! The softmax of a window's slots, channel by channel: slots are rows here, channels columns.

use super::kv_compress::{Half, KvCompress};
use super::rows::{Stores, apart, rows_apart};
use super::window::{Run, Source, runs};
use crate::isa::{Axis, Global, Pipe, Red, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;

/// Slots of a step. It does not depend on how channels are divided, so neither does the order of sums.
const SLOTS: u32 = 128;
/// Columns of a step at most.
const WIDEST: u32 = 1024;
/// Elements of a step, of which UB holds five.
const STEP: u32 = 8192;

/// The buffers of a vector half.
pub(super) struct Pool<'k> {
    kernel: &'k KvCompress,
    scores: Queue,
    values: Queue,
    offsets: Queue,
    /// First column and first slot whose offsets are there.
    held: Option<((u32, u32), Tile)>,
    stores: Stores,
    largest: Tile,
    sum: Tile,
    total: Tile,
    more: Tile,
}

impl<'k> Pool<'k> {
    /// Columns of a step at most.
    pub(super) fn columns(slots: u32) -> u32 {
        (STEP / slots.min(SLOTS) / 64 * 64).min(WIDEST)
    }

    pub(super) fn new(cx: &mut Context<'_>, kernel: &'k KvCompress, width: u32) -> Pool<'k> {
        let bytes = 4 * kernel.slots.min(SLOTS) * width.next_multiple_of(8);
        let queue = |cx: &mut Context<'_>, depth| Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes, depth);
        let [largest, sum, total, more] = [(); 4].map(|()| rows_apart(cx, 1, width));
        Pool {
            kernel,
            scores: queue(cx, 2),
            values: queue(cx, 2),
            offsets: queue(cx, 1),
            held: None,
            stores: Stores::new(cx, kernel.out.elem, 1, width, 2),
            largest,
            sum,
            total,
            more,
        }
    }

    /// An entry's columns: zeros where there is no window.
    pub(super) fn entry(
        &mut self,
        cx: &mut Context<'_>,
        window: Option<(u32, Vec<Source>)>,
        columns: (u32, u32),
        to: Global,
    ) {
        let cols = columns.1;
        let [largest, sum, total, more] =
            [self.largest, self.sum, self.total, self.more].map(|tile| Tile { cols, ..tile });
        if let Some((sequence, sources)) = &window {
            let steps: Vec<(u32, &[Source])> =
                (0..).step_by(SLOTS as usize).zip(sources.chunks(SLOTS as usize)).collect();
            let mut kept = None;
            for &(first, sources) in &steps {
                let scores = self.scores(cx, *sequence, first, sources, columns);
                cx.fused(|cx| {
                    cx.reduce(Red::Max, Axis::Col, if first == 0 { largest } else { more }, scores);
                    if first > 0 {
                        cx.max(largest, largest, more);
                    }
                });
                if steps.len() > 1 {
                    self.scores.free(cx);
                } else {
                    kept = Some(scores);
                }
            }
            for &(first, sources) in &steps {
                let scores = match kept {
                    Some(scores) => scores,
                    None => self.scores(cx, *sequence, first, sources, columns),
                };
                let values = self.values(cx, *sequence, first, sources, columns);
                cx.fused(|cx| {
                    cx.sub(scores, scores, largest);
                    cx.exp(scores, scores);
                    cx.mul(values, values, scores);
                    for (to, from) in [(sum, scores), (total, values)] {
                        cx.reduce(Red::Sum, Axis::Col, if first == 0 { to } else { more }, from);
                        if first > 0 {
                            cx.add(to, to, more);
                        }
                    }
                });
                self.scores.free(cx);
                self.values.free(cx);
            }
        }
        let out = self.stores.begin(cx, 1, cols);
        match window {
            Some(_) => cx.div(out, total, sum),
            None => cx.bcast(out, 0.0),
        }
        self.stores.store(cx, out, to);
    }

    /// Scores of some slots, each row's with the offset of its place.
    fn scores(
        &mut self,
        cx: &mut Context<'_>,
        sequence: u32,
        first: u32,
        sources: &[Source],
        columns: (u32, u32),
    ) -> Tile {
        let (tile, all) = self.fetch(cx, Half::Scores, sequence, first, sources, columns);
        let offsets = self.offsets(cx, first, tile, columns);
        self.scores.pop(cx);
        for run in all.iter().filter(|run| matches!(run.from, Source::Row(_))) {
            let [scores, offsets] = [tile, offsets].map(|tile| tile.row_range(run.slot - first, run.slots));
            cx.add(scores, scores, offsets);
        }
        tile
    }

    fn values(
        &mut self,
        cx: &mut Context<'_>,
        sequence: u32,
        first: u32,
        sources: &[Source],
        columns: (u32, u32),
    ) -> Tile {
        let (tile, _) = self.fetch(cx, Half::Values, sequence, first, sources, columns);
        self.values.pop(cx);
        tile
    }

    /// Asks for a half of some slots: where it will be, and where it comes from.
    fn fetch(
        &mut self,
        cx: &mut Context<'_>,
        half: Half,
        sequence: u32,
        first: u32,
        sources: &[Source],
        columns: (u32, u32),
    ) -> (Tile, Vec<Run>) {
        let tile = apart(self.queue(half).alloc(cx), sources.len() as u32, columns.1);
        let all = runs(sources, first, self.kernel.ape.rows);
        self.load(cx, half, sequence, (&all, first), columns, tile);
        self.queue(half).push(cx);
        (tile, all)
    }

    fn queue(&mut self, half: Half) -> &mut Queue {
        match half {
            Half::Scores => &mut self.scores,
            Half::Values => &mut self.values,
        }
    }

    fn load(
        &self,
        cx: &mut Context<'_>,
        half: Half,
        sequence: u32,
        (all, first): (&[Run], u32),
        columns: (u32, u32),
        tile: Tile,
    ) {
        for run in all {
            let columns = self.channels(run.slot, columns);
            let from = self.kernel.source(half, sequence, run.from, run.slots, columns);
            cx.load_ub(from, tile.row_range(run.slot - first, run.slots));
        }
    }

    /// Offsets of some slots, loaded unless they are there.
    fn offsets(&mut self, cx: &mut Context<'_>, first: u32, like: Tile, columns: (u32, u32)) -> Tile {
        let ratio = self.kernel.ape.rows;
        match self.held {
            Some((key, tile)) if key == (columns.0, first) => return tile,
            Some(_) => self.offsets.free(cx),
            None => {}
        }
        let tile = Tile { at: self.offsets.alloc(cx), ..like };
        let mut slot = first;
        while slot < first + like.rows {
            let slots = (ratio - slot % ratio).min(first + like.rows - slot);
            let (col, cols) = self.channels(slot, columns);
            let from = self.kernel.ape.part(u64::from(slot % ratio), slots, col, cols);
            cx.load_ub(from, tile.row_range(slot - first, slots));
            slot += slots;
        }
        self.offsets.push(cx);
        self.offsets.pop(cx);
        self.held = Some(((columns.0, first), tile));
        tile
    }

    /// Of overlapping windows, the one before gives its first channels and the current one its last.
    fn channels(&self, slot: u32, (col, cols): (u32, u32)) -> (u32, u32) {
        let is_last = self.kernel.overlap && slot >= self.kernel.ape.rows;
        (if is_last { self.kernel.out.cols + col } else { col }, cols)
    }

    pub(super) fn close(mut self, cx: &mut Context<'_>) {
        if self.held.is_some() {
            self.offsets.free(cx);
        }
        for queue in [self.scores, self.values, self.offsets] {
            queue.close(cx);
        }
        self.stores.close(cx);
        for tile in [self.largest, self.sum, self.total, self.more] {
            cx.free(Space::Ub, tile.at);
        }
    }
}

//! What follows the mixer's product for some tokens: `mix = (fn f) / sqrt(mean(f^2) + eps)`, and the sum of streams that is
//! weighed by what is made of it. Tokens lie along rows then, so that vectors are long and each entry can be taken alone.

use super::mixer::Mixer;
use super::rows::{Loads, Stores, f32_bytes, rows_apart};
use super::streams::{column, stream};
use crate::isa::{Axis, Elem, Global, Pipe, Red, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use std::ops::Range;

/// Elements of a step's streams.
const STEP: u32 = 4096;
/// Entries of the mixes of all tokens of a group.
const MIXES: u32 = 2560;
/// Tokens of a group at most.
const GROUP: u32 = 64;
/// Elements from a token's weight to the next: 32 bytes, so that any of them can be taken alone.
const APART: u32 = 8;

/// Operands that both operations have.
pub(super) struct Operands {
    /// Streams, a row each.
    pub(super) streams: Global,
    /// Streams of a token.
    pub(super) n: u32,
    pub(super) base: Global,
    pub(super) scale: Global,
    pub(super) norm_eps: f32,
    pub(super) eps: f32,
    /// The weighed sum.
    pub(super) out: Global,
    pub(super) mixer: Mixer,
}

impl Operands {
    /// Streams, a token a row.
    pub(super) fn flat(streams: Global, n: u32) -> Global {
        Global { rows: streams.rows / n, cols: streams.cols * n, pitch: streams.pitch * u64::from(n), ..streams }
    }

    /// Tokens.
    pub(super) fn tokens(&self) -> u32 {
        self.out.rows
    }
}

/// The buffers of a vector half.
pub(super) struct Mixed<'o> {
    operands: &'o Operands,
    streams: Loads,
    sums: Queue,
    /// Bytes of a buffer of sums.
    room: u32,
    bases: Loads,
    stores: Stores,
    /// Tokens of a group.
    group: u32,
    /// A number for each scale.
    scales: Vec<f32>,
    base: Tile,
    squares: u32,
    /// The factor of each token, and room for a part of its sum.
    factor: [Tile; 2],
    /// Whether the factors of the next group are there already.
    is_ahead: bool,
    mix: Tile,
    turned: Tile,
    weights: Tile,
    term: Tile,
}

impl<'o> Mixed<'o> {
    pub(super) fn new(cx: &mut Context<'_>, operands: &'o Operands) -> Mixed<'o> {
        let (n, mixes) = (operands.n, operands.base.cols);
        let group = (MIXES / mixes.next_multiple_of(8) / 8 * 8).clamp(8, GROUP);
        let (rows, cols) = step(operands.out.cols, n);
        let scales = (0..u64::from(operands.scale.cols))
            .map(|i| f32::from_bits(cx.load_i32(operands.scale.region, operands.scale.at + 4 * i) as u32));
        let scales = scales.collect();
        let streams = Loads::apart(cx, operands.streams.elem, 1, STEP, 2);
        let room = f32_bytes(group, mixes);
        let sums = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, room, 2);
        let mut bases = Loads::new(cx, Elem::F32, 1, mixes, 1);
        let stores = Stores::new(cx, operands.out.elem, rows, cols, 2);
        let base = bases.load(cx, operands.base);
        // What is beside a group's tokens is computed along with them here and there.
        let turned = rows_apart(cx, mixes, group);
        cx.bcast(turned, 0.0);
        Mixed {
            operands,
            streams,
            sums,
            room,
            bases,
            stores,
            group,
            scales,
            base: Tile { rows: mixes, cols: 1, pitch: 1, ..base },
            squares: cx.alloc(Space::Ub, 4 * STEP),
            factor: [(); 2].map(|()| rows_apart(cx, group, 1)),
            is_ahead: false,
            mix: cx.ub(Elem::F32, group, mixes),
            turned,
            weights: rows_apart(cx, n * group, APART),
            term: cx.ub(Elem::F32, rows, cols),
        }
    }

    /// Tokens of a group.
    pub(super) fn group(&self) -> u32 {
        self.group
    }

    /// Waits for the cubes' sums. Meanwhile it computes what the first of its tokens need besides.
    pub(super) fn wait(&mut self, cx: &mut Context<'_>, mine: &Range<u64>) {
        let rows = u64::from(self.group).min(mine.end - mine.start) as u32;
        if rows > 0 {
            self.factor(cx, mine.start, rows);
            self.is_ahead = true;
        }
        Mixer::wait(cx);
    }

    /// `mix_i * scale + base_i` of each entry, a row each with tokens along it. `part` says which scale an entry has.
    pub(super) fn logits(&mut self, cx: &mut Context<'_>, first: u64, rows: u32, part: impl Fn(u32) -> usize) -> Tile {
        // Of the first group it is there.
        if !std::mem::take(&mut self.is_ahead) {
            self.factor(cx, first, rows);
        }
        let factor = self.factor[0].row_range(0, rows);
        let mix = Tile { rows, ..self.mix };
        self.sum(cx, first, mix);
        cx.mul(mix, mix, factor);
        let turned = Tile { cols: rows, ..self.turned };
        cx.transpose(turned, mix);
        let mut start = 0;
        while start < turned.rows {
            let same = (start..turned.rows).take_while(|&entry| part(entry) == part(start)).count() as u32;
            let tile = turned.row_range(start, same);
            cx.mul(tile, tile, self.scales.get(part(start)).copied().unwrap_or(f32::NAN));
            start += same;
        }
        cx.add(turned, turned, self.base);
        turned
    }

    /// The sums of all parts, in their order, as many parts at a time as there is room for.
    fn sum(&mut self, cx: &mut Context<'_>, first: u64, mix: Tile) {
        let mixer = &self.operands.mixer;
        let each = f32_bytes(mix.rows, mix.cols);
        let most = (self.room / each).max(1);
        for start in (0..mixer.parts()).step_by(most as usize) {
            let count = most.min(mixer.parts() - start);
            let at = self.sums.alloc(cx);
            let part = |part: u32| Tile { at: at + part * each, ..mix };
            if mix.rows == 1 {
                // One row of each part, at equal distances.
                cx.load_ub(mixer.token(start, first, count), Tile { rows: count, pitch: each / 4, ..part(0) });
            } else {
                (0..count).for_each(|i| cx.load_ub(mixer.part(start + i, first, mix.rows), part(i)));
            }
            self.sums.push(cx);
            self.sums.pop(cx);
            cx.fused(|cx| {
                for i in 0..count {
                    match start + i {
                        0 => cx.copy(mix, part(i)),
                        _ => cx.add(mix, mix, part(i)),
                    }
                }
            });
            self.sums.free(cx);
        }
    }

    /// `1 / sqrt(mean(f^2) + eps)` of each token.
    fn factor(&mut self, cx: &mut Context<'_>, first: u64, rows: u32) {
        let flat = Operands::flat(self.operands.streams, self.operands.n);
        let width = flat.cols.min(STEP);
        let each = (STEP / width.next_multiple_of(16)).max(1);
        let [sum, more] = self.factor.map(|tile| Tile { rows, ..tile });
        for start in (0..rows).step_by(each as usize) {
            let count = each.min(rows - start);
            for col in (0..flat.cols).step_by(width as usize) {
                let cols = width.min(flat.cols - col);
                let x = self.streams.load(cx, flat.part(first + u64::from(start), count, col, cols));
                let squares = Tile { at: self.squares, ..x };
                let [sum, more] = [sum, more].map(|tile| tile.row_range(start, count));
                cx.fused(|cx| {
                    cx.mul(squares, x, x);
                    cx.reduce(Red::Sum, Axis::Row, if col == 0 { sum } else { more }, squares);
                    if col > 0 {
                        cx.add(sum, sum, more);
                    }
                });
                self.streams.free(cx);
            }
        }
        cx.fused(|cx| {
            cx.div(sum, sum, flat.cols as f32);
            cx.add(sum, sum, self.operands.norm_eps);
            cx.rsqrt(sum, sum);
        });
    }

    /// `1 / (1 + e^-x)`, in place.
    pub(super) fn sigmoid(cx: &mut Context<'_>, x: Tile) {
        cx.fused(|cx| {
            cx.neg(x, x);
            cx.exp(x, x);
            cx.add(x, x, 1.0);
            cx.rcp(x, x);
        });
    }

    /// `out = sum_i (sigmoid(logit_i) + eps) X_i`, with the first logits.
    pub(super) fn collapse(&mut self, cx: &mut Context<'_>, first: u64, logits: Tile) {
        let Operands { n, out, streams, eps, .. } = *self.operands;
        let pre = logits.row_range(0, n);
        Self::sigmoid(cx, pre);
        cx.add(pre, pre, eps);
        let tokens = logits.cols;
        let weight = |stream: u32| self.weights.row_range(stream * self.group, tokens);
        for which in 0..n {
            cx.bcast(weight(which), column(pre, which));
        }
        let (each, width) = step(out.cols, n);
        for start in (0..tokens).step_by(each as usize) {
            let rows = each.min(tokens - start);
            let token = first + u64::from(start);
            for col in (0..out.cols).step_by(width as usize) {
                let cols = width.min(out.cols - col);
                let x = self.streams.load(cx, streams.part(token * u64::from(n), rows * n, col, cols));
                let to = self.stores.begin(cx, rows, cols);
                let term = Tile { rows, cols, ..self.term };
                cx.fused(|cx| {
                    for which in 0..n {
                        let weight = weight(which).part(start, rows, 0, 1);
                        cx.mul(if which == 0 { to } else { term }, stream(x, n, which), weight);
                        if which > 0 {
                            cx.add(to, to, term);
                        }
                    }
                });
                self.streams.free(cx);
                self.stores.store(cx, to, out.part(token, rows, col, cols));
            }
        }
    }

    /// No more come.
    pub(super) fn close(mut self, cx: &mut Context<'_>) {
        self.bases.free(cx);
        for loads in [self.streams, self.bases] {
            loads.close(cx);
        }
        self.sums.close(cx);
        self.stores.close(cx);
    }
}

/// Tokens and columns of a step.
fn step(d: u32, n: u32) -> (u32, u32) {
    let cols = d.min(STEP / n / 16 * 16);
    ((STEP / (n * cols.next_multiple_of(16))).max(1), cols)
}

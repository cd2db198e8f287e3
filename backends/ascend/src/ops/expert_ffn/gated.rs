//! What lies between an expert's matrices: clamped SwiGLU with the routing weight, and the roundings of `h`.

use super::super::rows::{Loads, Stores, f32_bytes, room, round_bf16};
use crate::isa::{Axis, Elem, Global, MX_GROUP, Pipe, Red, Round, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;
use anychip_core::formats::{e4m3, scale};

/// Elements of a step.
const STEP: u32 = 4096;
/// Elements of a step where `h` goes out as codes, if UB has room for them.
const WIDER: u32 = 8192;
/// Bytes of UB for an element: two loads of gate and up each with their f32, two stores and their f32, `h` and what it is
/// rounded through.
const ELEMENT: u32 = 32;
/// The same where `h` goes out as codes of one byte.
const CODED: u32 = 30;
/// What places are rounded up by.
const OTHERS: u32 = 512;
/// Bits of an f32 behind its exponent.
const FRACTION: i32 = 23;

/// `h = w * silu(min(gate, limit)) * clamp(up, -limit, limit)`
pub(super) struct Gated {
    pub(super) gate: Global,
    pub(super) up: Global,
    /// Weight of each row; 1 where there are none.
    pub(super) shares: Option<Global>,
    pub(super) limit: f32,
    /// Columns that share a scale, where `h` is rounded.
    pub(super) block: Option<u32>,
    /// `h`: codes where there is a place for scales, else numbers.
    pub(super) out: Global,
    /// MX scales of `h`.
    pub(super) scales: Option<Global>,
    pub(super) cores: usize,
}

impl Kernel for Gated {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let mine = cx.share(self.out.rows.into());
        if mine.is_empty() {
            return;
        }
        let block = self.block.unwrap_or(STEP).min(self.out.cols);
        let wide = block.min(STEP);
        let (step, element) = if self.scales.is_some() { (WIDER, CODED) } else { (STEP, ELEMENT) };
        // Rows of codes begin at every 32nd element.
        let padded = wide.next_multiple_of(32);
        let high = (step / padded).min(room(cx.profile(), element * padded + self.beside_row(), OTHERS));
        let high = high.clamp(1, (mine.end - mine.start) as u32);
        let mut half = Half::new(cx, self, [high, wide]);
        for first in mine.clone().step_by(high as usize) {
            let rows = high.min((mine.end - first) as u32);
            half.begin(cx, first, rows);
            for col in (0..self.out.cols).step_by(block as usize) {
                let cols = block.min(self.out.cols - col);
                match self.block {
                    Some(_) => half.rounded(cx, col, cols),
                    None => half.plain(cx, col, cols),
                }
            }
            half.end(cx);
        }
        half.close(cx);
    }
}

impl Gated {
    /// Bytes of UB for a row that are not for its elements: its weight twice, its largest magnitude and that of a part, and
    /// its scales twice and once more as a single byte.
    fn beside_row(&self) -> u32 {
        let scales = self.scales.map_or(0, |_| 2 * self.repeat().next_multiple_of(32) + 1);
        4 * (2 + 2) + scales
    }

    /// How often a block's scale comes in a row at most.
    fn repeat(&self) -> u32 {
        self.block.map_or(1, |block| block.min(self.out.cols) / MX_GROUP + 1)
    }
}

/// Buffers of a vector half.
struct Half<'k> {
    kernel: &'k Gated,
    first: u64,
    rows: u32,
    wide: u32,
    gates: Loads,
    ups: Loads,
    shares: Option<Queue>,
    /// Weights of the rows.
    share: Option<Tile>,
    stores: Stores,
    h: u32,
    scratch: u32,
    /// Of each row: its largest magnitude, and that of a part.
    most: [Tile; 2],
    /// Scale bytes that go out, the bytes of each row once and as often as they come.
    scales: Option<(Queue, Tile)>,
}

impl<'k> Half<'k> {
    fn new(cx: &mut Context<'_>, kernel: &'k Gated, [high, wide]: [u32; 2]) -> Half<'k> {
        let row = Tile::dense(Space::Ub, 0, Elem::F32, 1, high).end().next_multiple_of(32) as u32;
        let repeat = kernel.repeat();
        let out = if kernel.scales.is_some() { Elem::E4M3 } else { kernel.out.elem };
        Half {
            kernel,
            first: 0,
            rows: 0,
            wide,
            gates: Loads::new(cx, kernel.gate.elem, high, wide, 2),
            ups: Loads::new(cx, kernel.up.elem, high, wide, 2),
            shares: kernel.shares.map(|_| Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, row, 2)),
            share: None,
            stores: Stores::new(cx, out, high, wide, 2),
            h: cx.alloc(Space::Ub, f32_bytes(high, wide)),
            scratch: cx.alloc(Space::Ub, f32_bytes(high, wide)),
            most: [(); 2].map(|()| cx.ub(Elem::F32, high, 1)),
            scales: kernel.scales.map(|_| {
                let bytes = Tile::rows_of(Space::Ub, 0, Elem::U8, high, repeat).end().next_multiple_of(32) as u32;
                let queue = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, bytes, 2);
                (queue, cx.ub(Elem::U8, high, 1))
            }),
        }
    }

    fn begin(&mut self, cx: &mut Context<'_>, first: u64, rows: u32) {
        (self.first, self.rows) = (first, rows);
        if let (Some(queue), Some(from)) = (&mut self.shares, self.kernel.shares) {
            let line = Tile::dense(Space::Ub, queue.alloc(cx), Elem::F32, 1, rows);
            cx.load_ub(from.part(0, 1, first as u32, rows), line);
            queue.push(cx);
            queue.pop(cx);
            self.share = Some(Tile { rows, cols: 1, pitch: 1, ..line });
        }
    }

    fn end(&mut self, cx: &mut Context<'_>) {
        if let Some(queue) = &mut self.shares {
            queue.free(cx);
        }
    }

    /// `h` of some columns, to a place; and the largest magnitude of each row.
    fn product(&mut self, cx: &mut Context<'_>, h: Tile, col: u32, most: Option<Tile>) {
        let Gated { gate, up, limit, block, .. } = *self.kernel;
        let part = |of: Global| of.part(self.first, h.rows, col, h.cols);
        let gate = self.gates.load(cx, part(gate));
        let up = self.ups.load(cx, part(up));
        let share = self.share;
        cx.fused(|cx| {
            cx.min(gate, gate, limit);
            cx.neg(h, gate);
            cx.exp(h, h);
            cx.add(h, h, 1.0);
            cx.div(h, gate, h);
            cx.min(up, up, limit);
            cx.max(up, up, -limit);
            cx.mul(h, h, up);
            if let Some(share) = share {
                cx.mul(h, h, share);
            }
            if block.is_some() {
                round_bf16(cx, h, self.scratch);
            }
            if let Some(most) = most {
                let scratch = Tile { at: self.scratch, ..h };
                cx.abs(scratch, h);
                cx.reduce(Red::Max, Axis::Row, most, scratch);
            }
        });
        self.gates.free(cx);
        self.ups.free(cx);
    }

    fn plain(&mut self, cx: &mut Context<'_>, col: u32, cols: u32) {
        let h = self.stores.begin(cx, self.rows, cols);
        self.product(cx, h, col, None);
        self.stores.store(cx, h, self.kernel.out.part(self.first, self.rows, col, cols));
    }

    /// A block of columns that share a scale. What is wider than a step is computed twice: for its scale, and for its codes.
    fn rounded(&mut self, cx: &mut Context<'_>, col: u32, cols: u32) {
        let steps: Vec<(u32, u32)> =
            (0..cols).step_by(self.wide as usize).map(|at| (at, self.wide.min(cols - at))).collect();
        let [most, more] = self.most.map(|tile| Tile { rows: self.rows, ..tile });
        let tile = |at: u32, cols| Tile::rows_of(Space::Ub, at, Elem::F32, self.rows, cols);
        let (h, scratch) = (self.h, self.scratch);
        let (rows, first) = (self.rows, self.first);
        let parts: Vec<[Tile; 2]> = steps.iter().map(|&(_, cols)| [tile(h, cols), tile(scratch, cols)]).collect();
        for (&(at, _), &[h, _]) in steps.iter().zip(&parts) {
            self.product(cx, h, col + at, Some(if at == 0 { most } else { more }));
            if at > 0 {
                cx.max(most, most, more);
            }
        }
        // The exponent that is not below that of the largest over the type's largest: see `formats::scale`.
        let bits = most.of(Elem::I32);
        cx.fused(|cx| {
            cx.max(most, most, scale::E4M3_AMAX_FLOOR);
            cx.mul(most, most, 1.0 / e4m3::MAX);
            cx.add(bits, bits, (1 << FRACTION) - 1);
            cx.shr(bits, bits, FRACTION);
            cx.min(bits, bits, i32::from(scale::NAN));
        });
        self.store_scales(cx, bits, (col, cols));
        // As a number: infinite where there is none, which makes NaN of what it multiplies.
        cx.shl(bits, bits, FRACTION);
        for (&(at, cols), &[h, scratch]) in steps.iter().zip(&parts) {
            if steps.len() > 1 {
                self.product(cx, h, col + at, None);
            }
            let to = self.kernel.out.part(first, rows, col + at, cols);
            let out = self.stores.begin(cx, rows, cols);
            if self.kernel.scales.is_some() {
                cx.div(out, h, most);
            } else {
                let codes = Tile::rows_of(Space::Ub, scratch.at, Elem::E4M3, rows, cols);
                cx.div(h, h, most);
                cx.cast(codes, h, Round::Even);
                cx.cast(out, codes, Round::Even);
                cx.mul(out, out, most);
            }
            self.stores.store(cx, out, to);
        }
    }

    /// The scale bytes of a block of columns. The last block's come up to the end of the row.
    fn store_scales(&mut self, cx: &mut Context<'_>, exponents: Tile, (col, cols): (u32, u32)) {
        let (Some((queue, bytes)), Some(to)) = (&mut self.scales, self.kernel.scales) else { return };
        let (at, last) = (col / MX_GROUP, col + cols == self.kernel.out.cols);
        let count = if last { to.cols - at } else { cols / MX_GROUP };
        let bytes = Tile { rows: self.rows, ..*bytes };
        cx.cast(bytes, exponents, Round::Even);
        let all = Tile::rows_of(Space::Ub, queue.alloc(cx), Elem::U8, self.rows, count);
        cx.bcast(all, bytes);
        queue.push(cx);
        queue.pop(cx);
        cx.store(all, to.part(self.first, self.rows, at, count));
        queue.free(cx);
    }

    fn close(self, cx: &mut Context<'_>) {
        self.gates.close(cx);
        self.ups.close(cx);
        self.stores.close(cx);
        if let Some(queue) = self.shares {
            queue.close(cx);
        }
        if let Some((queue, _)) = self.scales {
            queue.close(cx);
        }
    }
}

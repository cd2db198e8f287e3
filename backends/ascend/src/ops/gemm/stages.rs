//! The cube half: from global memory to sums and back.

use super::feed;
use super::{Block, Gemm, Tiling};
use crate::isa::{Body, Elem, FixTo, Init, MX_GROUP, Pipe, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use crate::ops::handoff::Rows;

/// MX products take K in multiples of this.
const MX_DEPTH: u32 = 2 * MX_GROUP;

/// Buffers of a core, and the engines that they lie between.
pub(super) struct Stages<'k> {
    kernel: &'k Gemm,
    tiling: Tiling,
    /// Operands in L1, the left one first.
    loads: Queue,
    /// Bytes of the left operand there.
    left: u32,
    /// Weights in L1, where they come from the vectors.
    fed: Option<Rows>,
    scales: Option<Scales>,
    /// L0A and L0B.
    operands: [Queue; 2],
    sums: Queue,
    /// Where the present block's sums lie, part by part.
    places: Vec<u32>,
}

/// MX scales of both in L1, the left ones first.
struct Scales {
    queue: Queue,
    /// Bytes of the left ones.
    left: u32,
    /// Where the present ones lie.
    at: u32,
}

/// A step along K of what lies in L1.
#[derive(Clone, Copy)]
struct Step {
    /// Its first place.
    first: u32,
    /// Places; of MX operands, with those that complete the last group.
    depth: u32,
    a: Tile,
    b: Tile,
}

impl<'k> Stages<'k> {
    pub(super) fn new(cx: &mut Context<'_>, kernel: &'k Gemm, tiling: Tiling) -> Stages<'k> {
        let Tiling { rows, cols, depth, left: wide, load, scales, part } = tiling;
        let elem = kernel.elem();
        // Vectors have to know where: before all else.
        let fed = kernel.is_fed().then(|| Rows::new(cx, feed::post(cx, elem, &tiling)));
        let bytes = |space, rows, cols| cx.cube_tile_at(space, 0, elem, rows, cols).end() as u32;
        let left = bytes(Space::L1, rows, load);
        let right = match (&fed, kernel.by_n) {
            (Some(_), _) => 0,
            (_, true) => bytes(Space::L1, load, cols),
            (_, false) => bytes(Space::L1, cols, load),
        };
        let [a, b] = [bytes(Space::L0a, rows, wide), bytes(Space::L0b, depth, cols)];
        let of_scales = |rows| Tile::scales(0, rows, scales / MX_GROUP).end() as u32;
        let loads = Queue::new(cx, Pipe::Mte2, Pipe::Mte1, Space::L1, left + right, 2);
        let scales = kernel.x.scales.is_some().then(|| {
            let bytes = [rows, cols].map(of_scales);
            let queue = Queue::new(cx, Pipe::Mte2, Pipe::Mte1, Space::L1, bytes[0] + bytes[1], 2);
            Scales { queue, left: bytes[0], at: 0 }
        });
        let operands = [(Space::L0a, a), (Space::L0b, b)]
            .map(|(space, bytes)| Queue::new(cx, Pipe::Mte1, Pipe::M, space, bytes, 2));
        let sums = Queue::new(cx, Pipe::M, Pipe::Fix, Space::L0c, 4 * rows * part, 2);
        Stages { kernel, tiling, loads, left, fed, scales, operands, sums, places: Vec::new() }
    }

    pub(super) fn block(&mut self, cx: &mut Context<'_>, block: &Block) {
        let Gemm { n, k, .. } = *self.kernel;
        let part = self.tiling.part;
        let parts: Vec<(u32, u32)> =
            (0..block.cols).step_by(part as usize).map(|col| (col, part.min(block.cols - col))).collect();
        for first in (0..k).step_by(self.tiling.load as usize) {
            if self.scales.is_some() && first.is_multiple_of(self.tiling.scales) {
                self.load_scales(cx, block, first);
            }
            let step = self.load(cx, block, first);
            self.products(cx, block, step, &parts);
            self.loads.free(cx);
            if let Some(fed) = &mut self.fed {
                fed.free(cx);
            }
        }
        if let Some(scales) = &mut self.scales {
            scales.queue.free(cx);
        }
        let elem = self.elem_of_sums();
        let left = self.kernel.group(block.weight) * n + block.col;
        for &(col, cols) in &parts {
            let at = self.sums.pop(cx);
            let sums = cx.cube_tile_at(Space::L0c, at, elem, block.rows, cols);
            cx.fix(sums, FixTo::Gm(self.kernel.out.part(block.row, block.rows, left + col, cols)));
            self.sums.free(cx);
        }
    }

    fn elem_of_sums(&self) -> Elem {
        if self.kernel.elem() == Elem::I8 { Elem::I32 } else { Elem::F32 }
    }

    /// Brings both operands to L1, from place `first` of K on.
    fn load(&mut self, cx: &mut Context<'_>, block: &Block, first: u32) -> Step {
        let Gemm { n, k, by_n, x, w, .. } = *self.kernel;
        let (elem, depth) = (self.kernel.elem(), self.tiling.load.min(k - first));
        let group = self.kernel.group(block.weight);
        let at = self.loads.alloc(cx);
        let mut a = cx.cube_tile_at(Space::L1, at, elem, block.rows, depth);
        cx.load_nd2nz(x.codes.part(block.row, block.rows, group * k + first, depth), a);
        let at = at + self.left;
        let mut b = a;
        if by_n {
            b = cx.cube_tile_at(Space::L1, at, elem, depth, block.cols);
            cx.load_nd2nz(w.codes.part((block.weight * k + first).into(), depth, block.col, block.cols), b);
        } else if self.fed.is_none() {
            b = cx.cube_tile_at(Space::L1, at, elem, block.cols, depth);
            let row = u64::from(block.weight) * u64::from(n) + u64::from(block.col);
            cx.load_nd2nz(w.codes.part(row, block.cols, first, depth), b);
        }
        self.loads.push(cx);
        self.loads.pop(cx);
        if let Some(fed) = &mut self.fed {
            b = fed.take(cx, elem, block.cols, depth);
        }
        if self.scales.is_some() {
            [a, b] = [a, b].map(|tile| whole_groups(cx, tile));
        }
        Step { first, depth: a.cols, a, b }
    }

    /// MX scales of the columns from `first` on, for as many loads as they last.
    fn load_scales(&mut self, cx: &mut Context<'_>, block: &Block, first: u32) {
        let Gemm { n, k, x, w, .. } = *self.kernel;
        let (Some(scales), Some(of_x), Some(of_w)) = (&mut self.scales, x.scales, w.scales) else { return };
        if first > 0 {
            scales.queue.free(cx);
        }
        let all = k.next_multiple_of(MX_DEPTH) / MX_GROUP;
        let (col, cols) = (first / MX_GROUP, (self.tiling.scales / MX_GROUP).min(all - first / MX_GROUP));
        let at = scales.queue.alloc(cx);
        let group = self.kernel.group(block.weight);
        let to = Tile::scales(at, block.rows, cols);
        cx.load_scale(of_x.part(block.row, block.rows, group * all + col, cols), to);
        let row = u64::from(block.weight) * u64::from(n) + u64::from(block.col);
        let to = Tile::scales(at + scales.left, block.cols, cols);
        cx.load_scale(of_w.part(row, block.cols, col, cols), to);
        scales.queue.push(cx);
        scales.at = scales.queue.pop(cx);
    }

    /// Products of what is in L1, for each part of the block's columns.
    fn products(&mut self, cx: &mut Context<'_>, block: &Block, step: Step, parts: &[(u32, u32)]) {
        let Gemm { k, by_n, .. } = *self.kernel;
        let (elem, elem_of_sums) = (self.kernel.elem(), self.elem_of_sums());
        let Step { first, a, b, .. } = step;
        if first == 0 {
            self.places.clear();
        }
        let Tiling { depth: most, left, .. } = self.tiling;
        let mut a0 = a;
        for at in (0..step.depth).step_by(most as usize) {
            let depth = most.min(step.depth - at);
            if at.is_multiple_of(left) {
                let cols = left.min(step.depth - at);
                let place = self.operands[0].alloc(cx);
                a0 = cx.cube_tile_at(Space::L0a, place, elem, block.rows, cols);
                cx.load_l0a(a.part(0, block.rows, at, cols), a0);
                self.load_mx(cx, (0, block.rows), (first + at, cols), a0);
                self.operands[0].push(cx);
                self.operands[0].pop(cx);
            }
            let place = self.operands[1].alloc(cx);
            let b0 = cx.cube_tile_at(Space::L0b, place, elem, depth, block.cols);
            if by_n {
                cx.load_l0b(b.part(at, depth, 0, block.cols), b0);
            } else {
                cx.load_l0b_transposed(b.part(0, block.cols, at, depth), b0);
            }
            self.load_mx(cx, (1, block.cols), (first + at, depth), b0);
            self.operands[1].push(cx);
            self.operands[1].pop(cx);
            let a0 = a0.part(0, block.rows, at % left, depth);
            let begins = first + at == 0;
            let ends = first + at + depth >= k;
            for (turn, &(col, cols)) in parts.iter().enumerate() {
                if begins {
                    self.places.push(self.sums.alloc(cx));
                }
                let sums = cx.cube_tile_at(Space::L0c, self.places[turn], elem_of_sums, block.rows, cols);
                let b0 = b0.part(0, depth, col, cols);
                let init = if begins { Init::Zero } else { Init::Accumulate };
                if self.scales.is_some() {
                    cx.mmad_mx(sums, [a0, b0], [a0.scales_beside(), b0.scales_beside()], init);
                } else {
                    cx.mmad(sums, a0, b0, init);
                }
                // Also before the next block, whose sums may lie at the same place.
                cx.chain(block.rows, cols);
                if ends {
                    self.sums.push(cx);
                }
            }
            self.operands[1].free(cx);
            if (at + depth).is_multiple_of(left) || at + depth == step.depth {
                self.operands[0].free(cx);
            }
        }
    }

    /// Brings MX scales, from place `first` of K on, of the left or the right operand to beside its codes.
    fn load_mx(&self, cx: &mut Context<'_>, (side, rows): (u32, u32), (first, depth): (u32, u32), codes: Tile) {
        let Some(Scales { at, left, .. }) = &self.scales else { return };
        let begin = first / self.tiling.scales * self.tiling.scales;
        let held = self.tiling.scales.min(self.kernel.k.next_multiple_of(MX_DEPTH) - begin) / MX_GROUP;
        let from = Tile::scales(at + side * left, rows, held);
        cx.load_mx(from.part(0, rows, (first - begin) / MX_GROUP, depth / MX_GROUP), codes.scales_beside());
    }

    pub(super) fn close(self, cx: &mut Context<'_>) {
        self.loads.close(cx);
        if let Some(scales) = self.scales {
            scales.queue.close(cx);
        }
        if let Some(fed) = self.fed {
            fed.close(cx);
        }
        for queue in self.operands {
            queue.close(cx);
        }
        self.sums.close(cx);
    }
}

/// A tile of codes with as many columns as MX products take: zeros behind those that it has. The load has filled its last
/// fractals.
fn whole_groups(cx: &mut Context<'_>, tile: Tile) -> Tile {
    let (have, cols) = (tile.cols.next_multiple_of(tile.elem.c0() as u32), tile.cols.next_multiple_of(MX_DEPTH));
    let whole = Tile { cols, ..tile };
    if have < cols {
        cx.push(Body::FillL1(whole.part(0, tile.rows, have, cols - have), 0));
    }
    whole
}

//! The vector halves: weights in the cube's type, on their way to L1.
//!
//! Each half takes half of a block's weights. The cube's type has all of their numbers, so nothing is lost; scales go to the
//! cube as they are.

use super::{Block, Gemm, Tiling};
use crate::isa::{Elem, Pipe, Round, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use crate::ops::handoff::{Post, Sender, half_rows};

/// Elements of a step.
const STEP: u32 = 65536;
/// The flag that says that weights are there; the next one says that they were taken.
const FLAG: u8 = 0;

/// Where weights meet the cube.
pub(super) fn post(cx: &Context<'_>, elem: Elem, tiling: &Tiling) -> Post {
    let bytes = cx.cube_tile_at(Space::L1, 0, elem, tiling.cols, tiling.load).end() as u32;
    Post { flag: FLAG, at: 0, bytes, depth: 2, through: None }
}

/// Brings the weights of each block, in the cube's steps along K.
pub(super) fn feed(cx: &mut Context<'_>, kernel: &Gemm, tiling: Tiling, blocks: &[Block]) {
    let Gemm { n, k, w, .. } = *kernel;
    let (from, to) = (w.codes.elem, kernel.elem());
    let wide = tiling.load.min(k);
    let high = (STEP / wide.next_multiple_of(64)).clamp(1, tiling.cols.div_ceil(2));
    let bytes = |elem| Tile::rows_of(Space::Ub, 0, elem, high, wide).end().next_multiple_of(32) as u32;
    let mut loads = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes(from), 2);
    let mut stores = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, bytes(to), 2);
    let mut sender = Sender::new(post(cx, to, &tiling));
    for block in blocks {
        let (above, mine) = half_rows(cx.half(), block.cols);
        let row = u64::from(block.weight) * u64::from(n) + u64::from(block.col + above);
        for first in (0..k).step_by(tiling.load as usize) {
            let depth = tiling.load.min(k - first);
            for down in (0..mine).step_by(high as usize) {
                let rows = high.min(mine - down);
                let tile = |at, elem| Tile::rows_of(Space::Ub, at, elem, rows, depth);
                let codes = tile(loads.alloc(cx), from);
                cx.load_ub(w.codes.part(row + u64::from(down), rows, first, depth), codes);
                loads.push(cx);
                loads.pop(cx);
                let wider = tile(stores.alloc(cx), to);
                cx.cast(wider, codes, Round::Even);
                loads.free(cx);
                stores.push(cx);
                stores.pop(cx);
                if down == 0 {
                    sender.begin(cx, Pipe::Mte3);
                }
                sender.rows(cx, wider, [block.cols, depth], above + down, 0);
                stores.free(cx);
            }
            // A half without rows has its part in the flags.
            if mine == 0 {
                sender.begin(cx, Pipe::Mte3);
            }
            sender.end(cx, Pipe::Mte3);
        }
    }
    sender.close(cx, Pipe::Mte3);
    loads.close(cx);
    stores.close(cx);
}

//! The cube's side: keys times the queries of each token.

use super::{BUFFERS, HALF, IndexScores, KEYS};
use crate::isa::{Elem, Init, Mode, Pipe, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use crate::ops::handoff::{Sender, fetch};

/// What the cube half of a core does.
pub(super) fn cube(cx: &mut Context<'_>, work: &IndexScores) {
    let all = work.blocks(cx);
    if all.blocks.is_empty() {
        return;
    }
    let sizes = &work.sizes;
    let (elem, dim) = (sizes.elem, sizes.dim);
    let mut keys = Queue::new(cx, Pipe::Mte2, Pipe::Mte1, Space::L1, sizes.key_bytes(), BUFFERS as usize);
    let query_bytes = sizes.query_bytes();
    let mut queries = Queue::new(cx, Pipe::Mte2, Pipe::Mte1, Space::L1, query_bytes * sizes.together, 2);
    let mut operands = Queue::new(cx, Pipe::Mte1, Pipe::M, Space::L0a, HALF, 2);
    cx.alloc(Space::L0b, 2 * HALF);
    let sum_bytes = KEYS * sizes.heads_at_once.next_multiple_of(16) * 4;
    let mut sums = Queue::new(cx, Pipe::M, Pipe::Fix, Space::L0c, sum_bytes, 2);
    let mut scores = Sender::new(work.scores);
    let direct = work.keys.through.is_none();
    // Keys and new queries are loaded one block ahead.
    let load = |cx: &mut Context<'_>, keys: &mut Queue, queries: &mut Queue, at: usize| {
        let Some(block) = all.blocks.get(at) else { return };
        if block.first {
            let place = queries.alloc(cx);
            let group = &all.groups[block.group];
            for token in 0..group.visible.len() as u64 {
                let to = cx.cube_tile_at(Space::L1, place + token as u32 * query_bytes, elem, sizes.heads, dim);
                let row = (group.token + token) * u64::from(sizes.heads);
                cx.load_nd2nz(work.q.part(row, sizes.heads, 0, dim), to);
            }
            queries.push(cx);
        }
        let place = keys.alloc(cx);
        let to = cx.cube_tile_at(Space::L1, place, elem, block.keys, dim);
        fetch(cx, &work.keys, at, to);
        keys.push(cx);
    };
    load(cx, &mut keys, &mut queries, 0);
    let mut queries_at = 0;
    for (at, block) in all.blocks.iter().enumerate() {
        load(cx, &mut keys, &mut queries, at + 1);
        if block.first {
            queries_at = queries.pop(cx);
        }
        let place = keys.pop(cx);
        if direct {
            cx.cross_wait(Pipe::Mte1, Mode::Core, work.keys.flag);
        }
        let from = cx.cube_tile_at(Space::L1, place, elem, block.keys, dim);
        let tokens = all.groups[block.group].visible.len() as u32;
        for token in 0..tokens {
            let of_token = cx.cube_tile_at(Space::L1, queries_at + token * query_bytes, elem, sizes.heads, dim);
            for (head, heads) in sizes.parts() {
                let to = Tile::sums(sums.alloc(cx), Elem::F32, block.keys, heads);
                let of_heads = of_token.row_range(head, heads);
                let depth = sizes.depth();
                for first in (0..dim).step_by(depth as usize) {
                    let depth = depth.min(dim - first);
                    let place = operands.alloc(cx);
                    let a = cx.cube_tile_at(Space::L0a, place, elem, block.keys, depth);
                    let b = cx.cube_tile_at(Space::L0b, place, elem, depth, heads);
                    cx.load_l0a(from.col_range(first, depth), a);
                    cx.load_l0b_transposed(of_heads.col_range(first, depth), b);
                    operands.push(cx);
                    operands.pop(cx);
                    cx.chain(to.rows, to.cols);
                    cx.mmad(to, a, b, if first == 0 { Init::Zero } else { Init::Accumulate });
                    operands.free(cx);
                }
                sums.push(cx);
                sums.pop(cx);
                scores.results(cx, to, work.products(), true);
                sums.free(cx);
            }
        }
        keys.free(cx);
        if direct {
            cx.cross_set(Pipe::Mte1, Mode::Core, work.keys.flag + 1);
        }
        if block.last {
            queries.free(cx);
        }
    }
    keys.close(cx);
    queries.close(cx);
    operands.close(cx);
    sums.close(cx);
    scores.close(cx, Pipe::Fix);
}

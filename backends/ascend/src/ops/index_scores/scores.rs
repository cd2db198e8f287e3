//! The vectors' side: keys for the cube, and sums over heads of what it makes of them.

use super::blocks::{Block, Blocks, Group};
use super::{IndexScores, KEYS};
use crate::isa::{Axis, Cmp, Elem, Pipe, Red, Round, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use crate::ops::handoff::{Sender, Sums, half_rows};
use crate::ops::paged::{Room, Unpacker};
use crate::ops::rows::{Loads, round_bf16, rows_apart};

/// Entries that are written as unseen at once.
const UNSEEN: u32 = 2048;
/// Blocks that keys are ahead of scores.
const AHEAD: usize = 2;
/// Buffers of what is loaded.
const LOADED: usize = 2;

/// Keys on their way to the cube.
struct Keys<'w> {
    work: &'w IndexScores,
    unpacker: Unpacker,
    /// Of all blocks in turn: the block, the first key of its page and how many.
    pieces: Vec<(usize, u32, u32)>,
    loaded: usize,
    unpacked: usize,
    raw: Queue,
    /// Where scales lie behind what they scale.
    scales: u32,
    numbers: Queue,
    sender: Sender,
}

struct Scores<'w> {
    work: &'w IndexScores,
    scores: Sums,
    weights: Loads,
    /// Scaled weights of a group, a row a token.
    scaled: Tile,
    wide: Tile,
    narrow: u32,
    sums: [Tile; 2],
    numbers: Tile,
    out: Queue,
}

/// What a vector half does.
pub(super) fn vector(cx: &mut Context<'_>, work: &IndexScores) {
    let all = work.blocks(cx);
    if !all.blocks.is_empty() {
        let mut scores = Scores::new(cx, work);
        let mut keys = Keys::new(cx, work, &all.blocks);
        (0..LOADED).for_each(|_| keys.load(cx, &all.blocks));
        (0..AHEAD).for_each(|at| keys.send(cx, &all.blocks, at));
        for (at, block) in all.blocks.iter().enumerate() {
            keys.send(cx, &all.blocks, at + AHEAD);
            scores.block(cx, block, &all.groups[block.group]);
        }
        scores.close(cx);
        keys.close(cx);
    }
    unseen(cx, work, &all);
}

impl<'w> Keys<'w> {
    fn new(cx: &mut Context<'_>, work: &'w IndexScores, blocks: &[Block]) -> Keys<'w> {
        let room = Room::of([work.scope.format].into_iter(), work.sizes.elem, cx.is_950());
        let once = work.sizes.unpacked;
        let mut pieces = Vec::new();
        for (at, block) in blocks.iter().enumerate() {
            let (first, keys) = half_rows(cx.half(), block.keys);
            pieces.extend((0..keys).step_by(once as usize).map(|key| (at, first + key, once.min(keys - key))));
        }
        let between = cx.alloc(Space::Ub, room.between * once);
        let unpacker = Unpacker::new(cx, &work.scope, work.sizes.elem, once, between);
        Keys {
            work,
            unpacker,
            pieces,
            loaded: 0,
            unpacked: 0,
            raw: Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, (room.data + room.scales) * once, LOADED),
            scales: room.data * once,
            numbers: Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, room.numbers * once, 2),
            sender: Sender::new(work.keys),
        }
    }

    fn load(&mut self, cx: &mut Context<'_>, blocks: &[Block]) {
        let Some(&(block, first, keys)) = self.pieces.get(self.loaded) else { return };
        self.loaded += 1;
        let at = self.raw.alloc(cx);
        for (to, (places, _)) in
            self.unpacker.parts.tiles(at, at + self.scales, keys).into_iter().zip(&self.unpacker.parts.parts)
        {
            cx.load_ub(places.of_page(blocks[block].page, first, keys), to);
        }
        self.raw.push(cx);
    }

    /// Unpacks this half's keys of a block, and loads others behind them.
    fn send(&mut self, cx: &mut Context<'_>, blocks: &[Block], at: usize) {
        let Some(block) = blocks.get(at) else { return };
        self.sender.begin(cx, Pipe::Mte3);
        while let Some(&(_, first, keys)) = self.pieces.get(self.unpacked).filter(|(number, ..)| *number == at) {
            self.unpacked += 1;
            let at = self.raw.pop(cx);
            let raw = self.unpacker.parts.tiles(at, at + self.scales, keys);
            let to = self.numbers.alloc(cx);
            let parts = self.unpacker.unpack(cx, &raw, to);
            self.raw.free(cx);
            self.numbers.push(cx);
            self.numbers.pop(cx);
            for (col, part) in parts {
                self.sender.rows(cx, part, [block.keys, self.work.sizes.dim], first, col);
            }
            self.numbers.free(cx);
            self.load(cx, blocks);
        }
        self.sender.end(cx, Pipe::Mte3);
    }

    fn close(self, cx: &mut Context<'_>) {
        self.raw.close(cx);
        self.numbers.close(cx);
        self.sender.close(cx, Pipe::Mte3);
    }
}

impl<'w> Scores<'w> {
    fn new(cx: &mut Context<'_>, work: &'w IndexScores) -> Scores<'w> {
        let (sizes, own) = (&work.sizes, KEYS / 2);
        let scores = Sums::new(cx, work.scores);
        let scaled = rows_apart(cx, sizes.together, sizes.heads);
        let wide = cx.ub(Elem::F32, own, sizes.heads_at_once.max(sizes.heads.div_ceil(own) * sizes.together));
        let numbers = cx.ub(Elem::I32, 1, own);
        cx.ramp(numbers, 0, 1);
        Scores {
            work,
            scores,
            weights: Loads::new(cx, work.weights.elem, sizes.together, sizes.heads, 1),
            scaled,
            wide,
            narrow: cx.alloc(Space::Ub, scaled.end().max(wide.end() - u64::from(wide.at)) as u32),
            sums: [(); 2].map(|()| cx.ub(Elem::F32, own, 1)),
            numbers,
            out: Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, 4 * own, 2),
        }
    }

    fn block(&mut self, cx: &mut Context<'_>, block: &Block, group: &Group) {
        let (work, sizes) = (self.work, &self.work.sizes);
        if block.first {
            self.weigh(cx, group);
        }
        let (first, keys) = half_rows(cx.half(), block.keys);
        for (token, visible) in (0u32..).zip(&group.visible) {
            let [sum, more] = self.sums.map(|tile| Tile { rows: keys, ..tile });
            for (head, heads) in sizes.parts() {
                let products = self.scores.take_as(cx, work.products(), block.keys, heads);
                if keys > 0 {
                    let weights = self.scaled.part(token, 1, head, heads);
                    let to = if head == 0 { sum } else { more };
                    cx.fused(|cx| self.weighted(cx, products, weights, to));
                    if head > 0 {
                        cx.add(sum, sum, more);
                    }
                }
                self.scores.free(cx);
            }
            if keys == 0 {
                continue;
            }
            let out = Tile::dense(Space::Ub, self.out.alloc(cx), Elem::F32, 1, keys);
            let seen = visible - (block.entry + u64::from(first)) as i64;
            cx.fused(|cx| {
                if work.rounded {
                    round_bf16(cx, sum, self.narrow);
                }
                let row = Tile { rows: 1, cols: keys, pitch: keys, ..sum };
                if seen >= i64::from(keys) {
                    cx.copy(out, row);
                } else {
                    let numbers = Tile { cols: keys, ..self.numbers };
                    cx.select(out, (numbers, Cmp::Lt, seen.max(0) as i32), row, f32::NEG_INFINITY);
                }
            });
            self.out.push(cx);
            self.out.pop(cx);
            let entry = block.entry as u32 + first;
            cx.store(out, work.out.part(group.token + u64::from(token), 1, entry, keys));
            self.out.free(cx);
        }
    }

    /// The weights of a group's tokens, scaled.
    fn weigh(&mut self, cx: &mut Context<'_>, group: &Group) {
        let work = self.work;
        let tokens = group.visible.len() as u32;
        let from = self.weights.load(cx, work.weights.part(group.token, tokens, 0, work.sizes.heads));
        let to = Tile { rows: tokens, ..self.scaled };
        cx.fused(|cx| {
            cx.mul(to, from, work.scale);
            if work.rounded {
                round_bf16(cx, to, self.narrow);
            }
        });
        self.weights.free(cx);
    }

    /// Sums over some heads.
    fn weighted(&self, cx: &mut Context<'_>, products: Tile, weights: Tile, to: Tile) {
        let wide = match products.elem {
            Elem::F32 => products,
            _ => {
                let wide = Tile::rows_of(Space::Ub, self.wide.at, Elem::F32, products.rows, products.cols);
                cx.cast(wide, products, Round::Even);
                wide
            }
        };
        cx.mul(wide, wide, weights);
        if self.work.rounded {
            round_bf16(cx, wide, self.narrow);
        }
        cx.reduce(Red::Sum, Axis::Row, to, wide);
    }

    fn close(self, cx: &mut Context<'_>) {
        self.scores.close(cx);
        self.weights.close(cx);
        self.out.close(cx);
    }
}

/// Writes what no token sees. The halves take turns.
fn unseen(cx: &mut Context<'_>, work: &IndexScores, all: &Blocks) {
    if all.unseen.is_empty() {
        return;
    }
    // What was computed may still be on its way out of the same place.
    cx.barrier_all();
    cx.free_all(Space::Ub);
    let tile = cx.ub(Elem::F32, 1, UNSEEN);
    cx.bcast(tile, f32::NEG_INFINITY);
    cx.barrier_all();
    let rows = all.unseen.iter().flat_map(|part| (part.token..part.token + part.tokens).map(move |row| (row, part)));
    for (row, part) in rows.skip(cx.half()).step_by(2) {
        let mut entry = part.entries.start;
        while entry < part.entries.end {
            let count = u64::from(UNSEEN).min(part.entries.end - entry) as u32;
            cx.store(Tile { cols: count, ..tile }, work.out.part(row, 1, entry as u32, count));
            entry += u64::from(count);
        }
    }
}

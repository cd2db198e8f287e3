//! The cube's side.

use super::{Attention, Plan, Step};
use crate::isa::{Init, Pipe, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use crate::ops::handoff::{Rows, Sender, fetch};

/// Products of fewer tiles than this need a barrier between them where they add to one another.
const CHAINED: u32 = 10;

struct Cube<'w, A> {
    work: &'w A,
    plan: &'w Plan,
    steps: &'w [Step],
    /// Keys, values, and the queries that come with them.
    blocks: Queue,
    queries: Vec<u32>,
    weights: Rows,
    /// Halves of L0A and L0B.
    operands: Queue,
    score_sums: Queue,
    result_sums: Queue,
    scores: Sender,
    results: Sender,
}

/// What the cube half of a core does.
pub(in crate::ops) fn cube<A: Attention>(cx: &mut Context<'_>, work: &A) {
    let (plan, steps) = (work.plan(), work.steps(cx.core(), cx.cores()));
    if steps.is_empty() {
        return;
    }
    let blocks = Queue::new(cx, Pipe::Mte2, Pipe::Mte1, Space::L1, plan.kv_bytes(), plan.buffers);
    let weights = Rows::new(cx, plan.weights);
    let queries = (0..plan.query_buffers()).map(|_| cx.alloc(Space::L1, plan.query_bytes())).collect();
    cx.alloc(Space::L0b, 2 * plan.half());
    let mut cube = Cube {
        work,
        plan,
        steps: &steps,
        blocks,
        queries,
        weights,
        operands: Queue::new(cx, Pipe::Mte1, Pipe::M, Space::L0a, plan.half(), 2),
        score_sums: Queue::new(cx, Pipe::M, Pipe::Fix, Space::L0c, plan.score_sums(), 2),
        result_sums: Queue::new(cx, Pipe::M, Pipe::Fix, Space::L0c, plan.result_sums, 2),
        scores: Sender::new(plan.scores),
        results: Sender::new(plan.results),
    };
    let (loaded, ahead) = (plan.buffers as isize - 1, plan.ahead as isize);
    for at in -loaded..steps.len() as isize {
        // With no buffer to spare, the block is loaded that is needed next.
        if loaded == ahead {
            cube.load(cx, at + loaded);
        }
        cube.scores(cx, at + ahead);
        if let Some(step) = cube.step(at) {
            cube.weights.fetch(cx, plan.needs.elem, step.rows, step.keys);
        }
        if loaded > ahead {
            cube.load(cx, at + loaded);
        }
        cube.results(cx, at);
    }
    cube.blocks.close(cx);
    cube.weights.close(cx);
    cube.operands.close(cx);
    cube.score_sums.close(cx);
    cube.result_sums.close(cx);
    cube.scores.close(cx, Pipe::Fix);
    cube.results.close(cx, Pipe::Fix);
}

impl<A: Attention> Cube<'_, A> {
    fn step(&self, at: isize) -> Option<Step> {
        self.steps.get(usize::try_from(at).ok()?).copied()
    }

    /// Where a step's keys lie.
    fn keys_at(&self, at: isize) -> u32 {
        at as u32 % self.plan.buffers as u32 * self.plan.kv_bytes()
    }

    fn queries(&self, cx: &Context<'_>, step: &Step) -> Tile {
        let at = self.queries[step.turn % self.queries.len()];
        cx.cube_tile_at(Space::L1, at, self.plan.needs.elem, step.rows, self.plan.needs.dim)
    }

    fn keys(&self, cx: &Context<'_>, at: isize, step: &Step) -> Tile {
        cx.cube_tile_at(Space::L1, self.keys_at(at), self.plan.needs.elem, step.keys, self.plan.needs.dim)
    }

    fn values(&self, cx: &Context<'_>, at: isize, step: &Step) -> Tile {
        if self.plan.needs.shared {
            return self.keys(cx, at, step);
        }
        let place = self.keys_at(at) + self.plan.value_at();
        cx.cube_tile_at(Space::L1, place, self.plan.needs.elem, step.keys, self.plan.needs.value)
    }

    /// Queries, where they are new, and what does not come from the vectors.
    fn load(&mut self, cx: &mut Context<'_>, at: isize) {
        let Some(step) = self.step(at) else { return };
        self.blocks.alloc(cx);
        if step.first() {
            // The buffer of a block that was freed says that the queries before last are free as well. At the beginning
            // none was.
            if (at as usize) < self.plan.buffers && step.turn >= self.queries.len() {
                cx.barrier_all();
            }
            let to = self.queries(cx, &step);
            self.work.load_queries(cx, &step, to);
        }
        let keys = self.keys(cx, at, &step);
        match &self.plan.fed {
            Some(post) => fetch(cx, post, at as usize, keys),
            None => {
                let values = self.values(cx, at, &step);
                self.work.load_keys(cx, &step, keys, values);
            }
        }
        self.blocks.push(cx);
    }

    /// `S = Q K^T`.
    fn scores(&mut self, cx: &mut Context<'_>, at: isize) {
        let Some(step) = self.step(at) else { return };
        self.blocks.pop(cx);
        if let Some(post) = self.plan.fed.filter(|post| post.through.is_none()) {
            cx.cross_wait(Pipe::Mte1, crate::isa::Mode::Core, post.flag);
        }
        let (queries, keys) = (self.queries(cx, &step), self.keys(cx, at, &step));
        let sums = Tile::sums(self.score_sums.alloc(cx), crate::isa::Elem::F32, step.rows, step.keys);
        let (dim, depth) = (self.plan.needs.dim, self.plan.depth());
        for first in (0..dim).step_by(depth as usize) {
            let depth = depth.min(dim - first);
            let place = self.operands.alloc(cx);
            let a = cx.cube_tile_at(Space::L0a, place, queries.elem, step.rows, depth);
            let b = cx.cube_tile_at(Space::L0b, place, keys.elem, depth, step.keys);
            cx.load_l0a(queries.col_range(first, depth), a);
            cx.load_l0b_transposed(keys.col_range(first, depth), b);
            self.operands.push(cx);
            self.operands.pop(cx);
            let tiles = step.rows.div_ceil(16) * step.keys.div_ceil(16);
            if first > 0 && tiles < CHAINED {
                cx.barrier(Pipe::M);
            }
            cx.mmad(sums, a, b, if first == 0 { Init::Zero } else { Init::Accumulate });
            self.operands.free(cx);
        }
        self.score_sums.push(cx);
        self.score_sums.pop(cx);
        self.scores.sums(cx, sums);
        self.score_sums.free(cx);
    }

    /// `O = P V`.
    fn results(&mut self, cx: &mut Context<'_>, at: isize) {
        let Some(step) = self.step(at) else { return };
        let weights = self.weights.take(cx, self.plan.needs.elem, step.rows, step.keys);
        let values = self.values(cx, at, &step);
        let (all, width) = (self.plan.needs.value, self.plan.width());
        for first in (0..all).step_by(width as usize) {
            let width = width.min(all - first);
            let place = self.operands.alloc(cx);
            let a = cx.cube_tile_at(Space::L0a, place, weights.elem, step.rows, step.keys);
            let b = cx.cube_tile_at(Space::L0b, place, values.elem, step.keys, width);
            cx.load_l0a(weights, a);
            cx.load_l0b(values.col_range(first, width), b);
            self.operands.push(cx);
            if first + width == all {
                self.free(cx);
            }
            self.operands.pop(cx);
            let sums = Tile::sums(self.result_sums.alloc(cx), crate::isa::Elem::F32, step.rows, width);
            if step.rows.div_ceil(16) * width.div_ceil(16) < CHAINED {
                cx.barrier(Pipe::M);
            }
            cx.mmad(sums, a, b, Init::Zero);
            self.operands.free(cx);
            self.result_sums.push(cx);
            self.result_sums.pop(cx);
            for col in (0..width).step_by(self.plan.piece as usize) {
                self.results.sums(cx, sums.col_range(col, self.plan.piece.min(width - col)));
            }
            self.result_sums.free(cx);
        }
    }

    /// The block's keys, values and weights are in L0.
    fn free(&mut self, cx: &mut Context<'_>) {
        self.weights.free(cx);
        self.blocks.free(cx);
        if let Some(post) = self.plan.fed.filter(|post| post.through.is_none()) {
            cx.cross_set(Pipe::Mte1, crate::isa::Mode::Core, post.flag + 1);
        }
    }
}

//! The cube's side.

use super::{Attention, Plan, Step};
use crate::isa::{Init, Pipe, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use crate::ops::handoff::{Rows, Sender, fetch};

struct Cube<'w, A> {
    work: &'w A,
    plan: &'w Plan,
    steps: &'w [Step],
    /// Keys, and the queries that come with them.
    keys: Queue,
    queries: Vec<u32>,
    values: Option<Queue>,
    /// Where values begin.
    values_at: u32,
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
    let keys = Queue::new(cx, Pipe::Mte2, Pipe::Mte1, Space::L1, plan.key_bytes(), plan.buffers);
    let values = (plan.value_buffers > 0)
        .then(|| Queue::new(cx, Pipe::Mte2, Pipe::Mte1, Space::L1, plan.value_bytes(), plan.value_buffers));
    let weights = Rows::new(cx, plan.weights);
    let queries = (0..plan.query_buffers).map(|_| cx.alloc(Space::L1, plan.query_bytes())).collect();
    cx.alloc(Space::L0b, 2 * plan.half());
    let mut cube = Cube {
        work,
        plan,
        steps: &steps,
        keys,
        queries,
        values,
        values_at: plan.buffers as u32 * plan.key_bytes(),
        weights,
        operands: Queue::new(cx, Pipe::Mte1, Pipe::M, Space::L0a, plan.half(), 2),
        score_sums: Queue::new(cx, Pipe::M, Pipe::Fix, Space::L0c, plan.score_sums(), plan.sums),
        result_sums: Queue::new(cx, Pipe::M, Pipe::Fix, Space::L0c, plan.result_sums, plan.sums),
        scores: Sender::new(plan.scores),
        results: Sender::new(plan.results),
    };
    let (ahead, buffers) = (plan.ahead as isize, plan.buffers as isize);
    // Keys that are the values have buffers for what is computed between the two products as well.
    let loaded = if cube.values.is_some() { ahead + buffers - 1 } else { buffers - 1 };
    // With no buffer to spare, the block is loaded that is needed next.
    let early = cube.values.is_some() || loaded == ahead;
    for at in -loaded..steps.len() as isize {
        if early {
            cube.load_keys(cx, at + loaded);
        }
        cube.scores(cx, at + ahead);
        if let Some(step) = cube.step(at) {
            cube.weights.fetch(cx, plan.needs.elem, step.rows, step.keys);
        }
        if !early {
            cube.load_keys(cx, at + loaded);
        }
        cube.load_values(cx, at + plan.value_buffers as isize - 1);
        cube.results(cx, at);
    }
    cube.keys.close(cx);
    if let Some(values) = cube.values {
        values.close(cx);
    }
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

    fn queries(&self, cx: &Context<'_>, step: &Step) -> Tile {
        let at = self.queries[step.turn % self.queries.len()];
        cx.cube_tile_at(Space::L1, at, self.plan.needs.elem, step.rows, self.plan.needs.dim)
    }

    fn keys(&self, cx: &Context<'_>, at: isize, step: &Step) -> Tile {
        let place = at as u32 % self.plan.buffers as u32 * self.plan.key_bytes();
        cx.cube_tile_at(Space::L1, place, self.plan.needs.elem, step.keys, self.plan.needs.dim)
    }

    fn values(&self, cx: &Context<'_>, at: isize, step: &Step) -> Tile {
        if self.values.is_none() {
            return self.keys(cx, at, step);
        }
        let turn = at as u32 % self.plan.value_buffers as u32;
        let place = self.values_at + turn * self.plan.value_bytes();
        cx.cube_tile_at(Space::L1, place, self.plan.needs.elem, step.keys, self.plan.needs.value)
    }

    /// Queries, where they are new, and keys that do not come from the vectors.
    fn load_keys(&mut self, cx: &mut Context<'_>, at: isize) {
        let Some(step) = self.step(at) else { return };
        self.keys.alloc(cx);
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
            None => self.work.load_keys(cx, &step, keys),
        }
        self.keys.push(cx);
    }

    /// Values, where they are no keys.
    fn load_values(&mut self, cx: &mut Context<'_>, at: isize) {
        let Some(step) = self.step(at) else { return };
        let Some(values) = &mut self.values else { return };
        values.alloc(cx);
        let to = self.values(cx, at, &step);
        self.work.load_values(cx, &step, to);
        if let Some(values) = &mut self.values {
            values.push(cx);
        }
    }

    /// `S = Q K^T`.
    fn scores(&mut self, cx: &mut Context<'_>, at: isize) {
        let Some(step) = self.step(at) else { return };
        self.keys.pop(cx);
        if let Some(post) = self.plan.fed.filter(|post| post.through.is_none()) {
            cx.cross_wait(Pipe::Mte1, crate::isa::Mode::Core, post.flag);
        }
        let (queries, keys) = (self.queries(cx, &step), self.keys(cx, at, &step));
        let (dim, depth) = (self.plan.needs.dim, self.plan.depth());
        self.scores.begin(cx, Pipe::Fix);
        for (key, part) in self.plan.parts(step.keys) {
            let keys = keys.row_range(key, part);
            let sums = Tile::sums(self.score_sums.alloc(cx), crate::isa::Elem::F32, step.rows, part);
            for first in (0..dim).step_by(depth as usize) {
                let depth = depth.min(dim - first);
                let place = self.operands.alloc(cx);
                let a = cx.cube_tile_at(Space::L0a, place, queries.elem, step.rows, depth);
                let b = cx.cube_tile_at(Space::L0b, place, keys.elem, depth, part);
                cx.load_l0a(queries.col_range(first, depth), a);
                cx.load_l0b_transposed(keys.col_range(first, depth), b);
                self.product(cx, sums, [a, b], first == 0);
            }
            self.score_sums.push(cx);
            self.score_sums.pop(cx);
            self.scores.columns(cx, sums, sums.elem, false, step.keys, key);
            self.score_sums.free(cx);
        }
        self.scores.end(cx, Pipe::Fix);
        if self.values.is_some() {
            self.keys.free(cx);
        }
    }

    /// A product of operands that were loaded last, the first of its sums or one more.
    fn product(&mut self, cx: &mut Context<'_>, sums: Tile, [a, b]: [Tile; 2], first: bool) {
        self.operands.push(cx);
        self.operands.pop(cx);
        cx.chain(sums.rows, sums.cols);
        cx.mmad(sums, a, b, if first { Init::Zero } else { Init::Accumulate });
        self.operands.free(cx);
    }

    /// `O = P V`.
    fn results(&mut self, cx: &mut Context<'_>, at: isize) {
        let Some(step) = self.step(at) else { return };
        let weights = self.weights.take(cx, self.plan.needs.elem, step.rows, step.keys);
        if let Some(values) = &mut self.values {
            values.pop(cx);
        }
        let values = self.values(cx, at, &step);
        let (all, width) = (self.plan.needs.value, self.plan.width());
        for first in (0..all).step_by(width as usize) {
            let width = width.min(all - first);
            let sums = Tile::sums(self.result_sums.alloc(cx), crate::isa::Elem::F32, step.rows, width);
            for (key, part) in self.plan.parts(step.keys) {
                let place = self.operands.alloc(cx);
                let a = cx.cube_tile_at(Space::L0a, place, weights.elem, step.rows, part);
                let b = cx.cube_tile_at(Space::L0b, place, values.elem, part, width);
                cx.load_l0a(weights.col_range(key, part), a);
                cx.load_l0b(values.part(key, part, first, width), b);
                if first + width == all && key + part == step.keys {
                    self.free(cx);
                }
                self.product(cx, sums, [a, b], key == 0);
            }
            self.result_sums.push(cx);
            self.result_sums.pop(cx);
            for col in (0..width).step_by(self.plan.piece as usize) {
                self.results.sums(cx, sums.col_range(col, self.plan.piece.min(width - col)));
            }
            self.result_sums.free(cx);
        }
    }

    /// The block's values and weights are in L0.
    fn free(&mut self, cx: &mut Context<'_>) {
        self.weights.free(cx);
        self.values.as_mut().unwrap_or(&mut self.keys).free(cx);
        if let Some(post) = self.plan.fed.filter(|post| post.through.is_none()) {
            cx.cross_set(Pipe::Mte1, crate::isa::Mode::Core, post.flag + 1);
        }
    }
}

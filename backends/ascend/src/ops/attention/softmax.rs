//! The vectors' side: the online softmax, and the results that its weights give.

use super::{Attention, Feed, Plan, Step};
use crate::isa::{Axis, Cmp, Elem, Pipe, Red, Round, Tile};
use crate::kernel::{Context, Queue};
use crate::machine::Space;
use crate::ops::handoff::{Sender, Sums, half_rows};
use crate::ops::rows::round_bf16;

/// Below all scores: the maximum before there is a key. Finite, so that differences to it are numbers.
const LOWEST: f32 = -3e38;

/// What is carried on from block to block, for the rows of this half.
#[derive(Clone, Copy)]
struct State {
    largest: Tile,
    denominator: Tile,
    /// Negative as long as there was no key: one number for all rows.
    seen: Tile,
}

/// Columns of the results that are carried, which go out from where they are carried.
struct Part {
    /// As they come: the first column, and how many.
    pieces: Vec<(u32, u32)>,
    first: u32,
    cols: u32,
    carried: Queue,
    at: u32,
}

impl Part {
    fn new(cx: &mut Context<'_>, plan: &Plan, pieces: &[(u32, u32)]) -> Option<Part> {
        let (&(first, _), cols) = (pieces.first()?, pieces.iter().map(|(_, cols)| cols).sum());
        let bytes = Tile::rows_of(Space::Ub, 0, Elem::F32, plan.rows.div_ceil(2), cols).end().next_multiple_of(32);
        let carried = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, bytes as u32, 1);
        Some(Part { pieces: pieces.to_vec(), first, cols, carried, at: 0 })
    }
}

struct Softmax<'w, A> {
    work: &'w A,
    plan: &'w Plan,
    steps: &'w [Step],
    scores: Sums,
    results: Sums,
    weights: Sender,
    weights_out: Queue,
    parts: Vec<Part>,
    states: Vec<State>,
    /// What each block's maximum makes of what was before.
    factors: Vec<Tile>,
    narrow: u32,
    /// Numbers of keys, one a column, and several numbers a row.
    keys: Option<Tile>,
    columns: [Tile; 2],
    whole: Tile,
    one: Tile,
    sink: Option<Tile>,
}

/// What a vector half does. Makes its feed once the places that the cube knows are taken.
pub(in crate::ops) fn vector<A: Attention, F: Feed>(
    cx: &mut Context<'_>,
    work: &A,
    feed: impl FnOnce(&mut Context<'_>) -> Option<F>,
) {
    let (plan, steps) = (work.plan(), work.steps(cx.core(), cx.cores()));
    if steps.is_empty() {
        return;
    }
    let mut all = Softmax::new(cx, work, plan, &steps);
    let mut feed = feed(cx);
    let ahead = plan.ahead as isize;
    for at in -(ahead + 2)..steps.len() as isize + ahead {
        all.weights(cx, at, feed.as_ref());
        // Halves of both take turns: none waits for long for the other's buffers, and the cube can go on.
        for half in 0..2 {
            if let Some(feed) = &mut feed {
                feed.unpack(cx, &steps, at + ahead + 1, half);
            }
            all.results(cx, at - ahead, half);
        }
    }
    all.close(cx);
    if let Some(feed) = feed {
        feed.close(cx);
    }
}

impl<'w, A: Attention> Softmax<'w, A> {
    fn new(cx: &mut Context<'_>, work: &'w A, plan: &'w Plan, steps: &'w [Step]) -> Softmax<'w, A> {
        let scores = Sums::new(cx, plan.scores);
        let results = Sums::new(cx, plan.results);
        let own = plan.rows.div_ceil(2);
        let bytes = |elem, cols| Tile::rows_of(Space::Ub, 0, elem, own, cols).end().next_multiple_of(32) as u32;
        let weights_out = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, bytes(plan.needs.elem, plan.keys), 1);
        let pieces = plan.pieces();
        let (upper, lower) = pieces.split_at(if plan.fed.is_some() { pieces.len() / 2 } else { 0 });
        let parts = [upper, lower].into_iter().filter_map(|pieces| Part::new(cx, plan, pieces)).collect();
        let column = |cx: &mut Context<'_>| cx.ub(Elem::F32, own, 1);
        let state =
            |cx: &mut Context<'_>| State { largest: column(cx), denominator: column(cx), seen: cx.ub(Elem::I32, 1, 1) };
        let causal = steps.iter().any(|step| step.limit.is_some());
        let mut softmax = Softmax {
            work,
            plan,
            steps,
            scores,
            results,
            weights: Sender::new(plan.weights),
            weights_out,
            parts,
            states: (0..=plan.ahead).map(|_| state(cx)).collect(),
            factors: (0..=plan.ahead).map(|_| column(cx)).collect(),
            narrow: if plan.rounded { cx.alloc(Space::Ub, bytes(Elem::BF16, plan.keys)) } else { 0 },
            keys: causal.then(|| cx.ub(Elem::F32, 1, plan.keys)),
            columns: [(); 2].map(|()| column(cx)),
            whole: cx.ub(Elem::I32, own, 1),
            one: cx.ub(Elem::I32, 1, 1),
            sink: None,
        };
        if let Some(keys) = softmax.keys {
            cx.ramp(keys, 0, 1);
        }
        if let Some(from) = plan.sink {
            let mut loaded = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, 4 * from.cols.next_multiple_of(8), 1);
            let to = Tile::dense(Space::Ub, loaded.alloc(cx), Elem::F32, 1, from.cols);
            cx.load_ub(from, to);
            loaded.push(cx);
            loaded.pop(cx);
            // It stays, and the flags serve others.
            loaded.free(cx);
            loaded.close(cx);
            cx.alloc_at(Space::Ub, to.at, 4 * from.cols);
            softmax.sink = Some(to);
        }
        softmax
    }

    fn step(&self, at: isize) -> Option<(usize, Step)> {
        let at = usize::try_from(at).ok()?;
        Some((at, *self.steps.get(at)?))
    }

    /// The state of a step's rows; the next rows' is another, as results come later than weights.
    fn state(&self, step: &Step, rows: u32) -> State {
        let State { largest, denominator, seen } = self.states[step.turn % self.states.len()];
        let own = |tile: Tile| Tile { rows, ..tile };
        State { largest: own(largest), denominator: own(denominator), seen }
    }

    fn factor(&self, at: usize, rows: u32) -> Tile {
        Tile { rows, ..self.factors[at % self.factors.len()] }
    }

    /// Scores to weights.
    fn weights(&mut self, cx: &mut Context<'_>, at: isize, feed: Option<&impl Feed>) {
        let Some((at, step)) = self.step(at) else { return };
        let scores = self.scores.take(cx, step.rows, step.keys);
        let (first, rows) = half_rows(cx.half(), step.rows);
        self.weights.begin(cx, Pipe::Mte3);
        if rows > 0 {
            let place = self.weights_out.alloc(cx);
            let weights = Tile::rows_of(Space::Ub, place, self.plan.needs.elem, rows, step.keys);
            let (state, factor) = (self.state(&step, rows), self.factor(at, rows));
            let present = feed.map(|feed| feed.present(at, step.keys));
            cx.fused(|cx| self.softmax(cx, &step, first, scores, state, factor, weights, present));
            self.weights_out.push(cx);
        }
        self.scores.free(cx);
        if rows > 0 {
            let place = self.weights_out.pop(cx);
            let weights = Tile::rows_of(Space::Ub, place, self.plan.needs.elem, rows, step.keys);
            self.weights.rows(cx, weights, [step.rows, step.keys], first, 0);
            self.weights_out.free(cx);
        }
        self.weights.end(cx, Pipe::Mte3);
    }

    fn softmax(
        &self,
        cx: &mut Context<'_>,
        step: &Step,
        first: u32,
        scores: Tile,
        State { largest, denominator, seen }: State,
        factor: Tile,
        weights: Tile,
        present: Option<Tile>,
    ) {
        let [column, sum] = self.columns.map(|tile| Tile { rows: scores.rows, ..tile });
        if step.first() {
            cx.bcast(largest, LOWEST);
            cx.bcast(denominator, 0.0);
            cx.bcast(seen, -1);
        }
        cx.mul(scores, scores, self.plan.scale);
        if let Some(present) = present {
            // A key that is not there is zeros, whose product with a NaN is none.
            cx.select(scores, (present, Cmp::Lt, 0), f32::NEG_INFINITY, scores);
            cx.reduce(Red::Max, Axis::Row, self.one, present);
            cx.max(seen, seen, self.one);
        }
        if let (Some(limit), Some(keys)) = (step.limit, self.keys) {
            let keys = Tile { cols: step.keys, ..keys };
            self.tokens(cx, step, first, column);
            cx.add(column, column, limit as f32);
            cx.select(scores, (keys, Cmp::Gt, column), f32::NEG_INFINITY, scores);
        }
        cx.reduce(Red::Max, Axis::Row, column, scores);
        cx.max(column, column, largest);
        cx.sub(factor, largest, column);
        cx.exp(factor, factor);
        cx.copy(largest, column);
        cx.sub(scores, scores, column);
        cx.exp(scores, scores);
        cx.reduce(Red::Sum, Axis::Row, sum, scores);
        cx.mul(denominator, denominator, factor);
        cx.add(denominator, denominator, sum);
        if weights.elem != Elem::F32 {
            cx.cast(weights, scores, Round::Even);
        } else {
            if self.plan.rounded {
                round_bf16(cx, scores, self.narrow);
            }
            cx.copy(weights, scores);
        }
    }

    /// The number of each row's token among the step's, as a column. Half a row more keeps quotients off whole numbers.
    fn tokens(&self, cx: &mut Context<'_>, step: &Step, first: u32, to: Tile) {
        let rows = Tile { rows: 1, cols: to.rows, pitch: to.rows, ..to };
        let whole = Tile { rows: 1, cols: to.rows, pitch: to.rows, ..self.whole };
        cx.ramp(rows, first as i32, 1);
        cx.add(rows, rows, 0.5);
        cx.div(rows, rows, step.heads as f32);
        cx.cast(whole, rows, Round::Floor);
        cx.cast(rows, whole, Round::Even);
    }

    /// Adds a part of a block's results to those before; behind the last block, divides them and stores them.
    fn results(&mut self, cx: &mut Context<'_>, at: isize, number: usize) {
        let Some((at, step)) = self.step(at) else { return };
        let (first, rows) = half_rows(cx.half(), step.rows);
        let (factor, state) = (self.factor(at, rows), self.state(&step, rows));
        let (all_rows, out) = (self.plan.rows, self.plan.needs.out);
        let Some(part) = self.parts.get_mut(number) else { return };
        if step.first() && rows > 0 {
            part.at = part.carried.alloc(cx);
        }
        // As far from row to row as all of a half's rows are.
        let carried = Tile { rows, ..Tile::rows_of(Space::Ub, part.at, Elem::F32, all_rows, part.cols) };
        for &(col, cols) in &part.pieces {
            let more = self.results.take(cx, step.rows, cols);
            if rows > 0 {
                let sums = carried.col_range(col - part.first, cols);
                if step.first() {
                    cx.copy(sums, more);
                } else {
                    cx.fused(|cx| {
                        cx.mul(sums, sums, factor);
                        cx.add(sums, sums, more);
                    });
                }
            }
            self.results.free(cx);
        }
        if !step.last || rows == 0 {
            return;
        }
        // Narrower results lie in the front of their rows.
        let narrow = carried.pitch * 32 / out.bits() as u32;
        let to = Tile { elem: out, pitch: narrow, ..carried };
        cx.fused(|cx| {
            if number == 0 {
                self.quotients(cx, &step, first, state);
            }
            cx.mul(carried, carried, state.denominator);
            if out != Elem::F32 {
                cx.cast(to, carried, Round::Even);
            }
        });
        let Some(part) = self.parts.get_mut(number) else { return };
        part.carried.push(cx);
        part.carried.pop(cx);
        for (row, run) in self.work.outputs(&step, first, rows) {
            cx.store(to.row_range(row, run.rows), run.part(0, run.rows, part.first, part.cols));
        }
        part.carried.free(cx);
    }

    /// Makes factors of denominators: one over them with the sink, zero where there was no key.
    fn quotients(&self, cx: &mut Context<'_>, step: &Step, first: u32, State { largest, denominator, seen }: State) {
        let [column, other] = self.columns.map(|tile| Tile { rows: largest.rows, ..tile });
        if let Some(sink) = self.sink {
            // The head of a row is what its token leaves of it.
            self.tokens(cx, step, first, column);
            let row = |tile: Tile| Tile { rows: 1, cols: column.rows, pitch: column.rows, ..tile };
            let (rows, others, heads) = (row(column), row(other), row(self.whole));
            cx.mul(rows, rows, step.heads as f32);
            cx.ramp(others, (first + step.head) as i32, 1);
            cx.sub(rows, others, rows);
            cx.cast(heads, rows, Round::Even);
            cx.gather(others, sink, heads);
            cx.sub(other, other, largest);
            cx.exp(other, other);
            cx.add(denominator, denominator, other);
        }
        cx.rcp(denominator, denominator);
        if self.plan.fed.is_some() {
            cx.select(denominator, (seen, Cmp::Lt, 0), 0.0, denominator);
        }
    }

    fn close(self, cx: &mut Context<'_>) {
        self.scores.close(cx);
        self.results.close(cx);
        self.weights_out.close(cx);
        self.parts.into_iter().for_each(|part| part.carried.close(cx));
        self.weights.close(cx, Pipe::Mte3);
    }
}

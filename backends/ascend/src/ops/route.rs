//! The experts of each token and their weights: `score = sqrt(ln(1 + e^logit))`, and its share among those chosen

use super::rows::{f32_bytes, rows_apart};
use super::sorted::{RUN, Sorter};
use crate::device::Npu;
use crate::isa::{Axis, Cmp, Elem, Global, Pipe, Red, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Choice, Operation};
use anychip_core::{Numerics, Result, Support};

/// Experts of a step, of all its tokens: UB has room for some twenty words of each.
const STEP: u32 = 2048;
/// Chosen experts of a step that there is room for twice.
const NARROW: u32 = 512;
/// Added to the sum of a token's scores.
const FLOOR: f32 = 1e-20;

pub(crate) fn supports(op: &ops::Route, _npu: &Npu) -> Support {
    let experts = op.logits.size(1);
    if experts > STEP as usize {
        return Support::unsupported("experts", "at most 2048", experts.to_string());
    }
    Support::Native
}

/// The score is made of an exponential, a logarithm and a quotient.
pub(crate) fn numerics(_op: &ops::Route, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::Route, npu: &Npu) -> Result<()> {
    let [rows, experts, k] = [op.logits.size(0), op.logits.size(1), op.experts.size(1)].map(|size| size as u32);
    if rows == 0 {
        return Ok(());
    }
    let (logits, mut chosen, mut weights) = (read(&op.logits)?, write(&op.experts)?, write(&op.weights)?);
    let operands = match &op.choice {
        Choice::Best { bias } => (read(bias)?, None),
        Choice::Hash { table, tokens } => (read(table)?, Some((table.size(0) as u32, read(tokens)?))),
    };
    let mut gm = Gm::default();
    let by = match &operands {
        (bias, None) => By::Best(Global::new(gm.input("bias", bias.bytes()), 0, Elem::F32, 1, experts)),
        (table, Some((size, tokens))) => By::Hash {
            table: Global::new(gm.input("table", table.bytes()), 0, Elem::I32, *size, k),
            tokens: Global::new(gm.input("tokens", tokens.bytes()), 0, Elem::I32, 1, rows),
        },
    };
    let lanes = 2 * npu.profile().figures.cube_cores as u32;
    let each = (STEP / experts.next_multiple_of(RUN)).clamp(1, rows.div_ceil(lanes));
    let kernel = Route {
        logits: Global::new(gm.input("logits", logits.bytes()), 0, Elem::F32, rows, experts),
        by,
        scale: op.scale,
        experts: Global::new(gm.output("experts", chosen.bytes_mut()), 0, Elem::I32, rows, k),
        weights: Global::new(gm.output("weights", weights.bytes_mut()), 0, Elem::F32, rows, k),
        each,
        cores: npu.vector_cores(rows.div_ceil(each) as usize),
    };
    npu.launch(ops::Route::NAME, &kernel, &gm)
}

/// How experts are chosen.
enum By {
    Best(Global),
    Hash { table: Global, tokens: Global },
}

struct Route {
    logits: Global,
    by: By,
    scale: f32,
    experts: Global,
    weights: Global,
    /// Tokens of a step.
    each: u32,
    cores: usize,
}

impl Kernel for Route {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let (count, k, each) = (self.logits.cols, self.experts.cols, self.each);
        let mut loads = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, f32_bytes(each, count), 2);
        let depth = if each * k > NARROW { 1 } else { 2 };
        let mut stores = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, 2 * f32_bytes(each, k), depth);
        let mut step = Step::new(cx, self);
        let mine = cx.share(self.logits.rows.div_ceil(each).into());
        for first in mine.map(|piece| piece * u64::from(each)) {
            let rows = each.min((u64::from(self.logits.rows) - first) as u32);
            let logits = Tile::rows_of(Space::Ub, loads.alloc(cx), Elem::F32, rows, count);
            cx.load_ub(self.logits.part(first, rows, 0, count), logits);
            let listed = step.listed(cx, &self.by, first, rows);
            loads.push(cx);
            loads.pop(cx);
            let at = stores.alloc(cx);
            let experts = Tile::rows_of(Space::Ub, at, Elem::I32, rows, k);
            let weights = Tile::rows_of(Space::Ub, at + f32_bytes(each, k), Elem::F32, rows, k);
            match listed {
                None => step.best(cx, logits, experts, weights),
                Some(listed) => step.hashed(cx, (listed, &self.by), logits, experts, weights),
            }
            loads.free(cx);
            self.weigh(cx, experts, weights, &step);
            stores.push(cx);
            stores.pop(cx);
            cx.store(experts, self.experts.part(first, rows, 0, k));
            cx.store(weights, self.weights.part(first, rows, 0, k));
            stores.free(cx);
        }
        step.close(cx);
        loads.close(cx);
        stores.close(cx);
    }
}

impl Route {
    /// Scores of what was chosen to weights; nothing, where nothing was.
    fn weigh(&self, cx: &mut Context<'_>, experts: Tile, weights: Tile, step: &Step) {
        let sum = Tile { rows: weights.rows, ..step.sum };
        cx.fused(|cx| {
            cx.select(weights, (experts, Cmp::Ge, 0), weights, 0.0);
            cx.reduce(Red::Sum, Axis::Row, sum, weights);
            cx.add(sum, sum, FLOOR);
            cx.div(weights, weights, sum);
            cx.mul(weights, weights, self.scale);
            cx.select(weights, (experts, Cmp::Ge, 0), weights, 0.0);
        });
    }
}

/// The buffers of a step, of which the one way of choosing uses some and the other others.
struct Step {
    /// Bias, or experts by token with the tokens.
    operand: Queue,
    bias: Option<Tile>,
    sorter: Option<Sorter>,
    scores: Tile,
    /// Scores by which experts are chosen, and experts; both to whole runs.
    keys: Tile,
    numbers: Tile,
    places: Tile,
    /// Where the logits of each token begin, counted in elements.
    starts: Tile,
    sum: Tile,
    /// A list of pairs for each token, and where their integers are among all words.
    lists: Tile,
    integers: Tile,
    spare: [Tile; 3],
}

impl Step {
    fn new(cx: &mut Context<'_>, route: &Route) -> Step {
        let (count, k, each) = (route.logits.cols, route.experts.cols, route.each);
        let padded = count.next_multiple_of(RUN);
        let starts = cx.ub(Elem::I32, 1, each);
        let integers = cx.ub(Elem::I32, each, k);
        let column = Tile { rows: each, cols: 1, pitch: 1, ..starts };
        cx.ramp(integers, 1, 2);
        cx.ramp(starts, 0, 2 * k as i32);
        cx.add(integers, integers, column);
        cx.ramp(starts, 0, count as i32);
        let starts = column;
        let keys = cx.ub(Elem::F32, each, padded);
        let numbers = cx.ub(Elem::I32, each, padded);
        cx.ramp(numbers, 0, 1);
        let (mut bias, mut sorter) = (None, None);
        let operand = match &route.by {
            By::Best(from) => {
                let mut queue = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, f32_bytes(1, count), 1);
                let tile = Tile::rows_of(Space::Ub, queue.alloc(cx), Elem::F32, 1, count);
                cx.load_ub(*from, tile);
                queue.push(cx);
                queue.pop(cx);
                // Behind the last expert: chosen after all others.
                cx.bcast(keys, f32::NAN);
                bias = Some(tile);
                sorter = Some(Sorter::new(cx, each, padded));
                queue
            }
            By::Hash { .. } => {
                let bytes = f32_bytes(each, k) + f32_bytes(1, each);
                Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes, 2)
            }
        };
        Step {
            operand,
            bias,
            sorter,
            scores: cx.ub(Elem::F32, each, count),
            keys,
            numbers,
            places: cx.ub(Elem::I32, each, k),
            starts,
            sum: cx.ub(Elem::F32, each, 1),
            lists: rows_apart(cx, each, 2 * k),
            integers,
            spare: [(); 3].map(|()| cx.ub(Elem::F32, each, count)),
        }
    }

    /// Fetches experts by token, and tokens, where the table gives them.
    fn listed(&mut self, cx: &mut Context<'_>, by: &By, first: u64, rows: u32) -> Option<[Tile; 2]> {
        let By::Hash { table, tokens } = by else { return None };
        let at = self.operand.alloc(cx);
        let experts = Tile::rows_of(Space::Ub, at, Elem::I32, rows, table.cols);
        let token = Tile::rows_of(Space::Ub, at + f32_bytes(experts.rows, experts.cols), Elem::I32, 1, rows);
        cx.load_ub(tokens.part(0, 1, first as u32, rows), token);
        cx.gather_rows(*table, token, experts);
        self.operand.push(cx);
        Some([experts, Tile { rows, cols: 1, pitch: 1, ..token }])
    }

    /// The best of score and bias.
    fn best(&self, cx: &mut Context<'_>, logits: Tile, experts: Tile, weights: Tile) {
        let (Some(bias), Some(sorter)) = (self.bias, &self.sorter) else { return };
        let rows = logits.rows;
        let [scores, keys, numbers] = [self.scores, self.keys, self.numbers].map(|tile| Tile { rows, ..tile });
        self.score(cx, scores, logits);
        cx.add(Tile { cols: logits.cols, ..keys }, scores, bias);
        sorter.runs(cx, keys, numbers);
        for row in 0..rows {
            sorter.best(cx, row, keys.cols, experts.cols, self.lists.row_range(row, 1).at);
        }
        let [lists, integers] = [self.lists, self.integers].map(|tile| Tile { rows, ..tile });
        cx.gather(experts, lists.of(Elem::I32), integers);
        let places = self.places(cx, experts);
        cx.gather(weights, scores, places);
    }

    /// The experts of each token, -1 for a token or an expert that there is not.
    fn hashed(
        &mut self,
        cx: &mut Context<'_>,
        ([listed, token], by): ([Tile; 2], &By),
        logits: Tile,
        experts: Tile,
        weights: Tile,
    ) {
        let By::Hash { table, .. } = by else { return };
        let _ = self.operand.pop(cx);
        cx.fused(|cx| {
            cx.select(experts, (listed, Cmp::Lt, logits.cols as i32), listed, -1);
            cx.select(experts, (token, Cmp::Lt, table.rows as i32), experts, -1);
            cx.select(experts, (token, Cmp::Ge, 0), experts, -1);
            cx.max(experts, experts, -1);
        });
        self.operand.free(cx);
        let places = self.places(cx, experts);
        cx.gather(weights, logits, places);
        self.score(cx, weights, weights);
    }

    /// Where the chosen are among all logits; the first for none.
    fn places(&self, cx: &mut Context<'_>, experts: Tile) -> Tile {
        let rows = experts.rows;
        let (places, starts) = (Tile { rows, ..self.places }, Tile { rows, ..self.starts });
        cx.max(places, experts, 0);
        cx.add(places, places, starts);
        places
    }

    /// `sqrt(max(z, 0) + ln(1 + t))` with `t = e^-|z|`. What `1 + t` has lost of `t` is made good by `t / ((1 + t) - 1)`;
    /// where it has lost all, `t` is the logarithm.
    fn score(&self, cx: &mut Context<'_>, to: Tile, logits: Tile) {
        let [t, sum, kept] = self.spare.map(|tile| Tile { at: tile.at, ..to });
        cx.fused(|cx| {
            cx.abs(t, logits);
            cx.neg(t, t);
            cx.exp(t, t);
            cx.relu(to, logits);
            cx.add(sum, t, 1.0);
            cx.sub(kept, sum, 1.0);
            cx.ln(sum, sum);
            cx.div(sum, sum, kept);
            cx.mul(sum, sum, t);
            cx.select(sum, (kept, Cmp::Eq, 0.0), t, sum);
            cx.add(to, to, sum);
            cx.sqrt(to, to);
        });
    }

    fn close(mut self, cx: &mut Context<'_>) {
        if self.bias.is_some() {
            self.operand.free(cx);
        }
        self.operand.close(cx);
    }
}

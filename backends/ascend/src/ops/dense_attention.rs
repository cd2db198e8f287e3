//! `out[b,t,h] = sum_j softmax_j(scale * q[b,t,h] . k[b,j,g]) v[b,j,g]`, the sink in the denominator only.
//!
//! Operands that are all bf16, or all f16, are multiplied as such, and weights are rounded to that type. All others are
//! multiplied as f32.

use super::attention::{self, Attention, Needs, Plan, Run, Step};
use super::operand::{Plan as Multiplied, Source};
use super::paged::Keys;
use super::rows::Stores;
use crate::device::{Npu, elem};
use crate::isa::{Elem, Global, Tile};
use crate::kernel::{Context, Kernel};
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{DType, Error, Matrix, Numerics, Result, Support, Tensor};

/// Keys of a block. The 910B's vectors take long for a row's maximum and sum, and its scores go through global memory: there
/// more keys share them.
const KEYS: u32 = 128;
const OLD_KEYS: u32 = 256;

pub(crate) fn supports(op: &ops::DenseAttention, npu: &Npu) -> Support {
    if op.out.count() == 0 || op.k.size(1) == 0 || plan(op, npu).is_some() {
        return Support::Native;
    }
    let got = format!("{} and {}", op.q.size(3), op.v.size(3));
    Support::unsupported("elements of a head", "1 to as many as 16 rows and keys of fit into a core", got)
}

pub(crate) fn numerics(op: &ops::DenseAttention, _npu: &Npu) -> Numerics {
    let weights = match common(op) {
        Elem::BF16 => Some(DType::BF16),
        Elem::F16 => Some(DType::F16),
        _ => None,
    };
    Numerics { intermediates: weights.map(|dtype| ("weights", dtype)).into_iter().collect(), ..Numerics::f32() }
}

/// The type that all operands are multiplied as.
fn common(op: &ops::DenseAttention) -> Elem {
    let [q, k, v] = [&op.q, &op.k, &op.v].map(elem);
    if q == k && k == v { q } else { Elem::F32 }
}

fn plan(op: &ops::DenseAttention, npu: &Npu) -> Option<Plan> {
    let (rows, keys) = (op.q.size(1) * op.q.size(2) / op.k.size(2), op.k.size(1));
    let needs = Needs {
        elem: common(op),
        dim: op.q.size(3) as u32,
        value: op.v.size(3) as u32,
        shared: false,
        rows: rows.min(1 << 16) as u32,
        keys: if npu.is_950() { KEYS } else { OLD_KEYS }.min(keys as u32),
        fixed: false,
        out: elem(&op.out),
        heads: op.q.size(2) as u32,
        unpacking: None,
        threads: false,
        direct: false,
    };
    (needs.dim > 0).then(|| Plan::new(npu.profile(), needs)).flatten()
}

pub(crate) fn run(op: &ops::DenseAttention, npu: &Npu) -> Result<()> {
    if op.out.count() == 0 {
        return Ok(());
    }
    let mut out = write(&op.out)?;
    let mut gm = Gm::default();
    let (batch, rows, heads) = (op.q.size(0), op.q.size(1), op.q.size(2));
    let (keys, groups) = (op.k.size(1), op.k.size(2));
    let Some(plan) = plan(op, npu).filter(|_| keys > 0) else {
        let width = op.out.size(3) as u32;
        let out =
            Global::new(gm.output("out", out.bytes_mut()), 0, elem(&op.out), (batch * rows * heads) as u32, width);
        let kernel = Zeros { out, cores: npu.vector_cores(batch * rows) };
        return npu.launch(ops::DenseAttention::NAME, &kernel, &gm);
    };
    let plain = |tensor: &Tensor| {
        let width = tensor.size(3);
        Ok::<_, Error>(Matrix::plain(&tensor.reshape(&[tensor.count() / width.max(1), width])?)?)
    };
    let (q, k, v) = (plain(&op.q)?, plain(&op.k)?, plain(&op.v)?);
    let multiplied = Multiplied { elem: plan.needs.elem, mx: false };
    let ready = |matrix| Source::rows(matrix, 1).ready(ops::DenseAttention::NAME, npu, multiplied);
    let (q, k, v) = (ready(&q)?, ready(&k)?, ready(&v)?);
    let sink = op.sink.as_ref().map(read).transpose()?;
    let group = (heads / groups) as u32;
    let tile_heads = group.min(plan.rows);
    let mut kernel = DenseAttention {
        q: gm.input("q", q.codes()),
        k: gm.input("k", k.codes()),
        v: gm.input("v", v.codes()),
        out: gm.output("out", out.bytes_mut()),
        batch: batch as u64,
        rows: rows as u64,
        keys: keys as u64,
        heads: heads as u64,
        groups: groups as u64,
        causal: op.causal,
        tile: [plan.rows / tile_heads, tile_heads],
        plan: Plan { scale: op.scale, ..plan },
        cores: 1,
    };
    if let Some(sink) = &sink {
        kernel.plan.sink = Some(Global::new(gm.input("sink", sink.bytes()), 0, Elem::F32, 1, heads as u32));
    }
    kernel.cores = (kernel.items() as usize).clamp(1, npu.profile().figures.cube_cores as usize);
    kernel.plan = kernel.plan.with_memory(npu, &mut gm, kernel.cores);
    npu.launch(ops::DenseAttention::NAME, &kernel, &gm)
}

struct DenseAttention {
    q: u16,
    k: u16,
    v: u16,
    out: u16,
    batch: u64,
    rows: u64,
    keys: u64,
    heads: u64,
    groups: u64,
    causal: bool,
    /// Tokens and heads whose rows are computed together.
    tile: [u32; 2],
    plan: Plan,
    cores: usize,
}

/// Tokens and heads of a piece of work.
struct Place {
    batch: u64,
    group: u64,
    token: u64,
    tokens: u64,
    head: u64,
    heads: u64,
}

impl DenseAttention {
    /// Tiles of tokens, and of a group's heads.
    fn tiles(&self) -> [u64; 2] {
        [self.rows.div_ceil(self.tile[0].into()), (self.heads / self.groups).div_ceil(self.tile[1].into())]
    }

    fn items(&self) -> u64 {
        let [tokens, heads] = self.tiles();
        self.batch * self.groups * tokens * heads
    }

    /// Later tokens, which see more keys, come first, of all heads.
    fn place(&self, item: u64) -> Place {
        let ([tokens, heads], [tile, tile_heads]) = (self.tiles(), self.tile.map(u64::from));
        let each = self.batch * self.groups * heads;
        let (of_batch, group_heads) = (item % each, self.heads / self.groups);
        let token = (tokens - 1 - item / each) * tile;
        let (tile_head, group) = (of_batch % heads * tile_heads, of_batch / heads % self.groups);
        Place {
            batch: of_batch / heads / self.groups,
            group,
            token,
            tokens: tile.min(self.rows - token),
            head: group * group_heads + tile_head,
            heads: tile_heads.min(group_heads - tile_head),
        }
    }

    /// Rows of an operand of all heads, as few matrices as they are.
    fn rows(&self, region: u16, elem: Elem, width: u32, place: &Place) -> Vec<Run> {
        let bytes = elem.bytes(width as usize) as u64;
        let at = |token: u64| ((place.batch * self.rows + token) * self.heads + place.head) * bytes;
        let matrix = |token, rows: u64| Global::new(region, at(token), elem, rows as u32, width);
        if place.heads == self.heads {
            return vec![(0, matrix(place.token, place.tokens * place.heads))];
        }
        if place.heads == 1 {
            return vec![(0, matrix(place.token, place.tokens).pitched(self.heads * bytes))];
        }
        let tokens = 0..place.tokens;
        tokens.map(|t| ((t * place.heads) as u32, matrix(place.token + t, place.heads))).collect()
    }

    /// Rows of keys or values.
    fn keys(&self, region: u16, step: &Step, width: u32) -> Global {
        let (place, elem) = (self.place(step.item), self.plan.needs.elem);
        let bytes = elem.bytes(width as usize) as u64;
        let key = place.batch * self.keys + step.block as u64 * u64::from(self.plan.keys);
        let at = (key * self.groups + place.group) * bytes;
        Global::new(region, at, elem, step.keys, width).pitched(self.groups * bytes)
    }
}

impl Attention for DenseAttention {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn steps(&self, core: usize, cores: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        // To and fro, so that who had the most has the least next.
        let (core, cores) = (core as u64, cores as u64);
        let items = (0..self.items().div_ceil(cores))
            .map(|turn| turn * cores + if turn % 2 == 0 { core } else { cores - 1 - core });
        for (turn, item) in items.filter(|item| *item < self.items()).enumerate() {
            let place = self.place(item);
            let before = self.keys as i64 - self.rows as i64;
            let seen = if self.causal { (place.token + place.tokens) as i64 + before } else { self.keys as i64 };
            let keys = i64::from(self.plan.keys);
            for block in 0..(seen as u64).div_ceil(keys as u64) as i64 {
                let count = keys.min(seen - block * keys);
                let limit = place.token as i64 + before - block * keys;
                steps.push(Step {
                    item,
                    turn,
                    block: block as usize,
                    rows: (place.tokens * place.heads) as u32,
                    heads: place.heads as u32,
                    head: place.head as u32,
                    keys: count as u32,
                    limit: (self.causal && limit < count - 1).then_some(limit),
                    last: block * keys + count == seen,
                });
            }
        }
        steps
    }

    fn load_queries(&self, cx: &mut Context<'_>, step: &Step, to: Tile) {
        for (row, from) in self.rows(self.q, to.elem, to.cols, &self.place(step.item)) {
            cx.load_nd2nz(from, to.row_range(row, from.rows));
        }
    }

    fn load_keys(&self, cx: &mut Context<'_>, step: &Step, to: Tile) {
        cx.load_nd2nz(self.keys(self.k, step, to.cols), to);
    }

    fn load_values(&self, cx: &mut Context<'_>, step: &Step, to: Tile) {
        cx.load_nd2nz(self.keys(self.v, step, to.cols), to);
    }

    fn outputs(&self, step: &Step, first: u32, rows: u32) -> Vec<Run> {
        let needs = &self.plan.needs;
        let runs = self.rows(self.out, needs.out, needs.value, &self.place(step.item));
        let own = runs.into_iter().filter_map(|(row, run)| {
            let (from, to) = (row.max(first), (row + run.rows).min(first + rows));
            (from < to).then(|| (from - first, run.part((from - row).into(), to - from, 0, run.cols)))
        });
        own.collect()
    }
}

impl Kernel for DenseAttention {
    fn cores(&self) -> usize {
        self.cores
    }

    fn cube(&self, cx: &mut Context<'_>) {
        attention::cube(cx, self);
    }

    fn vector(&self, cx: &mut Context<'_>) {
        attention::vector(cx, self, |_| None::<Keys<'_>>);
    }
}

/// The result where there are no keys.
struct Zeros {
    out: Global,
    cores: usize,
}

impl Kernel for Zeros {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let width = self.out.cols.min(8192);
        let mut stores = Stores::new(cx, self.out.elem, 1, width, 2);
        for row in cx.share(self.out.rows.into()) {
            for col in (0..self.out.cols).step_by(width as usize) {
                let cols = width.min(self.out.cols - col);
                let zeros = stores.begin(cx, 1, cols);
                cx.bcast(zeros, 0.0);
                stores.store(cx, zeros, self.out.part(row, 1, col, cols));
            }
        }
        stores.close(cx);
    }
}

//! `out[t,k] = post[t,k] y[t] + sum_j comb[t,j,k] streams[t,j]`

use super::rows::{Loads, Stores, f32_bytes, rows_apart};
use super::streams::{column, parts};
use crate::device::{Npu, elem};
use crate::isa::{Elem, Global, Pipe, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};

/// Streams that UB has room for the weights of; more than [`ops::HyperPre`] gives.
const STREAMS: usize = 16;
/// Bytes of the weights of a step, each at a place of its own.
const WEIGHTS: u32 = 20 << 10;
/// Words from a weight to the next.
const APART: u32 = 8;
/// Bytes of UB that are not for streams: weights, also as they come, and what places are rounded up by.
const OTHERS: u32 = WEIGHTS + 2 * WEIGHTS / APART + 2048;
/// Columns that a vector half is given at least.
const NARROWEST: u32 = 256;

pub(crate) fn supports(op: &ops::HyperPost, _npu: &Npu) -> Support {
    let n = op.streams.size(1);
    if n > STREAMS { Support::unsupported("streams", "at most 16", n.to_string()) } else { Support::Native }
}

pub(crate) fn numerics(_op: &ops::HyperPost, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::HyperPost, npu: &Npu) -> Result<()> {
    let [rows, n, d] = [0, 1, 2].map(|axis| op.streams.size(axis) as u32);
    if op.out.count() == 0 {
        return Ok(());
    }
    let (y, streams, mut out) = (read(&op.y)?, read(&op.streams)?, write(&op.out)?);
    let (post, comb) = (read(&op.post)?, read(&op.comb)?);
    let mut gm = Gm::default();
    let lanes = 2 * npu.profile().figures.cube_cores as u32;
    // Words of a step: what comes, what goes, a term, and of each token the sublayer's result.
    let step = (npu.profile().figures.ub as u32 - OTHERS) * n / (20 * n + 8);
    let (parts, width) = parts(d, step / n / 64 * 64, lanes.div_ceil(rows), NARROWEST);
    let fit = (step / (n * width.next_multiple_of(16))).min(WEIGHTS / (4 * APART * (n + n * n)));
    let kernel = HyperPost {
        y: Global::new(gm.input("y", y.bytes()), 0, elem(&op.y), rows, d),
        streams: Global::new(gm.input("streams", streams.bytes()), 0, elem(&op.streams), rows * n, d),
        post: Global::new(gm.input("post", post.bytes()), 0, Elem::F32, 1, rows * n),
        comb: Global::new(gm.input("comb", comb.bytes()), 0, Elem::F32, 1, rows * n * n),
        out: Global::new(gm.output("out", out.bytes_mut()), 0, elem(&op.out), rows * n, d),
        n,
        each: rows.div_ceil(lanes).clamp(1, fit.max(1)),
        parts,
        width,
        cores: 0,
    };
    let cores = npu.vector_cores(kernel.pieces() as usize);
    npu.launch(ops::HyperPost::NAME, &HyperPost { cores, ..kernel }, &gm)
}

struct HyperPost {
    y: Global,
    streams: Global,
    /// Weights, in one row.
    post: Global,
    comb: Global,
    out: Global,
    n: u32,
    /// Tokens of a step.
    each: u32,
    /// Parts of the columns, of a step each.
    parts: u32,
    width: u32,
    cores: usize,
}

impl HyperPost {
    fn pieces(&self) -> u64 {
        u64::from(self.y.rows.div_ceil(self.each)) * u64::from(self.parts)
    }
}

impl Kernel for HyperPost {
    fn cores(&self) -> usize {
        self.cores
    }

    /// All results of a token at once: streams are rows for all of them, weights are columns.
    fn vector(&self, cx: &mut Context<'_>) {
        let HyperPost { n, each, width, .. } = *self;
        let mut streams = Loads::apart(cx, self.streams.elem, each * n, width, 2);
        let mut ys = Loads::apart(cx, self.y.elem, each, width, 2);
        let mut stores = Stores::apart(cx, self.out.elem, each * n, width, 2);
        let mut weights = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, 2 * f32_bytes(1, each * n * n), 2);
        let cells = rows_apart(cx, each * (n + n * n), APART);
        let term = rows_apart(cx, n, width);
        let mut held = None;
        for piece in cx.share(self.pieces()) {
            let (group, part) = (piece / u64::from(self.parts), (piece % u64::from(self.parts)) as u32);
            let first = group * u64::from(each);
            let rows = each.min((u64::from(self.y.rows) - first) as u32);
            let (col, cols) = (part * width, width.min(self.y.cols - part * width));
            let post = Tile { cols: 1, ..cells.row_range(0, rows * n) };
            let comb = Tile { cols: 1, ..cells.row_range(each * n, rows * n * n) };
            if held != Some(group) {
                self.weights(cx, &mut weights, first, [post, comb]);
                held = Some(group);
            }
            let x = streams.load(cx, self.streams.part(first * u64::from(n), rows * n, col, cols));
            let y = ys.load(cx, self.y.part(first, rows, col, cols));
            let out = stores.begin(cx, rows * n, cols);
            let term = Tile { cols, ..term };
            for token in 0..rows {
                let to = out.row_range(token * n, n);
                cx.fused(|cx| {
                    cx.mul(to, y.row_range(token, 1), post.row_range(token * n, n));
                    for j in token * n..(token + 1) * n {
                        cx.mul(term, x.row_range(j, 1), comb.row_range(j * n, n));
                        cx.add(to, to, term);
                    }
                });
            }
            streams.free(cx);
            ys.free(cx);
            stores.store(cx, out, self.out.part(first * u64::from(n), rows * n, col, cols));
        }
        for loads in [streams, ys] {
            loads.close(cx);
        }
        weights.close(cx);
        stores.close(cx);
    }
}

impl HyperPost {
    /// Puts the weights of some tokens to places of their own.
    fn weights(&self, cx: &mut Context<'_>, queue: &mut Queue, first: u64, [post, comb]: [Tile; 2]) {
        let at = queue.alloc(cx);
        let row = |at, cols| Tile::rows_of(Space::Ub, at, Elem::F32, 1, cols);
        let posts = row(at, post.rows);
        let combs = row((posts.end() as u32).next_multiple_of(32), comb.rows);
        cx.load_ub(self.post.part(0, 1, first as u32 * self.n, post.rows), posts);
        cx.load_ub(self.comb.part(0, 1, first as u32 * self.n * self.n, comb.rows), combs);
        queue.push(cx);
        queue.pop(cx);
        cx.fused(|cx| {
            for (to, from) in [(post, posts), (comb, combs)] {
                cx.bcast(Tile { cols: APART, ..to }, column(from, 0));
            }
        });
        queue.free(cx);
    }
}

//! `x = sum_i pre_i X_i`, `post` and `comb`, from the same mixes

use super::mixed::{Mixed, Operands};
use super::mixer::Mixer;
use super::rows::{Stores, rows_apart};
use crate::device::{Npu, elem};
use crate::isa::{Axis, Elem, Global, Red, Tile};
use crate::kernel::{Context, Kernel};
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};

/// Streams whose matrices of 64 tokens stay in registers from pass to pass.
const SMALL: u32 = 4;
/// Iterations of a function.
const TOGETHER: usize = 10;

pub(crate) fn supports(_op: &ops::HyperPre, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(_op: &ops::HyperPre, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::HyperPre, npu: &Npu) -> Result<()> {
    let [rows, n, d] = [0, 1, 2].map(|axis| op.streams.size(axis) as u32);
    if rows == 0 {
        return Ok(());
    }
    let (streams, mut x) = (read(&op.streams)?, write(&op.x)?);
    let (mixer, base, scale) = (read(&op.mixer)?, read(&op.base)?, read(&op.scale)?);
    let (mut post, mut comb) = (write(&op.post)?, write(&op.comb)?);
    let mut gm = Gm::default();
    let mixes = n * (2 + n);
    let streams = Global::new(gm.input("streams", streams.bytes()), 0, elem(&op.streams), rows * n, d);
    let mixer = Global::new(gm.input("mixer", mixer.bytes()), 0, Elem::F32, mixes, n * d);
    let mixer = Mixer::new(&mut gm, Operands::flat(streams, n), mixer);
    let kernel = HyperPre {
        operands: Operands {
            streams,
            n,
            base: Global::new(gm.input("base", base.bytes()), 0, Elem::F32, 1, mixes),
            scale: Global::new(gm.input("scale", scale.bytes()), 0, Elem::F32, 1, 3),
            norm_eps: op.norm_eps,
            eps: op.eps,
            out: Global::new(gm.output("x", x.bytes_mut()), 0, elem(&op.x), rows, d),
            mixer,
        },
        post: Global::new(gm.output("post", post.bytes_mut()), 0, Elem::F32, rows, n),
        comb: Global::new(gm.output("comb", comb.bytes_mut()), 0, Elem::F32, rows, n * n),
        iterations: op.iterations,
        cores: npu.vector_cores((rows as usize).max(2 * mixer.pieces() as usize)),
    };
    npu.launch(ops::HyperPre::NAME, &kernel, &gm)
}

struct HyperPre {
    operands: Operands,
    post: Global,
    comb: Global,
    /// Passes over columns.
    iterations: usize,
    cores: usize,
}

impl Kernel for HyperPre {
    fn cores(&self) -> usize {
        self.cores
    }

    fn cube(&self, cx: &mut Context<'_>) {
        self.operands.mixer.cube(cx);
    }

    fn vector(&self, cx: &mut Context<'_>) {
        self.operands.mixer.prepare(cx);
        let n = self.operands.n;
        let mut mixed = Mixed::new(cx, &self.operands);
        let sum = rows_apart(cx, n, mixed.group());
        let mut weights = Stores::new(cx, Elem::F32, mixed.group(), n * n, 1);
        let mine = cx.share(self.operands.tokens().into());
        mixed.wait(cx, &mine);
        for first in mine.clone().step_by(mixed.group() as usize) {
            let rows = u64::from(mixed.group()).min(mine.end - first) as u32;
            let logits = mixed.logits(cx, first, rows, |entry| if entry < 2 * n { (entry / n) as usize } else { 2 });
            let (post, comb) = (logits.row_range(n, n), logits.row_range(2 * n, n * n));
            Mixed::sigmoid(cx, post);
            cx.mul(post, post, 2.0);
            self.sinkhorn(cx, comb, sum);
            for (tile, to) in [(post, self.post), (comb, self.comb)] {
                let tokens = weights.begin(cx, rows, tile.rows);
                cx.transpose(tokens, tile);
                weights.store(cx, tokens, to.part(first, rows, 0, tile.rows));
            }
            mixed.collapse(cx, first, logits);
        }
        weights.close(cx);
        mixed.close(cx);
    }
}

impl HyperPre {
    /// Rows of the matrices' softmax and eps; then columns, and rows and columns in turn, divided by their sums and eps.
    /// Entry `jk` of all tokens' matrices is row `j n + k` of `comb`; tokens that there are not are computed along, so that
    /// entries follow one another without gaps.
    fn sinkhorn(&self, cx: &mut Context<'_>, comb: Tile, sum: Tile) {
        let (n, eps) = (self.operands.n, self.operands.eps);
        let comb = Tile { cols: comb.pitch, ..comb };
        // Entries of a column, one below the other.
        let column = |k: u32| Tile { rows: n, pitch: comb.pitch * n, ..comb.row_range(k, 1) };
        cx.fused(|cx| {
            cx.copy(sum, column(0));
            (1..n).for_each(|k| cx.max(sum, sum, column(k)));
            (0..n).for_each(|k| cx.sub(column(k), column(k), sum));
            cx.exp(comb, comb);
        });
        Self::rows(cx, n, column, sum, 0.0);
        cx.add(comb, comb, eps);
        Self::columns(cx, n, comb, sum, eps);
        let mut left = self.iterations - 1;
        while left > 0 {
            let some = left.min(if n <= SMALL { TOGETHER } else { 1 });
            cx.fused(|cx| {
                for _ in 0..some {
                    Self::rows(cx, n, column, sum, eps);
                    Self::columns(cx, n, comb, sum, eps);
                }
            });
            left -= some;
        }
    }

    /// Divides each row of the matrices by its sum and eps: the sum over `k` is of columns, and divides those.
    fn rows(cx: &mut Context<'_>, n: u32, column: impl Fn(u32) -> Tile, sum: Tile, eps: f32) {
        cx.fused(|cx| {
            cx.copy(sum, column(0));
            (1..n).for_each(|k| cx.add(sum, sum, column(k)));
            cx.add(sum, sum, eps);
            (0..n).for_each(|k| cx.div(column(k), column(k), sum));
        });
    }

    /// Divides each column of the matrices by its sum and eps: rows of all tokens' matrices are rows of one.
    fn columns(cx: &mut Context<'_>, n: u32, comb: Tile, sum: Tile, eps: f32) {
        let width = n * comb.pitch;
        let all = Tile { rows: n, cols: width, pitch: width, ..comb };
        let sum = Tile { rows: 1, cols: width, pitch: width, ..sum };
        cx.fused(|cx| {
            cx.reduce(Red::Sum, Axis::Col, sum, all);
            cx.add(sum, sum, eps);
            cx.div(all, all, sum);
        });
    }
}

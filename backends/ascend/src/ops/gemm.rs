//! Products of matrices on the cube: `out[r, n] = sum_k x[r, k] w[n, k]`, for any type that the cube has.
//!
//! Each core takes blocks of the result. For a block, operands come to L1 in steps along K, from there to L0A and L0B in
//! smaller ones; both are double-buffered. Sums stay in L0C until FixPipe stores them, while the cube goes on with others.
//! Weights of another type than the cube multiplies are brought to it by the vectors, on their way to L1.

mod blocks;
mod feed;
mod stages;
mod tiling;
#[cfg(test)]
mod times;

pub(crate) use blocks::{Block, Section, Split};
pub(crate) use tiling::Tiling;

use crate::isa::{Elem, Global, Pipe, Tile};
use crate::kernel::{Context, Kernel};
use crate::machine::Profile;
use stages::Stages;

/// One operand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand {
    /// Elements or codes.
    pub(crate) codes: Global,
    /// MX scales: of each row, and of each group of columns where it has several, one for each 32 along K and as many as
    /// complete the last 64.
    pub(crate) scales: Option<Global>,
}

/// A product.
#[derive(Clone, Debug)]
pub(crate) struct Gemm {
    /// Left operand: rows of K, or of as many K as there are groups of columns.
    pub(crate) x: Operand,
    /// Right operand: N rows of K for each weight; with `by_n`, K rows of N.
    pub(crate) w: Operand,
    /// Whether the rows of `w` run along N.
    pub(crate) by_n: bool,
    /// Result.
    pub(crate) out: Global,
    /// Columns that one weight gives.
    pub(crate) n: u32,
    /// Terms of a sum.
    pub(crate) k: u32,
    /// Which rows meet which weight.
    pub(crate) split: Split,
    /// How it is cut; as its sizes make it where it is not said.
    pub(crate) tiling: Option<Tiling>,
    /// Cores that take part.
    pub(crate) cores: usize,
}

impl Kernel for Gemm {
    fn cores(&self) -> usize {
        self.cores
    }

    fn cube(&self, cx: &mut Context<'_>) {
        let sections = self.sections(cx);
        let (tiling, blocks) = self.cut(cx, &sections);
        if blocks.is_empty() {
            return;
        }
        let mut stages = Stages::new(cx, self, tiling);
        for block in &blocks {
            stages.block(cx, block);
        }
        stages.close(cx);
    }

    /// Weights in the cube's type; and zeros for rows that meet no weight.
    fn vector(&self, cx: &mut Context<'_>) {
        let sections = self.sections(cx);
        if self.is_fed() {
            let (tiling, blocks) = self.cut(cx, &sections);
            if !blocks.is_empty() {
                feed::feed(cx, self, tiling, &blocks);
            }
        }
        let idle: Vec<Section> = sections.into_iter().filter(|section| section.weight.is_none()).collect();
        if !idle.is_empty() {
            zero(cx, self.out, &idle);
        }
    }
}

impl Gemm {
    /// `n` columns and sums of `k` terms for each weight, on as many cores as may find work.
    pub(crate) fn new(profile: &Profile, [x, w]: [Operand; 2], out: Global, [n, k]: [usize; 2], split: Split) -> Gemm {
        let all = profile.figures.cube_cores as usize;
        let weights = match split {
            Split::Columns(count) => count as usize,
            // Each may have a row.
            Split::Rows { count, .. } => (count as usize).min(out.rows as usize),
        };
        let small = (out.rows as usize).div_ceil(16) + weights;
        let cores = (small * n.div_ceil(16)).clamp(1, all);
        Gemm { x, w, by_n: false, out, n: n as u32, k: k as u32, split, tiling: None, cores }
    }

    fn sections(&self, cx: &mut Context<'_>) -> Vec<Section> {
        let rows = self.out.rows.into();
        if self.k == 0 {
            return vec![Section { first: 0, rows, weight: None }];
        }
        self.split.sections(cx, rows)
    }

    /// The blocks of this core.
    fn cut(&self, cx: &Context<'_>, sections: &[Section]) -> (Tiling, Vec<Block>) {
        let of_weights = || sections.iter().filter(|section| section.weight.is_some());
        let most = of_weights().map(|section| section.rows).max().unwrap_or(0);
        let tiling = self.tiling.unwrap_or_else(|| {
            let sizes = [most, self.n.into(), self.k.into()];
            let weights = of_weights().count() as u64;
            Tiling::of(cx.profile(), self.elem(), self.x.scales.is_some(), sizes, weights, cx.cores())
        });
        let area = [tiling.rows, tiling.cols];
        (tiling, blocks::blocks(sections, self.n.into(), area, cx.core(), cx.cores()))
    }

    /// Whether vectors bring weights to the cube's type.
    fn is_fed(&self) -> bool {
        self.w.codes.elem != self.elem()
    }

    fn elem(&self) -> Elem {
        self.x.codes.elem
    }

    /// Where a weight's columns of `x` and of the result begin.
    fn group(&self, weight: u32) -> u32 {
        match self.split {
            Split::Columns(_) => weight,
            Split::Rows { .. } => 0,
        }
    }
}

/// Zeros for rows of no weight.
fn zero(cx: &mut Context<'_>, out: Global, idle: &[Section]) {
    const CHUNK: u32 = 16384;
    let cols = out.cols.min(CHUNK);
    let most = idle.iter().map(|section| section.rows).max().unwrap_or(1);
    let rows = u64::from(CHUNK / cols.next_multiple_of(16)).clamp(1, most) as u32;
    let mut pieces = Vec::new();
    for section in idle {
        for row in (0..section.rows).step_by(rows as usize) {
            let rows = (section.rows - row).min(rows.into()) as u32;
            let at = section.first + row;
            pieces.extend((0..out.cols).step_by(cols as usize).map(|col| (at, rows, col, cols.min(out.cols - col))));
        }
    }
    let mine = cx.share(pieces.len() as u64);
    if mine.is_empty() {
        return;
    }
    let zeros = cx.ub(out.elem, rows, cols);
    cx.bcast(zeros, 0.0);
    let ready = cx.flag(Pipe::V, Pipe::Mte3);
    cx.set_flag(Pipe::V, Pipe::Mte3, ready);
    cx.wait_flag(Pipe::V, Pipe::Mte3, ready);
    for &(row, rows, col, cols) in &pieces[mine.start as usize..mine.end as usize] {
        cx.store(Tile { rows, cols, ..zeros }, out.part(row, rows, col, cols));
    }
    cx.free_flag(Pipe::V, Pipe::Mte3, ready);
}

//! `out[r] = w * x[r] / sqrt(mean(x[r]^2) + eps)`

use super::rows::{Loads, Stores, f32_bytes, round_bf16, step};
use crate::device::{Npu, elem};
use crate::isa::{Axis, Elem, Global, Red, Tile};
use crate::kernel::{Context, Kernel};
use crate::machine::Space;
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation, Rounding};
use anychip_core::{Numerics, Result, Support};

/// Elements of a step at most.
const STEP: u32 = 8192;
/// Bytes of UB for an element of a step: two loads of `x` and one of the weight, each with its f32, a store with its f32, the
/// square and what it is rounded through.
const ELEMENT: u32 = 26;
/// Bytes of UB for sums: two of each of the most rows, which are 8 elements wide.
const SUMS: u32 = STEP;

pub(crate) fn supports(_op: &ops::RmsNorm, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(_op: &ops::RmsNorm, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::RmsNorm, npu: &Npu) -> Result<()> {
    let (rows, width) = (op.x.size(0), op.x.size(1));
    if rows == 0 || width == 0 {
        return Ok(());
    }
    let (x, mut out) = (read(&op.x)?, write(&op.out)?);
    let weight = op.weight.as_ref().map(read).transpose()?;
    let mut gm = Gm::default();
    let matrix = |region, tensor| Global::new(region, 0, elem(tensor), rows as u32, width as u32);
    let kernel =
        RmsNorm {
            x: matrix(gm.input("x", x.bytes()), &op.x),
            weight: op.weight.as_ref().zip(weight.as_ref()).map(|(tensor, weight)| {
                Global::new(gm.input("weight", weight.bytes()), 0, elem(tensor), 1, width as u32)
            }),
            out: matrix(gm.output("out", out.bytes_mut()), &op.out),
            eps: op.eps,
            stepwise: op.rounding == Rounding::Bf16,
            cores: npu.vector_cores(rows),
        };
    npu.launch(ops::RmsNorm::NAME, &kernel, &gm)
}

struct RmsNorm {
    x: Global,
    weight: Option<Global>,
    out: Global,
    eps: f32,
    /// Whether each step is rounded to bf16.
    stepwise: bool,
    cores: usize,
}

impl Kernel for RmsNorm {
    fn cores(&self) -> usize {
        self.cores
    }

    /// Rows that fit are read once; longer ones in parts, for their sum and again for their result.
    fn vector(&self, cx: &mut Context<'_>) {
        let (width, mine) = (self.x.cols, cx.share(self.x.rows.into()));
        let step = step(cx.profile(), STEP, ELEMENT, SUMS);
        let part = width.min(step);
        // Rows of two-byte elements begin at every 16th.
        let each = (step / part.next_multiple_of(16)).clamp(1, (mine.end - mine.start).max(1) as u32);
        let parts: Vec<(u32, u32)> =
            (0..width.div_ceil(part)).map(|p| (p * part, part.min(width - p * part))).collect();
        let mut loads = Loads::new(cx, self.x.elem, each, part, 2);
        let mut stores = Stores::new(cx, self.out.elem, each, part, 1);
        let mut weights = self.weight.map(|weight| Loads::new(cx, weight.elem, 1, part, 1));
        let squares = cx.ub(Elem::F32, each, part);
        let [sum, more] = [(); 2].map(|()| cx.ub(Elem::F32, each, 1));
        let narrow = cx.alloc(Space::Ub, (f32_bytes(each, part) / 2).next_multiple_of(32));
        // A single part's weight stays.
        let kept = match (&mut weights, &self.weight, parts.len()) {
            (Some(loads), Some(weight), 1) => Some(loads.load(cx, *weight)),
            _ => None,
        };
        for first in mine.clone().step_by(each as usize) {
            let rows = each.min((mine.end - first) as u32);
            let [sum, more] = [sum, more].map(|tile| Tile { rows, ..tile });
            let mut x = None;
            for &(col, cols) in &parts {
                let tile = loads.load(cx, self.x.part(first, rows, col, cols));
                let squares = Tile { at: squares.at, ..tile };
                cx.fused(|cx| {
                    cx.mul(squares, tile, tile);
                    if self.stepwise {
                        round_bf16(cx, squares, narrow);
                    }
                    cx.reduce(Red::Sum, Axis::Row, if col == 0 { sum } else { more }, squares);
                    if col > 0 {
                        cx.add(sum, sum, more);
                    }
                });
                x = Some(tile);
                if parts.len() > 1 {
                    loads.free(cx);
                }
            }
            self.factor(cx, sum, narrow);
            for &(col, cols) in &parts {
                let tile = match x {
                    Some(tile) if parts.len() == 1 => tile,
                    _ => loads.load(cx, self.x.part(first, rows, col, cols)),
                };
                let out = stores.begin(cx, rows, cols);
                let weight = match (&kept, &mut weights, &self.weight) {
                    (None, Some(loads), Some(weight)) => Some(loads.load(cx, weight.part(0, 1, col, cols))),
                    (kept, ..) => *kept,
                };
                cx.fused(|cx| {
                    cx.mul(out, tile, sum);
                    if let Some(weight) = weight {
                        cx.mul(out, out, weight);
                    }
                });
                loads.free(cx);
                if let (None, Some(weights)) = (&kept, &mut weights) {
                    weights.free(cx);
                }
                stores.store(cx, out, self.out.part(first, rows, col, cols));
            }
        }
        if let Some(mut weights) = weights {
            if kept.is_some() {
                weights.free(cx);
            }
            weights.close(cx);
        }
        loads.close(cx);
        stores.close(cx);
    }
}

impl RmsNorm {
    /// The factor of each row, from its sum of squares.
    fn factor(&self, cx: &mut Context<'_>, sum: Tile, narrow: u32) {
        cx.fused(|cx| {
            let round = |cx: &mut Context<'_>| {
                if self.stepwise {
                    round_bf16(cx, sum, narrow);
                }
            };
            cx.div(sum, sum, self.x.cols as f32);
            round(cx);
            cx.add(sum, sum, self.eps);
            round(cx);
            cx.rsqrt(sum, sum);
            round(cx);
        });
    }
}

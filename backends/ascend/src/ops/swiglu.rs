//! `out = w * silu(min(gate, limit)) * clamp(up, -limit, limit)`

use super::grid::{Grid, Piece};
use super::rows::{Loads, Stores};
use crate::device::{Npu, elem};
use crate::isa::{Cmp, Elem, Global, Pipe, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};

/// Elements of a step: 16 KiB of f32, of which UB holds eight.
const STEP: usize = 4096;

pub(crate) fn supports(_op: &ops::Swiglu, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(_op: &ops::Swiglu, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::Swiglu, npu: &Npu) -> Result<()> {
    let (rows, width) = (op.gate.size(0), op.gate.size(1));
    if rows == 0 || width == 0 {
        return Ok(());
    }
    let (gate, up, mut out) = (read(&op.gate)?, read(&op.up)?, write(&op.out)?);
    let weights = op.weights.as_ref().map(read).transpose()?;
    let mut gm = Gm::default();
    let matrix = |region, tensor| Global::new(region, 0, elem(tensor), rows as u32, width as u32);
    let grid = Grid::new(npu, [rows, width], 1, 16, STEP);
    let kernel = Swiglu {
        gate: matrix(gm.input("gate", gate.bytes()), &op.gate),
        up: matrix(gm.input("up", up.bytes()), &op.up),
        weights: weights
            .as_ref()
            .map(|weights| Global::new(gm.input("weights", weights.bytes()), 0, Elem::F32, 1, rows as u32)),
        out: matrix(gm.output("out", out.bytes_mut()), &op.out),
        limit: op.limit,
        grid,
        cores: npu.vector_cores(grid.pieces() as usize),
    };
    npu.launch(ops::Swiglu::NAME, &kernel, &gm)
}

struct Swiglu {
    gate: Global,
    up: Global,
    /// A factor of each row, in one row.
    weights: Option<Global>,
    out: Global,
    limit: f32,
    grid: Grid,
    cores: usize,
}

impl Kernel for Swiglu {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let Grid { each, wide, .. } = self.grid;
        let mut gates = Loads::new(cx, self.gate.elem, each, wide, 2);
        let mut ups = Loads::new(cx, self.up.elem, each, wide, 2);
        let mut stores = Stores::new(cx, self.out.elem, each, wide, 2);
        let mut factors = self.weights.map(|weights| {
            let bytes = (4 * each).next_multiple_of(32);
            (weights, Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes, 2))
        });
        let power = cx.ub(Elem::F32, each, wide);
        for number in cx.share(self.grid.pieces()) {
            let Piece { row, rows, col, cols } = self.grid.piece(number);
            let gate = gates.load(cx, self.gate.part(row, rows, col, cols));
            let up = ups.load(cx, self.up.part(row, rows, col, cols));
            let factor = factors.as_mut().map(|(weights, queue)| {
                let tile = Tile::dense(Space::Ub, queue.alloc(cx), Elem::F32, 1, rows);
                cx.load_ub(weights.part(0, 1, row as u32, rows), tile);
                queue.push(cx);
                queue.pop(cx);
                Tile { rows, cols: 1, pitch: 1, ..tile }
            });
            let out = stores.begin(cx, rows, cols);
            gated(cx, out, [gate, up, Tile { at: power.at, ..gate }], self.limit);
            if let (Some(factor), Some((_, queue))) = (factor, &mut factors) {
                cx.mul(out, out, factor);
                queue.free(cx);
            }
            gates.free(cx);
            ups.free(cx);
            stores.store(cx, out, self.out.part(row, rows, col, cols));
        }
        gates.close(cx);
        ups.close(cx);
        stores.close(cx);
        if let Some((_, queue)) = factors {
            queue.close(cx);
        }
    }
}

/// `out = silu(min(gate, limit)) * clamp(up, -limit, limit)` of f32, over both operands and room of their size.
///
/// The sigmoid is taken from `e^-|a|`, which never overflows.
pub(super) fn gated(cx: &mut Context<'_>, out: Tile, [gate, up, power]: [Tile; 3], limit: f32) {
    cx.fused(|cx| {
        cx.min(gate, gate, limit);
        cx.neg(power, gate);
        cx.min(power, power, gate);
        cx.exp(power, power);
        cx.select(out, (gate, Cmp::Lt, 0.0), power, 1.0);
        cx.add(power, power, 1.0);
        cx.div(out, out, power);
        cx.mul(out, out, gate);
        cx.min(up, up, limit);
        cx.max(up, up, -limit);
        cx.mul(out, out, up);
    });
}

//! Per block of a row: `s = 2^ceil(log2(amax / max))`, then the nearest code to each `x / s`

use super::coder::Coder;
use super::spans::{Span, rows_of_step, spans, whole_bytes};
use crate::device::{Npu, elem};
use crate::isa::{Elem, Global, Pipe, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation, quantize_block};
use anychip_core::{Numerics, Result, Support};

/// Elements of a step: 32 KiB of f32, of which UB holds five with what else there is.
const STEP: u32 = 8192;

pub(crate) fn supports(op: &ops::Quantize, _npu: &Npu) -> Support {
    whole_bytes("format of out", op.out.format(), op.out.cols(), STEP)
}

pub(crate) fn numerics(_op: &ops::Quantize, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::Quantize, npu: &Npu) -> Result<()> {
    let (rows, cols) = (op.x.size(0), op.x.size(1));
    let Some((scales, _)) = op.out.scales().filter(|_| rows > 0 && cols > 0) else { return Ok(()) };
    let (x, mut codes, mut bytes) = (read(&op.x)?, write(op.out.codes())?, write(scales)?);
    let mut gm = Gm::default();
    let matrix = |region, elem, cols: usize| Global::new(region, 0, elem, rows as u32, cols as u32);
    let kernel = Quantize::new(
        npu,
        matrix(gm.input("x", x.bytes()), elem(&op.x), cols),
        matrix(gm.output("out", codes.bytes_mut()), elem(op.out.codes()), cols),
        matrix(gm.output("out scales", bytes.bytes_mut()), Elem::E8M0, scales.size(2)),
        quantize_block(op.out.format()).min(cols) as u32,
    );
    npu.launch(ops::Quantize::NAME, &kernel, &gm)
}

struct Quantize {
    x: Global,
    codes: Global,
    scales: Global,
    /// Spans of each step: one, or the parts of a long block.
    steps: Vec<Vec<Span>>,
    /// Rows of a step.
    each: u32,
    cores: usize,
}

impl Quantize {
    fn new(npu: &Npu, x: Global, codes: Global, scales: Global, block: u32) -> Quantize {
        let all = spans(x.cols, block, codes.elem, STEP);
        let each = rows_of_step(npu, &all, x.rows, STEP);
        let steps: Vec<Vec<Span>> = all.chunk_by(|a, b| a.first == b.first).map(<[Span]>::to_vec).collect();
        let count = x.rows.div_ceil(each) as usize * steps.len();
        Quantize { x, codes, scales, steps, each, cores: npu.vector_cores(count) }
    }
}

impl Kernel for Quantize {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let spans = self.steps.concat();
        let most = spans.iter().map(|span| span.cols).max().unwrap_or(1);
        let blocks = spans.iter().map(|span| span.blocks).max().unwrap_or(1);
        let bytes = |elem, cols| Tile::rows_of(Space::Ub, 0, elem, self.each, cols).end().next_multiple_of(32) as u32;
        let mut loads = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes(self.x.elem, most), 2);
        let mut codes = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, bytes(self.codes.elem, most), 2);
        let mut scales = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, bytes(Elem::E8M0, blocks), 1);
        let coder = Coder::new(cx, self.codes.elem, self.x.elem, self.each, &spans);
        let steps = self.steps.len() as u64;
        for number in cx.share(u64::from(self.x.rows.div_ceil(self.each)) * steps) {
            let (row, parts) = (number / steps * u64::from(self.each), &self.steps[(number % steps) as usize]);
            let rows = u64::from(self.each).min(u64::from(self.x.rows) - row) as u32;
            let mut wide = None;
            for (part, span) in parts.iter().enumerate() {
                let numbers = self.load(cx, &mut loads, &coder, (row, rows), *span);
                coder.amax(cx, numbers, *span, part == 0);
                match parts.len() {
                    1 => wide = Some(numbers),
                    _ => loads.free(cx),
                }
            }
            let of_row = parts.first().map_or(0, |span| span.blocks);
            coder.exponents(cx, rows * of_row);
            for span in parts {
                let numbers = match wide {
                    Some(numbers) => numbers,
                    None => self.load(cx, &mut loads, &coder, (row, rows), *span),
                };
                let to = Tile::rows_of(Space::Ub, codes.alloc(cx), self.codes.elem, rows, span.cols);
                coder.codes(cx, to, numbers, *span);
                loads.free(cx);
                codes.push(cx);
                codes.pop(cx);
                cx.store(to, self.codes.part(row, rows, span.col, span.cols));
                codes.free(cx);
            }
            let to = Tile::rows_of(Space::Ub, scales.alloc(cx), Elem::E8M0, rows, of_row);
            coder.scales(cx, to);
            scales.push(cx);
            scales.pop(cx);
            cx.store(to, self.scales.part(row, rows, parts.first().map_or(0, |span| span.first), of_row));
            scales.free(cx);
        }
        loads.close(cx);
        codes.close(cx);
        scales.close(cx);
    }
}

impl Quantize {
    fn load(&self, cx: &mut Context<'_>, loads: &mut Queue, coder: &Coder, rows: (u64, u32), span: Span) -> Tile {
        let to = Tile::rows_of(Space::Ub, loads.alloc(cx), self.x.elem, rows.1, span.cols);
        cx.load_ub(self.x.part(rows.0, rows.1, span.col, span.cols), to);
        loads.push(cx);
        loads.pop(cx);
        coder.widen(cx, to, span)
    }
}

//! `out[g, r, k] = code[g, r, k] * scale` of its block

use super::grid::{Grid, Piece};
use super::moves::Moves;
use super::spans::{Span, rows_of_step, spans, whole_bytes};
use crate::device::{Npu, elem};
use crate::isa::{Cmp, Elem, Global, Pipe, Round, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};

/// Elements of a step: 32 KiB of f32, of which UB holds four.
const STEP: u32 = 8192;
pub(crate) fn supports(op: &ops::Dequantize, _npu: &Npu) -> Support {
    whole_bytes("format of x", op.x.format(), op.x.cols(), STEP)
}

pub(crate) fn numerics(_op: &ops::Dequantize, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::Dequantize, npu: &Npu) -> Result<()> {
    let (rows, cols) = (op.x.groups() * op.x.rows(), op.x.cols());
    if rows == 0 || cols == 0 {
        return Ok(());
    }
    let (codes, mut out) = (read(op.x.codes())?, write(&op.out)?);
    let mut gm = Gm::default();
    let matrix = |region, elem| Global::new(region, 0, elem, rows as u32, cols as u32);
    let codes = matrix(gm.input("x", codes.bytes()), elem(op.x.codes()));
    let Some((scales, layout)) = op.x.scales() else {
        let out = matrix(gm.output("out", out.bytes_mut()), elem(&op.out));
        let grid = Grid::new(npu, [rows, cols], 1, 16, STEP as usize);
        let kernel = Converted { x: codes, out, grid, cores: npu.vector_cores(grid.pieces() as usize) };
        return npu.launch(ops::Dequantize::NAME, &kernel, &gm);
    };
    let held = read(scales)?;
    let block = [layout.rows.min(op.x.rows()), layout.cols.min(cols)].map(|size| size as u32);
    let region = gm.input("x scales", held.bytes());
    let scales = Global::new(region, 0, elem(scales), (scales.size(0) * scales.size(1)) as u32, scales.size(2) as u32);
    let out = matrix(gm.output("out", out.bytes_mut()), elem(&op.out));
    let kernel = Dequantize::new(npu, codes, scales, out, op.x.rows() as u32, block);
    npu.launch(ops::Dequantize::NAME, &kernel, &gm)
}

/// Plain numbers in another type.
struct Converted {
    x: Global,
    out: Global,
    grid: Grid,
    cores: usize,
}

impl Kernel for Converted {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let mut moves = Moves::new(cx, self.x.elem, self.out.elem, self.grid.each, self.grid.wide);
        for number in cx.share(self.grid.pieces()) {
            let Piece { row, rows, col, cols } = self.grid.piece(number);
            moves.run(cx, &[self.x.part(row, rows, col, cols)], &[(0, self.out.part(row, rows, col, cols))]);
        }
        moves.close(cx);
    }
}

struct Dequantize {
    codes: Global,
    /// A row for each band of `block[0]` rows of each group.
    scales: Global,
    out: Global,
    /// Rows of a group.
    group: u32,
    /// Rows and columns that share a scale.
    block: [u32; 2],
    spans: Vec<Span>,
    /// Rows of a step.
    each: u32,
    cores: usize,
}

/// What a vector half has in UB.
struct Room {
    codes: Queue,
    scales: Queue,
    out: Queue,
    wide: u32,
    /// Scale bytes, and both factors of each scale.
    factors: [u32; 3],
}

impl Dequantize {
    fn new(npu: &Npu, codes: Global, scales: Global, out: Global, group: u32, block: [u32; 2]) -> Dequantize {
        let spans = spans(codes.cols, block[1], codes.elem, STEP);
        let band = if block[0] > 1 { block[0] } else { codes.rows };
        let each = rows_of_step(npu, &spans, codes.rows, STEP).min(band);
        let mut kernel = Dequantize { codes, scales, out, group, block, spans, each, cores: 1 };
        kernel.cores = npu.vector_cores(kernel.steps() as usize);
        kernel
    }

    /// Rows that share their scales, or else all.
    fn band(&self) -> u32 {
        if self.block[0] > 1 { self.block[0] } else { self.codes.rows }
    }

    fn bands(&self) -> u32 {
        if self.block[0] > 1 { self.scales.rows } else { 1 }
    }

    fn steps(&self) -> u64 {
        u64::from(self.bands()) * u64::from(self.band().div_ceil(self.each)) * self.spans.len() as u64
    }

    /// First row and number of rows of a step, none where its band ends before, the first row of its scales, and its columns.
    fn step(&self, number: u64) -> (u64, u32, u64, Span) {
        let spans = self.spans.len() as u64;
        let (down, span) = (number / spans, self.spans[(number % spans) as usize]);
        let steps = u64::from(self.band().div_ceil(self.each));
        let (band, first) = (down / steps, down % steps * u64::from(self.each));
        if self.block[0] == 1 {
            return (first, self.each.min(self.codes.rows - first as u32), first, span);
        }
        let bands = u64::from(self.group.div_ceil(self.block[0]));
        let inside = band % bands * u64::from(self.block[0]) + first;
        let end = u64::from(self.group).min((band % bands + 1) * u64::from(self.block[0]));
        let rows = u64::from(self.each).min(end.saturating_sub(inside)) as u32;
        (band / bands * u64::from(self.group) + inside, rows, band, span)
    }
}

impl Kernel for Dequantize {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let (most, blocks) =
            self.spans.iter().fold((0, 0), |(most, blocks), span| (most.max(span.padded()), blocks.max(span.blocks)));
        let bytes = |elem, cols| Tile::rows_of(Space::Ub, 0, elem, self.each, cols).end().next_multiple_of(32) as u32;
        let mut room = Room {
            codes: Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes(self.codes.elem, most), 2),
            scales: Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes(self.scales.elem, blocks), 2),
            out: Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, bytes(self.out.elem, most), 2),
            wide: cx.alloc(Space::Ub, (4 * self.each * most).next_multiple_of(32)),
            factors: [(); 3].map(|()| cx.alloc(Space::Ub, (4 * self.each * blocks).next_multiple_of(32))),
        };
        for number in cx.share(self.steps()) {
            let (row, rows, scale_row, span) = self.step(number);
            if rows > 0 {
                self.run(cx, &mut room, [row, scale_row], rows, span);
            }
        }
        room.codes.close(cx);
        room.scales.close(cx);
        room.out.close(cx);
    }
}

impl Dequantize {
    fn run(&self, cx: &mut Context<'_>, room: &mut Room, [row, scale_row]: [u64; 2], rows: u32, span: Span) {
        let Span { col, cols, block, blocks, .. } = span;
        let codes = Tile::rows_of(Space::Ub, room.codes.alloc(cx), self.codes.elem, rows, cols);
        cx.load_ub(self.codes.part(row, rows, col, cols), codes);
        room.codes.push(cx);
        let scale_rows = if self.block[0] > 1 { 1 } else { rows };
        let scales = Tile::rows_of(Space::Ub, room.scales.alloc(cx), self.scales.elem, scale_rows, blocks);
        cx.load_ub(self.scales.part(scale_row, scale_rows, span.first, blocks), scales);
        room.scales.push(cx);
        room.codes.pop(cx);
        room.scales.pop(cx);
        let to = room.out.alloc(cx);
        let padded = Tile::dense(Space::Ub, room.wide, Elem::F32, rows, blocks * block);
        let wide = padded.col_range(0, cols);
        // All blocks are of one size: the last one's rest is computed and goes nowhere.
        let by_block = |at| Tile::dense(Space::Ub, at, Elem::F32, rows * blocks, block);
        let plain = self.out.elem == Elem::F32;
        let result = if plain { to } else { room.wide };
        cx.fused(|cx| {
            if cols < padded.cols {
                cx.bcast(padded, 0.0);
            }
            cx.cast(wide, codes, Round::Even);
            match self.factors(cx, room.factors, scales, rows) {
                (Some(first), second) => {
                    cx.mul(by_block(room.wide), by_block(room.wide), first);
                    cx.mul(by_block(result), by_block(room.wide), second);
                }
                (None, second) => cx.mul(by_block(result), by_block(room.wide), second),
            }
        });
        room.codes.free(cx);
        room.scales.free(cx);
        let mut out = Tile { at: to, ..wide };
        if !plain {
            out = Tile::rows_of(Space::Ub, to, self.out.elem, rows, cols);
            cx.cast(out, wide, Round::Even);
        }
        room.out.push(cx);
        room.out.pop(cx);
        cx.store(out, self.out.part(row, rows, col, cols));
        room.out.free(cx);
    }

    /// Factors of each block, whose product is its scale. The scale `2^-127` is subnormal, which some machines take as zero,
    /// so of powers of two each factor has half the exponent.
    fn factors(&self, cx: &mut Context<'_>, at: [u32; 3], scales: Tile, rows: u32) -> (Option<Tile>, Tile) {
        let blocks = scales.cols;
        let like = |at, elem, rows| Tile::dense(Space::Ub, at, elem, rows, blocks);
        let column = |at| Tile::dense(Space::Ub, at, Elem::F32, rows * blocks, 1);
        if scales.elem == Elem::F32 {
            cx.bcast(like(at[0], Elem::F32, rows), scales);
            return (None, column(at[0]));
        }
        let [bytes, first, second] = at.map(|at| like(at, Elem::I32, rows));
        if scales.rows < rows {
            let row = like(at[1], Elem::I32, 1);
            cx.cast(row, scales.of(Elem::U8), Round::Even);
            cx.bcast(bytes, row);
        } else {
            cx.cast(bytes, scales.of(Elem::U8), Round::Even);
        }
        cx.shr(first, bytes, 1);
        cx.sub(second, bytes, first);
        for (factor, bias) in [(first, 63), (second, 64)] {
            cx.add(factor, factor, bias);
            cx.shl(factor, factor, 23);
        }
        cx.select(first.of(Elem::F32), (bytes, Cmp::Eq, 255), f32::NAN, first.of(Elem::F32));
        (Some(column(at[1])), column(at[2]))
    }
}

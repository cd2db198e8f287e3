//! Row `t` becomes entry `entries[t]` of its sequence; of two rows for one entry the later stays.

use super::coder::Coder;
use super::moves::Moves;
use super::slots::{Run, Slots};
use super::spans::{BLOCKS, Span, rows_of_step, spans};
use super::subnormal::{narrow, widen};
use crate::device::{Npu, elem};
use crate::isa::{Elem, Global, Pipe, Round, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{KvFormat, Numerics, Result, Support};

/// Elements of a step that are stored as codes: 16 KiB of f32, of which UB holds eight with what else there is.
const STEP: u32 = 4096;
/// Elements of a step that are stored as numbers.
const PLAIN: u32 = 2048;
/// Rows that make it worth another vector half, which has to read the places of all rows behind its own.
const ROWS: usize = 4;

pub(crate) fn supports(_op: &ops::KvStore, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(_op: &ops::KvStore, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::KvStore, npu: &Npu) -> Result<()> {
    let (rows, pool) = (op.x.size(0), &op.kv.pool);
    if rows == 0 || pool.page_count() == 0 {
        return Ok(());
    }
    let (x, mut pages) = (read(&op.x)?, write(pool.pages())?);
    let (entries, table, sequence) = (read(&op.entries)?, read(&op.kv.table)?, read(&op.kv.sequence)?);
    let mut gm = Gm::default();
    let x = Global::new(gm.input("x", x.bytes()), 0, elem(&op.x), rows as u32, op.x.size(1) as u32);
    let slots = Slots {
        entries: gm.input("entries", entries.bytes()),
        sequence: gm.input("sequence numbers", sequence.bytes()),
        table: gm.input("page table", table.bytes()),
        sizes: [op.kv.table.size(0), op.kv.table.size(1)].map(|size| size as u64),
        pages: pool.page_count() as u64,
        rows: rows as u64,
    };
    let pool = (gm.state("pool", pages.bytes_mut()), pool.format());
    npu.launch(ops::KvStore::NAME, &KvStore::new(npu, x, pool, slots), &gm)
}

struct KvStore {
    x: Global,
    pool: u16,
    format: KvFormat,
    slots: Slots,
    /// The front of a row, which is stored as codes.
    coded: Vec<Span>,
    code: Elem,
    /// First column of what is stored as numbers, how many there are, as what, and where they begin in an entry's bytes.
    plain: (u32, u32, Elem, u64),
    /// Rows of a step.
    each: u32,
    cores: usize,
}

impl KvStore {
    fn new(npu: &Npu, x: Global, (pool, format): (u16, KvFormat), slots: Slots) -> KvStore {
        let (front, block, code, as_number) = match format {
            KvFormat::Fp8 { nope, .. } => (nope, KvFormat::FP8_BLOCK, Elem::E4M3, Elem::BF16),
            KvFormat::Fp4 { dim } => (dim, KvFormat::FP4_BLOCK, Elem::E2M1, Elem::BF16),
            _ => (0, 1, Elem::E4M3, Elem::F32),
        };
        let front = front as u32;
        let coded = if front == 0 { Vec::new() } else { spans(front, block as u32, code, STEP) };
        let plain = (front, x.cols - front, as_number, code.bytes(front as usize) as u64);
        let mut each = PLAIN / plain.1.clamp(1, PLAIN).next_multiple_of(16);
        if front > 0 {
            each = each.min(rows_of_step(npu, &coded, x.rows, STEP));
        }
        let cores = npu.vector_cores((x.rows as usize).div_ceil(ROWS));
        KvStore { x, pool, format, slots, coded, code, plain, each: each.max(1), cores }
    }

    /// Elements of each run's entries from byte `from` of an entry on, with the run's first row.
    fn data(&self, runs: &[Run], from: u64, elem: Elem, cols: u32) -> Vec<(u32, Global)> {
        let pitch = self.format.data_bytes() as u64;
        self.places(runs, from, elem, cols, pitch, |place| self.format.data_offset(place))
    }

    /// As [`data`](KvStore::data), of scales.
    fn scales(&self, runs: &[Run], from: u64, cols: u32) -> Vec<(u32, Global)> {
        let pitch = self.format.scale_bytes() as u64;
        self.places(runs, from, Elem::E8M0, cols, pitch, |place| self.format.scale_offset(place))
    }

    fn places(
        &self,
        runs: &[Run],
        from: u64,
        elem: Elem,
        cols: u32,
        pitch: u64,
        offset: impl Fn(usize) -> usize,
    ) -> Vec<(u32, Global)> {
        let one = |run: &Run| {
            let at = run.page * self.format.page_bytes() as u64 + offset(run.place) as u64 + from;
            (run.first, Global::new(self.pool, at, elem, run.rows, cols).pitched(pitch))
        };
        runs.iter().map(one).collect()
    }
}

impl Kernel for KvStore {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let steps = self.slots.steps(cx, self.each);
        if steps.is_empty() {
            return;
        }
        let coding = (!self.coded.is_empty()).then(|| self.code(cx, &steps));
        self.copy(cx, &steps);
        if let Some(coding) = coding {
            coding.close(cx);
        }
    }
}

/// What codes go through in UB.
struct Coding {
    loads: Queue,
    codes: Queue,
    scales: Queue,
}

impl Coding {
    fn close(self, cx: &mut Context<'_>) {
        self.loads.close(cx);
        self.codes.close(cx);
        self.scales.close(cx);
    }
}

impl KvStore {
    /// Stores the fronts of rows as codes of what they are as bf16.
    fn code(&self, cx: &mut Context<'_>, steps: &[(u64, u32, Vec<Run>)]) -> Coding {
        let most = self.coded.iter().map(|span| span.cols).max().unwrap_or(1);
        let tile = |at, elem, rows, cols| Tile::rows_of(Space::Ub, at, elem, rows, cols);
        let bytes = |elem, cols| tile(0, elem, self.each, cols).end().next_multiple_of(32) as u32;
        let scale_bytes = self.format.scale_bytes() as u32;
        let mut coding = Coding {
            loads: Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes(self.x.elem, most), 2),
            codes: Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, bytes(self.code, most), 2),
            scales: Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, bytes(Elem::E8M0, scale_bytes.min(BLOCKS + 8)), 1),
        };
        let coder = Coder::new(cx, self.code, Elem::BF16, self.each, &self.coded);
        let rounded = cx.alloc(Space::Ub, bytes(Elem::BF16, most));
        for (row, rows, runs) in steps {
            for span in &self.coded {
                let x = tile(coding.loads.alloc(cx), self.x.elem, *rows, span.cols);
                cx.load_ub(self.x.part(*row, *rows, span.col, span.cols), x);
                coding.loads.push(cx);
                coding.loads.pop(cx);
                let mut short = x;
                if x.elem != Elem::BF16 {
                    short = tile(rounded, Elem::BF16, *rows, span.cols);
                    round(cx, short, x, coder.scratch());
                }
                let wide = coder.widen(cx, short, *span);
                coding.loads.free(cx);
                coder.amax(cx, wide, *span, true);
                coder.exponents(cx, rows * span.blocks);
                let codes = tile(coding.codes.alloc(cx), self.code, *rows, span.cols);
                coder.codes(cx, codes, wide, *span);
                coding.codes.push(cx);
                coding.codes.pop(cx);
                let from = self.code.bytes(span.col as usize) as u64;
                for (first, to) in self.data(runs, from, self.code, span.cols) {
                    cx.store(codes.row_range(first, to.rows), to);
                }
                coding.codes.free(cx);
                // Behind the last scale there is padding.
                let last = span.col + span.cols == self.plain.0;
                let cols = if last { scale_bytes - span.first } else { span.blocks };
                let scales = tile(coding.scales.alloc(cx), Elem::E8M0, *rows, cols);
                if cols > span.blocks {
                    cx.bcast(scales.of(Elem::U8), 0);
                }
                coder.scales(cx, scales.col_range(0, span.blocks));
                coding.scales.push(cx);
                coding.scales.pop(cx);
                for (first, to) in self.scales(runs, span.first.into(), cols) {
                    cx.store(scales.row_range(first, to.rows), to);
                }
                coding.scales.free(cx);
            }
        }
        coding
    }

    /// Stores what stays numbers.
    fn copy(&self, cx: &mut Context<'_>, steps: &[(u64, u32, Vec<Run>)]) {
        let (start, count, to, at) = self.plain;
        if count == 0 {
            return;
        }
        let most = count.min(PLAIN);
        let mut moves = Moves::new(cx, self.x.elem, to, self.each, most);
        let wide = (self.x.elem != to).then(|| {
            let tile = Tile::rows_of(Space::Ub, 0, Elem::F32, self.each, most);
            [(); 2].map(|()| cx.alloc(Space::Ub, tile.end().next_multiple_of(32) as u32))
        });
        for (row, rows, runs) in steps {
            for col in (0..count).step_by(most as usize) {
                let cols = most.min(count - col);
                let to = self.data(runs, at + to.bytes(col as usize) as u64, to, cols);
                let from = self.x.part(*row, *rows, start + col, cols);
                moves.run_with(cx, &[from], &to, |cx, to, from| round(cx, to, from, wide.unwrap_or_default()));
            }
        }
        moves.close(cx);
    }
}

/// To another type, where no subnormal bf16 is lost. `scratch` is room for as many f32, twice.
fn round(cx: &mut Context<'_>, to: Tile, x: Tile, scratch: [u32; 2]) {
    match (x.elem, to.elem) {
        (Elem::F32, Elem::BF16) => narrow(cx, to, x, scratch),
        (Elem::BF16, Elem::F32) => widen(cx, to, x, scratch),
        _ => cx.cast(to, x, Round::Even),
    }
}

//! `out[t, i] = table[ids[t]]` for `i < c`

use super::grid::{Grid, Piece};
use super::moves::Moves;
use crate::device::{Npu, elem};
use crate::isa::{Global, Pipe, Tile};
use crate::kernel::{Context, Kernel};
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};

/// Elements of a step: 32 KiB of f32.
const STEP: usize = 8192;

pub(crate) fn supports(_op: &ops::Embed, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(_op: &ops::Embed, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::Embed, npu: &Npu) -> Result<()> {
    let (rows, copies, width) = (op.ids.size(0), op.out.size(1), op.out.size(2));
    if op.out.count() == 0 {
        return Ok(());
    }
    let (table, ids, mut out) = (read(&op.table)?, read(&op.ids)?, write(&op.out)?);
    let mut gm = Gm::default();
    let grid = Grid::new(npu, [rows, width], 1, 32, STEP);
    let kernel = Embed {
        table: Global::new(gm.input("table", table.bytes()), 0, elem(&op.table), op.table.size(0) as u32, width as u32),
        ids: gm.input("ids", ids.bytes()),
        out: Global::new(gm.output("out", out.bytes_mut()), 0, elem(&op.out), (rows * copies) as u32, width as u32),
        copies: copies as u64,
        grid,
        cores: npu.vector_cores(grid.pieces() as usize),
    };
    npu.launch(ops::Embed::NAME, &kernel, &gm)
}

struct Embed {
    table: Global,
    /// Row numbers, one for each `copies` rows of `out`.
    ids: u16,
    out: Global,
    copies: u64,
    grid: Grid,
    cores: usize,
}

impl Kernel for Embed {
    fn cores(&self) -> usize {
        self.cores
    }

    /// Rows that follow one another and are in the table go together: one load each, one store for each copy.
    fn vector(&self, cx: &mut Context<'_>) {
        let mine = cx.share(self.grid.pieces());
        if mine.is_empty() {
            return;
        }
        let [first, last] = [mine.start, mine.end - 1].map(|number| self.grid.piece(number));
        let ids = cx.load_list(self.ids, 4 * first.row, last.row + u64::from(last.rows) - first.row);
        let mut moves = Moves::new(cx, self.table.elem, self.out.elem, self.grid.each, self.grid.wide);
        let mut zeros = None;
        for number in mine {
            let Piece { row, rows, col, cols } = self.grid.piece(number);
            let mut found: Vec<Global> = Vec::new();
            for t in row..row + u64::from(rows) {
                let id = ids.get((t - first.row) as usize).copied().unwrap_or(-1);
                match u32::try_from(id) {
                    Ok(id) if id < self.table.rows => found.push(self.table.part(id.into(), 1, col, cols)),
                    _ => {
                        self.store(cx, &mut moves, &mut found, t, col);
                        self.store_zeros(cx, &mut zeros, t, (col, cols));
                    }
                }
            }
            self.store(cx, &mut moves, &mut found, row + u64::from(rows), col);
        }
        moves.close(cx);
    }
}

impl Embed {
    /// One copy of some rows of `out`.
    fn copy(&self, copy: u64, row: u64, rows: u32, (col, cols): (u32, u32)) -> Global {
        let apart = self.out.pitch * self.copies;
        self.out.part(row * self.copies + copy, rows, col, cols).pitched(apart)
    }

    /// Moves the rows that were found to their places, which end before row `end`.
    fn store(&self, cx: &mut Context<'_>, moves: &mut Moves, found: &mut Vec<Global>, end: u64, col: u32) {
        if let Some(Global { cols, .. }) = found.first().copied() {
            let rows = found.len() as u32;
            let copies = (0..self.copies).map(|copy| self.copy(copy, end - u64::from(rows), rows, (col, cols)));
            moves.run(cx, found, &copies.map(|to| (0, to)).collect::<Vec<_>>());
            found.clear();
        }
    }

    fn store_zeros(&self, cx: &mut Context<'_>, zeros: &mut Option<Tile>, row: u64, (col, cols): (u32, u32)) {
        let zeros = *zeros.get_or_insert_with(|| {
            let tile = cx.ub(self.out.elem, 1, self.grid.wide);
            cx.bcast(tile, 0.0);
            let flag = cx.flag(Pipe::V, Pipe::Mte3);
            cx.set_flag(Pipe::V, Pipe::Mte3, flag);
            cx.wait_flag(Pipe::V, Pipe::Mte3, flag);
            tile
        });
        for copy in 0..self.copies {
            cx.store(zeros.col_range(0, cols), self.copy(copy, row, 1, (col, cols)));
        }
    }
}

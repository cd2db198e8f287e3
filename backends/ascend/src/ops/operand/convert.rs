//! Matrices in another type: elements converted, or codes multiplied by their scales.

use super::super::rows::{Loads, Stores, f32_bytes};
use super::{Split, cuts, groups_in_use};
use crate::isa::{Elem, Global, Pipe, Round, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;
use anychip_core::{ScaleLayout, ScaleType};

/// Elements of a step: eight buffers of as many f32 fit UB.
pub(super) const STEP: u32 = 4096;
/// Columns are counted in these, for rows begin at multiples of 32 bytes.
const UNIT: u32 = 64;

/// Scales of blocks.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    /// Rows of scales, group by group.
    pub(super) values: Global,
    /// Rows of a block.
    pub(super) rows: u32,
    /// Columns of a block.
    pub(super) cols: u32,
}

/// A scale tensor of so many rows.
pub(super) fn values(region: u16, layout: ScaleLayout, rows: usize, cols: usize) -> Global {
    let elem = if layout.scale == ScaleType::F32 { Elem::F32 } else { Elem::E8M0 };
    Global::new(region, 0, elem, rows as u32, cols.div_ceil(layout.cols) as u32)
}

pub(super) struct Convert {
    pub(super) codes: Global,
    pub(super) scales: Option<Scales>,
    pub(super) out: Global,
    pub(super) groups: u32,
    /// Rows of a group.
    pub(super) rows: u32,
    /// Groups in use.
    pub(super) used: Option<(Split, u64)>,
    pub(super) cores: usize,
}

/// Rows and columns of a matrix.
#[derive(Clone, Copy)]
struct Piece {
    group: u32,
    row: u32,
    rows: u32,
    col: u32,
    cols: u32,
}

impl Kernel for Convert {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let groups = groups_in_use(cx, self.groups, self.used);
        let (block_rows, block_cols) = self.scales.map_or((1, 1), |scales| (scales.rows, scales.cols));
        // Two codes share a byte: blocks of an odd width are taken in pairs.
        let block_cols =
            if self.codes.elem.bits() < 8 && !block_cols.is_multiple_of(2) { 2 * block_cols } else { block_cols };
        let cols = cuts(self.out.cols, block_cols, STEP);
        let wide = cols.iter().map(|(_, cols)| *cols).max().unwrap_or(1);
        let high = (STEP / wide.next_multiple_of(UNIT)).clamp(1, self.rows.max(1));
        let rows = match block_rows {
            1 => cuts(self.rows, 1, high),
            // One row of scales for each piece.
            block => cuts(self.rows, block, high.min(block)),
        };
        let each = (rows.len() * cols.len()) as u64;
        let pieces = cx.share(groups.len() as u64 * each).map(|turn| {
            let (group, at) = (groups[(turn / each) as usize], (turn % each) as usize);
            let ((row, rows), (col, cols)) = (rows[at / cols.len()], cols[at % cols.len()]);
            Piece { group, row, rows, col, cols }
        });
        let pieces: Vec<Piece> = pieces.collect();
        match self.scales {
            _ if pieces.is_empty() => {}
            Some(scales) => self.multiply(cx, scales, [high, wide], &pieces),
            None => self.cast(cx, [high, wide], &pieces),
        }
    }
}

impl Convert {
    fn part(&self, of: Global, piece: &Piece) -> Global {
        let row = u64::from(piece.group) * u64::from(self.rows) + u64::from(piece.row);
        of.part(row, piece.rows, piece.col, piece.cols)
    }

    fn cast(&self, cx: &mut Context<'_>, [high, wide]: [u32; 2], pieces: &[Piece]) {
        let bytes = |elem| Tile::rows_of(Space::Ub, 0, elem, high, wide).end().next_multiple_of(32) as u32;
        let mut loads = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes(self.codes.elem), 2);
        let mut stores = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, bytes(self.out.elem), 2);
        for piece in pieces {
            let tile = |at, elem| Tile::rows_of(Space::Ub, at, elem, piece.rows, piece.cols);
            let from = tile(loads.alloc(cx), self.codes.elem);
            cx.load_ub(self.part(self.codes, piece), from);
            loads.push(cx);
            loads.pop(cx);
            let to = tile(stores.alloc(cx), self.out.elem);
            cx.cast(to, from, Round::Even);
            loads.free(cx);
            stores.push(cx);
            stores.pop(cx);
            cx.store(to, self.part(self.out, piece));
            stores.free(cx);
        }
        loads.close(cx);
        stores.close(cx);
    }

    fn multiply(&self, cx: &mut Context<'_>, scales: Scales, [high, wide]: [u32; 2], pieces: &[Piece]) {
        let many = wide.div_ceil(scales.cols);
        // Rows of scales that a piece has.
        let tall = if scales.rows == 1 { high } else { 1 };
        let mut loads = Loads::new(cx, self.codes.elem, high, wide, 2);
        let mut factors = Loads::new(cx, scales.values.elem, tall, many, 2);
        let mut stores = Stores::new(cx, self.out.elem, high, wide, 2);
        let mut spread = Spreading::new(cx, scales.cols, [tall, wide]);
        let of_group = self.rows.div_ceil(scales.rows);
        for piece in pieces {
            let row = u64::from(piece.group) * u64::from(of_group) + u64::from(piece.row / scales.rows);
            let rows = if scales.rows == 1 { piece.rows } else { 1 };
            let cols = piece.cols.div_ceil(scales.cols);
            let codes = loads.load(cx, self.part(self.codes, piece));
            let few = factors.load(cx, scales.values.part(row, rows, piece.col / scales.cols, cols));
            let out = stores.begin(cx, piece.rows, piece.cols);
            let all = spread.spread(cx, few, piece.cols);
            cx.mul(out, codes, all);
            loads.free(cx);
            factors.free(cx);
            stores.store(cx, out, self.part(self.out, piece));
        }
        loads.close(cx);
        factors.close(cx);
        stores.close(cx);
    }
}

/// Repeats each number of rows for the columns of its block.
struct Spreading {
    /// Columns of a block.
    block: u32,
    size: [u32; 2],
    /// Which number each element takes, of rows of `known` numbers.
    index: Tile,
    known: Option<u32>,
    all: Tile,
    /// The list of one row, where there are several.
    row: Tile,
    starts: Tile,
}

impl Spreading {
    fn new(cx: &mut Context<'_>, block: u32, [rows, cols]: [u32; 2]) -> Spreading {
        let index = cx.ub(Elem::I32, rows, cols);
        let row = if rows > 1 { cx.ub(Elem::I32, 1, cols) } else { index };
        let starts = cx.ub(Elem::I32, rows, 1);
        let all = Tile::rows_of(Space::Ub, cx.alloc(Space::Ub, f32_bytes(rows, cols)), Elem::F32, rows, cols);
        Spreading { block, size: [rows, cols], index, known: None, all, row, starts }
    }

    fn spread(&mut self, cx: &mut Context<'_>, few: Tile, cols: u32) -> Tile {
        if few.cols == 1 {
            return few;
        }
        if self.known != Some(few.cols) {
            self.list(cx, few.cols);
        }
        let [all, index] = [self.all, self.index].map(|tile| Tile { rows: few.rows, cols, ..tile });
        cx.gather(all, few, index);
        all
    }

    fn list(&mut self, cx: &mut Context<'_>, many: u32) {
        let numbers = Tile { rows: 1, ..self.all };
        cx.ramp(numbers, 0, 1);
        // Half a column on, no rounding takes a column to another block.
        cx.add(numbers, numbers, 0.5);
        cx.div(numbers, numbers, self.block as f32);
        cx.cast(self.row, numbers, Round::Floor);
        if self.size[0] > 1 {
            let line = Tile { rows: 1, cols: self.size[0], pitch: self.size[0], ..self.starts };
            cx.ramp(line, 0, many as i32);
            cx.add(self.index, self.row, self.starts);
        }
        self.known = Some(many);
    }
}

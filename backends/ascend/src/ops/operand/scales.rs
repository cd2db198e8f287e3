//! Scales of blocks as MX formats have them: one byte for each row and each 32 columns.

use super::convert::STEP;
use super::{Split, cuts, groups_in_use};
use crate::isa::{Elem, Global, Pipe, Round, Tile};
use crate::kernel::{Context, Kernel, Queue};
use crate::machine::Space;

pub(super) struct Spread {
    /// Rows of scales, group by group, as bytes.
    pub(super) from: Global,
    /// Rows of a block.
    pub(super) block: u32,
    /// How often a scale comes in a row.
    pub(super) repeat: u32,
    /// Rows, group by group. Columns behind the last block's have its scale: what they scale is zero.
    pub(super) out: Global,
    pub(super) groups: u32,
    /// Groups in use.
    pub(super) used: Option<(Split, u64)>,
    pub(super) cores: usize,
}

/// Columns of a step.
const WIDE: u32 = 1024;

impl Kernel for Spread {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let groups = groups_in_use(cx, self.groups, self.used);
        let of_group = self.out.rows / self.groups.max(1);
        let of_scales = self.from.rows / self.groups.max(1);
        let cols = cuts(self.out.cols, self.repeat, WIDE);
        let wide = cols.iter().map(|(_, cols)| *cols).max().unwrap_or(1);
        let high = (STEP / wide.next_multiple_of(32)).clamp(1, of_group.max(1));
        let rows = match self.block {
            1 => cuts(of_group, 1, high),
            block => cuts(of_group, block, high.min(block)),
        };
        let tall = if self.block == 1 { high } else { 1 };
        let each = (rows.len() * cols.len()) as u64;
        let mine = cx.share(groups.len() as u64 * each);
        if mine.is_empty() {
            return;
        }
        let many = wide.div_ceil(self.repeat);
        let bytes = |rows, cols| Tile::rows_of(Space::Ub, 0, Elem::U8, rows, cols).end().next_multiple_of(32) as u32;
        let mut loads = Queue::new(cx, Pipe::Mte2, Pipe::V, Space::Ub, bytes(tall, many), 2);
        let mut stores = Queue::new(cx, Pipe::V, Pipe::Mte3, Space::Ub, bytes(high, wide), 2);
        let row_of_all = cx.ub(Elem::U8, 1, wide);
        let mut list = List::new(cx, [tall, wide], self.repeat);
        for turn in mine {
            let (group, at) = (u64::from(groups[(turn / each) as usize]), (turn % each) as usize);
            let ((row, rows), (col, cols)) = (rows[at / cols.len()], cols[at % cols.len()]);
            let first = (col / self.repeat).min(self.from.cols - 1);
            let count = cols.div_ceil(self.repeat).min(self.from.cols - first);
            let tall = if self.block == 1 { rows } else { 1 };
            let row_of_scales = group * u64::from(of_scales) + u64::from(row / self.block);
            let few = Tile::rows_of(Space::Ub, loads.alloc(cx), Elem::U8, tall, count);
            cx.load_ub(self.from.part(row_of_scales, tall, first, count), few);
            loads.push(cx);
            loads.pop(cx);
            let to = Tile::rows_of(Space::Ub, stores.alloc(cx), Elem::U8, rows, cols);
            let index = list.of(cx, tall, cols, count);
            if tall == rows {
                cx.gather(to, few, index);
            } else {
                let one = Tile { cols, pitch: cols, ..row_of_all };
                cx.gather(one, few, index);
                cx.bcast(to, one);
            }
            loads.free(cx);
            stores.push(cx);
            stores.pop(cx);
            let row = group * u64::from(of_group) + u64::from(row);
            cx.store(to, self.out.part(row, rows, col, cols));
            stores.free(cx);
        }
        loads.close(cx);
        stores.close(cx);
    }
}

/// Which byte each element takes.
struct List {
    repeat: u32,
    numbers: Tile,
    row: Tile,
    starts: Tile,
    index: Tile,
    /// For rows of so many bytes.
    known: Option<u32>,
}

impl List {
    fn new(cx: &mut Context<'_>, [rows, cols]: [u32; 2], repeat: u32) -> List {
        let numbers = cx.ub(Elem::F32, 1, cols);
        let row = cx.ub(Elem::I32, 1, cols);
        let starts = cx.ub(Elem::I32, rows, 1);
        let index = cx.ub(Elem::I32, rows, cols);
        List { repeat, numbers, row, starts, index, known: None }
    }

    fn of(&mut self, cx: &mut Context<'_>, rows: u32, cols: u32, count: u32) -> Tile {
        if self.known != Some(count) {
            cx.ramp(self.numbers, 0, 1);
            cx.add(self.numbers, self.numbers, 0.5);
            cx.div(self.numbers, self.numbers, self.repeat as f32);
            cx.cast(self.row, self.numbers, Round::Floor);
            cx.min(self.row, self.row, count as i32 - 1);
            let line = Tile { rows: 1, cols: self.starts.rows, pitch: self.starts.rows, ..self.starts };
            cx.ramp(line, 0, count as i32);
            cx.add(self.index, self.row, self.starts);
            self.known = Some(count);
        }
        Tile { rows, cols, ..self.index }
    }
}

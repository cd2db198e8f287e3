//! `out[r] = H x[r] / sqrt(n)`, `H[i][j] = (-1)^popcount(i & j)`
//!
//! The transform is one of factors: rows of `n = a b` elements as `a x b` matrices, all rows of these and then all columns. A
//! launch takes one factor, as large as UB has room for, and what is between two launches is f32.

use super::rows::{Loads, Stores};
use crate::device::{Npu, elem};
use crate::isa::{Elem, Global, Tile};
use crate::kernel::{Context, Kernel};
use crate::machine::Space;
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};

/// Elements of a step: 16 KiB of f32, of which UB holds seven.
const STEP: usize = 4096;
/// Largest factor whose elements are no neighbours: a step has 32 bytes of each row at least, of any type.
const APART: usize = STEP / 16;
/// Neighbours whose sums are taken across rows, because no instruction takes every other element of a row.
const NEAR: u32 = 16;

pub(crate) fn supports(_op: &ops::Hadamard, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(_op: &ops::Hadamard, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::Hadamard, npu: &Npu) -> Result<()> {
    let (rows, n) = (op.x.size(0), op.x.size(1));
    if rows == 0 {
        return Ok(());
    }
    let (x, mut out) = (read(&op.x)?, write(&op.out)?);
    let (mut done, mut between): (usize, Option<Vec<u8>>) = (1, None);
    loop {
        let factor = if done == 1 { n.min(STEP) } else { (n / done).min(APART) };
        let last = done * factor == n;
        let mut next = if last { Vec::new() } else { vec![0; 4 * rows * n] };
        let mut gm = Gm::default();
        let (from, from_elem) = match &between {
            Some(bytes) => (gm.input("sums", bytes), Elem::F32),
            None => (gm.input("x", x.bytes()), elem(&op.x)),
        };
        let (to, to_elem) = match last {
            true => (gm.output("out", out.bytes_mut()), elem(&op.out)),
            false => (gm.output("next sums", &mut next), Elem::F32),
        };
        // Neighbours are rows of the matrix, others its columns.
        let (count, cols) = if done == 1 { (rows * n / factor, factor) } else { (rows * n / done, done) };
        let matrix = |region, elem| Global::new(region, 0, elem, count as u32, cols as u32);
        let scale = if last { (1.0 / (n as f64).sqrt()) as f32 } else { 1.0 };
        let columns = (done > 1).then_some(factor as u32);
        let mut kernel =
            Hadamard { x: matrix(from, from_elem), out: matrix(to, to_elem), columns, scale, each: 1, cores: 1 };
        kernel.divide(npu);
        npu.launch(ops::Hadamard::NAME, &kernel, &gm)?;
        if last {
            return Ok(());
        }
        drop(gm);
        (done, between) = (done * factor, Some(next));
    }
}

struct Hadamard {
    x: Global,
    out: Global,
    /// How many rows have their columns transformed together; none where rows are.
    columns: Option<u32>,
    scale: f32,
    /// Rows, or columns, of a step.
    each: u32,
    cores: usize,
}

impl Kernel for Hadamard {
    fn cores(&self) -> usize {
        self.cores
    }

    fn vector(&self, cx: &mut Context<'_>) {
        let mut loads = Loads::new(cx, self.x.elem, 1, STEP as u32, 2);
        let mut stores = Stores::new(cx, self.out.elem, 1, STEP as u32, 2);
        let room = [(); 2].map(|()| cx.alloc(Space::Ub, 4 * STEP as u32));
        for step in cx.share(self.steps()) {
            let [from, to] = [self.x, self.out].map(|matrix| self.part(matrix, step));
            let x = loads.load(cx, from);
            let sums = match self.columns {
                None => self.rows(cx, x, room),
                Some(_) => sums(cx, x, room, 0),
            };
            let out = stores.begin(cx, to.rows, to.cols);
            cx.mul(out, Tile { at: sums, ..out }, self.scale);
            loads.free(cx);
            stores.store(cx, out, to);
        }
        loads.close(cx);
        stores.close(cx);
    }
}

impl Hadamard {
    /// Chooses the size of a step, and cores for that many.
    fn divide(&mut self, npu: &Npu) {
        let halves = 2 * npu.profile().figures.cube_cores as u32;
        self.each = match self.columns {
            Some(factor) => (STEP as u32 / factor).min(self.x.cols),
            None => {
                let fair = self.x.rows.div_ceil(2 * halves);
                fair.next_multiple_of(self.unit()).min(STEP as u32 / self.x.cols)
            }
        };
        self.cores = npu.vector_cores(self.steps() as usize);
    }

    /// Rows whose matrix of [`NEAR`] columns has a transpose with rows of whole 32 bytes.
    fn unit(&self) -> u32 {
        (8 * self.x.cols.min(NEAR) / self.x.cols).max(1)
    }

    fn steps(&self) -> u64 {
        match self.columns {
            Some(factor) => u64::from(self.x.rows / factor) * u64::from(self.x.cols / self.each),
            None => u64::from(self.x.rows.div_ceil(self.each)),
        }
    }

    /// The elements of a step: rows in one piece, or columns.
    fn part(&self, matrix: Global, step: u64) -> Global {
        match self.columns {
            Some(factor) => {
                let across = u64::from(matrix.cols / self.each);
                let row = step / across * u64::from(factor);
                matrix.part(row, factor, (step % across) as u32 * self.each, self.each)
            }
            None => {
                let row = step * u64::from(self.each);
                let rows = u64::from(self.each).min(u64::from(matrix.rows) - row) as u32;
                let at = matrix.at + row * matrix.pitch;
                Global::new(matrix.region, at, matrix.elem, 1, rows * matrix.cols)
            }
        }
    }

    /// Transforms rows that lie in one piece. Gives where they are then.
    fn rows(&self, cx: &mut Context<'_>, x: Tile, room: [u32; 2]) -> u32 {
        let (width, near) = (self.x.cols, self.x.cols.min(NEAR));
        let count = x.cols.next_multiple_of(self.unit() * width);
        let flat = |at| Tile::dense(Space::Ub, at, Elem::F32, 1, count);
        let mut from = x.at;
        if count > x.cols {
            cx.bcast(flat(room[0]), 0.0);
            cx.copy(Tile { at: room[0], ..x }, x);
            from = room[0];
        }
        let lines = |at, rows| Tile::dense(Space::Ub, at, Elem::F32, rows, count / rows);
        cx.transpose(lines(room[1], near), lines(from, count / near));
        let across = sums(cx, lines(room[1], near), [room[0], room[1]], 0);
        let other = if across == room[0] { room[1] } else { room[0] };
        cx.transpose(lines(other, count / near), lines(across, near));
        sums(cx, lines(other, count / width), [across, other], near)
    }
}

/// Sums and differences of rows 1, 2, 4 and so on apart; or, from `near` on, of so many elements of each row. Results go by
/// turns to the one room and to the other. Gives where the last are.
fn sums(cx: &mut Context<'_>, x: Tile, room: [u32; 2], near: u32) -> u32 {
    let (mut at, mut turn) = (x.at, 0);
    let (mut apart, end) = if near == 0 { (x.cols, x.rows * x.cols) } else { (near, x.cols) };
    cx.fused(|cx| {
        while apart < end {
            // Each half of every `2 apart` elements.
            let half = |at, upper: u32| {
                let rows = x.rows * x.cols / (2 * apart);
                let lower = Tile::dense(Space::Ub, at, Elem::F32, rows, apart);
                Tile { at: at + 4 * upper * apart, pitch: 2 * apart, ..lower }
            };
            let to = room[turn % 2];
            cx.add(half(to, 0), half(at, 0), half(at, 1));
            cx.sub(half(to, 1), half(at, 0), half(at, 1));
            (at, turn, apart) = (to, turn + 1, 2 * apart);
        }
    });
    at
}

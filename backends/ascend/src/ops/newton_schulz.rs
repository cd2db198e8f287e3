//! `M = g / |g|`, then for each step `A = M M^T`, `M <- a M + (b A + c A A) M`; of a tall matrix, the transpose's.
//!
//! Each product is a launch, and so is each sum of matrices: the next begins with what all cores have done.

mod norm;
mod sums;

use super::gemm::{Gemm, Operand, Split};
use crate::device::Npu;
use crate::isa::{Elem, Global};
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};
use norm::{Divide, Squares};
use sums::{Transpose, WeightedSum};

const NAME: &str = ops::NewtonSchulz::NAME;
/// Elements for which a core is worth its while.
const WORTH: usize = 4096;

pub(crate) fn supports(_op: &ops::NewtonSchulz, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(_op: &ops::NewtonSchulz, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::NewtonSchulz, npu: &Npu) -> Result<()> {
    let (rows, cols) = (op.g.size(0), op.g.size(1));
    if rows * cols == 0 {
        return Ok(());
    }
    let (g, mut out) = (read(&op.g)?, write(&op.out)?);
    let launches = Launches { npu };
    let tall = rows > cols;
    let (n, m) = (rows.min(cols), rows.max(cols));
    let mut matrix = launches.normalized(g.bytes(), [rows, cols])?;
    if tall {
        let mut wide = vec![0; matrix.len()];
        launches.transpose(&matrix, [rows, cols], &mut wide)?;
        matrix = wide;
    }
    for (done, [a, b, c]) in op.steps.iter().enumerate() {
        let gram = launches.product(&matrix, &matrix, [n, n, m], false)?;
        let square = launches.product(&gram, &gram, [n, n, n], false)?;
        let polynomial = launches.sum([(*b, &gram), (*c, &square)], [n, n])?;
        let moved = launches.product(&polynomial, &matrix, [n, m, n], true)?;
        let terms = [(*a, &matrix[..]), (1.0, &moved[..])];
        if done + 1 == op.steps.len() && !tall {
            return launches.sum_to(terms, [n, m], out.bytes_mut());
        }
        matrix = launches.sum(terms, [n, m])?;
    }
    launches.transpose(&matrix, [n, m], out.bytes_mut())
}

/// Launches over f32 matrices.
struct Launches<'a> {
    npu: &'a Npu,
}

fn matrix(region: u16, [rows, cols]: [usize; 2]) -> Global {
    Global::new(region, 0, Elem::F32, rows as u32, cols as u32)
}

impl Launches<'_> {
    fn cores(&self, elements: usize) -> usize {
        self.npu.vector_cores(elements.div_ceil(WORTH))
    }

    /// `g / |g|`, and zeros of zeros.
    fn normalized(&self, g: &[u8], sizes: [usize; 2]) -> Result<Vec<u8>> {
        let count = sizes[0] * sizes[1];
        let cores = self.cores(count);
        let mut parts = vec![0; 2 * cores * 4];
        let mut gm = Gm::default();
        let all = Global::new(gm.input("g", g), 0, Elem::F32, 1, count as u32);
        let parts_out = matrix(gm.output("squares", &mut parts), [1, 2 * cores]);
        self.npu.launch(NAME, &Squares { g: all, parts: parts_out, cores }, &gm)?;
        drop(gm);
        let mut out = vec![0; 4 * count];
        let mut gm = Gm::default();
        let all = |region| Global::new(region, 0, Elem::F32, 1, count as u32);
        let kernel = Divide {
            g: all(gm.input("g", g)),
            parts: matrix(gm.input("squares", &parts), [1, 2 * cores]),
            out: all(gm.output("normalized", &mut out)),
            cores,
        };
        self.npu.launch(NAME, &kernel, &gm)?;
        drop(gm);
        Ok(out)
    }

    /// `x w^T`, or `x w` with `by_n`: `[m, n]`, sums of `k`.
    fn product(&self, x: &[u8], w: &[u8], [m, n, k]: [usize; 3], by_n: bool) -> Result<Vec<u8>> {
        let mut out = vec![0; 4 * m * n];
        let mut gm = Gm::default();
        let plain = |codes| Operand { codes, scales: None };
        let x = plain(matrix(gm.input("x", x), [m, k]));
        let w = plain(matrix(gm.input("w", w), if by_n { [k, n] } else { [n, k] }));
        let to = matrix(gm.output("product", &mut out), [m, n]);
        let kernel = Gemm::new(self.npu.profile(), [x, w], to, [n, k], Split::Columns(1));
        self.npu.launch(NAME, &Gemm { by_n, ..kernel }, &gm)?;
        drop(gm);
        Ok(out)
    }

    fn sum(&self, terms: [(f32, &[u8]); 2], sizes: [usize; 2]) -> Result<Vec<u8>> {
        let mut out = vec![0; 4 * sizes[0] * sizes[1]];
        self.sum_to(terms, sizes, &mut out)?;
        Ok(out)
    }

    fn sum_to(&self, terms: [(f32, &[u8]); 2], [rows, cols]: [usize; 2], out: &mut [u8]) -> Result<()> {
        let mut gm = Gm::default();
        let all = |region| Global::new(region, 0, Elem::F32, 1, (rows * cols) as u32);
        let terms = terms.map(|(factor, bytes)| (factor, all(gm.input("term", bytes))));
        let out = all(gm.output("sum", out));
        self.npu.launch(NAME, &WeightedSum { terms, out, cores: self.cores(rows * cols) }, &gm)
    }

    fn transpose(&self, x: &[u8], [rows, cols]: [usize; 2], out: &mut [u8]) -> Result<()> {
        let mut gm = Gm::default();
        let x = matrix(gm.input("x", x), [rows, cols]);
        let out = matrix(gm.output("transposed", out), [cols, rows]);
        self.npu.launch(NAME, &Transpose { x, out, cores: self.cores(rows * cols) }, &gm)
    }
}

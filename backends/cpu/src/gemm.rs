//! Rows times weights. A row of weights is read into f32 once and multiplied with every row of a tile, so that what the
//! weights cost is their bytes, once per tile, and what the rows cost is their products.

use crate::load::{Rows, Stores, Work, dot, par_rows};
use std::ops::Range;

/// Elements of a tile of rows: 1 MiB of f32, about a core's second-level cache.
const TILE: usize = 1 << 18;

/// Rows of `cols` elements that are held as f32 at a time.
pub(crate) fn tile_rows(cols: usize) -> usize {
    (TILE / cols.max(1)).clamp(16, 256)
}

/// Multiply-adds, or the like, of a row of weights with `count` rows, counting its conversion to f32 as two more.
pub(crate) fn work(cols: usize, count: usize) -> Work {
    Work::Each(cols.saturating_mul(count + 2))
}

/// `out[t] = x[t] . w`, where row `t` of `x` begins at `t * stride`.
pub(crate) fn dots(x: &[f32], stride: usize, w: &[f32], out: &mut [f32]) {
    for (t, out) in out.iter_mut().enumerate() {
        *out = dot(&x[t * stride..][..w.len()], w);
    }
}

/// Stores the products of rows `rows` of `x` with the matrices `groups` of `w`:
/// `out[t, i*N + n] = x[t, i*K..] . w[groups.start + i, n]`.
pub(crate) fn gemm(x: &Rows<'_>, rows: Range<usize>, w: &Rows<'_>, groups: Range<usize>, out: &mut Stores<'_>) {
    let (cols, width) = (w.cols(), groups.len() * w.rows());
    let (mut values, mut products) = (Vec::new(), Vec::new());
    let tile = tile_rows(cols);
    for first in rows.clone().step_by(tile) {
        let count = tile.min(rows.end - first);
        values.resize(count * x.cols(), 0.0);
        par_rows(&mut values, x.cols(), work(x.cols(), 0), || (), |(), t, row| x.read(0, first + t, row));
        // Transposed: a row of weights owns a row of products.
        products.resize(width * count, 0.0);
        par_rows(
            &mut products,
            count,
            work(cols, count),
            || vec![0.0; cols],
            |scratch, n, products| {
                let group = n / w.rows();
                w.read(groups.start + group, n % w.rows(), scratch);
                dots(&values[group * cols..], x.cols(), scratch, products);
            },
        );
        out.rows(
            first..first + count,
            width,
            Work::Each(width),
            || (),
            |(), t, row| {
                row.iter_mut().enumerate().for_each(|(n, out)| *out = products[n * count + t - first]);
            },
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, noise};
    use anychip_core::{DType, Matrix};

    #[test]
    fn a_row_has_the_same_bits_alone_and_in_any_batch() {
        let lab = Lab::new();
        let (rows, cols, width) = (tile_rows(70) + 5, 70, 40);
        let values = noise(3, rows * cols);
        let w = Matrix::plain(&lab.floats(DType::BF16, &[width, cols], &noise(4, width * cols))).unwrap();
        let products = |values: &[f32]| {
            let count = values.len() / cols;
            let x = Matrix::plain(&lab.floats(DType::F32, &[count, cols], values)).unwrap();
            let out = lab.output(DType::F32, &[count, width]);
            gemm(&Rows::of(&x).unwrap(), 0..count, &Rows::of(&w).unwrap(), 0..1, &mut Stores::of(&out).unwrap());
            lab.raw(&out)
        };
        let all = products(&values);
        for row in [0, 1, tile_rows(70) - 1, tile_rows(70), rows - 1] {
            let alone = products(&values[row * cols..][..cols]);
            assert!(alone == all[row * width * 4..][..width * 4], "row {row}");
        }
    }
}

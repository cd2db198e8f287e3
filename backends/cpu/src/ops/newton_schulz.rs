use crate::load::{Work, dot, par_rows, parallel};
use anychip_core::{Result, host, ops::NewtonSchulz};
use rayon::prelude::*;

/// `M = g / |g|_F`, then `M <- a M + (b A + c A A) M` with `A = M M^T` for each step `(a, b, c)`
pub(crate) fn run(op: &NewtonSchulz) -> Result<()> {
    let (rows, cols) = (op.g.size(0), op.g.size(1));
    let g = host::read(&op.g)?;
    let g: &[f32] = g.as_slice();
    let mut out = host::write(&op.out)?;
    let out: &mut [f32] = out.as_mut_slice();
    // In f64: squares of gradients leave the range of f32.
    let norm = g.iter().map(|&x| x as f64 * x as f64).sum::<f64>().sqrt();
    if norm == 0.0 {
        out.fill(0.0);
        return Ok(());
    }
    let scaled: Vec<f32> = g.iter().map(|&x| (x as f64 / norm) as f32).collect();
    let tall = rows > cols;
    let (n, m) = if tall { (cols, rows) } else { (rows, cols) };
    let mut matrix = if tall { transpose(&scaled, rows, cols) } else { scaled };
    for &[a, b, c] in &op.steps {
        let gram = product(&matrix, &matrix, m);
        // The Gram matrix is its own transpose, so this is `A A`.
        let mut factor = product(&gram, &gram, n);
        factor.iter_mut().zip(&gram).for_each(|(x, gram)| *x = b * gram + c * *x);
        let step = product(&factor, &transpose(&matrix, n, m), n);
        matrix.iter_mut().zip(&step).for_each(|(x, step)| *x = a * *x + step);
    }
    out.copy_from_slice(&if tall { transpose(&matrix, n, m) } else { matrix });
    Ok(())
}

/// Rows of the left operand that share one reading of the right one.
const TILE: usize = 32;

/// `left right^T`, both with rows of `depth` elements.
fn product(left: &[f32], right: &[f32], depth: usize) -> Vec<f32> {
    let width = right.len() / depth;
    let mut out = vec![0.0; left.len() / depth * width];
    parallel(|| {
        let tiles = out.par_chunks_mut(TILE * width).zip(left.par_chunks(TILE * depth));
        tiles.for_each(|(out, left)| {
            for (j, right) in right.chunks(depth).enumerate() {
                for (i, left) in left.chunks(depth).enumerate() {
                    out[i * width + j] = dot(left, right);
                }
            }
        });
    });
    out
}

/// The transpose of a matrix of `rows` x `cols`.
fn transpose(matrix: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![0.0; matrix.len()];
    par_rows(
        &mut out,
        rows,
        Work::Each(rows),
        || (),
        |(), j, out| {
            out.iter_mut().enumerate().for_each(|(i, x)| *x = matrix[i * cols + j]);
        },
    );
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, assert_close, golden_floats, noise};
    use anychip_core::DType;

    fn orthogonalised(g: &[f32], sizes: [usize; 2]) -> Vec<f32> {
        let lab = Lab::new();
        let out = lab.output(DType::F32, &sizes);
        let steps = NewtonSchulz::V4_STEPS.to_vec();
        lab.run(NewtonSchulz { g: lab.floats(DType::F32, &sizes, g), steps, out: out.clone() });
        lab.values(&out)
    }

    #[test]
    fn the_golden_matrix_and_its_transpose() {
        let (g, want) = (golden_floats("muon.g"), golden_floats("muon.ortho"));
        let wide = |x: &[f32]| x.iter().map(|&x| x as f64).collect::<Vec<_>>();
        assert_close(&orthogonalised(&g, [24, 40]), &wide(&want), 2e-6);
        let tall = orthogonalised(&transpose(&g, 24, 40), [40, 24]);
        assert_close(&tall, &wide(&transpose(&want, 24, 40)), 2e-6);
    }

    #[test]
    fn rows_become_orthonormal() {
        // Gradients whose squares would leave the range of f32.
        let g: Vec<f32> = noise(1, 40 * 70).iter().map(|x| x * 1e25).collect();
        let ortho = orthogonalised(&g, [40, 70]);
        for (i, one) in ortho.chunks(70).enumerate() {
            for (j, other) in ortho.chunks(70).enumerate() {
                let want = if i == j { 1.0 } else { 0.0 };
                assert!((dot(one, other) - want).abs() < 2e-2, "rows {i}, {j}");
            }
        }
    }

    #[test]
    fn boundaries() {
        assert_eq!(orthogonalised(&[0.0; 6], [2, 3]), [0.0; 6]);
        assert!(orthogonalised(&[], [0, 3]).is_empty());
        assert!((orthogonalised(&[-3.0], [1, 1])[0] + 1.0).abs() < 1e-2);
        assert!(orthogonalised(&[1.0, f32::NAN], [1, 2]).iter().all(|x| x.is_nan()));
    }
}

use crate::operands::reals;
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::NewtonSchulz;

/// Runs that measure the sensitivity: two with all errors of one sign, the others with signs at random.
const RUNS: usize = 6;
/// Factor on the largest deviation of those runs.
const SAFETY: f64 = 2.0;

/// `M = g / |g|_F`, then for each step `A = M M^T`, `M <- a M + (b A + c A A) M`; of a tall matrix, the transpose's.
///
/// Errors must not be followed from step to step: the first steps more than triple small singular values, the last hold
/// them at 1, and bounds would only grow. What a device's roundings do is measured instead. The exact run notes what each
/// number may be off by as the result of its own step; further runs move every number by that much, up or down, and the
/// farthest that an element of the result moves (at least as much as its matrix does on average, for a single element
/// may stay by chance), times a safety factor, is its bound.
pub(crate) fn evaluate<R: Real>(op: &NewtonSchulz, units: R::Units) -> Result<Vec<Output<R>>> {
    let (rows, cols) = (op.g.size(0), op.g.size(1));
    let tall = rows > cols;
    let given = reals::<R>(&op.g, units)?;
    let (n, m) = (rows.min(cols), rows.max(cols));
    let at = |i: usize, j: usize| if tall { j * cols + i } else { i * cols + j };
    let g: Vec<Vec<f64>> = (0..n).map(|i| (0..m).map(|j| given[at(i, j)].value()).collect()).collect();

    let mut errors = Vec::new();
    let exact = iterate(&g, &op.steps, units, &mut |x: R| {
        errors.push(x.error());
        x.value()
    });
    let mut off = vec![vec![0.0f64; m]; n];
    if errors.iter().any(|&error| error > 0.0) {
        let mut squares = 0.0;
        for run in 0..RUNS {
            let (mut error, mut signs) = (errors.iter(), Signs::of_run(run));
            let moved = iterate(&g, &op.steps, (), &mut |x: f64| x + signs.next() * error.next().unwrap_or(&0.0));
            for (off, (moved, exact)) in
                off.iter_mut().flatten().zip(moved.iter().flatten().zip(exact.iter().flatten()))
            {
                let distance = (moved - exact).abs();
                *off = if distance.is_nan() { f64::INFINITY } else { off.max(distance) };
                squares += distance * distance;
            }
        }
        let average = (squares / (RUNS * n * m) as f64).sqrt();
        off.iter_mut().flatten().for_each(|off| *off = SAFETY * off.max(average));
    }
    let mut out = vec![R::from(0.0); rows * cols];
    for (i, (row, off)) in exact.iter().zip(&off).enumerate() {
        for (j, (&x, &off)) in row.iter().zip(off).enumerate() {
            out[at(i, j)] = R::read(x, units).within(off);
        }
    }
    Ok(vec![Output::real("out", &op.out, out)])
}

/// The iteration on a matrix of no more rows than columns. Every number that a step computes goes through `settle`.
fn iterate<R: Real>(
    g: &[Vec<f64>],
    steps: &[[f32; 3]],
    units: R::Units,
    settle: &mut dyn FnMut(R) -> f64,
) -> Vec<Vec<f64>> {
    let exact = |matrix: &[Vec<f64>]| -> Vec<Vec<R>> {
        matrix.iter().map(|row| row.iter().map(|&x| R::read(x, units)).collect()).collect()
    };
    let all: Vec<R> = exact(g).concat();
    let norm = settle(R::dot(&all, &all).sqrt());
    if norm == 0.0 {
        return g.to_vec();
    }
    let mut divide = |x: R| settle(x / R::read(norm, units));
    let mut matrix: Vec<Vec<f64>> = exact(g).iter().map(|row| row.iter().map(|&x| divide(x)).collect()).collect();
    for step in steps {
        let [a, b, c] = step.map(|x| R::from(x as f64));
        let rows = exact(&matrix);
        let gram: Vec<Vec<f64>> = rows.iter().map(|x| rows.iter().map(|y| settle(R::dot(x, y))).collect()).collect();
        let (gram, gram_columns) = (exact(&gram), exact(&transposed(&gram)));
        let mut polynomial = Vec::new();
        for row in &gram {
            let square = gram_columns.iter().map(|column| R::dot(row, column));
            polynomial.push(row.iter().zip(square).map(|(&one, two)| settle(b * one + c * two)).collect());
        }
        let (polynomial, columns) = (exact(&polynomial), exact(&transposed(&matrix)));
        for (i, row) in matrix.iter_mut().enumerate() {
            for (j, x) in row.iter_mut().enumerate() {
                *x = settle(a * rows[i][j] + R::dot(&polynomial[i], &columns[j]));
            }
        }
    }
    matrix
}

fn transposed(matrix: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let cols = matrix.first().map_or(0, Vec::len);
    (0..cols).map(|j| matrix.iter().map(|row| row[j]).collect()).collect()
}

/// The signs of one run's errors, the same on every machine.
enum Signs {
    Constant(f64),
    Random(u64),
}

impl Signs {
    fn of_run(run: usize) -> Signs {
        match run {
            0 => Signs::Constant(1.0),
            1 => Signs::Constant(-1.0),
            _ => Signs::Random(run as u64),
        }
    }

    fn next(&mut self) -> f64 {
        match self {
            Signs::Constant(sign) => *sign,
            Signs::Random(state) => {
                // Knuth's multiplier for a linear congruence modulo 2^64; only the top bit is good enough.
                *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                if *state >> 63 == 0 { 1.0 } else { -1.0 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::testing::*;
    use anychip_core::DType::F32;
    use anychip_core::ops::NewtonSchulz;
    use anychip_core::{Op, Operation};

    fn op(rows: usize, cols: usize, g: &[f32]) -> Op {
        let (g, out) = (tensor(F32, &[rows, cols], g), unwritten(F32, &[rows, cols]));
        NewtonSchulz { g, steps: NewtonSchulz::V4_STEPS.to_vec(), out }.build().unwrap()
    }

    fn transposed(rows: usize, cols: usize, x: &[f32]) -> Vec<f32> {
        (0..rows * cols).map(|i| x[i % rows * cols + i / rows]).collect()
    }

    /// The iteration in f32 with plain loops; `rows <= cols`.
    fn in_f32(rows: usize, cols: usize, g: &[f32]) -> Vec<f32> {
        let norm = dot32(g, g).sqrt();
        let mut x: Vec<f32> = g.iter().map(|g| g / norm).collect();
        for [a, b, c] in NewtonSchulz::V4_STEPS {
            let gram: Vec<f32> =
                (0..rows * rows).map(|i| dot32(&x[i / rows * cols..][..cols], &x[i % rows * cols..][..cols])).collect();
            let column =
                |x: &[f32], width: usize, j: usize| x.iter().skip(j).step_by(width).copied().collect::<Vec<f32>>();
            let poly: Vec<f32> = (0..rows * rows)
                .map(|i| b * gram[i] + c * dot32(&gram[i / rows * rows..][..rows], &column(&gram, rows, i % rows)))
                .collect();
            let columns: Vec<Vec<f32>> = (0..cols).map(|j| column(&x, cols, j)).collect();
            x = (0..rows * cols)
                .map(|i| a * x[i] + dot32(&poly[i / cols * rows..][..rows], &columns[i % cols]))
                .collect();
        }
        x
    }

    #[test]
    fn the_golden_matrix() {
        let (g, want) = (golden("muon.g").floats(), golden("muon.ortho").floats());
        let op = op(24, 40, &g);
        share_of_bound(&op, "out", &want);
        let got = exact(&op, "out");
        assert!(got.iter().zip(&want).all(|(got, &want)| (got - want as f64).abs() < 2e-5));
        // The rows of the result are orthonormal as far as its singular values are 1.
        let spread = golden("muon.sv").floats().iter().map(|s| (s * s - 1.0).abs()).fold(1e-6, f32::max) as f64;
        for i in 0..24 {
            for j in 0..24 {
                let dot: f64 = (0..40).map(|k| got[i * 40 + k] * got[j * 40 + k]).sum();
                assert!((dot - f64::from(i == j)).abs() <= 1.1 * spread, "rows {i}, {j}: {dot}");
            }
        }
    }

    #[test]
    fn a_tall_matrix_is_its_transpose() {
        let g = golden("muon.g").floats();
        let (wide, tall) = (exact(&op(24, 40, &g), "out"), exact(&op(40, 24, &transposed(24, 40, &g)), "out"));
        for i in 0..24 * 40 {
            assert_eq!(wide[i], tall[i % 40 * 24 + i / 40]);
        }
    }

    #[test]
    fn zero_stays_zero_and_empty_stays_empty() {
        assert_eq!(exact(&op(3, 2, &[0.0; 6]), "out"), [0.0; 6]);
        assert!(exact(&op(0, 5, &[]), "out").is_empty() && exact(&op(5, 0, &[]), "out").is_empty());
        let nan = bounds(&op(2, 2, &[1.0, f32::NAN, 0.0, 1.0]), "out", &anychip_core::Numerics::f32());
        assert!(nan.iter().all(|x| crate::Real::value(*x).is_nan()));
    }

    #[test]
    fn a_step_is_its_polynomial() {
        // One element: g / |g| = 1, and a step gives a + b + c.
        let (g, out) = (tensor(F32, &[1, 1], &[-5.0]), unwritten(F32, &[1, 1]));
        let op = NewtonSchulz { g, steps: vec![[3.0, -1.0, 0.5]], out }.build().unwrap();
        assert_eq!(exact(&op, "out"), [-2.5]);
    }

    #[test]
    fn f32_keeps_its_bound() {
        let mut random = Random::new(1);
        for (rows, cols) in [(1, 7), (8, 8), (16, 48), (24, 25)] {
            for scale in [1e-3, 30.0] {
                let g = random.normals(rows * cols, scale);
                let op = op(rows, cols, &g);
                assert_bound(&op, "out", &in_f32(rows, cols, &g));
            }
        }
    }
}

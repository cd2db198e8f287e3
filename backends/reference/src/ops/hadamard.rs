use crate::operands::held;
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::Hadamard;

/// `out[r, i] = sum_j (-1)^popcount(i & j) x[r, j] / sqrt(n)`
pub(crate) fn evaluate<R: Real>(op: &Hadamard, units: R::Units) -> Result<Vec<Output<R>>> {
    let n = op.x.size(1);
    let x = held::<R>("x", &op.x, units)?;
    // Read, not just a number: a device rounds this factor too.
    let factor = R::read(n as f64, units).rsqrt();
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks(n) {
        for i in 0..n {
            let signed: Vec<R> = row
                .iter()
                .enumerate()
                .map(|(j, &x)| if (i & j).count_ones().is_multiple_of(2) { x } else { -x })
                .collect();
            out.push(R::sum(&signed) * factor);
        }
    }
    Ok(vec![Output::real("out", &op.out, out)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use anychip_core::DType;

    fn transformed(x: &[f32], n: usize) -> Vec<f32> {
        let out = unwritten(DType::F32, &[x.len() / n, n]);
        run(Hadamard { x: tensor(DType::F32, &[x.len() / n, n], x), out: out.clone() });
        floats_of(&out)
    }

    #[test]
    fn the_golden_transform() {
        let want = golden("had.y").floats();
        for (got, want) in transformed(&golden("had.x").floats(), 128).iter().zip(want) {
            assert!((got - want).abs() <= 1e-6, "{got} is not {want}");
        }
    }

    #[test]
    fn small_sizes_by_hand_and_its_own_inverse() {
        assert_eq!(transformed(&[3.0], 1), [3.0]);
        assert_eq!(transformed(&[1.0, 2.0, 3.0, 4.0], 4), [5.0, -1.0, -2.0, 0.0]);
        let x = Random::new(1).normals(64, 1.0);
        for (got, want) in transformed(&transformed(&x, 16), 16).iter().zip(&x) {
            assert!((got - want).abs() <= 1e-6);
        }
    }

    #[test]
    fn an_f32_loop_keeps_the_bound() {
        for (seed, n) in [(2, 16), (3, 128)] {
            let x = Random::new(seed).normals(8 * n, 1.0);
            let (input, out) = (tensor(DType::F32, &[8, n], &x), unwritten(DType::F32, &[8, n]));
            let op = run(Hadamard { x: input, out });
            let sign = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            let one = |row: &[f32], i: usize| row.iter().enumerate().map(|(j, x)| x * sign(i, j)).sum::<f32>();
            let factor = 1.0 / (n as f32).sqrt();
            let got: Vec<f32> = x.chunks(n).flat_map(|row| (0..n).map(move |i| one(row, i) * factor)).collect();
            assert_bound(&op, "out", &got);
        }
    }
}

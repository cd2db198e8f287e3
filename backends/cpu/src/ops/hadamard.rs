use crate::load::{Floats, Stores, Work};
use anychip_core::{Result, ops};

/// `out[r] = H x[r] / sqrt(n)`, as the fast transform: `log2 n` stages of sums and differences.
pub(crate) fn run(op: &ops::Hadamard) -> Result<()> {
    let x = Floats::of(&op.x)?;
    let (rows, n) = (op.x.size(0), op.x.size(1));
    let scale = (1.0 / (n as f64).sqrt()) as f32;
    Stores::of(&op.out)?.rows(
        0..rows,
        n,
        Work::of(op),
        || (),
        |(), row, out| {
            x.read(row * n, out);
            transform(out);
            out.iter_mut().for_each(|x| *x *= scale);
        },
    );
    Ok(())
}

fn transform(x: &mut [f32]) {
    let mut half = 1;
    while half < x.len() {
        for block in x.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::testing::{Lab, assert_close, golden_floats, noise};
    use anychip_core::DType;
    use anychip_core::ops::Hadamard;

    fn transformed(lab: &Lab, x: &[f32], n: usize) -> Vec<f32> {
        let rows = x.len() / n;
        let out = lab.output(DType::F32, &[rows, n]);
        lab.run(Hadamard { x: lab.floats(DType::F32, &[rows, n], x), out: out.clone() });
        lab.values(&out)
    }

    #[test]
    fn the_golden_transform() {
        let want: Vec<f64> = golden_floats("had.y").iter().map(|&x| x as f64).collect();
        assert_close(&transformed(&Lab::new(), &golden_floats("had.x"), 128), &want, 1e-6);
    }

    #[test]
    fn signs_are_those_of_the_definition_and_it_is_its_own_inverse() {
        let lab = Lab::new();
        for n in [1usize, 2, 8, 64] {
            let x = noise(n as u32, n);
            let want: Vec<f64> = (0..n)
                .map(|i| {
                    let sign = |j: usize| 1.0 - 2.0 * ((i & j).count_ones() % 2) as f64;
                    (0..n).map(|j| sign(j) * x[j] as f64).sum::<f64>() / (n as f64).sqrt()
                })
                .collect();
            let once = transformed(&lab, &x, n);
            assert_close(&once, &want, 1e-6);
            assert_close(&transformed(&lab, &once, n), &x.iter().map(|&x| x as f64).collect::<Vec<_>>(), 1e-6);
        }
    }
}

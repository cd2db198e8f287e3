use crate::load::{Floats, Stores, Work};
use anychip_core::{Result, host, ops::HyperPost};

/// `out_k = post_k y + sum_j comb[j][k] X_j`, summed in f64 as in [`hyper_pre`](super::hyper_pre)
pub(crate) fn run(op: &HyperPost) -> Result<()> {
    let (rows, n, d) = (op.streams.size(0), op.streams.size(1), op.streams.size(2));
    let (y, streams) = (Floats::of(&op.y)?, Floats::of(&op.streams)?);
    let (post, comb) = (host::read(&op.post)?, host::read(&op.comb)?);
    let (post, comb): (&[f32], &[f32]) = (post.as_slice(), comb.as_slice());
    Stores::of(&op.out)?.rows(
        0..rows,
        n * d,
        Work::of(op),
        Default::default,
        |(own, x): &mut (Vec<f32>, Vec<f32>), t, out| {
            let (y, x) = (y.view(t * d, d, own), streams.view(t * n * d, n * d, x));
            for (k, out) in out.chunks_mut(d.max(1)).enumerate() {
                let back = post[t * n + k] as f64;
                let mixed: Vec<f64> = (0..n).map(|j| comb[(t * n + j) * n + k] as f64).collect();
                for (i, out) in out.iter_mut().enumerate() {
                    let sum: f64 = mixed.iter().enumerate().map(|(j, w)| w * x[j * d + i] as f64).sum();
                    *out = (back * y[i] as f64 + sum) as f32;
                }
            }
        },
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, assert_close, noise};
    use anychip_core::DType;

    #[test]
    fn equals_the_formula() {
        for (rows, n, d) in [(3, 4, 37), (1, 1, 5), (200, 4, 300), (0, 4, 8), (2, 0, 8), (2, 4, 0)] {
            let lab = Lab::new();
            let (y, streams) = (noise(1, rows * d), noise(2, rows * n * d));
            let (post, comb) = (noise(3, rows * n), noise(4, rows * n * n));
            let op = HyperPost {
                y: lab.floats(DType::F32, &[rows, d], &y),
                streams: lab.floats(DType::F32, &[rows, n, d], &streams),
                post: lab.floats(DType::F32, &[rows, n], &post),
                comb: lab.floats(DType::F32, &[rows, n, n], &comb),
                out: lab.output(DType::F32, &[rows, n, d]),
            };
            lab.run(op.clone());
            let mut want = Vec::new();
            for t in 0..rows {
                for k in 0..n {
                    for i in 0..d {
                        let back = post[t * n + k] as f64 * y[t * d + i] as f64;
                        // Over the first index of comb, not the second.
                        let mixed =
                            (0..n).map(|j| comb[(t * n + j) * n + k] as f64 * streams[(t * n + j) * d + i] as f64);
                        want.push(back + mixed.sum::<f64>());
                    }
                }
            }
            assert_close(&lab.values(&op.out), &want, 1e-6);
        }
    }

    #[test]
    fn every_float_type_is_read_and_rounded_once() {
        let lab = Lab::new();
        let op = HyperPost {
            y: lab.floats(DType::F16, &[1, 2], &[1.0, -2.0]),
            streams: lab.floats(DType::BF16, &[1, 1, 2], &[1.0, 256.0]),
            post: lab.floats(DType::F32, &[1, 1], &[1.0 / 512.0]),
            comb: lab.floats(DType::F32, &[1, 1, 1], &[1.0]),
            out: lab.output(DType::BF16, &[1, 1, 2]),
        };
        lab.run(op.clone());
        assert_eq!(lab.values(&op.out), [1.0, 256.0]);
    }
}

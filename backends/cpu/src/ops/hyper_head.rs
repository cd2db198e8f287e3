use super::hyper_pre::{collapse, mixes, sigmoid};
use crate::load::Work;
use anychip_core::{Result, host, ops::HyperHead};

/// `out = sum_i pre_i X_i`, `pre = sigmoid(mix * scale + base) + eps`
pub(crate) fn run(op: &HyperHead) -> Result<()> {
    let n = op.streams.size(1);
    let mixes = mixes(&op.streams, &op.mixer, op.norm_eps, Work::of(op))?;
    let (base, scale) = (host::read(&op.base)?, host::read(&op.scale)?);
    let (base, scale): (&[f32], &[f32]) = (base.as_slice(), scale.as_slice());
    let pre = |t: usize, i: usize| sigmoid(mixes[t * n + i] * scale[0] as f64 + base[i] as f64) + op.eps as f64;
    collapse(&op.streams, pre, &op.out, Work::of(op))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, assert_close, noise};
    use anychip_core::DType;

    #[test]
    fn equals_the_formula() {
        for (rows, n, d) in [(3, 4, 50), (1, 4, 1), (33, 1, 7), (0, 4, 8)] {
            let lab = Lab::new();
            let (streams, mixer, base) = (noise(1, rows * n * d), noise(2, n * n * d), noise(3, n));
            let op = HyperHead {
                streams: lab.floats(DType::F32, &[rows, n, d], &streams),
                mixer: lab.floats(DType::F32, &[n, n * d], &mixer),
                base: lab.floats(DType::F32, &[n], &base),
                scale: lab.floats(DType::F32, &[1], &[1.5]),
                norm_eps: 1e-2,
                eps: 1e-3,
                out: lab.output(DType::F32, &[rows, d]),
            };
            lab.run(op.clone());
            let mut want = Vec::new();
            for f in streams.chunks(n * d) {
                let mean = f.iter().map(|&x| x as f64 * x as f64).sum::<f64>() / (n * d) as f64;
                let pre = |i: usize| {
                    let product: f64 = f.iter().zip(&mixer[i * n * d..]).map(|(&f, &w)| f as f64 * w as f64).sum();
                    let mix = product / (mean + 1e-2).sqrt() * 1.5 + base[i] as f64;
                    1.0 / (1.0 + (-mix).exp()) + 1e-3
                };
                want.extend((0..d).map(|k| (0..n).map(|i| pre(i) * f[i * d + k] as f64).sum::<f64>()));
            }
            assert_close(&lab.values(&op.out), &want, 2e-6);
        }
    }
}

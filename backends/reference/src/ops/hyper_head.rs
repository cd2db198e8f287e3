use super::hyper_pre::{collapse, mix};
use crate::operands::reals;
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::HyperHead;

/// `out[t] = sum_i pre_i X_i`, `pre = sigmoid(mix * scale + base) + eps`
pub(crate) fn evaluate<R: Real>(op: &HyperHead, units: R::Units) -> Result<Vec<Output<R>>> {
    let (n, d) = (op.streams.size(1), op.streams.size(2));
    let [streams, mixer, base, scale] = [&op.streams, &op.mixer, &op.base, &op.scale].map(|t| reals::<R>(t, units));
    let (streams, mixer, base, scale) = (streams?, mixer?, base?, scale?);
    let eps = R::from(op.eps as f64);
    let mut out = Vec::with_capacity(op.out.count());
    for row in streams.chunks(n * d) {
        let mix = mix(row, &mixer, op.norm_eps);
        let pre: Vec<R> = mix.iter().zip(&base).map(|(&mix, &base)| (mix * scale[0] + base).sigmoid() + eps).collect();
        out.extend(collapse(&pre, row));
    }
    Ok(vec![Output::real("out", &op.out, out)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::testing::{Random, assert_bound, exact, tensor, unwritten};
    use anychip_core::DType::F32;
    use anychip_core::Operation;
    use anychip_core::ops::HyperHead;

    #[test]
    fn a_zero_mixer_leaves_the_base() {
        let op = HyperHead {
            streams: tensor(F32, &[1, 2, 1], &[4.0, -8.0]),
            mixer: tensor(F32, &[2, 2], &[0.0; 4]),
            base: tensor(F32, &[2], &[0.0, 100.0]),
            scale: tensor(F32, &[1], &[5.0]),
            norm_eps: 1e-6,
            eps: 0.25,
            out: unwritten(F32, &[1, 1]),
        };
        assert_eq!(exact(&op.build().unwrap(), "out"), [4.0 * 0.75 - 8.0 * 1.25]);
    }

    #[test]
    fn f32_keeps_its_bound() {
        let (t, n, d, mut random) = (6, 4, 64, Random::new(2));
        let (x, mixer, base) = (random.normals(t * n * d, 1.0), random.normals(n * n * d, 0.1), random.normals(n, 1.0));
        let op = HyperHead {
            streams: tensor(F32, &[t, n, d], &x),
            mixer: tensor(F32, &[n, n * d], &mixer),
            base: tensor(F32, &[n], &base),
            scale: tensor(F32, &[1], &[0.7]),
            norm_eps: 1e-6,
            eps: 1e-6,
            out: unwritten(F32, &[t, d]),
        };
        let mut got = Vec::new();
        for x in x.chunks(n * d) {
            let squares: f32 = x.iter().map(|x| x * x).sum();
            let inverse = 1.0 / (squares / (n * d) as f32 + 1e-6).sqrt();
            let pre = |i: usize| {
                let mix: f32 = mixer[i * n * d..][..n * d].iter().zip(x).map(|(w, x)| w * x).sum();
                1.0 / (1.0 + (-(mix * inverse * 0.7 + base[i])).exp()) + 1e-6
            };
            got.extend((0..d).map(|c| (0..n).map(|i| pre(i) * x[i * d + c]).sum::<f32>()));
        }
        assert_bound(&op.build().unwrap(), "out", &got);
    }
}

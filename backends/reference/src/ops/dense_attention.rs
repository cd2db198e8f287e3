use crate::operands::{held, reals};
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::DenseAttention;

/// `out[b,t,h] = sum_j softmax_j(scale * q[b,t,h] . k[b,j,g]) v[b,j,g]`, the sink in the denominator only
pub(crate) fn evaluate<R: Real>(op: &DenseAttention, units: R::Units) -> Result<Vec<Output<R>>> {
    let (batch, rows, heads, dim) = (op.q.size(0), op.q.size(1), op.q.size(2), op.q.size(3));
    let (keys, groups, value) = (op.k.size(1), op.k.size(2), op.v.size(3));
    let [q, k, v] = [("q", &op.q), ("k", &op.k), ("v", &op.v)].map(|(name, t)| held::<R>(name, t, units));
    let (q, k, v) = (q?, k?, v?);
    let sink = op.sink.as_ref().map(|sink| reals::<R>(sink, units)).transpose()?;
    let scale = R::from(op.scale as f64);
    let mut out = Vec::with_capacity(op.out.count());
    for b in 0..batch {
        for t in 0..rows {
            let seen = if op.causal { t + 1 + keys - rows } else { keys };
            for h in 0..heads {
                let g = h * groups / heads;
                let at = |j: usize| (b * keys + j) * groups + g;
                let q = &q[((b * rows + t) * heads + h) * dim..][..dim];
                let mut z: Vec<R> = (0..seen).map(|j| R::dot(q, &k[at(j) * dim..][..dim]) * scale).collect();
                if z.is_empty() {
                    out.resize(out.len() + value, R::from(0.0));
                    continue;
                }
                // A key without a value: products end with the shorter of their sides.
                z.extend(sink.as_ref().map(|sink| sink[h]));
                let (weights, sum) = R::softmax(&z);
                let weights: Vec<R> = weights.into_iter().map(|w| w.held("weights", units)).collect();
                out.extend((0..value).map(|e| {
                    let column: Vec<R> = (0..seen).map(|j| v[at(j) * value + e]).collect();
                    R::mean(&weights, sum, &column)
                }));
            }
        }
    }
    Ok(vec![Output::real("out", &op.out, out)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::testing::*;
    use anychip_core::DType::F32;
    use anychip_core::Operation;
    use anychip_core::ops::DenseAttention;

    /// Sizes `[B, T, N, H, G, D, E]` with operands drawn from `random`.
    fn op(
        [b, t, n, h, g, d, e]: [usize; 7],
        causal: bool,
        sink: Option<&[f32]>,
        random: &mut Random,
    ) -> DenseAttention {
        DenseAttention {
            q: tensor(F32, &[b, t, h, d], &random.normals(b * t * h * d, 1.0)),
            k: tensor(F32, &[b, n, g, d], &random.normals(b * n * g * d, 1.0)),
            v: tensor(F32, &[b, n, g, e], &random.normals(b * n * g * e, 1.0)),
            scale: (d as f32).sqrt().recip(),
            causal,
            sink: sink.map(|sink| tensor(F32, &[h], sink)),
            out: unwritten(F32, &[b, t, h, e]),
        }
    }

    fn values(op: &DenseAttention) -> Vec<f64> {
        exact(&op.clone().build().unwrap(), "out")
    }

    #[test]
    fn equal_scores_give_the_mean_of_what_a_row_sees() {
        let mut op = op([1, 2, 3, 2, 1, 1, 1], true, None, &mut Random::new(1));
        op.k = tensor(F32, &[1, 3, 1, 1], &[0.0; 3]);
        op.v = tensor(F32, &[1, 3, 1, 1], &[1.0, 3.0, 8.0]);
        assert_eq!(values(&op), [2.0, 2.0, 4.0, 4.0], "row 0 is token 1, row 1 is token 2");
        op.causal = false;
        assert_eq!(values(&op), [4.0; 4]);
        // A sink of 0 weighs as much as a key and has nothing to give.
        op.sink = Some(tensor(F32, &[2], &[0.0, f32::NEG_INFINITY]));
        assert_eq!(values(&op), [3.0, 4.0, 3.0, 4.0]);
    }

    #[test]
    fn heads_share_their_group() {
        let mut op = op([1, 1, 1, 6, 3, 2, 1], false, None, &mut Random::new(2));
        op.v = tensor(F32, &[1, 1, 3, 1], &[10.0, 20.0, 30.0]);
        assert_eq!(values(&op), [10.0, 10.0, 20.0, 20.0, 30.0, 30.0]);
    }

    #[test]
    fn no_key_gives_zero() {
        let op = op([2, 3, 0, 2, 1, 4, 5], false, Some(&[1.0, f32::NEG_INFINITY]), &mut Random::new(3));
        assert_eq!(values(&op), [0.0; 60]);
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let mut op = op([1, 1, 2, 1, 1, 1, 1], false, Some(&[-1e4]), &mut Random::new(4));
        op.q = tensor(F32, &[1, 1, 1, 1], &[1000.0]);
        op.k = tensor(F32, &[1, 2, 1, 1], &[-7.0, -6.0]);
        op.v = tensor(F32, &[1, 2, 1, 1], &[5.0, 4.0]);
        assert_eq!(values(&op), [4.0]);
        op.sink = Some(tensor(F32, &[1], &[1e4]));
        assert_eq!(values(&op), [0.0]);
    }

    #[test]
    fn f32_keeps_its_bound() {
        let (sizes, mut random) = ([2, 5, 9, 4, 2, 16, 8], Random::new(5));
        let [b, t, n, h, g, d, e] = sizes;
        let sink = random.normals(h, 1.0);
        let op = op(sizes, true, Some(&sink), &mut random);
        let [q, k, v] = [&op.q, &op.k, &op.v].map(floats_of);
        let mut got = Vec::new();
        for i in 0..b * t * h {
            let (b, t, h) = (i / (t * h), i / h % t, i % h);
            let at = |j: usize| (b * n + j) * g + h * g / 4;
            let z: Vec<f32> =
                (0..=t + n - 5).map(|j| dot32(&q[i * d..][..d], &k[at(j) * d..][..d]) * op.scale).collect();
            let largest = z.iter().copied().fold(sink[h], f32::max);
            let terms: Vec<f32> = z.iter().map(|z| (z - largest).exp()).collect();
            let sum = terms.iter().sum::<f32>() + (sink[h] - largest).exp();
            let column = |c: usize| (0..terms.len()).map(|j| v[at(j) * e + c]).collect::<Vec<f32>>();
            got.extend((0..e).map(|c| dot32(&terms, &column(c)) / sum));
        }
        assert_bound(&op.build().unwrap(), "out", &got);
    }
}

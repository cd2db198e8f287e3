use crate::operands::reals;
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::HyperPost;

/// `out[t,k] = post[t,k] y[t] + sum_j comb[t,j,k] X[t,j]`: the sum runs over the first index of `comb`
pub(crate) fn evaluate<R: Real>(op: &HyperPost, units: R::Units) -> Result<Vec<Output<R>>> {
    let (rows, n, d) = (op.streams.size(0), op.streams.size(1), op.streams.size(2));
    let [y, streams, post, comb] = [&op.y, &op.streams, &op.post, &op.comb].map(|t| reals::<R>(t, units));
    let (y, streams, post, comb) = (y?, streams?, post?, comb?);
    let mut out = Vec::with_capacity(streams.len());
    for t in 0..rows {
        for k in 0..n {
            let mut weights = vec![post[t * n + k]];
            weights.extend((0..n).map(|j| comb[(t * n + j) * n + k]));
            for c in 0..d {
                let mut terms = vec![y[t * d + c]];
                terms.extend((0..n).map(|j| streams[(t * n + j) * d + c]));
                out.push(R::dot(&weights, &terms));
            }
        }
    }
    Ok(vec![Output::real("out", &op.out, out)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::testing::{Random, assert_bound, exact, floats_of, run, tensor, unwritten};
    use anychip_core::DType::{BF16, F32};
    use anychip_core::Operation;
    use anychip_core::ops::HyperPost;

    #[test]
    fn comb_is_transposed() {
        // Stream 0 goes into stream 1 with weight comb[0][1] = 3.
        let op = HyperPost {
            y: tensor(F32, &[1, 2], &[1.0, -1.0]),
            streams: tensor(F32, &[1, 2, 2], &[10.0, 20.0, 0.0, 0.0]),
            post: tensor(F32, &[1, 2], &[0.5, 2.0]),
            comb: tensor(F32, &[1, 2, 2], &[0.0, 3.0, 7.0, 0.0]),
            out: unwritten(BF16, &[1, 2, 2]),
        };
        run(op.clone());
        assert_eq!(floats_of(&op.out), [0.5, -0.5, 32.0, 58.0]);
    }

    #[test]
    fn f32_keeps_its_bound() {
        let (t, n, d, mut random) = (5, 4, 33, Random::new(1));
        let [y, x, post, comb] = [t * d, t * n * d, t * n, t * n * n].map(|count| random.normals(count, 1.0));
        let op = HyperPost {
            y: tensor(F32, &[t, d], &y),
            streams: tensor(F32, &[t, n, d], &x),
            post: tensor(F32, &[t, n], &post),
            comb: tensor(F32, &[t, n, n], &comb),
            out: unwritten(F32, &[t, n, d]),
        };
        let mut got = Vec::new();
        for i in 0..t * n * d {
            let (t, k, c) = (i / (n * d), i / d % n, i % d);
            let mixed: f32 = (0..n).map(|j| comb[(t * n + j) * n + k] * x[(t * n + j) * d + c]).sum();
            got.push(post[t * n + k] * y[t * d + c] + mixed);
        }
        let op = op.build().unwrap();
        assert_bound(&op, "out", &got);
        assert_eq!(exact(&op, "out").len(), t * n * d);
    }
}

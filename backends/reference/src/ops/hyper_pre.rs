use crate::operands::reals;
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::HyperPre;

/// ```text
/// mix    = (fn f) / sqrt(mean(f^2) + norm_eps)
/// pre_i  = sigmoid(mix_i * scale[0] + base_i) + eps                 x = sum_i pre_i X_i
/// post_i = 2 sigmoid(mix_{n+i} * scale[1] + base_{n+i})
/// comb   = Sinkhorn of mix_{2n..} * scale[2] + base_{2n..}
/// ```
pub(crate) fn evaluate<R: Real>(op: &HyperPre, units: R::Units) -> Result<Vec<Output<R>>> {
    let (n, d) = (op.streams.size(1), op.streams.size(2));
    let [streams, mixer, base, scale] = [&op.streams, &op.mixer, &op.base, &op.scale].map(|t| reals::<R>(t, units));
    let (streams, mixer, base, scale) = (streams?, mixer?, base?, scale?);
    let (eps, two) = (R::read(op.eps as f64, units), R::from(2.0));
    let (mut x, mut post, mut comb) = (Vec::new(), Vec::new(), Vec::new());
    for row in streams.chunks(n * d) {
        let mix = mix(row, &mixer, op.norm_eps);
        let logit = |i: usize, part: usize| mix[i] * scale[part] + base[i];
        let pre: Vec<R> = (0..n).map(|i| logit(i, 0).sigmoid() + eps).collect();
        let logits: Vec<R> = (2 * n..mix.len()).map(|i| logit(i, 2)).collect();
        x.extend(collapse(&pre, row));
        post.extend((n..2 * n).map(|i| two * logit(i, 1).sigmoid()));
        comb.extend(sinkhorn(&logits, n, op.iterations, eps, units));
    }
    let outputs = [("x", &op.x, x), ("post", &op.post, post), ("comb", &op.comb, comb)];
    Ok(outputs.into_iter().map(|(operand, tensor, values)| Output::real(operand, tensor, values)).collect())
}

/// `(fn f) / sqrt(mean(f^2) + eps)`, one entry per row of the mixer.
pub(super) fn mix<R: Real>(f: &[R], mixer: &[R], eps: f32) -> Vec<R> {
    let inverse = (R::dot(f, f) / R::from(f.len() as f64) + R::from(eps as f64)).rsqrt();
    mixer.chunks(f.len()).map(|row| R::dot(row, f) * inverse).collect()
}

/// `sum_i pre_i X_i`, channel by channel.
pub(super) fn collapse<R: Real>(pre: &[R], streams: &[R]) -> Vec<R> {
    let d = streams.len() / pre.len();
    let channel = |c: usize| streams.iter().skip(c).step_by(d).copied().collect::<Vec<R>>();
    (0..d).map(|c| R::dot(pre, &channel(c))).collect()
}

/// `C = softmax of each row + eps`; then columns, and `iterations - 1` times rows and columns, are divided by their sum
/// plus eps.
///
/// Errors must not be followed from pass to pass as if they were independent: each division would double them, though
/// in truth a pass takes back most of what the one before it was off by. In the logarithms of the entries a pass is
/// `y_i <- y_i - ln(sum e^y + eps)`, the sum over the line of `i`, whose derivative is known from its result `C`:
///
/// ```text
/// d y_i (after) = d y_i (before) - sum over the line of C_j d y_j (before)
/// ```
///
/// Going back from one entry of the result, `slope` holds its derivative by the logarithm of each entry of an earlier
/// matrix. The roundings of the pass that made that matrix, and at the start the errors of the logits, count by it.
fn sinkhorn<R: Real>(logits: &[R], n: usize, iterations: usize, eps: R, units: R::Units) -> Vec<R> {
    // Read anew before each step, a matrix has no errors but those of the step.
    let anew = |matrix: &[R]| matrix.iter().map(|c| R::read(c.value(), units)).collect::<Vec<R>>();
    let columns = |pass: usize| pass % 2 == 1;
    let at = |pass: usize, line: usize, i: usize| if columns(pass) { i * n + line } else { line * n + i };

    let mut softmax = Vec::new();
    for row in anew(logits).chunks(n) {
        let (terms, sum) = R::softmax(row);
        softmax.extend(terms.into_iter().map(|term| term / sum));
    }
    let mut passes: Vec<Vec<R>> = vec![softmax.iter().map(|&p| p + eps).collect()];
    for pass in 1..2 * iterations {
        let before = anew(&passes[pass - 1]);
        let mut after = before.clone();
        for line in 0..n {
            let entries: Vec<R> = (0..n).map(|i| before[at(pass, line, i)]).collect();
            let sum = R::sum(&entries) + eps;
            (0..n).for_each(|i| after[at(pass, line, i)] = entries[i] / sum);
        }
        passes.push(after);
    }

    let roundings = |pass: usize, slope: &[f64]| -> f64 {
        passes[pass].iter().zip(slope).map(|(c, slope)| c.error() / c.value() * slope.abs()).sum()
    };
    let one = |entry: usize| {
        let mut slope = vec![0.0; n * n];
        slope[entry] = 1.0;
        let mut off = 0.0;
        for pass in (1..2 * iterations).rev() {
            off += roundings(pass, &slope);
            for line in 0..n {
                let total: f64 = (0..n).map(|i| slope[at(pass, line, i)]).sum();
                (0..n).for_each(|i| slope[at(pass, line, i)] -= passes[pass][at(pass, line, i)].value() * total);
            }
        }
        off += roundings(0, &slope);
        for line in 0..n {
            // d ln(p + eps) = p / (p + eps) d ln p, and d ln p_i = d logit_i - sum_j p_j d logit_j.
            let places = line * n..(line + 1) * n;
            let by_p = |i: usize| slope[i] * softmax[i].value() / passes[0][i].value();
            let total: f64 = places.clone().map(by_p).sum();
            off += places.map(|i| (by_p(i) - softmax[i].value() * total).abs() * logits[i].error()).sum::<f64>();
        }
        let result = passes[2 * iterations - 1][entry];
        result.within(result.value() * off.exp_m1())
    };
    (0..n * n).map(one).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::testing::{Random, assert_bound, bounds, exact, share_of_bound, tensor, unwritten};
    use anychip_core::DType::F32;
    use anychip_core::ops::HyperPre;
    use anychip_core::{Numerics, Operation};

    const N: usize = 4;

    fn op(streams: &[f32], mixer: &[f32], base: &[f32], d: usize) -> HyperPre {
        let rows = streams.len() / (N * d);
        HyperPre {
            streams: tensor(F32, &[rows, N, d], streams),
            mixer: tensor(F32, &[24, N * d], mixer),
            base: tensor(F32, &[24], base),
            scale: tensor(F32, &[3], &[0.5, 0.8, 1.3]),
            iterations: 20,
            norm_eps: 1e-6,
            eps: 1e-6,
            x: unwritten(F32, &[rows, d]),
            post: unwritten(F32, &[rows, N]),
            comb: unwritten(F32, &[rows, N, N]),
        }
    }

    /// The formula in f32, as a device would run it.
    fn in_f32(streams: &[f32], mixer: &[f32], base: &[f32], d: usize) -> [Vec<f32>; 3] {
        let (eps, [mut x, mut post, mut comb]) = (1e-6f32, [const { Vec::new() }; 3]);
        for f in streams.chunks(N * d) {
            let inverse = 1.0 / (f.iter().map(|x| x * x).sum::<f32>() / (N * d) as f32 + eps).sqrt();
            let mix: Vec<f32> =
                mixer.chunks(N * d).map(|w| w.iter().zip(f).map(|(w, f)| w * f).sum::<f32>() * inverse).collect();
            let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
            let pre: Vec<f32> = (0..N).map(|i| sigmoid(mix[i] * 0.5 + base[i]) + eps).collect();
            x.extend((0..d).map(|c| (0..N).map(|i| pre[i] * f[i * d + c]).sum::<f32>()));
            post.extend((N..2 * N).map(|i| 2.0 * sigmoid(mix[i] * 0.8 + base[i])));
            let mut c: Vec<f32> = (2 * N..24).map(|i| mix[i] * 1.3 + base[i]).collect();
            for row in c.chunks_mut(N) {
                let largest = row.iter().copied().fold(f32::MIN, f32::max);
                row.iter_mut().for_each(|z| *z = (*z - largest).exp());
                let sum: f32 = row.iter().sum();
                row.iter_mut().for_each(|z| *z = *z / sum + eps);
            }
            for pass in 1..40 {
                for line in 0..N {
                    let at = |i: usize| if pass % 2 == 1 { i * N + line } else { line * N + i };
                    let sum = (0..N).map(|i| c[at(i)]).sum::<f32>() + eps;
                    (0..N).for_each(|i| c[at(i)] /= sum);
                }
            }
            comb.extend(c);
        }
        [x, post, comb]
    }

    #[test]
    fn f32_keeps_its_bound() {
        let (rows, d, mut random) = (30, 96, Random::new(3));
        for spread in [0.3, 2.0, 6.0] {
            let (streams, mixer) = (random.normals(rows * N * d, 1.0), random.normals(24 * N * d, 0.05));
            let base = random.normals(24, spread);
            let [x, post, comb] = in_f32(&streams, &mixer, &base, d);
            let op = op(&streams, &mixer, &base, d).build().unwrap();
            assert_bound(&op, "x", &x);
            assert_bound(&op, "post", &post);
            // The errors of a row's 16 logits count as if they all pushed one way: a wider bound than others.
            let share = share_of_bound(&op, "comb", &comb);
            assert!(share >= 0.002, "comb uses {share:e} of its bound");
        }
    }

    #[test]
    fn comb_ends_doubly_stochastic_on_columns() {
        let mut random = Random::new(4);
        let op = op(&random.normals(N * 8, 1.0), &random.normals(24 * N * 8, 0.2), &random.normals(24, 1.0), 8);
        let comb = exact(&op.build().unwrap(), "comb");
        for i in 0..N {
            let column: f64 = (0..N).map(|j| comb[j * N + i]).sum();
            let row: f64 = comb[i * N..][..N].iter().sum();
            assert!((column - 1.0).abs() < 2e-6 && (row - 1.0).abs() < 1e-4, "column {column}, row {row}");
        }
    }

    /// Sinkhorn forgets a factor of a whole row or column: an error that is one must all but vanish from the bound,
    /// while an error of a single logit must stay.
    #[test]
    fn the_bound_is_the_derivative() {
        use crate::{Bounded, Real, Units};
        let mut random = Random::new(5);
        let logits = random.normals(16, 1.5);
        let units = Units::of(&Numerics::f64());
        let eps = <Bounded as Real>::read(1e-6, units);
        let run = |shift: &[f64]| {
            let logits: Vec<f64> = logits.iter().zip(shift).map(|(&z, s)| z as f64 + s).collect();
            super::sinkhorn::<f64>(&logits, N, 20, 1e-6, ())
        };
        let h = 1e-4;
        for entry in 0..16 {
            let mut error = [0.0; 16];
            error[entry] = h;
            let wide: Vec<Bounded> =
                logits.iter().zip(error).map(|(&z, e)| Bounded::read(z as f64, units).within(e)).collect();
            let bound = super::sinkhorn(&wide, N, 20, eps, units);
            let (up, down) = (run(&error), run(&error.map(|e| -e)));
            for (i, bound) in bound.iter().enumerate() {
                let moved = (up[i] - down[i]).abs() / 2.0;
                assert!(
                    (moved - bound.error()).abs() <= 1e-3 * h,
                    "{entry} -> {i}: {moved:e}, bound {:e}",
                    bound.error()
                );
            }
        }
    }

    #[test]
    fn masked_logits_and_nan_do_not_panic() {
        let mut base = vec![0.0; 24];
        base[8] = f32::NEG_INFINITY;
        let ones = vec![1.0; N * 2];
        let want = bounds(&op(&ones, &[0.0; 24 * 8], &base, 2).build().unwrap(), "comb", &Numerics::f32());
        assert!(want.iter().all(|c| crate::Real::value(*c).is_finite()));
        let nan = exact(&op(&[f32::NAN; 8], &[0.0; 24 * 8], &base, 2).build().unwrap(), "comb");
        assert!(nan.iter().all(|c| c.is_nan()));
    }
}

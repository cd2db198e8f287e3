use crate::load::{Floats, Stores, Work, dot_f64, par_rows, threads};
use anychip_core::ops::HyperPre;
use anychip_core::{Result, Tensor, host};

/// `x = sum_i pre_i X_i`, and the weights with which the sublayer's result goes back into the streams
///
/// In f64 throughout: streams of a deep layer are large and cancel in these few sums, and what f32 loses here flips
/// roundings in every later operation. The work is small beside a linear layer's.
pub(crate) fn run(op: &HyperPre) -> Result<()> {
    let n = op.streams.size(1);
    let work = Work::of(op);
    let mixes = mixes(&op.streams, &op.mixer, op.norm_eps, work)?;
    let (base, scale) = (host::read(&op.base)?, host::read(&op.scale)?);
    let (base, scale): (&[f32], &[f32]) = (base.as_slice(), scale.as_slice());
    // Entry `i` of row `t` after scale and base; `part` 0 is pre, 1 post, 2 comb.
    let mix = |t: usize, part: usize, i: usize| mixes[t * base.len() + i] * scale[part] as f64 + base[i] as f64;
    let pre = |t: usize, i: usize| sigmoid(mix(t, 0, i)) + op.eps as f64;
    collapse(&op.streams, pre, &op.x, work)?;
    let mut post = host::write(&op.post)?;
    par_rows(
        post.as_mut_slice::<f32>(),
        n,
        work,
        || (),
        |(), t, post| {
            post.iter_mut().enumerate().for_each(|(i, post)| *post = (2.0 * sigmoid(mix(t, 1, n + i))) as f32);
        },
    );
    let mut comb = host::write(&op.comb)?;
    par_rows(comb.as_mut_slice::<f32>(), n * n, work, Vec::new, |c: &mut Vec<f64>, t, comb| {
        c.clear();
        c.extend((0..n * n).map(|i| mix(t, 2, 2 * n + i)));
        sinkhorn(c, n, op.iterations, op.eps as f64);
        comb.iter_mut().zip(&*c).for_each(|(out, c)| *out = *c as f32);
    });
    Ok(())
}

/// `(fn f) / sqrt(mean(f^2) + norm_eps)` of each row, `f` the row's streams one behind the other.
pub(super) fn mixes(streams: &Tensor, mixer: &Tensor, norm_eps: f32, work: Work) -> Result<Vec<f64>> {
    let (rows, width, count) = (streams.size(0), streams.size(1) * streams.size(2), mixer.size(0));
    let (streams, mixer) = (Floats::of(streams)?, host::read(mixer)?);
    let mixer: &[f32] = mixer.as_slice();
    let mut mixes = vec![0.0; rows * count];
    // One row is shared out by entry, many by row: the same sums either way.
    if rows >= threads() {
        par_rows(&mut mixes, count, work, Vec::new, |own, t, mixes| {
            let f = streams.view(t * width, width, own);
            let norm = norm(f, norm_eps);
            mixes.iter_mut().zip(mixer.chunks(width)).for_each(|(mix, w)| *mix = dot_f64(f, w) * norm);
        });
        return Ok(mixes);
    }
    let mut own = Vec::new();
    for (t, mixes) in mixes.chunks_mut(count).enumerate() {
        let f = streams.view(t * width, width, &mut own);
        let norm = norm(f, norm_eps);
        par_rows(mixes, 1, work, || (), |(), i, mix| mix[0] = dot_f64(f, &mixer[i * width..][..width]) * norm);
    }
    Ok(mixes)
}

fn norm(f: &[f32], eps: f32) -> f64 {
    1.0 / (dot_f64(f, f) / f.len() as f64 + eps as f64).sqrt()
}

/// `x = sum_i pre(t, i) X_i` of each row `t`.
pub(super) fn collapse(
    streams: &Tensor,
    pre: impl Fn(usize, usize) -> f64 + Sync + Send,
    x: &Tensor,
    work: Work,
) -> Result<()> {
    let (rows, n, d) = (streams.size(0), streams.size(1), streams.size(2));
    let streams = Floats::of(streams)?;
    Stores::of(x)?.rows(0..rows, d, work, Vec::new, |scratch, t, out| {
        let weights: Vec<f64> = (0..n).map(|i| pre(t, i)).collect();
        weigh(&weights, streams.view(t * n * d, n * d, scratch), out);
    });
    Ok(())
}

/// `out = sum_i weights[i] rows[i]`, the rows one behind the other.
pub(super) fn weigh(weights: &[f64], rows: &[f32], out: &mut [f32]) {
    let d = out.len();
    for (k, out) in out.iter_mut().enumerate() {
        *out = weights.iter().enumerate().map(|(i, w)| w * rows[i * d + k] as f64).sum::<f64>() as f32;
    }
}

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Softmax of each row plus `eps`, then `iterations` column passes with a row pass between each two.
fn sinkhorn(c: &mut [f64], n: usize, iterations: usize, eps: f64) {
    for row in c.chunks_mut(n) {
        let max = row.iter().fold(f64::NEG_INFINITY, |max, &x| max.max(x));
        row.iter_mut().for_each(|x| *x = (*x - max).exp());
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|x| *x = *x / sum + eps);
    }
    for pass in 0..iterations {
        if pass > 0 {
            for row in c.chunks_mut(n) {
                let sum = row.iter().sum::<f64>() + eps;
                row.iter_mut().for_each(|x| *x /= sum);
            }
        }
        for k in 0..n {
            let sum = c.iter().skip(k).step_by(n).sum::<f64>() + eps;
            c.iter_mut().skip(k).step_by(n).for_each(|x| *x /= sum);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, assert_close, noise};
    use anychip_core::DType;

    // Larger than a model's: each place where they enter must show.
    const NORM_EPS: f32 = 1e-2;
    const EPS: f32 = 1e-2;

    struct Case {
        lab: Lab,
        op: HyperPre,
        streams: Vec<f32>,
        mixer: Vec<f32>,
        base: Vec<f32>,
        scale: [f32; 3],
    }

    fn case(rows: usize, n: usize, d: usize, iterations: usize) -> Case {
        let (lab, mixes) = (Lab::new(), n * (2 + n));
        let streams = lab.floats(DType::BF16, &[rows, n, d], &noise(1, rows * n * d));
        let (mixer, base, scale) = (noise(2, mixes * n * d), noise(3, mixes), [1.0, 0.5, 2.0]);
        let op = HyperPre {
            streams: streams.clone(),
            mixer: lab.floats(DType::F32, &[mixes, n * d], &mixer),
            base: lab.floats(DType::F32, &[mixes], &base),
            scale: lab.floats(DType::F32, &[3], &scale),
            iterations,
            norm_eps: NORM_EPS,
            eps: EPS,
            x: lab.output(DType::F32, &[rows, d]),
            post: lab.output(DType::F32, &[rows, n]),
            comb: lab.output(DType::F32, &[rows, n, n]),
        };
        lab.run(op.clone());
        let streams = lab.values(&streams);
        Case { lab, op, streams, mixer, base, scale }
    }

    /// `x`, `post` and `comb` in f64, read off the operation's page.
    fn formula(case: &Case) -> [Vec<f64>; 3] {
        let (n, d) = (case.op.streams.size(1), case.op.streams.size(2));
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut all = [vec![], vec![], vec![]];
        for f in case.streams.chunks(n * d) {
            let mean = f.iter().map(|&x| x as f64 * x as f64).sum::<f64>() / (n * d) as f64;
            let product = |i: usize| (0..n * d).map(|k| case.mixer[i * n * d + k] as f64 * f[k] as f64).sum::<f64>();
            let mix = |i: usize, part: usize| {
                product(i) / (mean + NORM_EPS as f64).sqrt() * case.scale[part] as f64 + case.base[i] as f64
            };
            let pre = |i: usize| sigmoid(mix(i, 0)) + EPS as f64;
            all[0].extend((0..d).map(|k| (0..n).map(|i| pre(i) * f[i * d + k] as f64).sum::<f64>()));
            all[1].extend((0..n).map(|i| 2.0 * sigmoid(mix(n + i, 1))));
            let mut c: Vec<Vec<f64>> =
                (0..n).map(|j| (0..n).map(|k| mix(2 * n + j * n + k, 2).exp()).collect()).collect();
            for row in &mut c {
                let sum: f64 = row.iter().sum();
                row.iter_mut().for_each(|x| *x = *x / sum + EPS as f64);
            }
            for pass in 0..case.op.iterations {
                for row in c.iter_mut().filter(|_| pass > 0) {
                    let sum = row.iter().sum::<f64>() + EPS as f64;
                    row.iter_mut().for_each(|x| *x /= sum);
                }
                for k in 0..n {
                    let sum = c.iter().map(|row| row[k]).sum::<f64>() + EPS as f64;
                    c.iter_mut().for_each(|row| row[k] /= sum);
                }
            }
            all[2].extend(c.into_iter().flatten());
        }
        all
    }

    #[test]
    fn equals_the_formula() {
        for (rows, n, d, iterations) in [(3, 4, 48, 20), (1, 4, 33, 1), (40, 2, 5, 2), (2, 1, 7, 3), (1, 16, 3, 20)] {
            let case = case(rows, n, d, iterations);
            let [x, post, comb] = formula(&case);
            assert_close(&case.lab.values(&case.op.x), &x, 4e-6);
            assert_close(&case.lab.values(&case.op.post), &post, 4e-6);
            assert_close(&case.lab.values(&case.op.comb), &comb, 4e-6);
        }
    }

    #[test]
    fn a_row_alone_has_the_same_bits() {
        // More rows than a tile has, so that the same row lies elsewhere in its tile.
        let (together, alone) = (case(300, 4, 16, 20), case(1, 4, 16, 20));
        for (all, one) in [(&together.op.x, &alone.op.x), (&together.op.comb, &alone.op.comb)] {
            let one = alone.lab.values(one);
            assert_eq!(together.lab.values(all)[..one.len()], one);
        }
    }

    #[test]
    fn rows_of_zeros_and_no_rows() {
        let empty = case(0, 4, 8, 20);
        assert!(empty.lab.values(&empty.op.comb).is_empty());
        let mut mix = [0.0; 9];
        sinkhorn(&mut mix, 3, 20, 1e-6);
        assert!(mix.iter().all(|x| (x - 1.0 / 3.0).abs() < 1e-6));
        assert_eq!((sigmoid(f64::NEG_INFINITY), sigmoid(f64::INFINITY)), (0.0, 1.0));
    }
}

use crate::gemm::{dots, tile_rows, work};
use crate::load::{Floats, Stores, dot, par_rows};
use anychip_core::ops::HyperPre;
use anychip_core::{Result, Tensor, host};

/// `x = sum_i pre_i X_i`, and the weights with which the sublayer's result goes back into the streams
pub(crate) fn run(op: &HyperPre) -> Result<()> {
    let n = op.streams.size(1);
    let mixes = mixes(&op.streams, &op.mixer, op.norm_eps)?;
    let (base, scale) = (host::read(&op.base)?, host::read(&op.scale)?);
    let (base, scale): (&[f32], &[f32]) = (base.as_slice(), scale.as_slice());
    // Entry `i` of row `t` after scale and base; `part` 0 is pre, 1 post, 2 comb.
    let mix = |t: usize, part: usize, i: usize| mixes[t * base.len() + i] * scale[part] + base[i];
    let pre = |t: usize, i: usize| sigmoid(mix(t, 0, i)) + op.eps;
    collapse(&op.streams, pre, &op.x)?;
    let mut post = host::write(&op.post)?;
    par_rows(
        post.as_mut_slice::<f32>(),
        n,
        16 * n,
        || (),
        |(), t, post| {
            post.iter_mut().enumerate().for_each(|(i, post)| *post = 2.0 * sigmoid(mix(t, 1, n + i)));
        },
    );
    let mut comb = host::write(&op.comb)?;
    par_rows(
        comb.as_mut_slice::<f32>(),
        n * n,
        16 * n * n * op.iterations,
        || (),
        |(), t, comb| {
            comb.iter_mut().enumerate().for_each(|(i, comb)| *comb = mix(t, 2, 2 * n + i));
            sinkhorn(comb, n, op.iterations, op.eps);
        },
    );
    Ok(())
}

/// `(fn f) / sqrt(mean(f^2) + norm_eps)` of each row, `f` the row's streams one behind the other.
pub(super) fn mixes(streams: &Tensor, mixer: &Tensor, norm_eps: f32) -> Result<Vec<f32>> {
    let (rows, width, count) = (streams.size(0), streams.size(1) * streams.size(2), mixer.size(0));
    let (streams, mixer) = (Floats::of(streams)?, host::read(mixer)?);
    let mixer: &[f32] = mixer.as_slice();
    let (mut values, mut products, mut mixes) = (Vec::new(), Vec::new(), vec![0.0; rows * count]);
    for first in (0..rows).step_by(tile_rows(width)) {
        let tile = tile_rows(width).min(rows - first);
        values.resize(tile * width, 0.0);
        par_rows(&mut values, width, width, || (), |(), t, row| streams.read((first + t) * width, row));
        // Transposed: a row of the mixer, read once, owns a row of products.
        products.resize(count * tile, 0.0);
        par_rows(
            &mut products,
            tile,
            work(width, tile),
            || (),
            |(), i, products| {
                dots(&values, width, &mixer[i * width..][..width], products);
            },
        );
        let mixes = &mut mixes[first * count..][..tile * count];
        par_rows(
            mixes,
            count,
            width,
            || (),
            |(), t, mixes| {
                let row = &values[t * width..][..width];
                let norm = 1.0 / (dot(row, row) / width as f32 + norm_eps).sqrt();
                mixes.iter_mut().enumerate().for_each(|(i, mix)| *mix = products[i * tile + t] * norm);
            },
        );
    }
    Ok(mixes)
}

/// `x = sum_i pre(t, i) X_i` of each row `t`.
pub(super) fn collapse(streams: &Tensor, pre: impl Fn(usize, usize) -> f32 + Sync + Send, x: &Tensor) -> Result<()> {
    let (rows, n, d) = (streams.size(0), streams.size(1), streams.size(2));
    let streams = Floats::of(streams)?;
    Stores::of(x)?.rows(0..rows, d, n * d, Vec::new, |scratch, t, out| {
        out.fill(0.0);
        for (i, stream) in streams.view(t * n * d, n * d, scratch).chunks(d).enumerate() {
            let weight = pre(t, i);
            out.iter_mut().zip(stream).for_each(|(out, x)| *out += weight * x);
        }
    });
    Ok(())
}

pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Softmax of each row plus `eps`, then `iterations` column passes with a row pass between each two.
fn sinkhorn(c: &mut [f32], n: usize, iterations: usize, eps: f32) {
    for row in c.chunks_mut(n) {
        let max = row.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x));
        row.iter_mut().for_each(|x| *x = (*x - max).exp());
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|x| *x = *x / sum + eps);
    }
    for pass in 0..iterations {
        if pass > 0 {
            for row in c.chunks_mut(n) {
                let sum = row.iter().sum::<f32>() + eps;
                row.iter_mut().for_each(|x| *x /= sum);
            }
        }
        for k in 0..n {
            let sum = c.iter().skip(k).step_by(n).sum::<f32>() + eps;
            c.iter_mut().skip(k).step_by(n).for_each(|x| *x /= sum);
        }
    }
}

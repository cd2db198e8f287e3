use crate::load::{Floats, Stores};
use anychip_core::{Result, host, ops::HyperPost};

/// `out_k = post_k y + sum_j comb[j][k] X_j`
pub(crate) fn run(op: &HyperPost) -> Result<()> {
    let (rows, n, d) = (op.streams.size(0), op.streams.size(1), op.streams.size(2));
    let (y, streams) = (Floats::of(&op.y)?, Floats::of(&op.streams)?);
    let (post, comb) = (host::read(&op.post)?, host::read(&op.comb)?);
    let (post, comb): (&[f32], &[f32]) = (post.as_slice(), comb.as_slice());
    let work = n * d * (n + 1);
    Stores::of(&op.out)?.rows(0..rows, n * d, work, Default::default, |(own, x): &mut (Vec<f32>, Vec<f32>), t, out| {
        let (y, x) = (y.view(t * d, d, own), streams.view(t * n * d, n * d, x));
        for (k, out) in out.chunks_mut(d).enumerate() {
            let weight = post[t * n + k];
            out.iter_mut().zip(y).for_each(|(out, y)| *out = weight * y);
            for (j, x) in x.chunks(d).enumerate() {
                let weight = comb[(t * n + j) * n + k];
                out.iter_mut().zip(x).for_each(|(out, x)| *out += weight * x);
            }
        }
    });
    Ok(())
}

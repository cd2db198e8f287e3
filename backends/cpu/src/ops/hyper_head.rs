use super::hyper_pre::{collapse, mixes, sigmoid};
use anychip_core::{Result, host, ops::HyperHead};

/// `out = sum_i pre_i X_i`, `pre = sigmoid(mix * scale + base) + eps`
pub(crate) fn run(op: &HyperHead) -> Result<()> {
    let n = op.streams.size(1);
    let mixes = mixes(&op.streams, &op.mixer, op.norm_eps)?;
    let (base, scale) = (host::read(&op.base)?, host::read(&op.scale)?);
    let (base, scale): (&[f32], &[f32]) = (base.as_slice(), scale.as_slice());
    collapse(&op.streams, |t, i| sigmoid(mixes[t * n + i] * scale[0] + base[i]) + op.eps, &op.out)
}

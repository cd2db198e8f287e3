//! Softmax attention of one head over keys that arrive in blocks.

use crate::load::{dot, threads};
use anychip_core::formats::round_bf16;
use anychip_core::ops::{Rounding, SparseAttention};

/// Keys of a block, at most.
pub(crate) const BLOCK: usize = SparseAttention::BLOCK;

/// What a head carries from block to block, beside its weighted sum of values.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    max: f32,
    sum: f32,
}

impl Head {
    /// Before the first block. The weighted sum begins as zeros.
    pub(crate) const EMPTY: Head = Head { max: f32::NEG_INFINITY, sum: 0.0 };

    /// Adds the `count` keys, at most [`BLOCK`], whose vectors lie one behind the other in `keys` and `values`.
    ///
    /// `acc` becomes `acc * exp(m_old - m) + sum_j exp(scale * (q . key_j) - m) value_j`, `m` the largest score so far.
    /// [`Rounding::Bf16`] rounds the weights for this sum, not for the denominator.
    pub(crate) fn add(
        &mut self,
        q: &[f32],
        scale: f32,
        count: usize,
        (keys, values): (&[f32], &[f32]),
        rounding: Rounding,
        acc: &mut [f32],
    ) {
        let mut weights = [0.0; BLOCK];
        let weights = &mut weights[..count];
        for (j, z) in weights.iter_mut().enumerate() {
            *z = scale * dot(q, &keys[j * q.len()..][..q.len()]);
        }
        let max = weights.iter().fold(self.max, |max, &z| max.max(z));
        let base = finite_base(max);
        let rescale = (self.max - base).exp();
        weights.iter_mut().for_each(|z| *z = (*z - base).exp());
        self.sum = self.sum * rescale + weights.iter().sum::<f32>();
        self.max = max;
        if rounding == Rounding::Bf16 {
            weights.iter_mut().for_each(|w| *w = round_bf16(*w));
        }
        if rescale != 1.0 {
            acc.iter_mut().for_each(|x| *x *= rescale);
        }
        add_weighted(weights, values, acc);
    }

    /// Divides the weighted sum by the denominator, to which the sink has been added. Without keys it becomes zero.
    pub(crate) fn finish(self, sink: Option<f32>, acc: &mut [f32]) {
        if self.max == f32::NEG_INFINITY && self.sum == 0.0 {
            return acc.fill(0.0);
        }
        let sink = sink.unwrap_or(f32::NEG_INFINITY);
        // The weights are made by now: that the sink joins the maximum only keeps its own exp from overflowing.
        let base = finite_base(self.max.max(sink));
        let rescale = if self.max == base { 1.0 } else { (self.max - base).exp() };
        let total = self.sum * rescale + if sink == base { 1.0 } else { (sink - base).exp() };
        acc.iter_mut().for_each(|x| *x = *x * rescale / total);
    }
}

/// What is subtracted from scores whose largest is `max`: any number does, but -inf less -inf is none.
fn finite_base(max: f32) -> f32 {
    if max == f32::NEG_INFINITY { 0.0 } else { max }
}

/// `acc += sum_j weights[j] values[j]`, four values for each time that `acc` is read and written.
fn add_weighted(weights: &[f32], values: &[f32], acc: &mut [f32]) {
    let width = acc.len();
    let value = |j: usize| &values[j * width..][..width];
    let (fours, rest) = weights.as_chunks::<4>();
    for (i, w) in fours.iter().enumerate() {
        let [v0, v1, v2, v3] = [0, 1, 2, 3].map(|k| value(4 * i + k));
        for d in 0..width {
            acc[d] += (w[0] * v0[d] + w[1] * v1[d]) + (w[2] * v2[d] + w[3] * v3[d]);
        }
    }
    for (i, w) in rest.iter().enumerate() {
        acc.iter_mut().zip(value(4 * fours.len() + i)).for_each(|(x, v)| *x += w * v);
    }
}

/// How many of `heads` heads a task takes together, so that `rows` rows of them keep every thread busy; a divisor.
///
/// Heads of one task share the keys while these are in the cache. A head's bits do not depend on it.
pub(crate) fn heads_per_task(rows: usize, heads: usize) -> usize {
    let tasks = threads().div_ceil(rows.max(1));
    (1..=heads / tasks.max(1)).rev().find(|&share| heads.is_multiple_of(share)).unwrap_or(1)
}

use crate::attention::{BLOCK, Head, heads_per_task};
use crate::load::{Floats, Stores, Work, floats};
use anychip_core::Result;
use anychip_core::ops::{DenseAttention, Rounding};

/// `out[b,t,h] = sum_j softmax_j(scale * q[b,t,h] . k[b,j,g]) v[b,j,g]`
pub(crate) fn run(op: &DenseAttention) -> Result<()> {
    let (batch, rows, heads, dim) = (op.q.size(0), op.q.size(1), op.q.size(2), op.q.size(3));
    let (keys, groups, width) = (op.k.size(1), op.k.size(2), op.v.size(3));
    let (q, k, v) = (Floats::of(&op.q)?, Floats::of(&op.k)?, Floats::of(&op.v)?);
    let sink = op.sink.as_ref().map(floats).transpose()?;
    // A task has some heads of one row that read the same keys, which it converts once for all of them.
    let share = heads_per_task(batch * rows * groups, heads / groups);
    let tasks = heads / share;
    Stores::of(&op.out)?.rows(
        0..batch * rows * tasks,
        share * width,
        Work::of(op),
        Scratch::default,
        |scratch, task, acc| {
            let (row, first) = (task / tasks, task % tasks * share);
            let (b, t, group) = (row / rows, row % rows, first / (heads / groups));
            // The rows are the last of the sequence.
            let seen = if op.causal { t + 1 + keys - rows } else { keys };
            let q = q.view((row * heads + first) * dim, share * dim, &mut scratch.q);
            scratch.states.clear();
            scratch.states.resize(share, Head::EMPTY);
            acc.fill(0.0);
            for start in (0..seen).step_by(BLOCK) {
                let count = BLOCK.min(seen - start);
                let position = |j: usize| (b * keys + start + j) * groups + group;
                scratch.keys.resize(count * dim, 0.0);
                scratch.values.resize(count * width, 0.0);
                for j in 0..count {
                    k.read(position(j) * dim, &mut scratch.keys[j * dim..(j + 1) * dim]);
                    v.read(position(j) * width, &mut scratch.values[j * width..(j + 1) * width]);
                }
                let block = (&scratch.keys[..], &scratch.values[..]);
                for (h, state) in scratch.states.iter_mut().enumerate() {
                    let (q, acc) = (&q[h * dim..(h + 1) * dim], &mut acc[h * width..(h + 1) * width]);
                    state.add(q, op.scale, count, block, Rounding::None, acc);
                }
            }
            for (h, state) in scratch.states.iter().enumerate() {
                let sink = sink.as_ref().map(|sink| sink[first + h]);
                state.finish(sink, &mut acc[h * width..(h + 1) * width]);
            }
        },
    );
    Ok(())
}

#[derive(Default)]
struct Scratch {
    q: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    states: Vec<Head>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, assert_close, noise};
    use anychip_core::DType;

    /// Sizes `[B, T, H, D, N, G, E]`.
    fn attention(sizes: [usize; 7], causal: bool, sink: Option<f32>, dtype: DType) -> (Vec<f32>, Vec<f64>) {
        let lab = Lab::new();
        let [batch, rows, heads, dim, keys, groups, width] = sizes;
        let of = |seed: u32, sizes: [usize; 4]| {
            let tensor = lab.floats(dtype, &sizes, &noise(seed, sizes.iter().product()));
            (lab.values(&tensor), tensor)
        };
        let (q, q_of) = of(1, [batch, rows, heads, dim]);
        let (k, k_of) = of(2, [batch, keys, groups, dim]);
        let (v, v_of) = of(3, [batch, keys, groups, width]);
        let out = lab.output(DType::F32, &[batch, rows, heads, width]);
        let sinks = sink.map(|sink| lab.floats(DType::F32, &[heads], &vec![sink; heads]));
        lab.run(DenseAttention { q: q_of, k: k_of, v: v_of, scale: 1.5, causal, sink: sinks, out: out.clone() });
        let mut want = Vec::new();
        for i in 0..batch * rows * heads {
            let q = &q[i * dim..(i + 1) * dim];
            let (b, t, g) = (i / heads / rows, i / heads % rows, i % heads * groups / heads);
            let seen = if causal { t + 1 + keys - rows } else { keys };
            let at = |j: usize| (b * keys + j) * groups + g;
            let score = |j: usize| (0..dim).map(|d| q[d] as f64 * k[at(j) * dim + d] as f64).sum::<f64>();
            let weights: Vec<f64> = (0..seen).map(|j| (1.5 * score(j)).exp()).collect();
            let total = weights.iter().sum::<f64>() + sink.map_or(0.0, |sink| (sink as f64).exp());
            let value = |e: usize| (0..seen).map(|j| weights[j] * v[at(j) * width + e] as f64).sum::<f64>();
            want.extend((0..width).map(|e| if seen == 0 { 0.0 } else { value(e) / total }));
        }
        (lab.values(&out), want)
    }

    #[test]
    fn equals_the_formula() {
        // Multi-head, grouped and multi-query; blocks of 64 keys that end short, exactly and with one key over.
        for (heads, groups) in [(4, 4), (6, 2), (8, 1)] {
            for (rows, keys) in [(1, 130), (7, 64), (65, 65), (3, 1)] {
                let causal = keys >= rows;
                for dtype in [DType::F32, DType::BF16] {
                    let (got, want) = attention([2, rows, heads, 20, keys, groups, 9], causal, Some(0.7), dtype);
                    assert_close(&got, &want, 2e-6);
                    let (got, want) = attention([2, rows, heads, 20, keys, groups, 9], false, None, dtype);
                    assert_close(&got, &want, 2e-6);
                }
            }
        }
    }

    #[test]
    fn nothing_to_see() {
        for sink in [None, Some(1.0)] {
            let (got, _) = attention([2, 3, 4, 5, 0, 2, 6], false, sink, DType::F32);
            assert_eq!(got, [0.0; 2 * 3 * 4 * 6]);
        }
        for empty in [[0, 3, 4, 5, 6, 2, 7], [2, 0, 4, 5, 6, 2, 7], [2, 3, 0, 5, 6, 2, 7], [2, 3, 4, 5, 6, 2, 0]] {
            assert!(attention(empty, true, None, DType::F32).0.is_empty());
        }
        // Without elements all scores are 0, and the result is the mean of the values.
        let (got, want) = attention([1, 2, 2, 0, 3, 1, 4], false, None, DType::F32);
        assert_close(&got, &want, 1e-6);
    }
}

use crate::attention::{BLOCK, Head, heads_per_task};
use crate::load::{Floats, Stores, floats};
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
    let work = share * keys * (dim + width);
    Stores::of(&op.out)?.rows(0..batch * rows * tasks, share * width, work, Scratch::default, |scratch, task, acc| {
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
            state.finish(sink, Rounding::None, &mut acc[h * width..(h + 1) * width]);
        }
    });
    Ok(())
}

#[derive(Default)]
struct Scratch {
    q: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    states: Vec<Head>,
}

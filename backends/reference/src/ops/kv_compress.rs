use crate::operands::{integers, reals};
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::KvCompress;

/// One step per row: the row goes into its slot, and a window that it closes is pooled,
/// `sum_j softmax_j(g_j) * c_j` over the slots, channel by channel.
pub(crate) fn evaluate<R: Real>(op: &KvCompress, units: R::Units) -> Result<Vec<Output<R>>> {
    let (m, channels, slots) = (op.ratio(), op.channels(), op.slots());
    let (sequences, dim) = (op.state.size(0), op.out.size(1));
    let [kv, gate, ape] = [&op.kv, &op.gate, &op.ape].map(|t| reals::<R>(t, units));
    let (kv, gate, ape, mut state) = (kv?, gate?, ape?, reals::<R>(&op.state, units)?);
    let [sequence, position, closing] = [&op.sequence, &op.position, &op.closing].map(integers);
    let (sequence, position, closing) = (sequence?, position?, closing?);
    let mut out = vec![R::from(0.0); closing.len() * dim];
    for t in 0..op.kv.size(0) {
        let (Ok(s), Ok(p)) = (usize::try_from(sequence[t]), usize::try_from(position[t])) else { continue };
        if s >= sequences {
            continue;
        }
        let size = slots * channels;
        let (values, scores) = state[2 * s * size..][..2 * size].split_at_mut(size);
        let slot = p % m + if op.overlap { m } else { 0 };
        for c in 0..channels {
            values[slot * channels + c] = kv[t * channels + c];
            scores[slot * channels + c] = stored(gate[t * channels + c] + ape[p % m * channels + c], units);
        }
        if (p + 1) % m != 0 {
            continue;
        }
        // Of overlapping windows the one before gives its first D channels, the current one its last D.
        let place = |slot: usize, d: usize| slot * channels + d + if op.overlap && slot >= m { dim } else { 0 };
        let pooled = |d: usize| {
            let (c, g): (Vec<R>, Vec<R>) = (0..slots).map(|j| (values[place(j, d)], scores[place(j, d)])).unzip();
            let (weights, sum) = R::softmax(&g);
            R::mean(&weights, sum, &c)
        };
        let entry: Vec<R> = (0..dim).map(pooled).collect();
        for (out, _) in out.chunks_mut(dim.max(1)).zip(&closing).filter(|(_, row)| **row == t as i32) {
            out.copy_from_slice(&entry);
        }
        if op.overlap {
            values.copy_within(m * channels.., 0);
            scores.copy_within(m * channels.., 0);
        }
    }
    Ok(vec![Output::real("state", &op.state, state), Output::real("out", &op.out, out)])
}

/// A score as the state's f32 holds it, so that the same rows give the same bits however they are divided into calls. A
/// device that keeps a wider sum until the call ends is off by that rounding.
fn stored<R: Real>(score: R, units: R::Units) -> R {
    let rounded = score.value() as f32 as f64;
    let lost = if rounded.is_finite() { (score.value() - rounded).abs() } else { 0.0 };
    R::read(rounded, units).within(score.error() + lost)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::testing::*;
    use anychip_core::DType::F32;
    use anychip_core::Operation;
    use anychip_core::ops::KvCompress;

    const INF: f32 = f32::INFINITY;

    /// A fresh state: values 0, scores -inf.
    fn fresh(sequences: usize, slots: usize, channels: usize) -> Vec<f32> {
        let half = slots * channels;
        (0..sequences).flat_map(|_| [vec![0.0; half], vec![-INF; half]].concat()).collect()
    }

    struct Rows<'a> {
        kv: &'a [f32],
        gate: &'a [f32],
        sequence: &'a [i32],
        position: &'a [i32],
        closing: &'a [i32],
    }

    fn op(m: usize, overlap: bool, ape: &[f32], state: &[f32], rows: &Rows<'_>) -> KvCompress {
        let (channels, t, entries) = (ape.len() / m, rows.sequence.len(), rows.closing.len());
        let slots = if overlap { 2 * m } else { m };
        KvCompress {
            kv: tensor(F32, &[t, channels], rows.kv),
            gate: tensor(F32, &[t, channels], rows.gate),
            ape: tensor(F32, &[m, channels], ape),
            state: tensor(F32, &[state.len() / (2 * slots * channels), 2, slots, channels], state),
            sequence: int_tensor(&[t], rows.sequence),
            position: int_tensor(&[t], rows.position),
            closing: int_tensor(&[entries], rows.closing),
            overlap,
            out: unwritten(F32, &[entries, if overlap { channels / 2 } else { channels }]),
        }
    }

    #[test]
    fn a_window_is_the_softmax_mean_of_its_rows() {
        let ln3 = 3f32.ln();
        let rows = Rows {
            kv: &[8.0, 4.0],
            gate: &[0.0, ln3 - 1.0],
            sequence: &[0, 0],
            position: &[6, 7],
            closing: &[1, -1, 0, 5],
        };
        let op = op(2, false, &[0.0, 1.0], &fresh(1, 2, 1), &rows);
        run(op.clone());
        let got = floats_of(&op.out);
        assert!((got[0] - 5.0).abs() < 1e-6, "a quarter of 8 and three of 4, not {}", got[0]);
        assert_eq!(got[1..], [0.0; 3], "no row, a row that closes nothing, a row that is not there");
        assert_eq!(floats_of(&op.state)[..2], [8.0, 4.0]);
    }

    #[test]
    fn the_window_before_gives_its_first_channels() {
        // m = 2, D = 1, equal scores: each entry is a mean. Position p has values (10 p, p).
        let kv: Vec<f32> = (0..4).flat_map(|p| [10.0 * p as f32, p as f32]).collect();
        let rows = Rows { kv: &kv, gate: &[0.0; 8], sequence: &[0; 4], position: &[0, 1, 2, 3], closing: &[1, 3] };
        let op = op(2, true, &[0.0; 4], &fresh(1, 4, 2), &rows);
        run(op.clone());
        assert_eq!(floats_of(&op.out), [0.5, (0.0 + 10.0 + 2.0 + 3.0) / 4.0], "the first window has none before it");
        let state = floats_of(&op.state);
        assert_eq!(state[..4], state[4..8], "the current window became the one before");
        assert_eq!(state[..4], [20.0, 2.0, 30.0, 3.0]);
    }

    #[test]
    fn calls_may_be_divided_anywhere() {
        let (m, channels, t, mut random) = (4, 6, 23, Random::new(1));
        let (kv, gate) = (random.normals(t * channels, 1.0), random.normals(t * channels, 3.0));
        let ape = random.normals(m * channels, 1.0);
        for overlap in [false, true] {
            let slots = if overlap { 2 * m } else { m };
            let step = |state: &[f32], from: usize, to: usize| {
                let position: Vec<i32> = (from as i32..to as i32).collect();
                let closing: Vec<i32> = (from..to).filter(|p| (p + 1) % m == 0).map(|p| (p - from) as i32).collect();
                let (kv, gate) = (&kv[from * channels..to * channels], &gate[from * channels..to * channels]);
                let sequence = vec![0; to - from];
                let rows = Rows { kv, gate, sequence: &sequence, position: &position, closing: &closing };
                let op = op(m, overlap, &ape, state, &rows);
                run(op.clone());
                (floats_of(&op.state), floats_of(&op.out))
            };
            let (want_state, want) = step(&fresh(1, slots, channels), 0, t);
            let (mut state, mut got) = (fresh(1, slots, channels), Vec::new());
            for (from, to) in [(0, 1), (1, 7), (7, 8), (8, 19), (19, t)] {
                let (next, out) = step(&state, from, to);
                state = next;
                got.extend(out);
            }
            assert_eq!((state, got), (want_state, want), "overlap {overlap}");
        }
    }

    #[test]
    fn sequences_are_apart_and_bad_rows_change_nothing() {
        let sequence = [1, 0, 2, -1, 0, 1];
        let rows = Rows {
            kv: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            gate: &[0.0; 6],
            sequence: &sequence,
            position: &[0, 0, 1, 1, -1, 1],
            closing: &[2, 3, 4, 5, 5],
        };
        let op = op(2, false, &[0.0; 2], &fresh(2, 2, 1), &rows);
        run(op.clone());
        assert_eq!(floats_of(&op.out), [0.0, 0.0, 0.0, 3.5, 3.5]);
        assert_eq!(floats_of(&op.state), [2.0, 0.0, 0.0, -INF, 1.0, 6.0, 0.0, 0.0]);
    }

    #[test]
    fn f32_keeps_its_bound() {
        let (m, dim, windows, mut random) = (8, 24, 6, Random::new(2));
        let (t, channels) = (m * windows, dim);
        let (kv, gate) = (random.normals(t * channels, 1.0), random.normals(t * channels, 4.0));
        let ape = random.normals(m * channels, 1.0);
        let position: Vec<i32> = (0..t as i32).collect();
        let closing: Vec<i32> = (0..windows).map(|w| (w * m + m - 1) as i32).collect();
        let sequence = vec![0; t];
        let rows = Rows { kv: &kv, gate: &gate, sequence: &sequence, position: &position, closing: &closing };
        let op = op(m, false, &ape, &fresh(1, m, channels), &rows).build().unwrap();
        let mut got = Vec::new();
        for i in 0..windows * dim {
            let (w, d) = (i / dim, i % dim);
            let score = |j: usize| gate[(w * m + j) * channels + d] + ape[j * channels + d];
            let largest = (0..m).map(score).fold(f32::MIN, f32::max);
            let terms: Vec<f32> = (0..m).map(|j| (score(j) - largest).exp()).collect();
            let pooled: f32 = (0..m).map(|j| terms[j] * kv[(w * m + j) * channels + d]).sum();
            got.push(pooled / terms.iter().sum::<f32>());
        }
        assert_bound(&op, "out", &got);
    }
}

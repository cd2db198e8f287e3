use crate::load::{Stores, Work};
use anychip_core::{Result, host, ops::KvCompress};
use std::collections::BTreeMap;
use std::ops::Range;

/// Each entry is `sum_j softmax_j(score_j) * value_j` over the slots of its window, channel by channel.
///
/// The operation is defined as one step per row. Here the steps only say where the contents of each slot come from; the
/// entries, whose slots are then known, are pooled side by side, and the state is brought up to date at the end.
pub(crate) fn run(op: &KvCompress) -> Result<()> {
    let (kv, gate, ape) = (host::read(&op.kv)?, host::read(&op.gate)?, host::read(&op.ape)?);
    let closing = host::read(&op.closing)?;
    let closing: &[i32] = closing.as_slice();
    let slots = Slots {
        kv: kv.as_slice(),
        gate: gate.as_slice(),
        ape: ape.as_slice(),
        channels: op.channels(),
        ratio: op.ratio(),
        count: op.slots(),
    };
    let steps = follow(op, closing)?;
    let mut state = host::write(&op.state)?;
    let state: &mut [f32] = state.as_mut_slice();
    let (dim, size) = (op.out.size(1), 2 * slots.count * slots.channels);
    let pool = |scratch: &mut Vec<f32>, entry: usize, out: &mut [f32]| match steps.window(closing[entry]) {
        Some(window) => {
            let carried = &state[window.sequence * size..][..size];
            slots.pool(&window.sources, carried, op.overlap, scratch, out);
        }
        None => out.fill(0.0),
    };
    Stores::of(&op.out)?.rows(0..closing.len(), dim, Work::of(op), Vec::new, pool);
    for (&sequence, sources) in &steps.left {
        slots.settle(sources, &mut state[sequence * size..][..size]);
    }
    Ok(())
}

/// Where the contents of a slot come from.
#[derive(Clone, Copy)]
enum Source {
    /// The slot of this number, as the state was before the call.
    Carried(usize),
    /// A row of the call.
    Row(usize),
}

/// The slots of a sequence at the moment when a row closed a window.
struct Window {
    sequence: usize,
    sources: Vec<Source>,
}

/// What the steps of a call did.
struct Steps {
    windows: Vec<Window>,
    /// The window that each row closed, of rows that some entry names.
    closed: Vec<Option<usize>>,
    /// The slots of each sequence that had a row, after the last step.
    left: BTreeMap<usize, Vec<Source>>,
}

impl Steps {
    fn window(&self, row: i32) -> Option<&Window> {
        let row = usize::try_from(row).ok()?;
        self.windows.get((*self.closed.get(row)?)?)
    }
}

fn follow(op: &KvCompress, closing: &[i32]) -> Result<Steps> {
    let (sequence, position) = (host::read(&op.sequence)?, host::read(&op.position)?);
    let (sequence, position): (&[i32], &[i32]) = (sequence.as_slice(), position.as_slice());
    let (sequences, ratio, count) = (op.state.size(0), op.ratio(), op.slots());
    let mut named = vec![false; sequence.len()];
    for row in closing.iter().filter_map(|&row| usize::try_from(row).ok()) {
        if let Some(named) = named.get_mut(row) {
            *named = true;
        }
    }
    let mut steps = Steps { windows: Vec::new(), closed: vec![None; sequence.len()], left: BTreeMap::new() };
    for (row, (&sequence, &position)) in sequence.iter().zip(position).enumerate() {
        let (Ok(sequence), Ok(position)) = (usize::try_from(sequence), usize::try_from(position)) else { continue };
        if sequence >= sequences {
            continue;
        }
        let sources = steps.left.entry(sequence).or_insert_with(|| (0..count).map(Source::Carried).collect());
        let place = position % ratio;
        let current = count - ratio; // the first slot of the current window: 0, or m behind the previous one
        sources[current + place] = Source::Row(row);
        if place + 1 == ratio {
            if named[row] {
                steps.closed[row] = Some(steps.windows.len());
                steps.windows.push(Window { sequence, sources: sources.clone() });
            }
            sources.copy_within(current.., 0);
        }
    }
    Ok(steps)
}

/// What slots may be filled from, beside the state.
struct Slots<'a> {
    kv: &'a [f32],
    gate: &'a [f32],
    ape: &'a [f32],
    channels: usize,
    ratio: usize,
    count: usize,
}

impl<'a> Slots<'a> {
    /// Channels of a slot's values; its scores are written into `scores`. `carried` is the sequence's state.
    fn read(
        &self,
        slot: usize,
        source: Source,
        channels: Range<usize>,
        carried: &'a [f32],
        scores: &mut [f32],
    ) -> &'a [f32] {
        let row = |of: usize| of * self.channels + channels.start..of * self.channels + channels.end;
        match source {
            Source::Carried(slot) => {
                scores.copy_from_slice(&carried[row(self.count + slot)]);
                &carried[row(slot)]
            }
            Source::Row(t) => {
                // A slot keeps its place in the window when it moves to the previous one.
                let offsets = &self.ape[row(slot % self.ratio)];
                let gate = self.gate[row(t)].iter().zip(offsets);
                scores.iter_mut().zip(gate).for_each(|(score, (gate, offset))| *score = gate + offset);
                &self.kv[row(t)]
            }
        }
    }

    /// The entry of a window. `out` holds its channels.
    fn pool(&self, sources: &[Source], carried: &'a [f32], overlap: bool, scratch: &mut Vec<f32>, out: &mut [f32]) {
        let dim = out.len();
        scratch.resize((self.count + 2) * dim, 0.0);
        let (scores, rest) = scratch.split_at_mut(self.count * dim);
        let (max, sum) = rest.split_at_mut(dim);
        max.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        out.fill(0.0);
        let mut values = Vec::with_capacity(self.count);
        for ((slot, &source), scores) in sources.iter().enumerate().zip(scores.chunks_mut(dim)) {
            // Of overlapping windows the previous one gives its first channels, the current one its last.
            let first = if overlap && slot >= self.ratio { dim } else { 0 };
            values.push(self.read(slot, source, first..first + dim, carried, scores));
            max.iter_mut().zip(&*scores).for_each(|(max, score)| *max = max.max(*score));
        }
        for (values, scores) in values.iter().zip(scores.chunks(dim)) {
            for d in 0..dim {
                let weight = (scores[d] - max[d]).exp();
                sum[d] += weight;
                out[d] += weight * values[d];
            }
        }
        out.iter_mut().zip(&*sum).for_each(|(out, sum)| *out /= sum);
    }

    /// Brings a sequence's state up to date.
    fn settle(&self, sources: &[Source], state: &mut [f32]) {
        let channels = self.channels;
        // Rising slots: what moves comes from a higher one, which still holds what it held before the call.
        for (slot, &source) in sources.iter().enumerate() {
            match source {
                Source::Carried(from) if from == slot => {}
                Source::Carried(from) => {
                    for part in [0, self.count] {
                        let from = (part + from) * channels;
                        state.copy_within(from..from + channels, (part + slot) * channels);
                    }
                }
                source => {
                    let (values, scores) = state.split_at_mut(self.count * channels);
                    let scores = &mut scores[slot * channels..][..channels];
                    let row = self.read(slot, source, 0..channels, &[], scores);
                    values[slot * channels..][..channels].copy_from_slice(row);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, assert_close, noise};
    use anychip_core::{DType, Tensor};

    /// The operation's definition in f64: one step per row.
    struct Stepwise {
        ratio: usize,
        channels: usize,
        overlap: bool,
        /// Values and scores of each sequence, by slot and channel.
        state: Vec<[Vec<f64>; 2]>,
    }

    impl Stepwise {
        fn new(ratio: usize, channels: usize, overlap: bool, sequences: usize) -> Stepwise {
            let slots = if overlap { 2 * ratio } else { ratio };
            let fresh = [vec![0.0; slots * channels], vec![f64::NEG_INFINITY; slots * channels]];
            Stepwise { ratio, channels, overlap, state: vec![fresh; sequences] }
        }

        fn dim(&self) -> usize {
            if self.overlap { self.channels / 2 } else { self.channels }
        }

        fn step(&mut self, kv: &[f32], gate: &[f32], ape: &[f32], sequence: i32, position: i32) -> Option<Vec<f64>> {
            let (m, c, dim, overlap) = (self.ratio, self.channels, self.dim(), self.overlap);
            let [values, scores] = self.state.get_mut(usize::try_from(sequence).ok()?)?;
            let place = usize::try_from(position).ok()? % m;
            let slot = if overlap { m + place } else { place };
            for i in 0..c {
                values[slot * c + i] = kv[i] as f64;
                scores[slot * c + i] = gate[i] as f64 + ape[place * c + i] as f64;
            }
            if place + 1 < m {
                return None;
            }
            let pooled = |d: usize| {
                let at = |slot: usize| slot * c + d + if overlap && slot >= m { dim } else { 0 };
                let slots = if overlap { 0..2 * m } else { 0..m };
                let max = slots.clone().map(|s| scores[at(s)]).fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = slots.clone().map(|s| (scores[at(s)] - max).exp()).collect();
                let sum: f64 = weights.iter().sum();
                slots.map(|s| weights[s] / sum * values[at(s)]).sum()
            };
            let entry = (0..dim).map(pooled).collect();
            if overlap {
                values.copy_within(m * c.., 0);
                scores.copy_within(m * c.., 0);
            }
            Some(entry)
        }
    }

    /// Feeds `rows` of (sequence, position) to the kernel in `calls` and compares entries and state with the definition.
    fn check(ratio: usize, channels: usize, overlap: bool, rows: &[(i32, i32)], calls: &[usize]) {
        let lab = Lab::new();
        let mut stepwise = Stepwise::new(ratio, channels, overlap, 2);
        let slots = if overlap { 2 * ratio } else { ratio };
        let fresh = [vec![0.0; slots * channels], vec![f32::NEG_INFINITY; slots * channels]].concat();
        let state = lab.floats(DType::F32, &[2, 2, slots, channels], &fresh.repeat(2));
        let ape = noise(9, ratio * channels);
        let (kv, gate) = (noise(1, rows.len() * channels), noise(2, rows.len() * channels));
        let gate: Vec<f32> = gate.iter().map(|x| x * 5.0).collect();
        let mut first = 0;
        for &count in calls {
            let own = first..first + count;
            let matrix = |values: &[f32]| {
                lab.floats(DType::F32, &[count, channels], &values[own.start * channels..own.end * channels])
            };
            let ints = |of: fn(&(i32, i32)) -> i32| {
                let values: Vec<i32> = rows[own.clone()].iter().map(of).collect();
                lab.ints(&[count], &values)
            };
            // Every row is named, also those that close no window, and then some that do not exist; last rows first.
            let closing: Vec<i32> = (-1..count as i32 + 1).rev().collect();
            let op = KvCompress {
                kv: matrix(&kv),
                gate: matrix(&gate),
                ape: lab.floats(DType::F32, &[ratio, channels], &ape),
                state: state.clone(),
                sequence: ints(|row| row.0),
                position: ints(|row| row.1),
                closing: lab.ints(&[closing.len()], &closing),
                overlap,
                out: lab.output(DType::F32, &[closing.len(), stepwise.dim()]),
            };
            lab.run(op.clone());
            let row = |values: &'_ [f32], t: usize| values[t * channels..(t + 1) * channels].to_vec();
            let entries: Vec<_> =
                own.clone().map(|t| stepwise.step(&row(&kv, t), &row(&gate, t), &ape, rows[t].0, rows[t].1)).collect();
            let named = |row: i32| entries.get(usize::try_from(row).ok()?)?.clone();
            let zeros = vec![0.0; stepwise.dim()];
            let want: Vec<f64> = closing.iter().flat_map(|&row| named(row).unwrap_or(zeros.clone())).collect();
            assert_close(&lab.values(&op.out), &want, 1e-6);
            assert_state(&lab, &state, &stepwise);
            first = own.end;
        }
        assert_eq!(first, rows.len());
    }

    fn assert_state(lab: &Lab, state: &Tensor, want: &Stepwise) {
        let want: Vec<f32> = want.state.iter().flatten().flatten().map(|&x| x as f32).collect();
        assert_eq!(lab.values(state), want);
    }

    #[test]
    fn equals_one_step_per_row() {
        // Two sequences that take turns, the second from position 6 on, and rows that belong to no sequence
        // or to none of its positions.
        let rows: Vec<(i32, i32)> = (0..60)
            .map(|t| match t % 3 {
                0 => (0, t / 3),
                1 => (1, 6 + t / 3),
                _ => [(-1, t), (2, t), (i32::MAX, t), (0, -4)][t as usize / 3 % 4],
            })
            .collect();
        for (ratio, channels, overlap) in [(4, 6, true), (4, 6, false), (1, 4, true), (1, 3, false), (7, 2, true)] {
            check(ratio, channels, overlap, &rows, &[60]);
            check(ratio, channels, overlap, &rows, &[1; 60]);
            check(ratio, channels, overlap, &rows, &[0, 5, 31, 2, 22]);
        }
    }

    #[test]
    fn a_window_may_be_left_unfinished() {
        // Positions that jump: slots keep what older rows put there, as the steps say.
        let rows: Vec<(i32, i32)> = [0, 1, 2, 3, 7, 6, 7, 3, 3, 8, 11, 12].map(|p| (0, p)).to_vec();
        check(4, 6, true, &rows, &[12]);
        check(4, 6, true, &rows, &[4, 1, 7]);
        check(4, 6, false, &rows, &[4, 1, 7]);
    }

    #[test]
    fn the_first_window_has_no_predecessor() {
        let lab = Lab::new();
        let (dim, ratio) = (3, 2);
        let state = [vec![0.0; 4 * 2 * dim], vec![f32::NEG_INFINITY; 4 * 2 * dim]].concat();
        let op = KvCompress {
            kv: lab.floats(DType::F32, &[2, 2 * dim], &[9.0, 9.0, 9.0, 1.0, 2.0, 3.0, 9.0, 9.0, 9.0, 3.0, 4.0, 5.0]),
            gate: lab.floats(DType::F32, &[2, 2 * dim], &[0.0; 12]),
            ape: lab.floats(DType::F32, &[ratio, 2 * dim], &[0.0; 12]),
            state: lab.floats(DType::F32, &[1, 2, 4, 2 * dim], &state),
            sequence: lab.ints(&[2], &[0, 0]),
            position: lab.ints(&[2], &[0, 1]),
            closing: lab.ints(&[1], &[1]),
            overlap: true,
            out: lab.output(DType::BF16, &[1, dim]),
        };
        lab.run(op.clone());
        assert_eq!(lab.values(&op.out), [2.0, 3.0, 4.0]);
    }
}

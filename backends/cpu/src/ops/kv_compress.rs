use crate::load::Stores;
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
    Stores::of(&op.out)?.rows(0..closing.len(), dim, 16 * slots.count * dim, Vec::new, pool);
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
        let Some(sequence) = usize::try_from(sequence).ok().filter(|&s| s < sequences) else {
            continue;
        };
        let sources = steps.left.entry(sequence).or_insert_with(|| (0..count).map(Source::Carried).collect());
        // In i64 the largest position has a successor, and a window may be longer than an i32 counts.
        let place = (position as i64).rem_euclid(ratio as i64) as usize;
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

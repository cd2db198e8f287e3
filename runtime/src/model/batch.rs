//! What one step of the model works on, and the small tensors that tell the device so.
//!
//! Everything that changes from step to step is in these tensors: tokens, positions, index lists, angles. A step of the
//! same [`StepShape`] is therefore the same list of operations, and is recorded once.

use super::cache::Cache;
use crate::Result;
use crate::config::{Compression, Config};
use anychip_core::{DType, Device, PAGE_ENTRIES, RopeTable, Tensor, Yarn};
use std::collections::BTreeMap;

/// One token of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) sequence: usize,
    pub(crate) position: usize,
    pub(crate) token: u32,
}

/// Rows of a step: those of one sequence together, positions ascending.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<Row>,
    /// Rows whose logits are wanted.
    pub(crate) logits: Vec<usize>,
    /// Whether the device is to find the largest of them.
    pub(crate) likeliest: bool,
}

/// What decides the operations of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StepShape {
    pub(crate) rows: usize,
    pub(crate) logits: usize,
    pub(crate) likeliest: bool,
    /// Windows that the step may close and entries that its rows may see, by ratio.
    pub(crate) ratios: BTreeMap<usize, RatioShape>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RatioShape {
    pub(crate) closings: usize,
    pub(crate) entries: usize,
}

impl Batch {
    /// Rounded up, so that a growing sequence changes the shape seldom.
    pub(crate) fn shape(&self, ratios: impl Iterator<Item = usize>, context: usize) -> StepShape {
        let ratio_shape = |ratio: usize| {
            let mut closings = 0;
            let mut run = 0;
            for (i, row) in self.rows.iter().enumerate() {
                run += 1;
                if self.rows.get(i + 1).is_none_or(|next| next.sequence != row.sequence) {
                    closings += usize::div_ceil(run, ratio);
                    run = 0;
                }
            }
            let seen = self.rows.iter().map(|row| (row.position + 1) / ratio).max().unwrap_or(0);
            let most = (context / ratio).next_multiple_of(PAGE_ENTRIES).max(PAGE_ENTRIES);
            let entries = seen.max(1).next_power_of_two().max(PAGE_ENTRIES).min(most);
            (ratio, RatioShape { closings, entries })
        };
        let ratios = ratios.map(ratio_shape).collect();
        StepShape { rows: self.rows.len(), logits: self.logits.len(), likeliest: self.likeliest, ratios }
    }
}

/// The tensors of a step.
pub(crate) struct Inputs {
    pub(crate) tokens: Tensor,
    pub(crate) sequence: Tensor,
    pub(crate) position: Tensor,
    /// Ring place of each row's own window entry, `[T]`.
    pub(crate) window_place: Tensor,
    /// Ring places of each row's window, oldest first, `[T, sliding_window]`.
    pub(crate) window: Tensor,
    /// Angles of layers without compression, `[T, rope_dim / 2, 2]`.
    pub(crate) angles: Tensor,
    /// Angles of compressing layers.
    pub(crate) compressed_angles: Tensor,
    pub(crate) logit_rows: Tensor,
    pub(crate) ratios: BTreeMap<usize, RatioInputs>,
}

/// The tensors of a step that depend on a compression ratio.
pub(crate) struct RatioInputs {
    /// Rows that close a window, -1 beyond, `[E]`.
    pub(crate) closing: Tensor,
    /// Sequence of each closing row, `[E]`.
    pub(crate) sequence: Tensor,
    /// Number of the entry that it makes, -1 beyond, `[E]`.
    pub(crate) entry: Tensor,
    /// Angles at each window's first token, `[E, rope_dim / 2, 2]`.
    pub(crate) angles: Tensor,
    /// Entries that a row sees at most.
    pub(crate) width: usize,
    /// Entries that each row sees, `[T]`.
    pub(crate) visible: Tensor,
    /// All of them, -1 beyond, `[T, entries]`; pooled layers alone list them.
    pub(crate) all: Option<Tensor>,
}

/// The rotary tables of a model.
pub(crate) struct Angles {
    pub(crate) plain: RopeTable,
    pub(crate) compressed: RopeTable,
}

impl Angles {
    pub(crate) fn new(config: &Config) -> Angles {
        let yarn = config.yarn.map(|yarn| Yarn {
            factor: yarn.factor,
            original_positions: yarn.original as f64,
            beta_fast: yarn.beta_fast,
            beta_slow: yarn.beta_slow,
        });
        Angles {
            plain: RopeTable::new(config.rope_dim, config.rope_theta, None),
            compressed: RopeTable::new(config.rope_dim, config.compress_rope_theta, yarn),
        }
    }
}

impl Inputs {
    pub(crate) fn allocate(device: &dyn Device, config: &Config, shape: &StepShape) -> Result<Inputs> {
        let (rows, pairs) = (shape.rows, config.rope_dim / 2);
        let integers = |sizes: &[usize]| device.tensor(DType::I32, sizes);
        let pooled =
            |ratio: usize| config.layers.iter().any(|layer| layer.compression == Compression::Pooled(ratio as u32));
        let mut ratios = BTreeMap::new();
        for (&ratio, &RatioShape { closings, entries }) in &shape.ratios {
            let inputs = RatioInputs {
                closing: integers(&[closings])?,
                sequence: integers(&[closings])?,
                entry: integers(&[closings])?,
                angles: device.tensor(DType::F32, &[closings, pairs, 2])?,
                width: entries,
                visible: integers(&[rows])?,
                all: if pooled(ratio) { Some(integers(&[rows, entries])?) } else { None },
            };
            ratios.insert(ratio, inputs);
        }
        Ok(Inputs {
            tokens: integers(&[rows])?,
            sequence: integers(&[rows])?,
            position: integers(&[rows])?,
            window_place: integers(&[rows])?,
            window: integers(&[rows, config.sliding_window])?,
            angles: device.tensor(DType::F32, &[rows, pairs, 2])?,
            compressed_angles: device.tensor(DType::F32, &[rows, pairs, 2])?,
            logit_rows: integers(&[shape.logits])?,
            ratios,
        })
    }

    /// Each tensor with its contents for `batch`, whose shape these inputs were allocated for.
    pub(crate) fn fill(
        &self,
        batch: &Batch,
        config: &Config,
        cache: &Cache,
        angles: &Angles,
    ) -> Vec<(&Tensor, Vec<u8>)> {
        let rows = &batch.rows;
        let each = |f: &dyn Fn(&Row) -> usize| integers(rows.iter().map(|row| f(row) as i32));
        let window = rows.iter().flat_map(|row| {
            let first = (row.position + 1).saturating_sub(config.sliding_window);
            let place = move |i: usize| if first + i <= row.position { ((first + i) % cache.ring) as i32 } else { -1 };
            (0..config.sliding_window).map(place)
        });
        let positions = || rows.iter().map(|row| row.position as u32);
        let mut filled = vec![
            (&self.tokens, each(&|row| row.token as usize)),
            (&self.sequence, each(&|row| row.sequence)),
            (&self.position, each(&|row| row.position)),
            (&self.window_place, each(&|row| row.position % cache.ring)),
            (&self.window, integers(window)),
            (&self.angles, floats(angles.plain.angles(positions()))),
            (&self.compressed_angles, floats(angles.compressed.angles(positions()))),
            (&self.logit_rows, integers(batch.logits.iter().map(|&row| row as i32))),
        ];
        for (&ratio, inputs) in &self.ratios {
            let closes = |row: &Row| (row.position + 1).is_multiple_of(ratio);
            let mut closing: Vec<(i32, usize, i32, u32)> = rows
                .iter()
                .enumerate()
                .filter(|(_, row)| closes(row))
                .map(|(t, row)| {
                    let entry = row.position / ratio;
                    (t as i32, row.sequence, entry as i32, (entry * ratio) as u32)
                })
                .collect();
            closing.resize(inputs.closing.count(), (-1, 0, -1, 0));
            filled.push((&inputs.closing, integers(closing.iter().map(|c| c.0))));
            filled.push((&inputs.sequence, integers(closing.iter().map(|c| c.1 as i32))));
            filled.push((&inputs.entry, integers(closing.iter().map(|c| c.2))));
            filled.push((&inputs.angles, floats(angles.compressed.angles(closing.iter().map(|c| c.3)))));
            let visible = |row: &Row| (row.position + 1) / ratio;
            filled.push((&inputs.visible, each(&visible)));
            if let Some(all) = &inputs.all {
                let width = all.size(1);
                let list = rows.iter().flat_map(|row| {
                    let seen = visible(row);
                    (0..width).map(move |e| if e < seen { e as i32 } else { -1 })
                });
                filled.push((all, integers(list)));
            }
        }
        filled
    }
}

fn integers(values: impl Iterator<Item = i32>) -> Vec<u8> {
    values.flat_map(i32::to_le_bytes).collect()
}

fn floats(values: Vec<f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

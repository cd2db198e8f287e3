//! A model on a device: its weights, its sequences, and its forward pass.

mod attention;
mod batch;
mod cache;
mod draft;
mod graph;
mod layer;
mod load;
mod pages;
mod step;
mod weights;
mod work;

pub use step::LayerRun;
pub use weights::Progress;
pub use work::Work;

use crate::config::Config;
use crate::sample::argmax;
use crate::{Error, Result};
use anychip_core::{Device, Stream, Tensor};
use batch::{Angles, Batch, Row, StepShape};
use cache::Cache;
use draft::Pending;
use graph::Scratch;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use step::{Program, StepResult};
use weights::Weights;

/// Which arithmetic the model runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Dequantised weights, f32 activations and KV entries, no rounding between operations.
    Exact,
    /// As served: bf16 activations, FP8 inputs of the FP8 linears and of the KV entries, FP4 indexer, and every rounding
    /// of the released implementation.
    Served,
}

impl Precision {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Exact => "exact",
            Precision::Served => "served",
        }
    }
}

/// How a model is opened. All device memory but scratch is taken then.
#[derive(Clone, Debug)]
pub struct Options {
    /// Arithmetic.
    pub precision: Precision,
    /// Sequences that can be open at once.
    pub sequences: usize,
    /// Tokens of the longest sequence.
    pub context: usize,
    /// Tokens that the compressed KV pools hold over all sequences; by default enough for every sequence at full
    /// context.
    pub pool_tokens: Option<usize>,
    /// Rows of a step at most. Longer prompts are cut into steps of this size; the result is the same.
    pub chunk: usize,
    /// Whether the MTP layer is loaded and sequences keep what [`Model::draft`] needs: the streams of each token since
    /// the last draft, in host memory (`hc_mult * d` f32).
    pub draft: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            precision: Precision::Exact,
            sequences: 1,
            context: 4096,
            pool_tokens: None,
            chunk: 256,
            draft: false,
        }
    }
}

/// A sequence of a [`Model`], until it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sequence(usize, u64);

/// Rows of a forward pass whose logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// The last token of each sequence of the batch.
    Last,
    /// Every token.
    All,
}

/// A model opened on a device.
pub struct Model {
    device: Arc<dyn Device>,
    stream: Box<dyn Stream>,
    dir: PathBuf,
    config: Config,
    options: Options,
    weights: Weights,
    cache: Cache,
    angles: Angles,
    scratch: Scratch,
    programs: HashMap<StepShape, Program>,
    pending: Vec<Vec<Pending>>,
    work: Work,
}

/// Step shapes whose recordings are kept; beyond, all are dropped together with the scratch tensors they hold.
const KEPT_PROGRAMS: usize = 16;

/// Is given what a step left, and the batch's item of each row in it.
type Done<'a> = &'a mut dyn FnMut(&mut Model, &[usize], &StepResult) -> Result<()>;

impl Model {
    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// The folder it was opened from.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How it was opened.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Arithmetic it was opened in.
    pub fn precision(&self) -> Precision {
        self.options.precision
    }

    /// What was asked of the device since the model was opened, as the contract counts it: the least that any device has
    /// to do for it. What was traced, and layers run alone, are not in it.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Opens a sequence.
    ///
    /// # Errors
    /// [`Error::TooManySequences`], or the device's.
    pub fn open_sequence(&mut self) -> Result<Sequence> {
        let slot = self.cache.open(&mut *self.stream)?;
        self.pending[slot].clear();
        Ok(Sequence(slot, self.cache.slots[slot].generation))
    }

    /// Closes a sequence and frees its pages.
    ///
    /// # Errors
    /// [`Error::UnknownSequence`].
    pub fn release(&mut self, sequence: Sequence) -> Result<()> {
        self.len(sequence)?;
        self.cache.release(sequence.0);
        self.pending[sequence.0].clear();
        Ok(())
    }

    /// Tokens that a sequence has seen.
    ///
    /// # Errors
    /// [`Error::UnknownSequence`].
    pub fn len(&self, sequence: Sequence) -> Result<usize> {
        self.cache.len(sequence.0, sequence.1)
    }

    /// Appends tokens to sequences and gives the logits, f32 `[rows, vocab]` row-major, one vector per batch item.
    ///
    /// Prefill, a chunk of one, and decode are the same call; items may differ in length and in how far their sequences
    /// are. How tokens are cut into calls does not change the result.
    ///
    /// # Errors
    /// Before anything runs: [`Error::TokenOutOfRange`], [`Error::ContextTooLong`], [`Error::PoolExhausted`],
    /// [`Error::UnknownSequence`], [`Error::BadBatch`]. The device's own errors may leave the batch's sequences half
    /// advanced: release them.
    pub fn forward(&mut self, batch: &[(Sequence, &[u32])], rows: Rows) -> Result<Vec<Vec<f32>>> {
        self.forward_observed(batch, rows, None)
    }

    /// As [`forward`](Model::forward), showing intermediate tensors to `observer` by their names in transformers'
    /// modules (`layers.1.self_attn.q_a_norm.out`), each with its bytes. Slow: the device is waited for at each.
    ///
    /// # Errors
    /// As [`forward`](Model::forward).
    pub fn forward_traced(
        &mut self,
        batch: &[(Sequence, &[u32])],
        rows: Rows,
        observer: &mut dyn FnMut(&str, &Tensor, &[u8]),
    ) -> Result<Vec<Vec<f32>>> {
        self.forward_observed(batch, rows, Some(observer))
    }

    /// As [`forward`](Model::forward), giving for each item the token of the largest logit behind its last token: of equal
    /// ones the lowest, `None` where every logit is NaN. The device finds it where it has `top_k`, and a few bytes are read
    /// back in the place of the logits.
    ///
    /// # Errors
    /// As [`forward`](Model::forward).
    pub fn forward_greedy(&mut self, batch: &[(Sequence, &[u32])]) -> Result<Vec<Option<u32>>> {
        let mut tokens = vec![None; batch.len()];
        self.steps(batch, Rows::Last, true, None, &mut |model, items, result| {
            let places = match &result.likeliest {
                Some(likeliest) => model.read_i32(likeliest)?,
                None => vec![-1; items.len()],
            };
            // On the device the whole of -inf has no largest element, here it has.
            let unknown = places.iter().any(|&place| place < 0);
            let logits = if unknown { model.read_f32(&result.logits)? } else { Vec::new() };
            let mut rows = logits.chunks_exact(model.config.vocab_size);
            for (&item, &place) in items.iter().zip(&places) {
                let row = rows.next();
                tokens[item] = u32::try_from(place).ok().or_else(|| argmax(row?));
            }
            Ok(())
        })?;
        Ok(tokens)
    }

    fn forward_observed(
        &mut self,
        batch: &[(Sequence, &[u32])],
        rows: Rows,
        observer: Option<step::Observer<'_, '_>>,
    ) -> Result<Vec<Vec<f32>>> {
        let mut logits = vec![Vec::new(); batch.len()];
        self.steps(batch, rows, false, observer, &mut |model, items, result| {
            let values = model.read_f32(&result.logits)?;
            for (&item, row) in items.iter().zip(values.chunks_exact(model.config.vocab_size)) {
                logits[item].extend_from_slice(row);
            }
            Ok(())
        })?;
        Ok(logits)
    }

    /// Runs a batch in steps of at most a chunk.
    fn steps(
        &mut self,
        batch: &[(Sequence, &[u32])],
        rows: Rows,
        likeliest: bool,
        mut observer: Option<step::Observer<'_, '_>>,
        done: Done<'_>,
    ) -> Result<()> {
        self.check(batch)?;
        let starts: Vec<usize> = batch.iter().map(|(sequence, _)| self.cache.slots[sequence.0].len).collect();
        let (mut next, mut taken) = (0, 0);
        while next < batch.len() {
            // Fill one step with what is left of each item in turn.
            let mut step = Batch { likeliest, ..Batch::default() };
            let mut wanted = Vec::new();
            while next < batch.len() && step.rows.len() < self.options.chunk {
                let (sequence, tokens) = batch[next];
                let take = (tokens.len() - taken).min(self.options.chunk - step.rows.len());
                for i in taken..taken + take {
                    if rows == Rows::All || i + 1 == tokens.len() {
                        step.logits.push(step.rows.len());
                        wanted.push(next);
                    }
                    step.rows.push(Row { sequence: sequence.0, position: starts[next] + i, token: tokens[i] });
                }
                taken += take;
                if taken == tokens.len() {
                    (next, taken) = (next + 1, 0);
                }
            }
            let result = self.step(&step, observer.as_deref_mut())?;
            done(self, &wanted, &result)?;
            step.rows.iter().for_each(|row| self.cache.slots[row.sequence].len = row.position + 1);
        }
        Ok(())
    }

    /// All that can be refused before the device is asked, and room in the pools.
    fn check(&mut self, batch: &[(Sequence, &[u32])]) -> Result<()> {
        let vocab = self.config.vocab_size;
        let mut lengths = Vec::with_capacity(batch.len());
        for (i, (sequence, tokens)) in batch.iter().enumerate() {
            if tokens.is_empty() || batch[..i].iter().any(|(other, _)| other == sequence) {
                let what = if tokens.is_empty() { "has no tokens" } else { "is given twice" };
                return Err(Error::BadBatch { problem: format!("sequence {} {what}", sequence.0) });
            }
            if let Some((place, &token)) = tokens.iter().enumerate().find(|(_, t)| **t as usize >= vocab) {
                return Err(Error::TokenOutOfRange { token, place, vocab });
            }
            let needed = self.len(*sequence)? + tokens.len();
            if needed > self.cache.context {
                return Err(Error::ContextTooLong { needed, context: self.cache.context });
            }
            lengths.push((sequence.0, needed));
        }
        self.cache.reserve(&mut *self.stream, &lengths)
    }
}

//! One draft token ahead by the multi-token-prediction layer (DeepSeek V4 `inference/model.py`, `MTPBlock`).

use super::batch::{Batch, Inputs, Row};
use super::cache::LayerCache;
use super::graph::{Graph, Scratch, Step, reshape};
use super::{Model, Sequence};
use crate::{Error, Result};
use anychip_core::ops::{Embed, HyperPost};
use anychip_core::{DType, Tensor};

/// A token that the model has seen and the MTP layer has not.
pub(crate) struct Pending {
    token: u32,
    position: usize,
    /// Streams after the last layer, before the head.
    streams: Vec<f32>,
}

impl Model {
    /// Keeps the streams of a step's rows until [`draft`](Model::draft) takes them.
    pub(crate) fn keep_for_draft(&mut self, batch: &Batch, streams: &Tensor) -> Result<()> {
        if self.weights.mtp.is_none() {
            return Ok(());
        }
        let width = streams.size(1) * streams.size(2);
        let values = self.read_f32(streams)?;
        for (row, streams) in batch.rows.iter().zip(values.chunks_exact(width)) {
            let kept = Pending { token: row.token, position: row.position, streams: streams.to_vec() };
            self.pending[row.sequence].push(kept);
        }
        Ok(())
    }

    /// Logits of the token after `next`, f32 `[vocab]`, where `next` is the token that the sequence continues with.
    ///
    /// The layer keeps a window of its own, which this call brings up to date; so call it once per token that
    /// [`forward`](Model::forward) was given or is about to be given, with the token that really follows.
    ///
    /// # Errors
    /// [`Error::NoMtp`] unless opened with [`Options::draft`](super::Options::draft), [`Error::BadBatch`] when no token
    /// was seen since the last call, [`Error::TokenOutOfRange`], [`Error::UnknownSequence`], or the device's.
    pub fn draft(&mut self, sequence: Sequence, next: u32) -> Result<Vec<f32>> {
        self.len(sequence)?;
        let vocab = self.config.vocab_size;
        if next as usize >= vocab {
            return Err(Error::TokenOutOfRange { token: next, place: 0, vocab });
        }
        // Taken out, and put back if a step fails: drafting the same tokens again writes the same window.
        let pending = std::mem::take(&mut self.pending[sequence.0]);
        let result = self.draft_all(sequence, next, &pending);
        if result.is_err() {
            self.pending[sequence.0] = pending;
        }
        result
    }

    fn draft_all(&mut self, sequence: Sequence, next: u32, pending: &[Pending]) -> Result<Vec<f32>> {
        let follows = pending.iter().skip(1).map(|p| p.token).chain([next]);
        let rows: Vec<(Row, &Pending)> = pending
            .iter()
            .zip(follows)
            .map(|(p, token)| (Row { sequence: sequence.0, position: p.position, token }, p))
            .collect();
        let mut logits = Vec::new();
        for part in rows.chunks(self.options.chunk) {
            logits = self.draft_step(part)?;
        }
        if logits.is_empty() {
            return Err(Error::BadBatch { problem: "no token was seen since the last draft".into() });
        }
        Ok(logits)
    }

    fn draft_step(&mut self, rows: &[(Row, &Pending)]) -> Result<Vec<f32>> {
        let batch = Batch {
            rows: rows.iter().map(|(row, _)| *row).collect(),
            logits: vec![rows.len() - 1],
            ..Batch::default()
        };
        let shape = batch.shape(std::iter::empty(), self.cache.context);
        let inputs = Inputs::allocate(&*self.device, &self.config, &shape)?;
        let (n, d) = (self.config.hc_mult, self.config.hidden_size);
        let mut scratch = Scratch::default();
        let float = self.graph(&mut scratch, false).float();
        let seen = self.device.tensor(float, &[rows.len(), n, d])?;
        let values: Vec<f32> = rows.iter().flat_map(|(_, p)| p.streams.iter().copied()).collect();
        self.write_f32(&seen, &values)?;
        // `hyper_post` with these adds the token's part to every stream: post = 1, comb = identity.
        let post = self.device.tensor(DType::F32, &[rows.len(), n])?;
        let comb = self.device.tensor(DType::F32, &[rows.len(), n, n])?;
        self.write_f32(&post, &vec![1.0; rows.len() * n])?;
        let identity = (0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 });
        self.write_f32(&comb, &identity.collect::<Vec<f32>>().repeat(rows.len()))?;

        let graph = self.graph(&mut scratch, false);
        let (steps, logits) = graph.draft(&inputs, seen, post, comb)?;
        for (tensor, bytes) in inputs.fill(&batch, &self.config, &self.cache, &self.angles) {
            self.stream.write(tensor, &bytes)?;
        }
        self.run(&steps, &mut |_, _, _| {})?;
        self.read_f32(&logits)
    }
}

impl Graph<'_> {
    /// The MTP layer's steps and their logits.
    fn draft(mut self, inputs: &Inputs, seen: Tensor, post: Tensor, comb: Tensor) -> Result<(Vec<Step>, Tensor)> {
        let (rows, n, d) = (seen.size(0), seen.size(1), seen.size(2));
        let (Some(mtp), Some(window)) = (&self.weights.mtp, &self.cache.mtp) else {
            return Err(Error::NoMtp { dir: self.dir.into() });
        };
        let token = self.activation("mtp token", &[rows, 1, d])?;
        self.push(Embed { table: self.weights.embed.clone(), ids: inputs.tokens.clone(), out: token.clone() })?;
        let token = self.rms_norm("enorm", &reshape(&token, &[rows, d])?, &mtp.enorm)?;
        let token = self.quantized(["mtp token codes", "mtp token scales"], &token, &mtp.e_proj)?;
        let token = self.linear("e_proj", &token, &mtp.e_proj)?;
        let streams = self.rms_norm("hnorm", &reshape(&seen, &[rows * n, d])?, &mtp.hnorm)?;
        let streams = self.quantized(["mtp streams codes", "mtp streams scales"], &streams, &mtp.h_proj)?;
        let streams = self.linear("h_proj", &streams, &mtp.h_proj)?;
        let joined = self.activation("mtp joined", &[rows, n, d])?;
        let streams = reshape(&streams, &[rows, n, d])?;
        self.push(HyperPost { y: token, streams, post, comb, out: joined.clone() })?;
        let memory = LayerCache { window: window.clone(), compressed: None };
        let streams = self.layer("mtp.0.", &mtp.layer, &memory, inputs, joined)?;
        let logits = self.head(&mtp.head, &mtp.norm, &streams, &inputs.logit_rows)?;
        Ok((self.steps, logits))
    }
}

//! Running a step: built once per shape, recorded, and replayed with new tokens.

use super::batch::{Batch, Inputs, Row, StepShape};
use super::graph::{Graph, Scratch, Step, plain, reshape};
use super::weights::Hyper;
use super::{KEPT_PROGRAMS, Model, Work};
use crate::{Error, Result};
use anychip_core::ops::{Embed, HyperHead, TopK};
use anychip_core::{DType, Op, Operation, Recording, Tensor};
use half::bf16;

/// Sees intermediate tensors: name, tensor, bytes.
pub(crate) type Observer<'a, 'b> = &'a mut (dyn FnMut(&str, &Tensor, &[u8]) + 'b);

/// A recorded step.
pub(crate) struct Program {
    pub(crate) inputs: Inputs,
    pub(crate) recording: Recording,
    /// The least work of all its operations.
    pub(crate) work: Work,
    pub(crate) result: StepResult,
    /// Streams after the last layer.
    pub(crate) streams: Tensor,
}

/// Where a step leaves what is wanted of it.
#[derive(Clone)]
pub(crate) struct StepResult {
    /// f32, a row for each that wants them.
    pub(crate) logits: Tensor,
    /// The token of the largest logit of each row, -1 where none is above -inf; where that was asked for and the device has
    /// `top_k`.
    pub(crate) likeliest: Option<Tensor>,
}

/// One layer run on given streams.
#[derive(Clone, Debug, Default)]
pub struct LayerRun {
    /// Streams after the layer, `[tokens, hc_mult, d]`.
    pub streams: Vec<f32>,
    /// Chosen experts, `[tokens, experts_per_token]`.
    pub experts: Vec<i32>,
    /// Entries chosen by the indexer, best first, -1 for none, `[tokens, index_topk]`; empty without an indexer.
    pub entries: Vec<i32>,
}

impl Model {
    /// Runs one step.
    pub(crate) fn step(&mut self, batch: &Batch, observer: Option<Observer<'_, '_>>) -> Result<StepResult> {
        let shape = batch.shape(self.cache.groups.keys().copied(), self.cache.context);
        if let Some(observer) = observer {
            // Scratch of its own: what is looked at once need not stay.
            let (program, steps) = self.build(&mut Scratch::default(), &shape, true)?;
            for (tensor, bytes) in program.inputs.fill(batch, &self.config, &self.cache, &self.angles) {
                self.stream.write(tensor, &bytes)?;
            }
            self.run(&steps, observer)?;
            self.keep_for_draft(batch, &program.streams)?;
            return Ok(program.result);
        }
        if !self.programs.contains_key(&shape) {
            if self.programs.len() >= KEPT_PROGRAMS {
                self.programs.clear();
                self.scratch = Scratch::default();
            }
            let mut scratch = std::mem::take(&mut self.scratch);
            let built = self.build(&mut scratch, &shape, false);
            self.scratch = scratch;
            let (mut program, steps) = built?;
            let ops = steps.into_iter().filter_map(|step| match step {
                Step::Run(op) => Some(op),
                Step::Tap(..) => None,
            });
            let ops: Vec<Op> = ops.collect();
            program.work = Work::of(&ops);
            program.recording = self.stream.record(ops)?;
            self.programs.insert(shape.clone(), program);
        }
        let Some(Program { inputs, recording, work, result, streams }) = self.programs.get(&shape) else {
            return Err(Error::BadBatch { problem: "a step without its operations".into() });
        };
        let filled = inputs.fill(batch, &self.config, &self.cache, &self.angles);
        let updates: Vec<(&Tensor, &[u8])> = filled.iter().map(|(tensor, bytes)| (*tensor, &bytes[..])).collect();
        self.stream.replay(recording, &updates)?;
        self.work = self.work + *work;
        let (result, streams) = (result.clone(), streams.clone());
        self.keep_for_draft(batch, &streams)?;
        Ok(result)
    }

    /// Writes a step of this shape down.
    fn build(&self, scratch: &mut Scratch, shape: &StepShape, taps: bool) -> Result<(Program, Vec<Step>)> {
        let inputs = Inputs::allocate(&*self.device, &self.config, shape)?;
        let mut graph = self.graph(scratch, taps);
        let (hc, d) = (graph.config.hc_mult, graph.config.hidden_size);
        let mut streams = graph.activation("embedded", &[shape.rows, hc, d])?;
        graph.push(Embed { table: graph.weights.embed.clone(), ids: inputs.tokens.clone(), out: streams.clone() })?;
        let (weights, cache) = (graph.weights, graph.cache);
        for (i, (layer, memory)) in weights.layers.iter().zip(&cache.layers).enumerate() {
            let name = format!("layers.{i}.");
            graph.tap(|| format!("{name}in"), &streams);
            streams = graph.layer(&name, layer, memory, &inputs, streams)?;
        }
        let logits = graph.head(&weights.head_hyper, &weights.norm, &streams, &inputs.logit_rows)?;
        let likeliest = if shape.likeliest { graph.likeliest(&logits)? } else { None };
        let steps = graph.steps;
        let result = StepResult { logits, likeliest };
        let (recording, work) = (Recording::of_ops(Vec::new()), Work::default());
        Ok((Program { inputs, recording, work, result, streams }, steps))
    }

    /// An empty list of steps over this model.
    pub(crate) fn graph<'a>(&'a self, scratch: &'a mut Scratch, taps: bool) -> Graph<'a> {
        Graph {
            device: &*self.device,
            dir: &self.dir,
            config: &self.config,
            weights: &self.weights,
            cache: &self.cache,
            precision: self.options.precision,
            scratch,
            taps,
            steps: Vec::new(),
        }
    }

    /// Runs a list, showing its taps.
    pub(crate) fn run(&mut self, steps: &[Step], observer: Observer<'_, '_>) -> Result<()> {
        for step in steps {
            match step {
                Step::Run(op) => self.stream.enqueue(op)?,
                Step::Tap(name, tensor) => {
                    let mut bytes = vec![0; tensor.bytes() as usize];
                    self.stream.read(tensor, &mut bytes)?;
                    observer(name, tensor, &bytes);
                }
            }
        }
        Ok(())
    }

    /// Runs layer `layer` alone on given streams: row `i` of `streams` (`hc_mult * d` values, in the activation type's
    /// precision) is token `tokens[i]` at position `i` of a fresh sequence.
    ///
    /// # Errors
    /// As [`forward`](Model::forward), and [`Error::BadBatch`] when there is no such layer or the sizes do not match.
    pub fn run_layer(&mut self, layer: usize, tokens: &[u32], streams: &[f32]) -> Result<LayerRun> {
        let width = self.config.hc_mult * self.config.hidden_size;
        if layer >= self.weights.layers.len() || streams.len() != tokens.len() * width {
            let (layers, rows) = (self.weights.layers.len(), streams.len() / width);
            let problem = format!("layer {layer} of {layers} on {} tokens and {rows} rows of streams", tokens.len());
            return Err(Error::BadBatch { problem });
        }
        let sequence = self.open_sequence()?;
        let result = self.check(&[(sequence, tokens)]).and_then(|()| {
            let mut all = LayerRun::default();
            for start in (0..tokens.len()).step_by(self.options.chunk) {
                let end = tokens.len().min(start + self.options.chunk);
                let rows = (start..end).map(|i| Row { sequence: sequence.0, position: i, token: tokens[i] });
                let batch = Batch { rows: rows.collect(), ..Batch::default() };
                self.layer_step(layer, &batch, &streams[start * width..end * width], &mut all)?;
            }
            Ok(all)
        });
        self.release(sequence)?;
        result
    }

    fn layer_step(&mut self, layer: usize, batch: &Batch, streams: &[f32], all: &mut LayerRun) -> Result<()> {
        let shape = batch.shape(self.cache.groups.keys().copied(), self.cache.context);
        let inputs = Inputs::allocate(&*self.device, &self.config, &shape)?;
        let mut scratch = Scratch::default();
        let mut graph = self.graph(&mut scratch, true);
        let sizes = [shape.rows, graph.config.hc_mult, graph.config.hidden_size];
        let given = graph.activation("given streams", &sizes)?;
        let (weights, cache) = (&graph.weights.layers[layer], &graph.cache.layers[layer]);
        let out = graph.layer("", weights, cache, &inputs, given.clone())?;
        let steps = graph.steps;
        self.write_f32(&given, streams)?;
        for (tensor, bytes) in inputs.fill(batch, &self.config, &self.cache, &self.angles) {
            self.stream.write(tensor, &bytes)?;
        }
        self.run(&steps, &mut |name, _, bytes| match name {
            "mlp.gate.indices" => all.experts.extend(integers(bytes)),
            "self_attn.compressor.indexer.topk_indices" => all.entries.extend(integers(bytes)),
            _ => {}
        })?;
        all.streams.extend(self.read_f32(&out)?);
        Ok(())
    }

    /// An integer tensor's elements.
    pub(crate) fn read_i32(&mut self, from: &Tensor) -> Result<Vec<i32>> {
        let mut bytes = vec![0; from.bytes() as usize];
        self.stream.read(from, &mut bytes)?;
        Ok(integers(&bytes).collect())
    }

    /// A float tensor's elements as f32.
    pub(crate) fn read_f32(&mut self, from: &Tensor) -> Result<Vec<f32>> {
        let mut bytes = vec![0; from.bytes() as usize];
        self.stream.read(from, &mut bytes)?;
        Ok(match from.dtype() {
            DType::BF16 => bytes.as_chunks::<2>().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
            _ => bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        })
    }

    /// Writes values into a float tensor, rounded to its type.
    pub(crate) fn write_f32(&mut self, to: &Tensor, values: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = match to.dtype() {
            DType::BF16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        Ok(self.stream.write(to, &bytes)?)
    }
}

impl Graph<'_> {
    /// Logits of the rows `ids` of the streams, f32.
    pub(crate) fn head(&mut self, hyper: &Hyper, norm: &Tensor, streams: &Tensor, ids: &Tensor) -> Result<Tensor> {
        let (hc, d, rows) = (streams.size(1), streams.size(2), ids.count());
        let table = reshape(streams, &[streams.size(0), hc * d])?;
        let gathered = self.activation("head streams", &[rows, 1, hc * d])?;
        self.push(Embed { table, ids: ids.clone(), out: gathered.clone() })?;
        let h = self.activation("head", &[rows, d])?;
        self.push(HyperHead {
            streams: reshape(&gathered, &[rows, hc, d])?,
            mixer: hyper.mixer.clone(),
            base: hyper.base.clone(),
            scale: hyper.scale.clone(),
            norm_eps: self.config.rms_norm_eps as f32,
            eps: self.config.hc_eps as f32,
            out: h.clone(),
        })?;
        self.tap(|| "hc_head.out".into(), &h);
        let normed = self.rms_norm("head norm", &h, norm)?;
        self.tap(|| "norm.out".into(), &normed);
        let head = &self.weights.head;
        self.linear_as("logits", DType::F32, &plain(&normed)?, head)
    }

    /// The token of the largest logit of each row, the lowest of equal ones; `None` where the device has no kernel for it.
    fn likeliest(&mut self, logits: &Tensor) -> Result<Option<Tensor>> {
        let out = self.tensor("likeliest", DType::I32, &[logits.size(0), 1])?;
        let op = TopK { scores: logits.clone(), out: out.clone() }.build()?;
        if !self.device.supports(&op).is_native() {
            return Ok(None);
        }
        self.steps.push(Step::Run(op));
        Ok(Some(out))
    }
}

fn integers(bytes: &[u8]) -> impl Iterator<Item = i32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| i32::from_le_bytes(b))
}

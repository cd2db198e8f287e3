//! The numbers that a checkpoint's folder brings along.

use crate::config::Config;
use crate::{Error, Result};
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};

pub(super) const EXACT: &str = "io.safetensors";
pub(super) const SERVED: &str = "io_served.safetensors";

/// `io.safetensors`: tokens, and the logits of the dequantised weights.
#[derive(Clone, Debug)]
pub struct Expected {
    /// `input_ids`, one sequence.
    pub tokens: Vec<u32>,
    /// `logits` or `logits_prefill`, `[tokens, vocab]`.
    pub logits: Vec<f32>,
}

/// `io_served.safetensors`: logits, layer streams and choices with every rounding of the served model.
#[derive(Clone, Debug)]
pub struct ExpectedServed {
    /// `input_ids`.
    pub tokens: Vec<u32>,
    /// `logits_served`.
    pub logits: Vec<f32>,
    /// `short_ids` with `short_logits_served`.
    pub short: Vec<(Vec<u32>, Vec<f32>)>,
    /// Streams before each layer, and after the last: `[tokens, hc_mult, d]` each.
    pub streams: Vec<Vec<f32>>,
    /// `layers.N.router_ids`.
    pub experts: Vec<Vec<i32>>,
    /// `layers.N.indexer_topk`, of layers with an indexer.
    pub entries: Vec<Option<Vec<i32>>>,
}

impl Expected {
    /// Reads `io.safetensors` in `dir`.
    ///
    /// # Errors
    /// [`Error::File`] naming what is missing or does not fit the configuration.
    pub fn open(dir: &Path, config: &Config) -> Result<Expected> {
        let file = File::open(dir.join(EXACT), "verify needs a folder that brings its expected logits along")?;
        let tensors = file.parse()?;
        let tokens = tensors.tokens("input_ids", config.vocab_size)?;
        let name = if tensors.has("logits") { "logits" } else { "logits_prefill" };
        let logits = tensors.floats(name, tokens.len() * config.vocab_size)?;
        Ok(Expected { tokens, logits })
    }
}

impl ExpectedServed {
    /// Reads `io_served.safetensors` in `dir`; `None` if it is not there.
    ///
    /// # Errors
    /// [`Error::File`] naming what is missing or does not fit the configuration.
    pub fn open(dir: &Path, config: &Config) -> Result<Option<ExpectedServed>> {
        if !dir.join(SERVED).exists() {
            return Ok(None);
        }
        let file = File::open(dir.join(SERVED), "make it readable, or verify in exact precision")?;
        let tensors = file.parse()?;
        let tokens = tensors.tokens("input_ids", config.vocab_size)?;
        let rows = tokens.len();
        let width = rows * config.hc_mult * config.hidden_size;
        let layers = config.layers.len();
        let names = (0..layers).map(|l| format!("layers.{l}.in")).chain(["streams_out".into()]);
        let indexed = |l: usize| config.layers[l].compression.has_indexer();
        let entries = |l: usize| {
            let name = format!("layers.{l}.indexer_topk");
            indexed(l).then(|| tensors.integers(&name, rows * config.index_topk)).transpose()
        };
        let experts = |l: usize| tensors.integers(&format!("layers.{l}.router_ids"), rows * config.experts_per_token);
        let short_tokens = tensors.tokens("short_ids", config.vocab_size)?;
        let prompts = tensors.leading("short_ids")?.max(1);
        let each = (short_tokens.len() / prompts).max(1);
        let short_logits = tensors.floats("short_logits_served", short_tokens.len() * config.vocab_size)?;
        let short_logits = short_logits.chunks_exact(each * config.vocab_size).map(<[f32]>::to_vec);
        Ok(Some(ExpectedServed {
            logits: tensors.floats("logits_served", rows * config.vocab_size)?,
            short: short_tokens.chunks_exact(each).map(<[u32]>::to_vec).zip(short_logits).collect(),
            streams: names.map(|name| tensors.floats(&name, width)).collect::<Result<_>>()?,
            experts: (0..layers).map(experts).collect::<Result<_>>()?,
            entries: (0..layers).map(entries).collect::<Result<_>>()?,
            tokens,
        }))
    }
}

/// Expected numbers in bytes at most: 1000 rows of V4's logits and streams have 3 GB.
const MAX_BYTES: u64 = 16 << 30;

/// A safetensors file read whole: expected numbers are small beside a checkpoint.
struct File {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl File {
    fn open(path: PathBuf, mend: &'static str) -> Result<File> {
        match crate::file::read(&path, MAX_BYTES) {
            Ok(bytes) => Ok(File { path, bytes }),
            Err(error) => Err(Error::File { file: path, problem: error.to_string(), mend }),
        }
    }

    fn parse(&self) -> Result<Tensors<'_>> {
        match SafeTensors::deserialize(&self.bytes) {
            Ok(tensors) => Ok(Tensors { path: &self.path, tensors }),
            Err(error) => Err(self::problem(&self.path, format!("no safetensors file: {error}"))),
        }
    }
}

fn problem(path: &Path, problem: String) -> Error {
    Error::File { file: path.into(), problem, mend: "use the file that was computed from this checkpoint" }
}

struct Tensors<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl Tensors<'_> {
    fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    fn get(&self, name: &str) -> Result<safetensors::tensor::TensorView<'_>> {
        self.tensors.tensor(name).map_err(|_| problem(self.path, format!("tensor `{name}` is missing")))
    }

    fn leading(&self, name: &str) -> Result<usize> {
        Ok(self.get(name)?.shape().first().copied().unwrap_or(1))
    }

    fn floats(&self, name: &str, count: usize) -> Result<Vec<f32>> {
        let view = self.get(name)?;
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Dtype::BF16 => {
                view.data().as_chunks::<2>().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect()
            }
            other => return Err(problem(self.path, format!("tensor `{name}` must be F32 or BF16, got {other:?}"))),
        };
        self.counted(name, values, count)
    }

    fn integers(&self, name: &str, count: usize) -> Result<Vec<i32>> {
        let values = self.whole(name)?.into_iter().map(|x| x as i32).collect();
        self.counted(name, values, count)
    }

    fn tokens(&self, name: &str, vocab: usize) -> Result<Vec<u32>> {
        let token = |(place, x): (usize, i64)| {
            u32::try_from(x).ok().filter(|&t| (t as usize) < vocab).ok_or_else(|| {
                problem(self.path, format!("`{name}` holds {x} at place {place}, outside the vocabulary of {vocab}"))
            })
        };
        self.whole(name)?.into_iter().enumerate().map(token).collect()
    }

    fn whole(&self, name: &str) -> Result<Vec<i64>> {
        let view = self.get(name)?;
        match view.dtype() {
            Dtype::I32 => Ok(view.data().as_chunks::<4>().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect()),
            Dtype::I64 => Ok(view.data().as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect()),
            other => Err(problem(self.path, format!("tensor `{name}` must be I32 or I64, got {other:?}"))),
        }
    }

    fn counted<T>(&self, name: &str, values: Vec<T>, count: usize) -> Result<Vec<T>> {
        if values.len() == count {
            return Ok(values);
        }
        Err(problem(
            self.path,
            format!("tensor `{name}` must have {count} elements for this model, got {}", values.len()),
        ))
    }
}

//! Opening a model: everything is checked before the first byte goes to the device.

use super::batch::Angles;
use super::cache::Cache;
use super::graph::Scratch;
use super::weights::{Loader, Progress};
use super::{Model, Options, Precision, Work};
use crate::checkpoint::{Checkpoint, Layout};
use crate::config::Config;
use crate::inventory::inventory;
use crate::plan::Plan;
use crate::{Error, Result};
use anychip_core::{DType, Device};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

impl Model {
    /// Opens the checkpoint in `dir` on `device`.
    ///
    /// Configuration and every tensor's name, type and shape are checked first. Weights go from the mapped files to the
    /// device without a copy in between, in the format they are stored in; `progress` hears of each. Setting `cancelled`
    /// ends the load with [`Error::Interrupted`].
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Checkpoint`], [`Error::BadOption`], [`Error::NotQuantised`], [`Error::NoMtp`],
    /// [`Error::Device`].
    pub fn open(
        device: Arc<dyn Device>,
        dir: &Path,
        options: Options,
        progress: &dyn Progress,
        cancelled: &AtomicBool,
    ) -> Result<Model> {
        let mut config = Config::open(dir)?;
        if !options.draft {
            config.mtp = None;
        } else if config.mtp.is_none() {
            return Err(Error::NoMtp { dir: dir.into() });
        }
        check_options(&options, &config)?;
        check_config(&config, &options, dir.join("config.json"))?;
        let checkpoint = Checkpoint::open(dir)?;
        // Counted without listing: a configuration may claim more experts than a list of their names has room for.
        let tensors = Plan::new(&config, 1).map_or(u64::MAX, |plan| plan.checkpoint_tensors);
        let stacked = if checkpoint.layout() == Layout::Transformers { stacked(&config) } else { 0 };
        let most = (checkpoint.len() as u64).saturating_mul(2).saturating_add(stacked);
        if tensors > most {
            return Err(Error::File {
                file: dir.join("config.json"),
                problem: format!("describes {tensors} tensors, and the checkpoint holds {}", checkpoint.len()),
                mend: "use the config.json that belongs to these weights",
            });
        }
        let checked = checkpoint.check(&config, inventory(&config))?;
        if options.precision == Precision::Served {
            check_quantised(&checkpoint, &config)?;
        }
        let mut stream = device.open_stream()?;
        let loader = Loader {
            device: &*device,
            stream: &mut *stream,
            checkpoint: &checkpoint,
            config: &config,
            progress,
            cancelled,
            total: checked.bytes,
            done: 0,
        };
        let weights = loader.load()?;
        let cache = Cache::new(&*device, &mut *stream, &config, &options, weights.mtp.is_some())?;
        Ok(Model {
            dir: dir.into(),
            angles: Angles::new(&config),
            pending: (0..options.sequences).map(|_| Vec::new()).collect(),
            work: Work::default(),
            device,
            stream,
            config,
            options,
            weights,
            cache,
            scratch: Scratch::default(),
            programs: HashMap::new(),
        })
    }
}

/// Tensors of the official names that a stacked layout holds in fewer: experts of all layers.
fn stacked(config: &Config) -> u64 {
    // Bounded by what a stack on disk can hold: its bytes are checked against its shape when it is opened.
    (config.layers.len() as u64).saturating_mul(config.experts.min(1 << 16) as u64).saturating_mul(6)
}

/// Served precision rounds what goes into quantised linears, and the released model has all of them quantised.
fn check_quantised(checkpoint: &Checkpoint, config: &Config) -> Result<()> {
    let linears = inventory(config).filter(|spec| matches!(spec.dtype, DType::E4M3 | DType::E2M1));
    let mut plain = linears.filter(|spec| checkpoint.tensor(&spec.name).is_ok_and(|tensor| tensor.dtype.is_float()));
    let tensor = match (config.quantization, plain.next()) {
        (Some(_), None) => return Ok(()),
        (_, Some(spec)) => spec.name,
        (None, None) => "layers.0.attn.wq_a.weight".into(),
    };
    Err(Error::NotQuantised { dir: checkpoint.dir().into(), tensor })
}

/// Limits of the runtime that the configuration's own rules do not know.
fn check_config(config: &Config, options: &Options, file: PathBuf) -> Result<()> {
    let served = options.precision == Precision::Served;
    let nope = config.head_dim - config.rope_dim;
    let mtp = config.mtp.and_then(|layer| layer.compression.ratio());
    let rules = [
        (config.hc_mult <= 16, "hc_mult", "at most 16", config.hc_mult),
        (config.sinkhorn_iters <= 1000, "hc_sinkhorn_iters", "at most 1000", config.sinkhorn_iters),
        (config.sliding_window <= 1 << 16, "sliding_window", "at most 65536", config.sliding_window),
        (!served || nope.is_multiple_of(2), "head_dim - qk_rope_head_dim", "even in served precision", nope),
        (
            !served || config.index_head_dim.is_multiple_of(2),
            "index_head_dim",
            "even in served precision",
            config.index_head_dim,
        ),
        (mtp.is_none(), "the MTP layer's ratio", "0 (sliding window)", mtp.unwrap_or(0)),
    ];
    match rules.into_iter().find(|(holds, ..)| !holds) {
        None => Ok(()),
        Some((_, field, rule, got)) => Err(Error::File {
            file,
            problem: format!("`{field}` must be {rule} to run, got {got}"),
            mend: "correct the value, or use exact precision where that is the limit",
        }),
    }
}

fn check_options(options: &Options, config: &Config) -> Result<()> {
    let bad = |option, rule, got: usize| Err(Error::BadOption { option, rule, got: got.to_string() });
    let most = config.max_position_embeddings;
    match options {
        Options { sequences: 0, .. } => bad("sequences", "at least 1", 0),
        Options { sequences, .. } if *sequences > 1 << 16 => bad("sequences", "at most 65536", *sequences),
        Options { chunk: 0, .. } => bad("chunk", "at least 1", 0),
        Options { chunk, .. } if *chunk > 1 << 16 => bad("chunk", "at most 65536", *chunk),
        Options { context: 0, .. } => bad("context", "at least 1", 0),
        Options { context, .. } if *context > most => Err(Error::ContextTooLong { needed: *context, context: most }),
        Options { pool_tokens: Some(0), .. } => bad("pool_tokens", "at least 1", 0),
        _ => Ok(()),
    }
}

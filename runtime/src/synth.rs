//! Random checkpoints in the official layout: any size, on any disk, without a download.
//!
//! The files are what a released checkpoint consists of (`config.json`, shards, index), with numbers drawn so that a
//! forward pass through them stays finite and lively. There is no tokenizer: random weights have no language.

mod law;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value, json};

use crate::config::{Config, ConfigRule, ExpertDtype};
use crate::inventory::{TensorSpec, inventory};
use law::{Drawer, Law};

/// Bytes of tensors that a shard holds at most, unless a single tensor has more.
const SHARD: u64 = 4 << 30;

/// What [`synth`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Tensors, scales included.
    pub tensors: usize,
    /// Shard files.
    pub shards: usize,
    /// Bytes of all tensors: the index's `total_size`.
    pub bytes: u64,
}

/// Why no checkpoint was written. Whatever had been written is removed again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// The configuration is not valid.
    #[error("the configuration is not valid: {0}")]
    Config(#[source] ConfigRule),
    /// The configuration has no official `config.json`.
    #[error(
        "the configuration cannot be written as an official config.json: {reason}; \
         use ratio 4 for CSA layers, another for HCA layers, and hash routing in the first layers only"
    )]
    NotOfficial {
        /// What reading it back gives.
        reason: String,
    },
    /// The target is a file.
    #[error("{}: is not a folder; name a folder that does not exist yet, or an empty one", .dir.display())]
    NotAFolder {
        /// The target.
        dir: PathBuf,
    },
    /// The target holds something, which is never overwritten.
    #[error(
        "{}: is not empty (it holds `{found}`); a checkpoint is only written into an empty or a new folder: \
         empty it or name another", .dir.display()
    )]
    NotEmpty {
        /// The target.
        dir: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// The operating system refused.
    #[error("{}: cannot {doing}: {source}; {}", .file.display(), mend(source))]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What was tried, for example "write".
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// `cancelled` was set.
    #[error("{}: cancelled; what had been written was removed", .dir.display())]
    Cancelled {
        /// The target.
        dir: PathBuf,
    },
}

/// What to do about a refusal of the operating system.
fn mend(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full: free space, name a folder on another disk, or ask for fewer layers or experts"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "name a folder in which you may create files"
        }
        _ => "what had been written was removed",
    }
}

/// Writes a random checkpoint of `config` into the folder `dir`, which must be empty or not exist.
///
/// The same `seed` and `config` give the same bytes. Memory stays at a few MiB however large the model is. `progress`
/// is told (bytes drawn, bytes in all) about once per MiB; `cancelled` is looked at as often. All files are written
/// under temporary names and get their own at the very end, the index last, so that an interrupted run leaves nothing
/// that opens as a checkpoint. The files are not synced: after a power failure write them again.
///
/// # Errors
/// See [`SynthError`].
pub fn synth(
    config: &Config,
    seed: u64,
    dir: &Path,
    cancelled: &AtomicBool,
    progress: &dyn Fn(u64, u64),
) -> Result<Summary, SynthError> {
    sharded(config, seed, dir, SHARD, cancelled, progress)
}

fn sharded(
    config: &Config,
    seed: u64,
    dir: &Path,
    limit: u64,
    cancelled: &AtomicBool,
    progress: &dyn Fn(u64, u64),
) -> Result<Summary, SynthError> {
    config.validate().map_err(SynthError::Config)?;
    let official = official_json(config)?;
    let shards = plan(config, limit);
    let bytes = shards.iter().flatten().map(|(spec, _)| spec.file_bytes()).sum();
    let summary = Summary { tensors: shards.iter().map(Vec::len).sum(), shards: shards.len(), bytes };

    let mut staging = Staging::begin(dir)?;
    let mut drawer = Drawer::new(seed, config.experts);
    let mut weight_map = Map::new();
    let mut done = 0;
    progress(0, bytes);
    for (number, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        let (path, file) = staging.create(&name)?;
        let failed = |source| SynthError::Io { file: path.clone(), doing: "write", source };
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&header(shard)).map_err(failed)?;
        for (spec, law) in shard {
            drawer.draw(spec, *law, |chunk| {
                if cancelled.load(Ordering::Relaxed) {
                    return Err(SynthError::Cancelled { dir: dir.to_owned() });
                }
                file.write_all(chunk).map_err(failed)?;
                done += chunk.len() as u64;
                progress(done, bytes);
                Ok(())
            })?;
            weight_map.insert(spec.name.clone(), Value::from(name.as_str()));
        }
        file.flush().map_err(failed)?;
    }
    staging.write("config.json", &official)?;
    let index = json!({ "metadata": { "total_size": bytes }, "weight_map": weight_map });
    staging.write("model.safetensors.index.json", &format!("{index:#}\n"))?;
    staging.commit()?;
    Ok(summary)
}

/// The tensors of every shard, each shard's ordered so that no element straddles its alignment.
fn plan(config: &Config, limit: u64) -> Vec<Vec<(TensorSpec, Law)>> {
    let (mut shards, mut shard, mut filled) = (Vec::new(), Vec::new(), 0u64);
    let mut before: Option<TensorSpec> = None;
    for spec in inventory(config) {
        let (law, bytes) = (Law::of(&spec, before.as_ref()), spec.file_bytes());
        if filled + bytes > limit && !shard.is_empty() {
            shards.push(std::mem::take(&mut shard));
            filled = 0;
        }
        filled += bytes;
        before = Some(spec.clone());
        shard.push((spec, law));
    }
    shards.push(shard);
    for shard in &mut shards {
        shard.sort_by_key(|(spec, _)| std::cmp::Reverse(spec.dtype.bits()));
    }
    shards
}

/// The length field and the header of a shard, padded with spaces to a multiple of 8 as the format advises.
fn header(shard: &[(TensorSpec, Law)]) -> Vec<u8> {
    let mut start = 0;
    let mut entries = Map::new();
    for (spec, _) in shard {
        let end = start + spec.file_bytes() as usize;
        let shape = spec.file_shape().iter().map(|&n| n as usize).collect();
        let info = TensorInfo { dtype: spec.file_dtype(), shape, data_offsets: (start, end) };
        entries.insert(spec.name.clone(), json!(info));
        start = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}

/// `config.json` in the official dialect, proven to read back as `config`.
fn official_json(config: &Config) -> Result<String, SynthError> {
    let c = config;
    let ratio = |layer: &crate::config::LayerKind| layer.compression.ratio().unwrap_or(0);
    // Released models list the MTP layer's ratio last, also where the layer itself is left out.
    let ratios: Vec<usize> = c.layers.iter().map(ratio).chain([c.mtp.as_ref().map_or(0, ratio)]).collect();
    let mut json = json!({
        "architectures": ["DeepseekV4ForCausalLM"],
        "model_type": "deepseek_v4",
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "moe_intermediate_size": c.moe_intermediate_size,
        "num_hidden_layers": c.layers.len(),
        "num_nextn_predict_layers": usize::from(c.mtp.is_some()),
        "num_attention_heads": c.heads,
        "num_key_value_heads": 1,
        "head_dim": c.head_dim,
        "qk_rope_head_dim": c.rope_dim,
        "q_lora_rank": c.q_lora_rank,
        "o_groups": c.o_groups,
        "o_lora_rank": c.o_lora_rank,
        "index_n_heads": c.index_n_heads,
        "index_head_dim": c.index_head_dim,
        "index_topk": c.index_topk,
        "sliding_window": c.sliding_window,
        "compress_ratios": ratios,
        "num_hash_layers": c.layers.iter().take_while(|layer| layer.hash_routed).count(),
        "n_routed_experts": c.experts,
        "n_shared_experts": c.n_shared_experts,
        "num_experts_per_tok": c.experts_per_token,
        "scoring_func": "sqrtsoftplus",
        "topk_method": "noaux_tc",
        "norm_topk_prob": true,
        "routed_scaling_factor": c.routed_scaling_factor,
        "swiglu_limit": c.swiglu_limit,
        "hidden_act": "silu",
        "hc_mult": c.hc_mult,
        "hc_sinkhorn_iters": c.sinkhorn_iters,
        "hc_eps": c.hc_eps,
        "rms_norm_eps": c.rms_norm_eps,
        "rope_theta": c.rope_theta,
        "compress_rope_theta": c.compress_rope_theta,
        "max_position_embeddings": c.max_position_embeddings,
        "bos_token_id": c.bos,
        "eos_token_id": match &c.eos[..] { [one] => json!(one), several => json!(several) },
        "attention_bias": false,
        "attention_dropout": 0.0,
        "tie_word_embeddings": false,
        "torch_dtype": match c.dtype { anychip_core::DType::F32 => "float32", anychip_core::DType::F16 => "float16", _ => "bfloat16" },
    });
    if let Some(yarn) = &c.yarn {
        json["rope_scaling"] = json!({
            "type": "yarn",
            "factor": yarn.factor,
            "original_max_position_embeddings": yarn.original,
            "beta_fast": yarn.beta_fast,
            "beta_slow": yarn.beta_slow,
        });
    }
    if let Some(quantization) = &c.quantization {
        json["expert_dtype"] = json!(match quantization.expert_dtype {
            ExpertDtype::Fp4 => "fp4",
            ExpertDtype::Fp8 => "fp8",
        });
        json["quantization_config"] = json!({
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "scale_fmt": "ue8m0",
            "weight_block_size": quantization.weight_block,
        });
    }
    let text = format!("{json:#}\n");
    match Config::from_json(&text, Path::new("config.json")) {
        Ok(back) if back == *config => Ok(text),
        Ok(_) => Err(SynthError::NotOfficial { reason: "it reads back as another configuration".to_owned() }),
        Err(e) => Err(SynthError::NotOfficial { reason: e.to_string() }),
    }
}

/// Files under temporary names in the target folder; dropped without [`commit`](Staging::commit), it removes them.
struct Staging<'a> {
    dir: &'a Path,
    /// Whether the folder was made here, and is removed as well.
    made: bool,
    /// Temporary and final path of every file begun.
    files: Vec<(PathBuf, PathBuf)>,
    committed: bool,
}

impl<'a> Staging<'a> {
    fn begin(dir: &'a Path) -> Result<Staging<'a>, SynthError> {
        let failed = |doing| move |source: io::Error| SynthError::Io { file: dir.to_owned(), doing, source };
        let made = match fs::metadata(dir) {
            Ok(found) if !found.is_dir() => return Err(SynthError::NotAFolder { dir: dir.to_owned() }),
            Ok(_) => {
                if let Some(entry) = fs::read_dir(dir).map_err(failed("list the folder"))?.next() {
                    let entry = entry.map_err(failed("list the folder"))?;
                    let found = entry.file_name().to_string_lossy().into_owned();
                    return Err(SynthError::NotEmpty { dir: dir.to_owned(), found });
                }
                false
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(dir).map_err(failed("create the folder"))?;
                true
            }
            Err(e) => return Err(failed("look at the folder")(e)),
        };
        Ok(Staging { dir, made, files: Vec::new(), committed: false })
    }

    /// A new file that will be called `name`; the path is that of now.
    fn create(&mut self, name: &str) -> Result<(PathBuf, File), SynthError> {
        let path = self.dir.join(format!(".{name}.partial"));
        let file = File::create_new(&path)
            .map_err(|source| SynthError::Io { file: path.clone(), doing: "create the file", source })?;
        self.files.push((path.clone(), self.dir.join(name)));
        Ok((path, file))
    }

    fn write(&mut self, name: &str, text: &str) -> Result<(), SynthError> {
        let (file, mut handle) = self.create(name)?;
        handle.write_all(text.as_bytes()).map_err(|source| SynthError::Io { file, doing: "write", source })
    }

    /// Gives all files their names, in the order in which they were created.
    fn commit(mut self) -> Result<(), SynthError> {
        for (from, to) in &self.files {
            fs::rename(from, to).map_err(|source| SynthError::Io { file: to.clone(), doing: "rename", source })?;
        }
        self.committed = true;
        Ok(())
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.committed {
            // The folder was empty, so both names are ours. What cannot be removed still opens as no checkpoint.
            for path in self.files.iter().flat_map(|(from, to)| [from, to]) {
                let _ = fs::remove_file(path);
            }
            if self.made {
                let _ = fs::remove_dir(self.dir);
            }
        }
    }
}

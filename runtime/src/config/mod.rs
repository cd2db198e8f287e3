//! The configuration of a DeepSeek V4 model: parsed once, and valid from then on.
//!
//! Two dialects of `config.json` are read into one normal form: the official one (`compress_ratios`) and the
//! transformers one (`layer_types`), told apart by which of the two schedules is there. Every field is required but
//! these, whose absence has one safe meaning because the runtime implements nothing else or the tensors show it:
//! `num_key_value_heads` (1), `norm_topk_prob` (true), `topk_method` (noaux_tc), `hidden_act` (silu),
//! `tie_word_embeddings`, `attention_bias` and `mlp_bias` (false), `num_nextn_predict_layers` (0), `rope_scaling` (no
//! YaRN), `dtype` or `torch_dtype` (bfloat16), `quantization_config` (plain weights), its `fmt` (e4m3) and
//! `activation_scheme` (dynamic), and `expert_dtype` (fp4: the first V4-Pro release leaves it out). Fields that change
//! nothing at inference are ignored.

mod error;
mod fields;
mod official;
mod presets;
mod transformers;

pub use error::{ConfigError, ConfigRule};

use anychip_core::DType;
use fields::{Fields, show, size, whole};
use serde_json::Value;
use std::path::Path;

/// How a layer's attention sees tokens that have left its sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all: sliding-window attention (SWA).
    None,
    /// Compressed sparse attention (CSA): one entry per `m` tokens, pooled over `2m` tokens (windows overlap by half,
    /// so projections are `coff` = 2 heads wide), of which an indexer selects `index_topk`.
    Overlap(u32),
    /// Heavily compressed attention (HCA): one entry per `m` tokens, pooled over those `m` tokens, all attended to.
    Pooled(u32),
}

impl Compression {
    /// Tokens per compressed entry; `None` without compression.
    pub fn ratio(self) -> Option<usize> {
        match self {
            Compression::None => None,
            Compression::Overlap(m) | Compression::Pooled(m) => Some(m as usize),
        }
    }

    /// Whether an indexer selects entries.
    pub fn has_indexer(self) -> bool {
        matches!(self, Compression::Overlap(_))
    }
}

/// What tells one layer from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LayerKind {
    /// Its attention.
    pub compression: Compression,
    /// Experts are looked up by token id (`tid2eid`) instead of chosen by score.
    pub hash_routed: bool,
}

/// YaRN's stretching of the RoPE frequencies of compressed layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// By how much low frequencies are divided, at least 1.
    pub factor: f64,
    /// Context in tokens that the frequencies were trained for.
    pub original: usize,
    /// Turns over `original` above which a frequency stays as it is.
    pub beta_fast: f64,
    /// Turns over `original` below which a frequency is divided by `factor`.
    pub beta_slow: f64,
}

/// Stored format of the routed experts' weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExpertDtype {
    /// FP4 e2m1, one ue8m0 scale per 32 elements along the input.
    Fp4,
    /// FP8 e4m3 with the block scales of every other quantised linear.
    Fp8,
}

/// How the linear weights are quantised: FP8 e4m3 with one ue8m0 scale per block, experts as `expert_dtype` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quantization {
    /// Outputs and inputs that share a scale, `[128, 128]` as released.
    pub weight_block: [usize; 2],
    /// Format of the routed experts.
    pub expert_dtype: ExpertDtype,
}

/// A DeepSeek V4 model: every size, count and constant that its forward pass depends on.
///
/// A value that this module returns keeps every rule of [`ConfigRule`]. Fields are open so that a model can be cut down
/// (fewer layers, fewer experts); call [`validate`](Config::validate) after changing one. Sizes are elements, all of
/// them 1 to 2^31-1.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width `d` of one residual stream.
    pub hidden_size: usize,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// The layers, first to last.
    pub layers: Vec<LayerKind>,
    /// The multi-token-prediction layer, where the checkpoint holds one.
    pub mtp: Option<LayerKind>,
    /// Query heads. There is one key-value head, and keys are values.
    pub heads: usize,
    /// Width of a head, of a key-value entry and of a compressed entry.
    pub head_dim: usize,
    /// How many of the last elements of a head RoPE turns; even.
    pub rope_dim: usize,
    /// Rank of the query projection.
    pub q_lora_rank: usize,
    /// Groups of the output projection; divides `heads`.
    pub o_groups: usize,
    /// Rank of each output group.
    pub o_lora_rank: usize,
    /// Indexer heads.
    pub index_n_heads: usize,
    /// Width of an indexer head. Where it is no power of two, the served indexer is not rotated (no Hadamard).
    pub index_head_dim: usize,
    /// Entries that the indexer selects per token.
    pub index_topk: usize,
    /// Tokens in the sliding window, the query's own included.
    pub sliding_window: usize,
    /// Routed experts per layer.
    pub experts: usize,
    /// Routed experts that one token visits.
    pub experts_per_token: usize,
    /// Shared experts per layer: 1.
    pub n_shared_experts: usize,
    /// Inner width of an expert, routed or shared.
    pub moe_intermediate_size: usize,
    /// Factor on the normalised routing weights.
    pub routed_scaling_factor: f64,
    /// Clamp of the expert's gate (from above) and up (both sides) before SwiGLU.
    pub swiglu_limit: f64,
    /// Residual streams of the hyper-connections.
    pub hc_mult: usize,
    /// Column passes of the Sinkhorn normalisation (row passes are one fewer, after the softmax).
    pub sinkhorn_iters: usize,
    /// Epsilon of the hyper-connections.
    pub hc_eps: f64,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f64,
    /// RoPE base of layers without compression, which never use YaRN.
    pub rope_theta: f64,
    /// RoPE base of compressed layers.
    pub compress_rope_theta: f64,
    /// YaRN on compressed layers.
    pub yarn: Option<Yarn>,
    /// Longest context the model was trained for, in tokens.
    pub max_position_embeddings: usize,
    /// Begin-of-sentence token.
    pub bos: u32,
    /// Tokens that end a generation; at least one.
    pub eos: Vec<u32>,
    /// Type of the weights that are stored plain: BF16 in released checkpoints, F32 in the float golden models.
    pub dtype: DType,
    /// Quantisation of the linears; `None` in a checkpoint of plain weights.
    pub quantization: Option<Quantization>,
}

/// A configuration in bytes at most; released ones have 2 KB.
const MAX_BYTES: u64 = 16 << 20;

/// What the two dialects say in different words.
struct Dialect {
    layers: Vec<LayerKind>,
    mtp: Option<LayerKind>,
    rope_dim: usize,
    rope_theta: f64,
    compress_rope_theta: f64,
    yarn: Option<Yarn>,
}

impl Config {
    /// Reads `config.json` in the checkpoint directory `dir`.
    ///
    /// # Errors
    /// If the file cannot be read, and as [`from_json`](Config::from_json).
    pub fn open(dir: &Path) -> Result<Config, ConfigError> {
        let file = dir.join("config.json");
        match crate::file::read_text(&file, MAX_BYTES) {
            Ok(text) => Config::from_json(&text, &file),
            Err(error) => Err(ConfigError { file, rule: ConfigRule::Read(error) }),
        }
    }

    /// Parses `text`; `file` only names it in errors.
    ///
    /// # Errors
    /// The first rule that the text breaks. No text makes it panic, overflow or allocate more than a multiple of itself.
    pub fn from_json(text: &str, file: &Path) -> Result<Config, ConfigError> {
        read(text).map_err(|rule| ConfigError { file: file.to_owned(), rule })
    }

    /// Checks every rule that is not about JSON. Fields go by their official names.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn validate(&self) -> Result<(), ConfigRule> {
        self.validate_sizes()?;
        self.validate_numbers()?;
        if !self.rope_dim.is_multiple_of(2) {
            return Err(ConfigRule::OddRope { given: self.rope_dim });
        }
        for (field, limit) in [("head_dim", self.head_dim), ("index_head_dim", self.index_head_dim)] {
            if self.rope_dim > limit {
                return Err(ConfigRule::WideRope { field, limit, given: self.rope_dim });
            }
        }
        if !self.heads.is_multiple_of(self.o_groups) {
            return Err(ConfigRule::HeadGroups { heads: self.heads, groups: self.o_groups });
        }
        if self.experts_per_token > self.experts {
            return Err(ConfigRule::ExpertsPerToken { experts: self.experts, given: self.experts_per_token });
        }
        if self.n_shared_experts != 1 {
            let given = self.n_shared_experts.to_string();
            return Err(ConfigRule::Only { field: "n_shared_experts".into(), only: "1".into(), given });
        }
        if self.quantization.is_some_and(|q| q.expert_dtype == ExpertDtype::Fp4) {
            for (field, given) in
                [("hidden_size", self.hidden_size), ("moe_intermediate_size", self.moe_intermediate_size)]
            {
                if !given.is_multiple_of(2) {
                    return Err(ConfigRule::OddPacked { field, given });
                }
            }
        }
        if self.eos.is_empty() {
            return Err(ConfigRule::NoEos);
        }
        for (field, id) in self.eos.iter().map(|id| ("eos_token_id", *id)).chain([("bos_token_id", self.bos)]) {
            if id as usize >= self.vocab_size {
                return Err(ConfigRule::TokenId { field, vocab: self.vocab_size, given: id.into() });
            }
        }
        // Bounds every product of sizes at once: each tensor, and so each operand of the forward pass, is part of it.
        match crate::inventory::checkpoint_bytes(self) {
            bytes if bytes > i64::MAX as u128 => Err(ConfigRule::TooLarge { bytes }),
            _ => Ok(()),
        }
    }

    fn validate_sizes(&self) -> Result<(), ConfigRule> {
        let [rows, columns] = self.quantization.map_or([1, 1], |q| q.weight_block);
        for (field, given) in [
            ("hidden_size", self.hidden_size),
            ("vocab_size", self.vocab_size),
            ("num_hidden_layers", self.layers.len()),
            ("num_attention_heads", self.heads),
            ("head_dim", self.head_dim),
            ("qk_rope_head_dim", self.rope_dim),
            ("q_lora_rank", self.q_lora_rank),
            ("o_groups", self.o_groups),
            ("o_lora_rank", self.o_lora_rank),
            ("index_n_heads", self.index_n_heads),
            ("index_head_dim", self.index_head_dim),
            ("index_topk", self.index_topk),
            ("sliding_window", self.sliding_window),
            ("n_routed_experts", self.experts),
            ("num_experts_per_tok", self.experts_per_token),
            ("n_shared_experts", self.n_shared_experts),
            ("moe_intermediate_size", self.moe_intermediate_size),
            ("hc_mult", self.hc_mult),
            ("hc_sinkhorn_iters", self.sinkhorn_iters),
            ("max_position_embeddings", self.max_position_embeddings),
            ("rope_scaling.original_max_position_embeddings", self.yarn.map_or(1, |yarn| yarn.original)),
            ("weight_block_size[0]", rows),
            ("weight_block_size[1]", columns),
        ] {
            size(field, given as u64)?;
        }
        for ratio in self.layers.iter().chain(&self.mtp).filter_map(|layer| layer.compression.ratio()) {
            size("compress_ratios", ratio as u64)?;
        }
        Ok(())
    }

    fn validate_numbers(&self) -> Result<(), ConfigRule> {
        let yarn = self.yarn.unwrap_or(Yarn { factor: 1.0, original: 1, beta_fast: 2.0, beta_slow: 1.0 });
        for (field, given) in [
            ("routed_scaling_factor", self.routed_scaling_factor),
            ("swiglu_limit", self.swiglu_limit),
            ("hc_eps", self.hc_eps),
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta),
            ("compress_rope_theta", self.compress_rope_theta),
            ("rope_scaling.factor", yarn.factor),
            ("rope_scaling.beta_fast", yarn.beta_fast),
            ("rope_scaling.beta_slow", yarn.beta_slow),
        ] {
            if !given.is_finite() || given <= 0.0 {
                return Err(ConfigRule::NotPositive { field: field.into(), given });
            }
        }
        for (field, given) in [("rope_theta", self.rope_theta), ("compress_rope_theta", self.compress_rope_theta)] {
            if given <= 1.0 {
                return Err(ConfigRule::RopeBase { field, given });
            }
        }
        if yarn.factor < 1.0 {
            return Err(ConfigRule::YarnFactor { field: "rope_scaling.factor", given: yarn.factor });
        }
        if yarn.beta_fast <= yarn.beta_slow {
            return Err(ConfigRule::YarnBetas { fast: yarn.beta_fast, slow: yarn.beta_slow });
        }
        Ok(())
    }
}

fn read(text: &str) -> Result<Config, ConfigRule> {
    let value: Value = serde_json::from_str(text).map_err(ConfigRule::Json)?;
    let map = value.as_object().ok_or_else(|| ConfigRule::NotObject { given: show(&value) })?;
    let fields = Fields::root(map);
    fields.need_only("model_type", "deepseek_v4")?;
    let dialect = match (fields.get("compress_ratios"), fields.get("layer_types")) {
        (Some(_), None) => official::read(&fields)?,
        (None, Some(_)) => transformers::read(&fields)?,
        (None, None) => return Err(ConfigRule::NoSchedule),
        (Some(_), Some(_)) => return Err(ConfigRule::TwoSchedules),
    };
    fields.need_only("scoring_func", "sqrtsoftplus")?;
    fields.only("topk_method", "noaux_tc")?;
    fields.only("norm_topk_prob", true)?;
    fields.only("hidden_act", "silu")?;
    fields.only("num_key_value_heads", 1)?;
    for key in ["tie_word_embeddings", "attention_bias", "mlp_bias"] {
        fields.only(key, false)?;
    }
    let vocab_size = fields.size("vocab_size")?;
    let config = Config {
        hidden_size: fields.size("hidden_size")?,
        vocab_size,
        layers: dialect.layers,
        mtp: dialect.mtp,
        heads: fields.size("num_attention_heads")?,
        head_dim: fields.size("head_dim")?,
        rope_dim: dialect.rope_dim,
        q_lora_rank: fields.size("q_lora_rank")?,
        o_groups: fields.size("o_groups")?,
        o_lora_rank: fields.size("o_lora_rank")?,
        index_n_heads: fields.size("index_n_heads")?,
        index_head_dim: fields.size("index_head_dim")?,
        index_topk: fields.size("index_topk")?,
        sliding_window: fields.size("sliding_window")?,
        experts: fields.size("n_routed_experts")?,
        experts_per_token: fields.size("num_experts_per_tok")?,
        n_shared_experts: fields.size("n_shared_experts")?,
        moe_intermediate_size: fields.size("moe_intermediate_size")?,
        routed_scaling_factor: fields.positive("routed_scaling_factor")?,
        swiglu_limit: fields.positive("swiglu_limit")?,
        hc_mult: fields.size("hc_mult")?,
        sinkhorn_iters: fields.size("hc_sinkhorn_iters")?,
        hc_eps: fields.positive("hc_eps")?,
        rms_norm_eps: fields.positive("rms_norm_eps")?,
        rope_theta: dialect.rope_theta,
        compress_rope_theta: dialect.compress_rope_theta,
        yarn: dialect.yarn,
        max_position_embeddings: fields.size("max_position_embeddings")?,
        bos: token("bos_token_id", vocab_size, fields.need("bos_token_id")?)?,
        eos: match fields.need("eos_token_id")? {
            Value::Array(ids) => {
                ids.iter().map(|id| token("eos_token_id", vocab_size, id)).collect::<Result<_, _>>()?
            }
            id => vec![token("eos_token_id", vocab_size, id)?],
        },
        dtype: read_dtype(&fields)?,
        quantization: read_quantization(&fields)?,
    };
    config.validate()?;
    Ok(config)
}

fn token(field: &'static str, vocab: usize, value: &Value) -> Result<u32, ConfigRule> {
    let given = whole(field, value)?;
    u32::try_from(given).ok().filter(|id| (*id as usize) < vocab).ok_or(ConfigRule::TokenId { field, vocab, given })
}

/// The YaRN object of either dialect; `None` where it says that there is no scaling.
fn read_yarn(scaling: &Fields<'_>) -> Result<Option<Yarn>, ConfigRule> {
    // The official dialect says `type`, transformers `rope_type`.
    let key = if scaling.get("rope_type").is_some() { "rope_type" } else { "type" };
    if scaling.need(key)? == "default" {
        return Ok(None);
    }
    scaling.only(key, "yarn")?;
    if scaling.get("attention_factor").is_some() && scaling.positive("attention_factor")? != 1.0 {
        scaling.only("attention_factor", 1.0)?;
    }
    Ok(Some(Yarn {
        factor: scaling.positive("factor")?,
        original: scaling.size("original_max_position_embeddings")?,
        beta_fast: scaling.positive("beta_fast")?,
        beta_slow: scaling.positive("beta_slow")?,
    }))
}

fn read_dtype(fields: &Fields<'_>) -> Result<DType, ConfigRule> {
    let key = if fields.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
    match fields.get(key).map(Value::as_str) {
        None | Some(Some("bfloat16")) => Ok(DType::BF16),
        Some(Some("float16")) => Ok(DType::F16),
        Some(Some("float32")) => Ok(DType::F32),
        _ => Err(only_of(fields, key, "bfloat16, float16 or float32")),
    }
}

fn read_quantization(fields: &Fields<'_>) -> Result<Option<Quantization>, ConfigRule> {
    let expert_dtype = fields.get("expert_dtype");
    if fields.get("quantization_config").is_none() {
        return match expert_dtype {
            Some(given) => Err(ConfigRule::ExpertDtypeAlone { given: show(given) }),
            None => Ok(None),
        };
    }
    let quantization = fields.object("quantization_config")?;
    quantization.need_only("quant_method", "fp8")?;
    quantization.need_only("scale_fmt", "ue8m0")?;
    quantization.only("fmt", "e4m3")?;
    quantization.only("activation_scheme", "dynamic")?;
    let field = quantization.name("weight_block_size");
    let weight_block = match quantization.list("weight_block_size")? {
        [rows, columns] => [size(&field, whole(&field, rows)?)?, size(&field, whole(&field, columns)?)?],
        other => {
            let given = format!("a list of {}", other.len());
            return Err(ConfigRule::Type { field, want: "a list of two sizes", given });
        }
    };
    let expert_dtype = match expert_dtype.map(Value::as_str) {
        None | Some(Some("fp4")) => ExpertDtype::Fp4,
        Some(Some("fp8")) => ExpertDtype::Fp8,
        _ => return Err(only_of(fields, "expert_dtype", "fp4 or fp8")),
    };
    Ok(Some(Quantization { weight_block, expert_dtype }))
}

fn only_of(fields: &Fields<'_>, key: &str, only: &str) -> ConfigRule {
    let given = fields.get(key).map_or_else(String::new, show);
    ConfigRule::Only { field: fields.name(key), only: only.into(), given }
}

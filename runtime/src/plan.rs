//! What a model costs at a context length: parameters, checkpoint size, FLOPs per token, cache bytes; against
//! DeepSeek-V3.2, as the DeepSeek V4 technical report compares them.
//!
//! # Conventions
//! Decode of one token at the end of a context of `n` tokens; `entries(m) = ⌊n/m⌋` compressed entries per layer.
//!
//! - **`params_total`**: every learned number outside the MTP layer (embedding, head, norms, biases and sinks
//!   included; scales of quantised weights and the hash-routing table are not learned). The MTP layer is counted
//!   apart in `params_mtp`, because the published 284 G and 13 G (Flash), 1.6 T and 49 G (Pro) leave it out.
//! - **`params_active`** `A`: the weights of every linear that one token is multiplied with, hyper-connection mixes and
//!   the head included, the embedding (a row lookup), norms and the MTP layer not.
//! - **`flops_per_token`**: `2A + core + indexer`, a multiply and an add being two, every format counting the same.
//!   `core = Σ_layers 4 · heads · head_dim · keys`, `keys = min(n, window)`, plus `min(index_topk, entries(m))` in CSA
//!   layers, plus `entries(m)` in HCA layers. `indexer = Σ_CSA 2 · index_heads · index_dim · entries(m)`.
//! - **`flops_per_token_fp8_equivalent`**: the same in units of an FP8 FLOP: FP8 and FP4-weight linears (which run as
//!   FP8) 1, BF16 linears 2, F32 linears 4, core attention (BF16) 2, indexer (FP4) 1/2. For V3.2: all linears 1 (FP8),
//!   core attention 2, indexer (FP8) 1. The report says only "equivalent FP8 FLOPs"; these weights are inferred: they
//!   reproduce its 27 % and 10 % at 1M tokens, where raw FLOPs give 26.2 % and 12.1 %.
//! - **`kv_bytes_at_context`**: `Σ_layers entry · window + Σ_CSA (entry + index) · entries(m) + Σ_HCA entry · entries(m)`.
//!   `entry` is a cache entry (FP8 part, BF16 rotary part, a ue8m0 scale per 64 elements padded to 8 bytes: 584 as
//!   released), `index` an FP4 indexer key with a scale per 32 (68 as released). Windows are allocated whole, at
//!   any `n`. `kv_bytes_per_token` is this over `n`.
//! - **`compressor_state_bytes`**: F32 sums and scores of the unfinished windows of one sequence, in the reference's
//!   layout (`inference/model.py`): CSA `2m` rows (main and indexer) `2 · width` wide, HCA `m` rows one width wide.
//!   Constant in `n`, not part of the KV bytes.

use crate::config::{Compression, Config};
use crate::inventory::{Role, checkpoint_bytes, runs};
use anychip_core::DType;
use serde::Serialize;

/// Why no plan can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no token to decode.
    #[error("a plan needs a context of at least 1 token, got 0; give the context to plan for")]
    NoContext,
    /// A count passed 2^64.
    #[error("{what} at a context of {context} tokens do not fit 64 bits; give a shorter context")]
    TooLong {
        /// What was counted.
        what: &'static str,
        /// Tokens of context.
        context: u64,
    },
}

/// FLOPs of one decoded token by part, unweighted. The V3.2 side has its linears under `linear_fp8`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flops {
    /// Linears with FP8 weights.
    pub linear_fp8: u64,
    /// Linears with FP4 weights (routed experts).
    pub linear_fp4: u64,
    /// Linears with 16-bit weights (head, router, compressors, indexer weights).
    pub linear_bf16: u64,
    /// Linears with F32 weights (hyper-connections).
    pub linear_f32: u64,
    /// Scores and weighted sums of attention.
    pub core_attention: u64,
    /// Scores of the indexer.
    pub indexer: u64,
}

impl Flops {
    /// All linears.
    pub fn linears(&self) -> u64 {
        [self.linear_fp4, self.linear_bf16, self.linear_f32].into_iter().fold(self.linear_fp8, u64::saturating_add)
    }
}

/// The figures that a model and its comparison share; units and formulas are those of the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Learned numbers, without the MTP layer.
    pub params_total: u64,
    /// Weights that one token is multiplied with.
    pub params_active: u64,
    /// FLOPs per decoded token.
    pub flops_per_token: u64,
    /// FLOPs per decoded token in units of an FP8 FLOP.
    pub flops_per_token_fp8_equivalent: u64,
    /// Its parts, unweighted.
    pub flops: Flops,
    /// Cache bytes per token of context.
    pub kv_bytes_per_token: f64,
    /// Cache bytes of one sequence.
    pub kv_bytes_at_context: u64,
}

/// The document of `anychip plan --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// `anychip.plan/1`.
    pub schema: &'static str,
    /// `v4-flash`, `v4-pro` or `tiny` where the configuration is exactly that one, else `deepseek-v4`. A caller that
    /// knows a better name may put it here.
    pub model: String,
    /// Tokens of context.
    pub context: u64,
    /// Tokens of context that the model was trained for.
    pub max_context: u64,
    /// The model.
    #[serde(flatten)]
    pub figures: Figures,
    /// Learned numbers of the MTP layer, 0 without one.
    pub params_mtp: u64,
    /// Tensors in the checkpoint, the MTP layer's included.
    pub checkpoint_tensors: u64,
    /// Bytes of those tensors.
    pub checkpoint_bytes: u64,
    /// Unfinished windows of one sequence.
    pub compressor_state_bytes: u64,
    /// DeepSeek-V3.2 at the same context, without its MTP layer.
    pub v3_2: Figures,
    /// FP8-equivalent FLOPs over those of V3.2.
    pub flops_ratio: f64,
    /// FLOPs over those of V3.2.
    pub flops_ratio_raw: f64,
    /// Cache bytes over those of V3.2.
    pub kv_ratio: f64,
}

/// Sums are made in u128 and saturate; this makes them u64 or an error, so that no context and no configuration wraps.
fn fit(what: &'static str, context: u64, count: u128) -> Result<u64, PlanError> {
    u64::try_from(count).map_err(|_| PlanError::TooLong { what, context })
}

fn product<const N: usize>(factors: [u128; N]) -> u128 {
    factors.into_iter().fold(1, u128::saturating_mul)
}

/// Bytes of one cache entry: FP8 `head_dim - rope_dim`, BF16 `rope_dim`, a ue8m0 scale per 64 of the former, padded.
fn entry_bytes(config: &Config) -> u128 {
    let rope = config.rope_dim as u128;
    let still = (config.head_dim as u128).saturating_sub(rope);
    still + 2 * rope + still.div_ceil(64).next_multiple_of(8)
}

/// Bytes of one indexer key: FP4 with a ue8m0 scale per 32.
fn index_bytes(config: &Config) -> u128 {
    let width = config.index_head_dim as u128;
    width.div_ceil(2) + width.div_ceil(32)
}

#[derive(Default)]
struct Weights {
    total: u128,
    active: u128,
    mtp: u128,
    tensors: u128,
    bytes: u128,
    fp8: u128,
    fp4: u128,
    half: u128,
    f32: u128,
}

impl Weights {
    fn of(config: &Config) -> Weights {
        let mut sums = Weights { bytes: checkpoint_bytes(config), ..Weights::default() };
        let add = |sum: &mut u128, count: u128| *sum = sum.saturating_add(count);
        for run in runs(config) {
            add(&mut sums.tensors, product([run.entries.len() as u128, run.copies.into()]));
            for entry in run.entries.iter().filter(|entry| entry.role != Role::Auxiliary) {
                let elements = u128::from(entry.spec.elements());
                let stored = product([elements, run.copies.into()]);
                if run.mtp {
                    add(&mut sums.mtp, stored);
                    continue;
                }
                add(&mut sums.total, stored);
                if entry.role == Role::Linear {
                    let used = product([elements, run.used.into()]);
                    add(&mut sums.active, used);
                    let format = match entry.spec.dtype {
                        DType::E4M3 => &mut sums.fp8,
                        DType::E2M1 => &mut sums.fp4,
                        DType::F32 => &mut sums.f32,
                        _ => &mut sums.half,
                    };
                    add(format, used);
                }
            }
        }
        sums
    }
}

/// What the layers do beyond their linears, at one context.
#[derive(Default)]
struct Layers {
    core: u128,
    indexer: u128,
    kv: u128,
    state: u128,
}

impl Layers {
    fn of(config: &Config, context: u64) -> Layers {
        let n = u128::from(context);
        let [heads, head_dim, window] = [config.heads, config.head_dim, config.sliding_window].map(|x| x as u128);
        let [index_heads, index_dim, topk] =
            [config.index_n_heads, config.index_head_dim, config.index_topk].map(|x| x as u128);
        let mut sums = Layers::default();
        for layer in &config.layers {
            let mut keys = n.min(window);
            let mut kv = product([entry_bytes(config), window]);
            match layer.compression {
                Compression::None => {}
                Compression::Overlap(m) => {
                    let (m, entries) = (u128::from(m), n / u128::from(m.max(1)));
                    keys += topk.min(entries);
                    kv = kv.saturating_add(product([entry_bytes(config) + index_bytes(config), entries]));
                    sums.indexer = sums.indexer.saturating_add(product([2, index_heads, index_dim, entries]));
                    // Sums and scores (2) of 2m rows, two widths each, in F32.
                    sums.state = sums.state.saturating_add(product([2, 2 * m, 2, head_dim + index_dim, 4]));
                }
                Compression::Pooled(m) => {
                    let (m, entries) = (u128::from(m), n / u128::from(m.max(1)));
                    keys += entries;
                    kv = kv.saturating_add(product([entry_bytes(config), entries]));
                    sums.state = sums.state.saturating_add(product([2, m, head_dim, 4]));
                }
            }
            sums.core = sums.core.saturating_add(product([4, heads, head_dim, keys]));
            sums.kv = sums.kv.saturating_add(kv);
        }
        sums
    }
}

/// DeepSeek-V3.2 at `n` tokens, from its published `config.json` (61 layers, 3 of them dense; MLA with a 512 + 64 wide
/// cache; a 64 x 128 indexer that selects 2048 tokens) and its FP8 cache: 656 bytes per token and layer (512 FP8, 4 F32
/// scales, 64 BF16) and 132 (128 FP8, one F32 scale) for the indexer.
fn v3_2(context: u64) -> Result<Figures, PlanError> {
    const D: u128 = 7168;
    const LAYERS: u128 = 61;
    const DENSE: u128 = 3;
    const HEADS: u128 = 128;
    const VOCAB: u128 = 129280;
    // One layer: wq_a, wq_b (128 + 64 per head), wkv_a (512 + 64), wkv_b (128 + 128 per head), wo; then the indexer.
    const ATTENTION: u128 = D * 1536 + 1536 * HEADS * 192 + D * 576 + 512 * HEADS * 256 + HEADS * 128 * D;
    const INDEXER: u128 = 1536 * 64 * 128 + D * 128 + D * 64;
    const DENSE_FFN: u128 = 3 * D * 18432;
    const EXPERT: u128 = 3 * D * 2048;
    const ROUTER: u128 = D * 256;
    let moe = |experts: u128| (LAYERS - DENSE) * (experts * EXPERT + ROUTER);
    let common = LAYERS * (ATTENTION + INDEXER) + DENSE * DENSE_FFN + D * VOCAB;
    let active = common + moe(8 + 1);
    let total = common + D * VOCAB + moe(256 + 1);
    let n = u128::from(context);
    // Absorbed MLA: scores over 576, weighted sums over 512.
    let core = LAYERS * 2 * HEADS * (576 + 512) * n.min(2048);
    let indexer = LAYERS * 2 * 64 * 128 * n;
    let kv = LAYERS * (656 + 132) * n;
    let flops = Flops {
        linear_fp8: fit("FLOPs of V3.2", context, 2 * active)?,
        core_attention: fit("FLOPs of V3.2", context, core)?,
        indexer: fit("FLOPs of V3.2", context, indexer)?,
        ..Flops::default()
    };
    Ok(Figures {
        params_total: fit("parameters of V3.2", context, total)?,
        params_active: fit("parameters of V3.2", context, active)?,
        flops_per_token: fit("FLOPs of V3.2", context, 2 * active + core + indexer)?,
        flops_per_token_fp8_equivalent: fit("FLOPs of V3.2", context, 2 * active + 2 * core + indexer)?,
        flops,
        kv_bytes_per_token: kv as f64 / n as f64,
        kv_bytes_at_context: fit("KV bytes of V3.2", context, kv)?,
    })
}

impl Plan {
    /// Plans for decoding at the end of `context` tokens. `config` is a valid one, as [`Config`] documents.
    ///
    /// # Errors
    /// [`PlanError::NoContext`] at 0 tokens; [`PlanError::TooLong`] where a count would pass 2^64 (for the released
    /// models beyond 2^44 tokens). A context beyond `max_context` is planned for and marked in [`render`](Plan::render).
    pub fn new(config: &Config, context: u64) -> Result<Plan, PlanError> {
        if context == 0 {
            return Err(PlanError::NoContext);
        }
        let (weights, layers) = (Weights::of(config), Layers::of(config, context));
        let linear = |count: u128| fit("FLOPs per token", context, count.saturating_mul(2));
        let flops = Flops {
            linear_fp8: linear(weights.fp8)?,
            linear_fp4: linear(weights.fp4)?,
            linear_bf16: linear(weights.half)?,
            linear_f32: linear(weights.f32)?,
            core_attention: fit("FLOPs per token", context, layers.core)?,
            indexer: fit("FLOPs per token", context, layers.indexer)?,
        };
        // Each part fits u64 here, so these sums of a few of them fit u128.
        let wide = u128::from;
        let raw = wide(flops.linear_fp8)
            + wide(flops.linear_fp4)
            + wide(flops.linear_bf16)
            + wide(flops.linear_f32)
            + layers.core
            + layers.indexer;
        let equivalent = wide(flops.linear_fp8)
            + wide(flops.linear_fp4)
            + 2 * wide(flops.linear_bf16)
            + 4 * wide(flops.linear_f32)
            + 2 * layers.core
            + layers.indexer / 2;
        let v3_2 = v3_2(context)?;
        let figures = Figures {
            params_total: fit("parameters", context, weights.total)?,
            params_active: fit("parameters", context, weights.active)?,
            flops_per_token: fit("FLOPs per token", context, raw)?,
            flops_per_token_fp8_equivalent: fit("FLOPs per token", context, equivalent)?,
            flops,
            kv_bytes_per_token: layers.kv as f64 / context as f64,
            kv_bytes_at_context: fit("KV bytes", context, layers.kv)?,
        };
        Ok(Plan {
            schema: "anychip.plan/1",
            model: preset_name(config).to_owned(),
            context,
            max_context: config.max_position_embeddings as u64,
            params_mtp: fit("parameters", context, weights.mtp)?,
            checkpoint_tensors: fit("tensors", context, weights.tensors)?,
            checkpoint_bytes: fit("bytes of the checkpoint", context, weights.bytes)?,
            compressor_state_bytes: fit("bytes of the compressor state", context, layers.state)?,
            flops_ratio: equivalent as f64 / v3_2.flops_per_token_fp8_equivalent as f64,
            flops_ratio_raw: raw as f64 / v3_2.flops_per_token as f64,
            kv_ratio: layers.kv as f64 / v3_2.kv_bytes_at_context as f64,
            figures,
            v3_2,
        })
    }

    /// The plan as a table for people, units in every row.
    pub fn render(&self) -> String {
        let (own, base) = (&self.figures, &self.v3_2);
        let mut out = String::new();
        let mut line = |text: String| {
            out.push_str(text.trim_end());
            out.push('\n');
        };
        let beyond = if self.context > self.max_context {
            format!("; trained for {} tokens at most", grouped(self.max_context))
        } else {
            String::new()
        };
        line(format!("{} at {} tokens of context{beyond}", self.model, grouped(self.context)));
        let mtp = if self.params_mtp > 0 {
            format!(", and {} in the MTP layer", giga(self.params_mtp))
        } else {
            String::new()
        };
        let (total, active) = (giga(own.params_total), giga(own.params_active));
        line(format!("parameters       {total} total, {active} active per token{mtp}"));
        let (tensors, size) = (grouped(self.checkpoint_tensors), binary(self.checkpoint_bytes));
        line(format!("checkpoint       {tensors} tensors, {size}"));
        line(format!("compressor state {} per sequence", binary(self.compressor_state_bytes)));
        line(String::new());
        let row = |what: &str, ours: String, theirs: String, ratio: String| {
            format!("{what:<30}{ours:>14}{theirs:>14}{ratio:>9}")
        };
        let percent = |ratio: f64| format!("{:.1} %", 100.0 * ratio);
        let flop = |count: u64| format!("{:.1} GFLOP", count as f64 / 1e9);
        let of = |ours: u64, theirs: u64| percent(ours as f64 / theirs as f64);
        line(row("one decoded token", "this model".into(), "V3.2".into(), "ratio".into()));
        let (f, g) = (&own.flops, &base.flops);
        for (what, ours) in [
            ("  FP8 linears", f.linear_fp8),
            ("  FP4 linears (experts)", f.linear_fp4),
            ("  16-bit linears", f.linear_bf16),
            ("  F32 linears (mixes)", f.linear_f32),
        ] {
            line(row(what, flop(ours), String::new(), String::new()));
        }
        for (what, ours, theirs) in [
            ("linears", f.linears(), g.linears()),
            ("core attention", f.core_attention, g.core_attention),
            ("indexer", f.indexer, g.indexer),
            ("FLOPs", own.flops_per_token, base.flops_per_token),
            ("FLOPs, FP8-equivalent", own.flops_per_token_fp8_equivalent, base.flops_per_token_fp8_equivalent),
        ] {
            line(row(what, flop(ours), flop(theirs), of(ours, theirs)));
        }
        let bytes = |count: f64| format!("{count:.0} B");
        let per_token = [own.kv_bytes_per_token, base.kv_bytes_per_token].map(bytes);
        let [ours, theirs] = per_token;
        line(row("KV cache per token", ours, theirs, percent(self.kv_ratio)));
        let [ours, theirs] = [own.kv_bytes_at_context, base.kv_bytes_at_context].map(binary);
        line(row("KV cache at this context", ours, theirs, percent(self.kv_ratio)));
        out
    }
}

fn preset_name(config: &Config) -> &'static str {
    let presets = [("v4-flash", Config::v4_flash()), ("v4-pro", Config::v4_pro()), ("tiny", Config::tiny())];
    presets.iter().find(|(_, preset)| preset == config).map_or("deepseek-v4", |(name, _)| name)
}

/// `1048576` as `1,048,576`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Parameters in G (10^9), M below one G.
fn giga(count: u64) -> String {
    if count >= 1_000_000_000 { format!("{:.1} G", count as f64 / 1e9) } else { format!("{:.2} M", count as f64 / 1e6) }
}

/// Bytes in the binary unit that leaves at least one digit before the point.
fn binary(bytes: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.2} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

//! Every tensor of a checkpoint in the official layout: name, type, shape.
//!
//! One list serves three readers: the loader (what to find in the files), the writer of random checkpoints (what to
//! put there) and the [plan](crate::plan) (what it amounts to). Source: the tensor listing of the released V4-Pro
//! checkpoint, which this list reproduces name by name (145116 tensors).

use crate::config::{Compression, Config, ExpertDtype, LayerKind};
use anychip_core::DType;
use safetensors::Dtype;

/// Elements along the input that share one ue8m0 scale of an FP4 weight.
pub(crate) const FP4_GROUP: u64 = 32;

/// One tensor as the model sees it, and as the file stores it.
///
/// They differ for FP4 weights alone: [`dtype`](TensorSpec::dtype) is [`DType::E2M1`] and [`shape`](TensorSpec::shape)
/// the logical `[out, in]`, while the file holds I8 `[out, in/2]`, the even element in the low nibble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the checkpoint, such as `layers.3.attn.wq_a.weight`.
    pub name: String,
    /// Type of one element.
    pub dtype: DType,
    /// Logical sizes in elements, outermost first.
    pub shape: Vec<u64>,
}

impl TensorSpec {
    /// Type that the safetensors header names.
    pub fn file_dtype(&self) -> Dtype {
        match self.dtype {
            DType::F32 => Dtype::F32,
            DType::BF16 => Dtype::BF16,
            DType::F16 => Dtype::F16,
            DType::E4M3 => Dtype::F8_E4M3,
            DType::E2M1 => Dtype::I8,
            DType::UE8M0 => Dtype::F8_E8M0,
            DType::I32 => Dtype::I32,
            DType::I64 => Dtype::I64,
            // The contract's types may grow; none but these is ever listed.
            _ => Dtype::U8,
        }
    }

    /// Sizes that the safetensors header names.
    pub fn file_shape(&self) -> Vec<u64> {
        let mut shape = self.shape.clone();
        if let (DType::E2M1, Some(last)) = (self.dtype, shape.last_mut()) {
            *last = last.div_ceil(2);
        }
        shape
    }

    /// Elements that the file counts: a byte of two FP4 codes is one.
    pub fn file_elements(&self) -> u64 {
        product(&self.file_shape())
    }

    /// Bytes in the file. Saturates at `u64::MAX`, which no tensor of a valid configuration reaches.
    pub fn file_bytes(&self) -> u64 {
        let bits = if self.dtype == DType::E2M1 { 8 } else { self.dtype.bits() };
        self.file_elements().saturating_mul(bits / 8)
    }

    /// Logical elements. Saturates like [`file_bytes`](TensorSpec::file_bytes).
    pub fn elements(&self) -> u64 {
        product(&self.shape)
    }
}

fn product(shape: &[u64]) -> u64 {
    shape.iter().fold(1, |total: u64, size| total.saturating_mul(*size))
}

/// What a tensor is for the counting of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A matrix that every token (of an expert: every token it gets) is multiplied with.
    Linear,
    /// Learned, but not multiplied with as a matrix: the embedding, norms, biases, sinks, position scores.
    Parameter,
    /// Not learned on its own: scales of a quantised weight, the token table of hash routing.
    Auxiliary,
}

/// A tensor, or one per expert: then its name has a `*` for the expert's number.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) role: Role,
    pub(crate) spec: TensorSpec,
}

/// Tensors that occur together `copies` times (once, or once per expert); a token is multiplied with `used` of them.
///
/// Keeping experts folded makes every total cheap and independent of their number, also when a file lies about it.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) mtp: bool,
    pub(crate) copies: u64,
    pub(crate) used: u64,
    pub(crate) entries: Vec<Entry>,
}

/// Every tensor of the checkpoint of `config`, in the order of the forward pass, made as it is asked for.
///
/// Scales are ue8m0: `[⌈out/block⌉, ⌈in/block⌉]` of an FP8 weight, `[out, ⌈in/32⌉]` of an FP4 one. A checkpoint of plain
/// weights has no scales, and every weight has the configuration's `dtype`. DSpark draft stages are not listed.
pub fn inventory(config: &Config) -> impl Iterator<Item = TensorSpec> + use<'_> {
    runs(config).flat_map(|run| {
        (0..run.copies).flat_map(move |copy| {
            let tensors = run.entries.iter().map(|entry| TensorSpec {
                name: entry.spec.name.replacen('*', &copy.to_string(), 1),
                ..entry.spec.clone()
            });
            tensors.collect::<Vec<_>>()
        })
    })
}

/// Bytes of all tensors in the file. Saturates at `u128::MAX`, so that it can judge a configuration not yet valid.
pub(crate) fn checkpoint_bytes(config: &Config) -> u128 {
    let mut total = 0u128;
    for run in runs(config) {
        for entry in &run.entries {
            let bytes = entry.spec.file_shape().iter().fold(1u128, |n, size| n.saturating_mul((*size).into()));
            // FP4 is stored as I8, so no type is narrower than a byte.
            let width = u128::from(entry.spec.dtype.bits().div_ceil(8));
            total = total.saturating_add(bytes.saturating_mul(width).saturating_mul(run.copies.into()));
        }
    }
    total
}

/// The checkpoint as runs: what surrounds the layers, the layers, the MTP layer.
pub(crate) fn runs(config: &Config) -> impl Iterator<Item = Run> + use<'_> {
    let layers = config.layers.iter().enumerate().map(|(index, kind)| (format!("layers.{index}."), *kind, false));
    let mtp = config.mtp.iter().map(|kind| ("mtp.0.".to_owned(), *kind, true));
    let blocks = layers.chain(mtp).flat_map(|(prefix, kind, mtp)| {
        let mut list = List::new(config, prefix, mtp);
        list.block(kind);
        if mtp {
            list.mtp();
        }
        list.runs
    });
    let mut outside = List::new(config, String::new(), false);
    let (vocab, d) = (outside.vocab, outside.d);
    outside.plain(Role::Parameter, "embed.weight", &[vocab, d]);
    outside.plain(Role::Linear, "head.weight", &[vocab, d]);
    outside.plain(Role::Parameter, "norm.weight", &[d]);
    outside.hyper_head();
    outside.runs.into_iter().chain(blocks)
}

/// The tensors of one block under construction.
///
/// Arithmetic saturates and divisors are floored at 1, because the rules of [`Config::validate`] count with it too.
struct List<'a> {
    config: &'a Config,
    prefix: String,
    runs: Vec<Run>,
    mtp: bool,
    d: u64,
    vocab: u64,
    head_dim: u64,
}

impl<'a> List<'a> {
    fn new(config: &'a Config, prefix: String, mtp: bool) -> List<'a> {
        let (d, vocab) = (config.hidden_size as u64, config.vocab_size as u64);
        let run = Run { mtp, copies: 1, used: 1, entries: Vec::new() };
        List { config, prefix, runs: vec![run], mtp, d, vocab, head_dim: config.head_dim as u64 }
    }

    fn push(&mut self, role: Role, name: &str, dtype: DType, shape: &[u64]) {
        let spec = TensorSpec { name: format!("{}{name}", self.prefix), dtype, shape: shape.to_vec() };
        if let Some(run) = self.runs.last_mut() {
            run.entries.push(Entry { role, spec });
        }
    }

    /// A tensor in the checkpoint's plain type (BF16 as released).
    fn plain(&mut self, role: Role, name: &str, shape: &[u64]) {
        self.push(role, name, self.config.dtype, shape);
    }

    fn f32(&mut self, role: Role, name: &str, shape: &[u64]) {
        self.push(role, name, DType::F32, shape);
    }

    /// A linear `inputs -> outputs` in FP8 with block scales.
    fn fp8(&mut self, name: &str, outputs: u64, inputs: u64) {
        let shape = [outputs, inputs];
        match self.config.quantization {
            Some(quantization) => {
                let [rows, columns] = quantization.weight_block.map(|size| (size as u64).max(1));
                self.push(Role::Linear, &format!("{name}.weight"), DType::E4M3, &shape);
                let scales = [outputs.div_ceil(rows), inputs.div_ceil(columns)];
                self.push(Role::Auxiliary, &format!("{name}.scale"), DType::UE8M0, &scales);
            }
            None => self.plain(Role::Linear, &format!("{name}.weight"), &shape),
        }
    }

    /// A linear of a routed expert.
    fn expert(&mut self, name: &str, outputs: u64, inputs: u64) {
        match self.config.quantization.map(|quantization| quantization.expert_dtype) {
            Some(ExpertDtype::Fp4) => {
                self.push(Role::Linear, &format!("{name}.weight"), DType::E2M1, &[outputs, inputs]);
                let scales = [outputs, inputs.div_ceil(FP4_GROUP)];
                self.push(Role::Auxiliary, &format!("{name}.scale"), DType::UE8M0, &scales);
            }
            Some(ExpertDtype::Fp8) | None => self.fp8(name, outputs, inputs),
        }
    }

    /// Token-wise pooling into entries `width` wide; `coff` is 2 where windows overlap.
    fn compressor(&mut self, name: &str, ratio: u64, coff: u64, width: u64) {
        let projected = coff.saturating_mul(width);
        self.f32(Role::Parameter, &format!("{name}.ape"), &[ratio, projected]);
        self.plain(Role::Linear, &format!("{name}.wkv.weight"), &[projected, self.d]);
        self.plain(Role::Linear, &format!("{name}.wgate.weight"), &[projected, self.d]);
        self.plain(Role::Parameter, &format!("{name}.norm.weight"), &[width]);
    }

    fn attention(&mut self, compression: Compression) {
        let c = self.config;
        let (d, head_dim) = (self.d, self.head_dim);
        let (heads, q_rank, groups) = (c.heads as u64, c.q_lora_rank as u64, c.o_groups as u64);
        let (all_heads, all_groups) = (heads.saturating_mul(head_dim), groups.saturating_mul(c.o_lora_rank as u64));
        self.f32(Role::Parameter, "attn.attn_sink", &[heads]);
        self.fp8("attn.wq_a", q_rank, d);
        self.plain(Role::Parameter, "attn.q_norm.weight", &[q_rank]);
        self.fp8("attn.wq_b", all_heads, q_rank);
        self.fp8("attn.wkv", head_dim, d);
        self.plain(Role::Parameter, "attn.kv_norm.weight", &[head_dim]);
        self.fp8("attn.wo_a", all_groups, all_heads / groups.max(1));
        self.fp8("attn.wo_b", d, all_groups);
        match compression {
            Compression::None => {}
            Compression::Pooled(ratio) => self.compressor("attn.compressor", ratio.into(), 1, head_dim),
            Compression::Overlap(ratio) => {
                let (index_heads, index_dim) = (c.index_n_heads as u64, c.index_head_dim as u64);
                self.compressor("attn.compressor", ratio.into(), 2, head_dim);
                self.fp8("attn.indexer.wq_b", index_heads.saturating_mul(index_dim), q_rank);
                self.plain(Role::Linear, "attn.indexer.weights_proj.weight", &[index_heads, d]);
                self.compressor("attn.indexer.compressor", ratio.into(), 2, index_dim);
            }
        }
    }

    fn experts(&mut self, hash_routed: bool) {
        let c = self.config;
        let (d, inner) = (self.d, c.moe_intermediate_size as u64);
        let (experts, used) = (c.experts as u64, c.experts_per_token as u64);
        self.plain(Role::Linear, "ffn.gate.weight", &[experts, d]);
        if hash_routed {
            self.push(Role::Auxiliary, "ffn.gate.tid2eid", DType::I64, &[self.vocab, used]);
        } else {
            self.f32(Role::Parameter, "ffn.gate.bias", &[experts]);
        }
        let mtp = self.mtp;
        self.runs.push(Run { mtp, copies: experts, used, entries: Vec::new() });
        self.expert("ffn.experts.*.w1", inner, d);
        self.expert("ffn.experts.*.w2", d, inner);
        self.expert("ffn.experts.*.w3", inner, d);
        self.runs.push(Run { mtp, copies: 1, used: 1, entries: Vec::new() });
        self.fp8("ffn.shared_experts.w1", inner, d);
        self.fp8("ffn.shared_experts.w2", d, inner);
        self.fp8("ffn.shared_experts.w3", inner, d);
    }

    fn block(&mut self, kind: LayerKind) {
        let d = self.d;
        self.attention(kind.compression);
        self.plain(Role::Parameter, "attn_norm.weight", &[d]);
        self.plain(Role::Parameter, "ffn_norm.weight", &[d]);
        self.experts(kind.hash_routed);
        // Rows of one mix: `hc` weights in, `hc` weights out, an `hc x hc` matrix between the streams.
        let hc = self.config.hc_mult as u64;
        let rows = hc.saturating_add(2).saturating_mul(hc);
        for part in ["attn", "ffn"] {
            self.f32(Role::Linear, &format!("hc_{part}_fn"), &[rows, hc.saturating_mul(d)]);
            self.f32(Role::Parameter, &format!("hc_{part}_base"), &[rows]);
            self.f32(Role::Parameter, &format!("hc_{part}_scale"), &[3]);
        }
    }

    fn hyper_head(&mut self) {
        let hc = self.config.hc_mult as u64;
        self.f32(Role::Linear, "hc_head_fn", &[hc, hc.saturating_mul(self.d)]);
        self.f32(Role::Parameter, "hc_head_base", &[hc]);
        self.f32(Role::Parameter, "hc_head_scale", &[1]);
    }

    /// What the MTP layer has beyond a block. It shares the embedding and the head of the model.
    fn mtp(&mut self) {
        let d = self.d;
        self.fp8("e_proj", d, d);
        self.fp8("h_proj", d, d);
        for name in ["enorm.weight", "hnorm.weight", "norm.weight"] {
            self.plain(Role::Parameter, name, &[d]);
        }
        self.hyper_head();
    }
}

//! Weights on the device: each tensor written once, straight from the mapped file.

use crate::checkpoint::{Checkpoint, FileDType, TensorData, Weight};
use crate::config::{Compression, Config, LayerKind};
use crate::inventory::FP4_GROUP;
use crate::{Error, Result};
use anychip_core::ops::ExpertWeights;
use anychip_core::{DType, Device, Matrix, ScaleLayout, ScaleType, Stream, Tensor};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a load reports while it runs.
pub trait Progress {
    /// `done` of `total` bytes are on the device.
    fn loaded(&self, done: u64, total: u64);
}

/// A load nobody watches.
impl Progress for () {
    fn loaded(&self, _done: u64, _total: u64) {}
}

/// Hyper-connection parameters of a sublayer, or of the head.
pub(crate) struct Hyper {
    pub(crate) mixer: Tensor,
    pub(crate) base: Tensor,
    pub(crate) scale: Tensor,
}

/// A compressor: of the layer's entries, or of the indexer's keys.
pub(crate) struct Compressor {
    pub(crate) wkv: Matrix,
    pub(crate) wgate: Matrix,
    pub(crate) ape: Tensor,
    pub(crate) norm: Tensor,
}

pub(crate) struct Indexer {
    pub(crate) wq_b: Matrix,
    pub(crate) weights_proj: Matrix,
    pub(crate) compressor: Compressor,
}

pub(crate) struct Attention {
    pub(crate) wq_a: Matrix,
    pub(crate) q_norm: Tensor,
    pub(crate) wq_b: Matrix,
    pub(crate) wkv: Matrix,
    pub(crate) kv_norm: Tensor,
    pub(crate) wo_a: Matrix,
    pub(crate) wo_b: Matrix,
    pub(crate) sink: Tensor,
    pub(crate) compressor: Option<Compressor>,
    pub(crate) indexer: Option<Indexer>,
}

/// How a layer's router chooses.
pub(crate) enum Router {
    Bias(Tensor),
    Table(Tensor),
}

pub(crate) struct Experts {
    pub(crate) gate: Matrix,
    pub(crate) router: Router,
    pub(crate) routed: ExpertWeights,
    pub(crate) shared: ExpertWeights,
}

pub(crate) struct Layer {
    pub(crate) kind: LayerKind,
    pub(crate) attn_norm: Tensor,
    pub(crate) attn: Attention,
    pub(crate) ffn_norm: Tensor,
    pub(crate) ffn: Experts,
    pub(crate) hc_attn: Hyper,
    pub(crate) hc_ffn: Hyper,
}

/// The multi-token-prediction layer; embedding and head are the model's.
pub(crate) struct Mtp {
    pub(crate) enorm: Tensor,
    pub(crate) hnorm: Tensor,
    pub(crate) e_proj: Matrix,
    pub(crate) h_proj: Matrix,
    pub(crate) layer: Layer,
    pub(crate) head: Hyper,
    pub(crate) norm: Tensor,
}

pub(crate) struct Weights {
    pub(crate) embed: Tensor,
    pub(crate) layers: Vec<Layer>,
    pub(crate) head_hyper: Hyper,
    pub(crate) norm: Tensor,
    pub(crate) head: Matrix,
    pub(crate) mtp: Option<Mtp>,
}

/// Writes a checkpoint's tensors to a device, in the order in which the model needs them.
pub(crate) struct Loader<'a> {
    pub(crate) device: &'a dyn Device,
    pub(crate) stream: &'a mut dyn Stream,
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) config: &'a Config,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) cancelled: &'a AtomicBool,
    pub(crate) total: u64,
    pub(crate) done: u64,
}

impl Loader<'_> {
    /// The whole model; the MTP layer where the configuration has one and the files hold it.
    pub(crate) fn load(mut self) -> Result<Weights> {
        let (vocab, hidden) = (self.config.vocab_size, self.config.hidden_size);
        let embed = self.float("embed.weight", &[vocab, hidden])?;
        let kinds = self.config.layers.clone();
        let layers = kinds.into_iter().enumerate();
        let layers = layers.map(|(i, kind)| self.layer(&format!("layers.{i}."), kind)).collect::<Result<_>>()?;
        let head_hyper = self.hyper("hc_head", self.config.hc_mult, 1)?;
        let norm = self.float("norm.weight", &[hidden])?;
        let head = self.matrix("head.weight", 1, [vocab, hidden])?;
        let mtp = match self.config.mtp {
            Some(kind) if self.checkpoint.contains("mtp.0.norm.weight") => Some(self.mtp(kind)?),
            _ => None,
        };
        self.stream.synchronize()?;
        Ok(Weights { embed, layers, head_hyper, norm, head, mtp })
    }

    fn mtp(&mut self, kind: LayerKind) -> Result<Mtp> {
        let hidden = self.config.hidden_size;
        Ok(Mtp {
            enorm: self.float("mtp.0.enorm.weight", &[hidden])?,
            hnorm: self.float("mtp.0.hnorm.weight", &[hidden])?,
            e_proj: self.matrix("mtp.0.e_proj.weight", 1, [hidden, hidden])?,
            h_proj: self.matrix("mtp.0.h_proj.weight", 1, [hidden, hidden])?,
            layer: self.layer("mtp.0.", kind)?,
            head: self.hyper("mtp.0.hc_head", self.config.hc_mult, 1)?,
            norm: self.float("mtp.0.norm.weight", &[hidden])?,
        })
    }

    fn layer(&mut self, prefix: &str, kind: LayerKind) -> Result<Layer> {
        let n = self.config.hc_mult;
        let hidden = self.config.hidden_size;
        Ok(Layer {
            kind,
            attn_norm: self.float(&format!("{prefix}attn_norm.weight"), &[hidden])?,
            attn: self.attention(&format!("{prefix}attn."), kind.compression)?,
            ffn_norm: self.float(&format!("{prefix}ffn_norm.weight"), &[hidden])?,
            ffn: self.experts(&format!("{prefix}ffn."), kind.hash_routed)?,
            hc_attn: self.hyper(&format!("{prefix}hc_attn"), n * (2 + n), 3)?,
            hc_ffn: self.hyper(&format!("{prefix}hc_ffn"), n * (2 + n), 3)?,
        })
    }

    fn attention(&mut self, prefix: &str, compression: Compression) -> Result<Attention> {
        let Config { hidden_size, heads, head_dim, q_lora_rank, o_groups, o_lora_rank, .. } = *self.config;
        let name = |part: &str| format!("{prefix}{part}");
        let compressor = |loader: &mut Self, part: &str, ratio: usize, dim: usize| {
            loader.compressor(&name(part), ratio, dim, compression.has_indexer())
        };
        Ok(Attention {
            wq_a: self.matrix(&name("wq_a.weight"), 1, [q_lora_rank, hidden_size])?,
            q_norm: self.float(&name("q_norm.weight"), &[q_lora_rank])?,
            wq_b: self.matrix(&name("wq_b.weight"), 1, [heads * head_dim, q_lora_rank])?,
            wkv: self.matrix(&name("wkv.weight"), 1, [head_dim, hidden_size])?,
            kv_norm: self.float(&name("kv_norm.weight"), &[head_dim])?,
            wo_a: self.matrix(&name("wo_a.weight"), o_groups, [o_lora_rank, heads * head_dim / o_groups])?,
            wo_b: self.matrix(&name("wo_b.weight"), 1, [hidden_size, o_groups * o_lora_rank])?,
            sink: self.f32(&name("attn_sink"), &[heads])?,
            compressor: match compression.ratio() {
                None => None,
                Some(ratio) => Some(compressor(self, "compressor.", ratio, head_dim)?),
            },
            indexer: match compression {
                Compression::Overlap(ratio) => Some(self.indexer(&name("indexer."), ratio as usize)?),
                _ => None,
            },
        })
    }

    fn indexer(&mut self, prefix: &str, ratio: usize) -> Result<Indexer> {
        let Config { hidden_size, q_lora_rank, index_n_heads, index_head_dim, .. } = *self.config;
        Ok(Indexer {
            wq_b: self.matrix(&format!("{prefix}wq_b.weight"), 1, [index_n_heads * index_head_dim, q_lora_rank])?,
            weights_proj: self.matrix(&format!("{prefix}weights_proj.weight"), 1, [index_n_heads, hidden_size])?,
            compressor: self.compressor(&format!("{prefix}compressor."), ratio, index_head_dim, true)?,
        })
    }

    fn compressor(&mut self, prefix: &str, ratio: usize, dim: usize, overlap: bool) -> Result<Compressor> {
        let (channels, hidden) = (dim * if overlap { 2 } else { 1 }, self.config.hidden_size);
        Ok(Compressor {
            wkv: self.matrix(&format!("{prefix}wkv.weight"), 1, [channels, hidden])?,
            wgate: self.matrix(&format!("{prefix}wgate.weight"), 1, [channels, hidden])?,
            ape: self.f32(&format!("{prefix}ape"), &[ratio, channels])?,
            norm: self.float(&format!("{prefix}norm.weight"), &[dim])?,
        })
    }

    fn experts(&mut self, prefix: &str, hash_routed: bool) -> Result<Experts> {
        let Config { hidden_size, vocab_size, experts, experts_per_token, moe_intermediate_size, .. } = *self.config;
        let router = if hash_routed {
            let name = format!("{prefix}gate.tid2eid");
            let table = self.checkpoint.ids_i32(&name, &[vocab_size as u64, experts_per_token as u64])?;
            let stray = table.iter().enumerate().find(|(_, id)| !(0..experts as i32).contains(*id));
            if let Some((index, id)) = stray {
                return Err(Error::File {
                    file: self.checkpoint.dir().into(),
                    problem: format!("`{name}` names expert {id} at index {index}, outside the {experts} of the layer"),
                    mend: "use the config.json that belongs to these weights, or download the shard again",
                });
            }
            let bytes: Vec<u8> = table.iter().flat_map(|id| id.to_le_bytes()).collect();
            Router::Table(self.write(DType::I32, &[vocab_size, experts_per_token], &bytes)?)
        } else {
            Router::Bias(self.f32(&format!("{prefix}gate.bias"), &[experts])?)
        };
        let (up, down) = ([moe_intermediate_size, hidden_size], [hidden_size, moe_intermediate_size]);
        Ok(Experts {
            gate: self.matrix(&format!("{prefix}gate.weight"), 1, [experts, hidden_size])?,
            router,
            routed: ExpertWeights {
                gate: self.stack(prefix, "w1", experts, up)?,
                up: self.stack(prefix, "w3", experts, up)?,
                down: self.stack(prefix, "w2", experts, down)?,
            },
            shared: ExpertWeights {
                gate: self.matrix(&format!("{prefix}shared_experts.w1.weight"), 1, up)?,
                up: self.matrix(&format!("{prefix}shared_experts.w3.weight"), 1, up)?,
                down: self.matrix(&format!("{prefix}shared_experts.w2.weight"), 1, down)?,
            },
        })
    }

    fn hyper(&mut self, name: &str, mixes: usize, scales: usize) -> Result<Hyper> {
        let width = self.config.hc_mult * self.config.hidden_size;
        Ok(Hyper {
            mixer: self.f32(&format!("{name}_fn"), &[mixes, width])?,
            base: self.f32(&format!("{name}_base"), &[mixes])?,
            scale: self.f32(&format!("{name}_scale"), &[scales])?,
        })
    }

    /// One matrix `[groups * o, i]` of the file as `groups` matrices.
    fn matrix(&mut self, name: &str, groups: usize, [o, i]: [usize; 2]) -> Result<Matrix> {
        let block = self.block();
        let weight = self.checkpoint.weight(name, [(groups * o) as u64, i as u64], block)?;
        let layout = layout_of(&weight, block);
        // Blocks are counted over the whole stored matrix: where one spans two groups, each group needs its own copy of
        // the scale row, and a block must not begin in the middle of a group.
        let aligned = groups == 1 || layout.is_none_or(|l| o.is_multiple_of(l.rows));
        if aligned {
            return self.place(&[weight], layout, groups, [o, i]);
        }
        self.regroup(&weight, layout, groups, [o, i])
    }

    /// The matrices `PREFIXexperts.K.PART.weight` as one.
    fn stack(&mut self, prefix: &str, part: &str, experts: usize, [o, i]: [usize; 2]) -> Result<Matrix> {
        let (checkpoint, block) = (self.checkpoint, self.block());
        let one =
            |k: usize| checkpoint.weight(&format!("{prefix}experts.{k}.{part}.weight"), [o as u64, i as u64], block);
        let weights = (0..experts).map(one).collect::<Result<Vec<_>, _>>()?;
        let layout = weights.first().and_then(|w| layout_of(w, block));
        self.place(&weights, layout, experts, [o, i])
    }

    /// Writes the parts one behind the other, codes and scales.
    fn place(
        &mut self,
        parts: &[Weight<'_>],
        layout: Option<ScaleLayout>,
        groups: usize,
        [o, i]: [usize; 2],
    ) -> Result<Matrix> {
        let mut codes = Vec::new();
        let mut scales = Vec::new();
        for part in parts {
            match part {
                Weight::Plain(data) => codes.push(data),
                Weight::Fp8 { codes: data, scale } | Weight::Fp4 { codes: data, scale } => {
                    codes.push(data);
                    scales.push(scale);
                }
            }
        }
        let dtype = match parts.first() {
            Some(Weight::Fp8 { .. }) => DType::E4M3,
            Some(Weight::Fp4 { .. }) => DType::E2M1,
            _ => codes.first().map_or(DType::F32, |data| float_dtype(data.dtype)),
        };
        let codes = self.join(dtype, &[groups, o, i], &codes)?;
        let Some(layout) = layout else {
            return Ok(Matrix::plain(&codes).map_err(anychip_core::Error::from)?);
        };
        let sizes = [groups, o.div_ceil(layout.rows), i.div_ceil(layout.cols)];
        let scales = self.join(layout.scale.dtype(), &sizes, &scales)?;
        Ok(Matrix::scaled(&codes, &scales, layout).map_err(anychip_core::Error::from)?)
    }

    /// A matrix whose scale blocks do not end where its groups do: each group's rows get scales of their own, one row
    /// each, which says the same thing.
    fn regroup(
        &mut self,
        weight: &Weight<'_>,
        layout: Option<ScaleLayout>,
        groups: usize,
        [o, i]: [usize; 2],
    ) -> Result<Matrix> {
        let (Some(layout), Weight::Fp8 { codes, scale }) = (layout, weight) else {
            return self.place(std::slice::from_ref(weight), layout, groups, [o, i]);
        };
        let row_bytes = i.div_ceil(layout.cols) * layout.scale.dtype().bits() as usize / 8;
        let rows = scale.bytes.chunks_exact(row_bytes.max(1));
        let spread: Vec<u8> =
            rows.flat_map(|row| row.repeat(layout.rows.min(groups * o))).take(groups * o * row_bytes).collect();
        let layout = ScaleLayout { rows: 1, ..layout };
        let codes = self.join(DType::E4M3, &[groups, o, i], &[codes])?;
        let scales = self.write(layout.scale.dtype(), &[groups, o, i.div_ceil(layout.cols)], &spread)?;
        Ok(Matrix::scaled(&codes, &scales, layout).map_err(anychip_core::Error::from)?)
    }

    fn block(&self) -> [usize; 2] {
        self.config.quantization.map_or([128, 128], |q| q.weight_block)
    }

    /// A float tensor as it is stored.
    fn float(&mut self, name: &str, sizes: &[usize]) -> Result<Tensor> {
        let data = self.checkpoint.float(name, &wide(sizes))?;
        self.join(float_dtype(data.dtype), sizes, &[&data])
    }

    /// A float tensor as f32, which the contract asks of small parameters.
    fn f32(&mut self, name: &str, sizes: &[usize]) -> Result<Tensor> {
        let data = self.checkpoint.float(name, &wide(sizes))?;
        if data.dtype == FileDType::F32 {
            return self.join(DType::F32, sizes, &[&data]);
        }
        let values = data.to_f32().unwrap_or_default();
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.write(DType::F32, sizes, &bytes)
    }

    /// One tensor of several parts of equal size, each written where it belongs.
    fn join(&mut self, dtype: DType, sizes: &[usize], parts: &[&TensorData<'_>]) -> Result<Tensor> {
        let all = self.device.tensor(dtype, sizes)?;
        if let [whole] = parts {
            self.fill(&all, whole.bytes)?;
            return Ok(all);
        }
        let inner = sizes[1..].iter().product::<usize>();
        let pieces = all.reshape(&[sizes[0], inner]).map_err(anychip_core::Error::from)?;
        for (i, part) in parts.iter().enumerate() {
            let alike = parts.first().is_none_or(|first| first.dtype == part.dtype);
            if !alike || dtype.bytes(inner as u64) != Some(part.bytes.len() as u64) {
                // Every expert of a layer is stored alike: they are one operand.
                let first = parts.first().map_or("", |first| first.dtype.name());
                return Err(Error::File {
                    file: self.checkpoint.dir().into(),
                    problem: format!("`{}` is {}, and expert 0 of the layer {first}", part.name, part.dtype),
                    mend: "convert all experts of a layer to one format",
                });
            }
            self.fill(&pieces.slice(i, 1).map_err(anychip_core::Error::from)?, part.bytes)?;
        }
        Ok(all)
    }

    fn write(&mut self, dtype: DType, sizes: &[usize], bytes: &[u8]) -> Result<Tensor> {
        let tensor = self.device.tensor(dtype, sizes)?;
        self.fill(&tensor, bytes)?;
        Ok(tensor)
    }

    fn fill(&mut self, to: &Tensor, bytes: &[u8]) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        self.stream.write(to, bytes)?;
        self.done += bytes.len() as u64;
        self.progress.loaded(self.done.min(self.total), self.total);
        Ok(())
    }
}

fn wide(sizes: &[usize]) -> Vec<u64> {
    sizes.iter().map(|&n| n as u64).collect()
}

fn float_dtype(dtype: FileDType) -> DType {
    match dtype {
        FileDType::BF16 => DType::BF16,
        FileDType::F16 => DType::F16,
        _ => DType::F32,
    }
}

fn layout_of(weight: &Weight<'_>, [rows, cols]: [usize; 2]) -> Option<ScaleLayout> {
    let scale = |data: &TensorData<'_>| {
        if data.dtype == FileDType::F32 { ScaleType::F32 } else { ScaleType::Ue8m0 }
    };
    match weight {
        Weight::Plain(_) => None,
        Weight::Fp8 { scale: s, .. } => Some(ScaleLayout { scale: scale(s), rows, cols }),
        Weight::Fp4 { scale: s, .. } => Some(ScaleLayout { scale: scale(s), rows: 1, cols: FP4_GROUP as usize }),
    }
}

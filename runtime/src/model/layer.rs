//! One layer: hyper-connections around attention and experts (DeepSeek V4 `inference/model.py`, `Block.forward`).

use super::attention::Memory;
use super::batch::Inputs;
use super::graph::{Graph, plain};
use super::weights::{Experts, Hyper, Layer, Router};
use super::{Precision, cache::LayerCache};
use crate::Result;
use anychip_core::ops::{Choice, ExpertFfn, HyperPost, HyperPre, Intermediates, Route};
use anychip_core::{DType, Tensor};

/// A sublayer's input, and how its result goes back into the streams.
struct Collapsed {
    x: Tensor,
    post: Tensor,
    comb: Tensor,
}

impl Graph<'_> {
    /// The streams after `layer`, `[T, hc_mult, d]`. `name` is the layer's prefix in taps.
    pub(crate) fn layer(
        &mut self,
        name: &str,
        layer: &Layer,
        memory: &LayerCache,
        inputs: &Inputs,
        streams: Tensor,
    ) -> Result<Tensor> {
        let collapsed = self.hyper_pre(&streams, &layer.hc_attn)?;
        self.tap_collapsed(&format!("{name}attn_hc."), &collapsed);
        let x = self.rms_norm("attn_norm", &collapsed.x, &layer.attn_norm)?;
        self.tap(|| format!("{name}input_layernorm.out"), &x);
        let compressed = layer.kind.compression.ratio().is_some();
        let angles = if compressed { &inputs.compressed_angles } else { &inputs.angles };
        let memory = Memory { window: &memory.window, compressed: memory.compressed.as_ref(), angles };
        let y = self.attention(name, &layer.attn, memory, inputs, &x)?;
        self.tap(|| format!("{name}self_attn.out"), &y);
        let streams = self.hyper_post("streams between", &y, &streams, &collapsed)?;

        let collapsed = self.hyper_pre(&streams, &layer.hc_ffn)?;
        self.tap_collapsed(&format!("{name}ffn_hc."), &collapsed);
        let x = self.rms_norm("ffn_norm", &collapsed.x, &layer.ffn_norm)?;
        self.tap(|| format!("{name}post_attention_layernorm.out"), &x);
        let y = self.experts(name, &layer.ffn, inputs, &x)?;
        self.tap(|| format!("{name}mlp.out"), &y);
        let streams = self.hyper_post("streams", &y, &streams, &collapsed)?;
        self.tap(|| format!("{name}streams"), &streams);
        Ok(streams)
    }

    fn tap_collapsed(&mut self, name: &str, collapsed: &Collapsed) {
        self.tap(|| format!("{name}post"), &collapsed.post);
        self.tap(|| format!("{name}comb"), &collapsed.comb);
        self.tap(|| format!("{name}collapsed"), &collapsed.x);
    }

    fn hyper_pre(&mut self, streams: &Tensor, hyper: &Hyper) -> Result<Collapsed> {
        let (rows, n, d) = (streams.size(0), streams.size(1), streams.size(2));
        let x = self.activation("collapsed", &[rows, d])?;
        let post = self.tensor("post", DType::F32, &[rows, n])?;
        let comb = self.tensor("comb", DType::F32, &[rows, n, n])?;
        self.push(HyperPre {
            streams: streams.clone(),
            mixer: hyper.mixer.clone(),
            base: hyper.base.clone(),
            scale: hyper.scale.clone(),
            iterations: self.config.sinkhorn_iters,
            norm_eps: self.config.rms_norm_eps as f32,
            eps: self.config.hc_eps as f32,
            x: x.clone(),
            post: post.clone(),
            comb: comb.clone(),
        })?;
        Ok(Collapsed { x, post, comb })
    }

    fn hyper_post(&mut self, name: &'static str, y: &Tensor, streams: &Tensor, to: &Collapsed) -> Result<Tensor> {
        let out = self.activation(name, streams.sizes())?;
        self.push(HyperPost {
            y: y.clone(),
            streams: streams.clone(),
            post: to.post.clone(),
            comb: to.comb.clone(),
            out: out.clone(),
        })?;
        Ok(out)
    }

    fn experts(&mut self, name: &str, ffn: &Experts, inputs: &Inputs, x: &Tensor) -> Result<Tensor> {
        let (rows, k) = (x.size(0), self.config.experts_per_token);
        let logits = self.linear_as("router logits", DType::F32, &plain(x)?, &ffn.gate)?;
        let experts = self.tensor("router experts", DType::I32, &[rows, k])?;
        let weights = self.tensor("router weights", DType::F32, &[rows, k])?;
        let choice = match &ffn.router {
            Router::Bias(bias) => Choice::Best { bias: bias.clone() },
            Router::Table(table) => Choice::Hash { table: table.clone(), tokens: inputs.tokens.clone() },
        };
        self.push(Route {
            logits: logits.clone(),
            choice,
            scale: self.config.routed_scaling_factor as f32,
            experts: experts.clone(),
            weights: weights.clone(),
        })?;
        self.tap(|| format!("{name}mlp.gate.logits"), &logits);
        self.tap(|| format!("{name}mlp.gate.indices"), &experts);
        self.tap(|| format!("{name}mlp.gate.weights"), &weights);
        let quantized = self.quantized(["ffn x", "ffn x scales"], x, &ffn.routed.gate)?;
        let out = self.activation("ffn out", x.sizes())?;
        self.push(ExpertFfn {
            x: quantized,
            experts,
            weights,
            routed: ffn.routed.clone(),
            shared: Some(ffn.shared.clone()),
            limit: self.config.swiglu_limit as f32,
            intermediates: match self.precision {
                Precision::Exact => Intermediates::Exact,
                Precision::Served => Intermediates::Served { block: 128 },
            },
            out: out.clone(),
        })?;
        Ok(out)
    }
}

//! A configuration as the official `config.json`.

use std::path::Path;

use anychip_core::DType;
use serde_json::{Map, Value, json};

use super::SynthError;
use crate::config::{Config, ExpertDtype, LayerKind};

/// `config.json` in the official dialect, proven to read back as `config`.
pub(super) fn official_json(config: &Config) -> Result<String, SynthError> {
    let c = config;
    let ratio = |layer: &LayerKind| layer.compression.ratio().unwrap_or(0);
    // Released models list the MTP layer's ratio last, also where the layer itself is left out.
    let ratios: Vec<usize> = c.layers.iter().map(ratio).chain([c.mtp.as_ref().map_or(0, ratio)]).collect();
    let mut fields = vec![
        ("architectures", json!(["DeepseekV4ForCausalLM"])),
        ("model_type", json!("deepseek_v4")),
        ("vocab_size", json!(c.vocab_size)),
        ("hidden_size", json!(c.hidden_size)),
        ("moe_intermediate_size", json!(c.moe_intermediate_size)),
        ("num_hidden_layers", json!(c.layers.len())),
        ("num_nextn_predict_layers", json!(usize::from(c.mtp.is_some()))),
        ("num_attention_heads", json!(c.heads)),
        ("num_key_value_heads", json!(1)),
        ("head_dim", json!(c.head_dim)),
        ("qk_rope_head_dim", json!(c.rope_dim)),
        ("q_lora_rank", json!(c.q_lora_rank)),
        ("o_groups", json!(c.o_groups)),
        ("o_lora_rank", json!(c.o_lora_rank)),
        ("index_n_heads", json!(c.index_n_heads)),
        ("index_head_dim", json!(c.index_head_dim)),
        ("index_topk", json!(c.index_topk)),
        ("sliding_window", json!(c.sliding_window)),
        ("compress_ratios", json!(ratios)),
        ("num_hash_layers", json!(c.layers.iter().take_while(|layer| layer.hash_routed).count())),
        ("n_routed_experts", json!(c.experts)),
        ("n_shared_experts", json!(c.n_shared_experts)),
        ("num_experts_per_tok", json!(c.experts_per_token)),
        ("scoring_func", json!("sqrtsoftplus")),
        ("topk_method", json!("noaux_tc")),
        ("norm_topk_prob", json!(true)),
        ("routed_scaling_factor", json!(c.routed_scaling_factor)),
        ("swiglu_limit", json!(c.swiglu_limit)),
        ("hidden_act", json!("silu")),
        ("hc_mult", json!(c.hc_mult)),
        ("hc_sinkhorn_iters", json!(c.sinkhorn_iters)),
        ("hc_eps", json!(c.hc_eps)),
        ("rms_norm_eps", json!(c.rms_norm_eps)),
        ("rope_theta", json!(c.rope_theta)),
        ("compress_rope_theta", json!(c.compress_rope_theta)),
        ("max_position_embeddings", json!(c.max_position_embeddings)),
        ("bos_token_id", json!(c.bos)),
        (
            "eos_token_id",
            match &c.eos[..] {
                [one] => json!(one),
                several => json!(several),
            },
        ),
        ("attention_bias", json!(false)),
        ("attention_dropout", json!(0.0)),
        ("tie_word_embeddings", json!(false)),
        (
            "torch_dtype",
            json!(match c.dtype {
                DType::F32 => "float32",
                DType::F16 => "float16",
                _ => "bfloat16",
            }),
        ),
    ];
    if let Some(yarn) = &c.yarn {
        fields.push((
            "rope_scaling",
            json!({
                "type": "yarn",
                "factor": yarn.factor,
                "original_max_position_embeddings": yarn.original,
                "beta_fast": yarn.beta_fast,
                "beta_slow": yarn.beta_slow,
            }),
        ));
    }
    if let Some(quantization) = &c.quantization {
        fields.push((
            "expert_dtype",
            json!(match quantization.expert_dtype {
                ExpertDtype::Fp4 => "fp4",
                ExpertDtype::Fp8 => "fp8",
            }),
        ));
        fields.push((
            "quantization_config",
            json!({
                "quant_method": "fp8",
                "fmt": "e4m3",
                "activation_scheme": "dynamic",
                "scale_fmt": "ue8m0",
                "weight_block_size": quantization.weight_block,
            }),
        ));
    }
    let fields: Map<String, Value> = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let text = format!("{:#}\n", Value::Object(fields));
    match Config::from_json(&text, Path::new("config.json")) {
        Ok(back) if back == *config => Ok(text),
        Ok(_) => Err(SynthError::NotOfficial { reason: "it reads back as another configuration".to_owned() }),
        Err(e) => Err(SynthError::NotOfficial { reason: e.to_string() }),
    }
}

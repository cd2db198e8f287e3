//! Both dialects against the golden files and the released values, and what a broken file is answered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anychip_core::DType;
use anychip_runtime::config::Compression::{None as Window, Overlap, Pooled};
use anychip_runtime::config::{Config, ConfigError, ConfigRule, ExpertDtype, LayerKind};
use anychip_runtime::inventory::inventory;
use anychip_runtime::plan::Plan;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden").join(name)
}

fn golden_json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden(name).join("config.json")).unwrap()).unwrap()
}

fn parse(value: &Value) -> Result<Config, ConfigError> {
    Config::from_json(&value.to_string(), Path::new("some/config.json"))
}

/// The message of the rule that `Q/config.json` breaks once `field` (a dotted path) is `value`.
fn refused(field: &str, value: Value) -> String {
    refused_from(golden_json("Q"), field, value)
}

fn refused_from(mut json: Value, field: &str, value: Value) -> String {
    *json.pointer_mut(&format!("/{}", field.replace('.', "/"))).unwrap() = value;
    let message = parse(&json).unwrap_err().to_string();
    assert!(message.starts_with("some/config.json: "), "{message}");
    message
}

fn kinds(config: &Config) -> Vec<(anychip_runtime::config::Compression, bool)> {
    config.layers.iter().map(|layer| (layer.compression, layer.hash_routed)).collect()
}

/// The released V4-Pro `config.json`: a preview without `expert_dtype`.
fn pro_json() -> Value {
    let mut ratios = vec![128, 128];
    ratios.extend([4, 128].repeat(29));
    ratios.extend([4, 0]);
    let mut json: Value = serde_json::from_str(
        r#"{
        "architectures": ["DeepseekV4ForCausalLM"], "model_type": "deepseek_v4", "attention_bias": false,
        "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 1, "hc_eps": 1e-6, "hc_mult": 4,
        "hc_sinkhorn_iters": 20, "head_dim": 512, "hidden_act": "silu", "hidden_size": 7168, "index_head_dim": 128,
        "index_n_heads": 64, "index_topk": 1024, "initializer_range": 0.02, "max_position_embeddings": 1048576,
        "moe_intermediate_size": 3072, "n_routed_experts": 384, "n_shared_experts": 1, "norm_topk_prob": true,
        "num_attention_heads": 128, "num_experts_per_tok": 6, "num_hash_layers": 3, "num_hidden_layers": 61,
        "num_key_value_heads": 1, "num_nextn_predict_layers": 1, "o_groups": 16, "o_lora_rank": 1024,
        "q_lora_rank": 1536, "qk_rope_head_dim": 64,
        "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
            "scale_fmt": "ue8m0", "weight_block_size": [128, 128]},
        "rms_norm_eps": 1e-6,
        "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 16, "original_max_position_embeddings": 65536,
            "type": "yarn"},
        "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sqrtsoftplus", "sliding_window": 128,
        "swiglu_limit": 10.0, "tie_word_embeddings": false, "topk_method": "noaux_tc", "torch_dtype": "bfloat16",
        "use_cache": true, "vocab_size": 129280, "compress_rope_theta": 160000
        }"#,
    )
    .unwrap();
    json["compress_ratios"] = json!(ratios);
    json
}

fn flash_json() -> Value {
    let mut json = pro_json();
    let mut ratios = vec![0, 0];
    ratios.extend([4, 128].repeat(20));
    ratios.extend([4, 0]);
    for (key, value) in [
        ("hidden_size", json!(4096)),
        ("num_hidden_layers", json!(43)),
        ("num_attention_heads", json!(64)),
        ("q_lora_rank", json!(1024)),
        ("o_groups", json!(8)),
        ("index_topk", json!(512)),
        ("n_routed_experts", json!(256)),
        ("moe_intermediate_size", json!(2048)),
        ("routed_scaling_factor", json!(1.5)),
        ("compress_ratios", json!(ratios)),
        ("expert_dtype", json!("fp4")),
    ] {
        json[key] = value;
    }
    json
}

#[test]
fn the_presets_are_the_released_files() {
    assert_eq!(parse(&pro_json()).unwrap(), Config::v4_pro());
    assert_eq!(parse(&flash_json()).unwrap(), Config::v4_flash());
    assert_eq!(Config::open(&golden("tiny")).unwrap(), Config::tiny());
    for config in [Config::v4_pro(), Config::v4_flash(), Config::tiny()] {
        config.validate().unwrap();
    }
    let count = |config: &Config, want: fn(LayerKind) -> bool| config.layers.iter().filter(|l| want(**l)).count();
    for (config, csa, hca, swa) in [(Config::v4_pro(), 30, 31, 0), (Config::v4_flash(), 21, 20, 2)] {
        assert_eq!(count(&config, |layer| layer.compression == Overlap(4)), csa);
        assert_eq!(count(&config, |layer| layer.compression == Pooled(128)), hca);
        assert_eq!(count(&config, |layer| layer.compression == Window), swa);
        assert_eq!(count(&config, |layer| layer.hash_routed), 3);
    }
}

#[test]
fn both_dialects_give_one_normal_form() {
    let q = Config::open(&golden("Q")).unwrap();
    let schedule = [(Window, true), (Overlap(4), true), (Pooled(16), false), (Overlap(4), false), (Pooled(16), false)];
    assert_eq!(kinds(&q), schedule);
    assert_eq!((q.mtp, q.hidden_size, q.heads, q.head_dim, q.rope_dim), (None, 64, 4, 32, 8));
    // A is Q's model in the other dialect, unquantised and with another clamp at the same value.
    let a = Config::open(&golden("A")).unwrap();
    assert_eq!(a.dtype, DType::F32);
    assert_eq!(Config { quantization: q.quantization, dtype: q.dtype, ..a }, q);

    let b = Config::open(&golden("B")).unwrap();
    assert_eq!(kinds(&b), [(Pooled(128), true), (Window, false), (Overlap(4), false)]);
    assert_eq!((b.sliding_window, b.index_topk, b.quantization), (128, 16, None));
    assert_eq!(b.yarn.unwrap().factor, 16.0);
}

#[test]
fn the_entries_after_the_last_layer() {
    // The released revisions with DSpark: one MTP layer claimed, three trailing zeros.
    let mut json = flash_json();
    json["compress_ratios"].as_array_mut().unwrap().extend([json!(0), json!(0)]);
    let without_mtp = Config { mtp: None, ..Config::v4_flash() };
    assert_eq!(parse(&json).unwrap(), without_mtp, "told by the three entries");
    json["dspark_block_size"] = json!(5);
    assert_eq!(parse(&json).unwrap(), without_mtp, "told by the field");
    json["compress_ratios"][44] = json!(4);
    assert!(parse(&json).unwrap_err().to_string().contains("`compress_ratios[44]` belongs to a DSpark draft stage"));

    // No MTP layer: with and without the extra entry.
    let mut json = golden_json("Q");
    assert_eq!(json["compress_ratios"].as_array().unwrap().len(), 6);
    json["compress_ratios"].as_array_mut().unwrap().pop();
    assert_eq!(parse(&json).unwrap().mtp, None);
    // An MTP layer needs the entry.
    json["num_nextn_predict_layers"] = json!(1);
    let message = parse(&json).unwrap_err().to_string();
    assert!(message.contains("`compress_ratios` must have 6 entries for 5 layers, got 5"), "{message}");
    json["compress_ratios"].as_array_mut().unwrap().push(json!(0));
    assert_eq!(parse(&json).unwrap().mtp, Some(LayerKind { compression: Window, hash_routed: false }));
    json["num_nextn_predict_layers"] = json!(2);
    assert!(matches!(parse(&json).unwrap_err().rule, ConfigRule::MtpLayers { given: 2 }));
}

#[test]
fn every_rule_has_its_message() {
    for (field, value, want) in [
        ("model_type", json!("deepseek_v3"), "`model_type` must be \"deepseek_v4\", got \"deepseek_v3\""),
        ("hidden_size", json!("64"), "`hidden_size` must be a whole number that is not negative, got \"64\""),
        ("hidden_size", json!(-1), "got -1"),
        ("hidden_size", json!(0), "`hidden_size` must be 1 to 2147483647, got 0"),
        ("hidden_size", json!(1u64 << 31), "`hidden_size` must be 1 to 2147483647, got 2147483648"),
        ("hidden_size", json!(63), "`hidden_size` must be even with FP4 experts"),
        ("moe_intermediate_size", json!(31), "`moe_intermediate_size` must be even with FP4 experts"),
        ("vocab_size", json!(null), "`vocab_size` is missing"),
        ("qk_rope_head_dim", json!(7), "`qk_rope_head_dim` must be even (RoPE turns pairs), got 7"),
        ("qk_rope_head_dim", json!(34), "at most `head_dim` = 32, got 34"),
        ("qk_rope_head_dim", json!(18), "at most `index_head_dim` = 16, got 18"),
        ("o_groups", json!(3), "`num_attention_heads` must be a multiple of `o_groups` = 3, got 4"),
        ("num_experts_per_tok", json!(9), "`num_experts_per_tok` must be at most `n_routed_experts` = 8, got 9"),
        ("n_shared_experts", json!(2), "`n_shared_experts` must be 1, got 2"),
        ("num_key_value_heads", json!(2), "`num_key_value_heads` must be 1, got 2"),
        ("scoring_func", json!("sigmoid"), "`scoring_func` must be \"sqrtsoftplus\", got \"sigmoid\""),
        ("topk_method", json!("greedy"), "`topk_method` must be \"noaux_tc\", got \"greedy\""),
        ("hidden_act", json!("gelu"), "`hidden_act` must be \"silu\""),
        ("norm_topk_prob", json!(false), "`norm_topk_prob` must be true"),
        ("tie_word_embeddings", json!(true), "`tie_word_embeddings` must be false, got true"),
        ("attention_bias", json!(true), "`attention_bias` must be false"),
        ("swiglu_limit", json!(0), "`swiglu_limit` must be finite and greater than 0, got 0"),
        ("rms_norm_eps", json!("1e-6"), "`rms_norm_eps` must be a number"),
        ("rope_theta", json!(1), "`rope_theta` must be greater than 1, got 1"),
        ("rope_scaling.type", json!("linear"), "`rope_scaling.type` must be \"yarn\", got \"linear\""),
        ("rope_scaling.factor", json!(0.5), "`rope_scaling.factor` of YaRN must be at least 1"),
        ("rope_scaling.beta_slow", json!(32), "`beta_fast` of YaRN must be greater than `beta_slow`, got 32 and 32"),
        ("rope_scaling", json!([1]), "`rope_scaling` must be an object, got a list of 1"),
        ("compress_ratios", json!(4), "`compress_ratios` must be a list, got 4"),
        ("compress_ratios", json!([0, 4]), "`compress_ratios` must have 5 to 6 entries for 5 layers, got 2"),
        ("compress_ratios.1", json!("4"), "`compress_ratios[1]` must be a whole number"),
        ("compress_ratios.1", json!(1u64 << 32), "`compress_ratios[1]` must be 1 to 2147483647, got 4294967296"),
        ("num_hash_layers", json!(6), "`num_hash_layers` must be at most the 5 layers, got 6"),
        ("eos_token_id", json!([]), "`eos_token_id` must name at least one token"),
        ("eos_token_id", json!([1, 160]), "`eos_token_id` must be less than `vocab_size` = 160, got 160"),
        ("bos_token_id", json!(u64::MAX), "`bos_token_id` must be less than `vocab_size` = 160"),
        ("expert_dtype", json!("int4"), "`expert_dtype` must be fp4 or fp8, got \"int4\""),
        ("torch_dtype", json!("int8"), "`torch_dtype` must be bfloat16, float16 or float32, got \"int8\""),
        ("quantization_config", json!(null), "`expert_dtype` is \"fp4\" but `quantization_config` is missing"),
        ("quantization_config.quant_method", json!("awq"), "`quantization_config.quant_method` must be \"fp8\""),
        ("quantization_config.scale_fmt", json!("float"), "`quantization_config.scale_fmt` must be \"ue8m0\""),
        ("quantization_config.weight_block_size", json!([128]), "must be a list of two sizes, got a list of 1"),
        ("quantization_config.weight_block_size", json!([0, 128]), "must be 1 to 2147483647, got 0"),
    ] {
        let message = refused(field, value);
        assert!(message.contains(want), "{field}: {message}");
        assert!(message.contains(';'), "no mend: {message}");
    }
    let big = json!(i32::MAX - 1);
    let mut huge = golden_json("Q");
    for field in ["hidden_size", "moe_intermediate_size", "n_routed_experts"] {
        huge[field] = big.clone();
    }
    assert!(matches!(parse(&huge).unwrap_err().rule, ConfigRule::TooLarge { bytes } if bytes > 1 << 90));
}

#[test]
fn the_transformers_dialect_has_rules_of_its_own() {
    for (field, value, want) in [
        ("layer_types.2", json!("full_attention"), "`layer_types[2]` must be one of sliding_attention, "),
        ("mlp_layer_types.0", json!("dense"), "`mlp_layer_types[0]` must be one of hash_moe, moe, got \"dense\""),
        ("mlp_layer_types", json!(["moe"]), "`mlp_layer_types` must have 5 entries for 5 layers, got 1"),
        (
            "compress_rates.compressed_sparse_attention",
            json!(null),
            "`compress_rates.compressed_sparse_attention` is missing",
        ),
        ("rope_parameters.compress", json!(null), "`rope_parameters.compress` is missing"),
        ("rope_parameters.main.rope_type", json!("yarn"), "`rope_parameters.main.rope_type` must be \"default\""),
        ("rope_parameters.compress.attention_factor", json!(1.2), "attention_factor` must be 1.0, got 1.2"),
        (
            "qk_rope_head_dim",
            json!(16),
            "`partial_rotary_factor` gives a rotary width of 8, but `qk_rope_head_dim` gives 16",
        ),
        (
            "partial_rotary_factor",
            json!(0.3),
            "`partial_rotary_factor` x `head_dim` must be a whole number, got 0.3 x 32",
        ),
        ("partial_rotary_factor", json!(2.0), "must be a whole number"),
    ] {
        let message = refused_from(golden_json("A"), field, value);
        assert!(message.contains(want), "{field}: {message}");
    }
    let mut both = golden_json("A");
    both["compress_ratios"] = json!([0, 4, 16, 4, 16]);
    assert!(matches!(parse(&both).unwrap_err().rule, ConfigRule::TwoSchedules));
    both["compress_ratios"] = json!(null);
    both["layer_types"] = json!(null);
    assert!(matches!(parse(&both).unwrap_err().rule, ConfigRule::NoSchedule));
}

#[test]
fn accepted_variants() {
    let mut json = golden_json("Q");
    json["eos_token_id"] = json!([1, 7]);
    json["expert_dtype"] = json!("fp8");
    json["rope_scaling"] = json!(null);
    let config = parse(&json).unwrap();
    assert_eq!((config.eos, config.yarn), (vec![1, 7], None));
    assert_eq!(config.quantization.unwrap().expert_dtype, ExpertDtype::Fp8);
    let mut plain = Config::tiny();
    plain.layers.truncate(2);
    plain.validate().unwrap();
    plain.experts = 1;
    assert!(matches!(plain.validate(), Err(ConfigRule::ExpertsPerToken { experts: 1, given: 2 })));
}

#[test]
fn files_that_are_no_configuration() {
    let absent = Config::open(&golden("nowhere")).unwrap_err();
    assert!(matches!(absent.rule, ConfigRule::Read(_)) && absent.file.ends_with("nowhere/config.json"), "{absent}");
    for (text, want) in
        [("", "is not JSON"), ("[1]", "must hold one JSON object, got a list of 1"), ("{}", "`model_type` is missing")]
    {
        let message = Config::from_json(text, Path::new("f")).unwrap_err().to_string();
        assert!(message.contains(want), "{message}");
    }
    let long = Config::from_json(&json!({"model_type": "x".repeat(1 << 20)}).to_string(), Path::new("f")).unwrap_err();
    assert!(long.to_string().len() < 300);
}

/// A valid configuration can be listed and planned for, whatever its sizes.
fn survives(text: &str) -> bool {
    let Ok(config) = Config::from_json(text, Path::new("fuzz")) else { return false };
    config.validate().unwrap();
    assert!(inventory(&config).take(500).all(|tensor| tensor.file_bytes() <= i64::MAX as u64));
    for context in [1, 1 << 20, u64::MAX] {
        if let Ok(plan) = Plan::new(&config, context) {
            assert!(plan.flops_ratio.is_finite() && !plan.render().is_empty());
        }
    }
    true
}

#[test]
fn no_damage_makes_it_panic() {
    let hostile = [
        json!(null),
        json!(true),
        json!("yarn"),
        json!([]),
        json!({}),
        json!([[]]),
        json!(-1),
        json!(0),
        json!(1),
        json!(2),
        json!(1.5),
        json!(1e308),
        json!(1e-308),
        json!(i32::MAX),
        json!(1u64 << 31),
        json!(u64::MAX),
    ];
    let mut accepted = 0;
    for json in [golden_json("A"), golden_json("Q"), pro_json()] {
        let text = json.to_string();
        for end in 0..text.len() {
            assert!(!survives(text.get(..end).unwrap_or("")), "accepted a file cut off at byte {end}");
        }
        let mut paths = Vec::new();
        collect_paths(&json, String::new(), &mut paths);
        assert!(paths.len() > 40);
        for (index, path) in paths.iter().enumerate() {
            for value in &hostile {
                let mut one = json.clone();
                *one.pointer_mut(path).unwrap() = value.clone();
                accepted += usize::from(survives(&one.to_string()));
                // A second field, some other one each time: products of two large sizes are where sums overflow.
                for step in [1, 7, 17] {
                    let mut two = one.clone();
                    if let Some(place) = two.pointer_mut(&paths[(index + step) % paths.len()]) {
                        *place = value.clone();
                    }
                    accepted += usize::from(survives(&two.to_string()));
                }
            }
        }
    }
    assert!(accepted > 500, "the damage was never survivable, so nothing downstream was tried: {accepted}");
}

#[test]
fn a_deleted_field_is_named() {
    let defaulted = [
        "num_key_value_heads",
        "norm_topk_prob",
        "topk_method",
        "hidden_act",
        "tie_word_embeddings",
        "attention_bias",
        "num_nextn_predict_layers",
        "rope_scaling",
        "torch_dtype",
        "architectures",
        "attention_dropout",
        "initializer_range",
        "use_cache",
        "quantization_config",
        "fmt",
        "activation_scheme",
    ];
    let json = pro_json();
    let mut paths = Vec::new();
    collect_paths(&json, String::new(), &mut paths);
    for path in paths {
        let (parent, key) = path.rsplit_once('/').unwrap();
        let mut less = json.clone();
        let Some(object) = less.pointer_mut(parent).unwrap().as_object_mut() else { continue };
        object.remove(key).unwrap();
        let result = parse(&less);
        if defaulted.contains(&key) {
            assert!(result.is_ok(), "{path}: {}", result.unwrap_err());
        } else {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(&format!("{key}`")), "{path}: {message}");
        }
    }
}

fn collect_paths(value: &Value, at: String, out: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, child)| (key.clone(), child)).collect(),
        // The first two entries of a list stand for the rest.
        Value::Array(list) => {
            list.iter().take(2).enumerate().map(|(index, child)| (index.to_string(), child)).collect()
        }
        _ => return,
    };
    for (key, child) in children {
        let path = format!("{at}/{key}");
        out.push(path.clone());
        collect_paths(child, path, out);
    }
}

//! The two naming layouts of a DeepSeek V4 checkpoint, and how a published name is found in either.
//!
//! Everything outside this module asks for tensors by their published (official) names: `layers.3.attn.wq_a.weight`.
//! Hugging Face transformers (`modeling_deepseek_v4.py`) saves the same tensors as
//! `model.layers.3.self_attn.q_a_proj.weight`, with the routed experts of a layer stacked into two tensors:
//! `mlp.experts.gate_up_proj [experts, 2 I, d]` (w1 above w3) and `mlp.experts.down_proj [experts, d, I]` (w2).

use std::fmt;

/// How the tensors of a checkpoint are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As published: `layers.N.attn.wq_a.weight`, one tensor per expert matrix.
    Official,
    /// As transformers saves it: `model.layers.N.self_attn.q_a_proj.weight`, experts stacked.
    Transformers,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Official => "official",
            Layout::Transformers => "transformers",
        })
    }
}

/// Which part of the stored tensor a published name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// One expert of a stack.
    Expert(usize, Rows),
}

/// Which rows of an expert of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// All: w2.
    All,
    /// The upper half: w1, the gate.
    Upper,
    /// The lower half: w3.
    Lower,
}

/// The layout that `name` belongs to, or `None` for a name of neither.
pub(crate) fn layout_of(name: &str) -> Option<Layout> {
    const OFFICIAL: [&str; 6] = ["layers.", "embed.", "head.", "norm.", "hc_head_", "mtp."];
    const TRANSFORMERS: [&str; 2] = ["model.", "lm_head."];
    let begins = |with: &[&str]| with.iter().any(|w| name.starts_with(w));
    if begins(&OFFICIAL) {
        Some(Layout::Official)
    } else if begins(&TRANSFORMERS) {
        Some(Layout::Transformers)
    } else {
        None
    }
}

/// The names under which the published name `official` may be stored, the usual one first. Empty where the layout has
/// no such tensor (transformers drops `mtp.*`).
///
/// Scales are published as `X.scale`; loaders also meet `X.weight_scale_inv` and `X.weight_scale`.
pub(crate) fn candidates(layout: Layout, official: &str) -> Vec<(String, Part)> {
    let (stem, spellings): (&str, &[&str]) = match official.strip_suffix(".scale") {
        Some(stem) => (stem, &[".scale", ".weight_scale_inv", ".weight_scale"]),
        None => (official, &[""]),
    };
    match layout {
        Layout::Official => spellings.iter().map(|s| (format!("{stem}{s}"), Part::Whole)).collect(),
        Layout::Transformers => {
            if let Some((stack, part)) = stacked(stem) {
                // A stack is a parameter itself, not the `weight` of a module, so its scales hang on with `_`.
                let spellings: &[&str] = if official.ends_with(".scale") { &["_scale_inv", "_scale"] } else { &[""] };
                spellings.iter().map(|s| (format!("{stack}{s}"), part)).collect()
            } else {
                transformers(stem).map_or_else(Vec::new, |stem| {
                    spellings.iter().map(|s| (format!("{stem}{s}"), Part::Whole)).collect()
                })
            }
        }
    }
}

/// The stack that holds `layers.N.ffn.experts.K.wM` (with or without `.weight`), and which part of it.
fn stacked(stem: &str) -> Option<(String, Part)> {
    let (layer, rest) = stem.strip_prefix("layers.")?.split_once(".ffn.experts.")?;
    let (expert, matrix) = rest.split_once('.')?;
    let (stack, rows) = match matrix.strip_suffix(".weight").unwrap_or(matrix) {
        "w1" => ("gate_up_proj", Rows::Upper),
        "w3" => ("gate_up_proj", Rows::Lower),
        "w2" => ("down_proj", Rows::All),
        _ => return None,
    };
    Some((format!("model.layers.{layer}.mlp.experts.{stack}"), Part::Expert(expert.parse().ok()?, rows)))
}

/// Top-level modules: published name, transformers name. A name is replaced up to the end of the published one.
const TOP: [(&str, &str); 4] = [
    ("embed.", "model.embed_tokens."),
    ("head.", "lm_head."),
    ("norm.", "model.norm."),
    ("hc_head_", "model.hc_head.hc_"),
];

/// Modules of a layer, likewise. No entry is a prefix of a later one.
const LAYER: [(&str, &str); 22] = [
    ("attn_norm.", "input_layernorm."),
    ("ffn_norm.", "post_attention_layernorm."),
    ("hc_attn_", "attn_hc."),
    ("hc_ffn_", "ffn_hc."),
    ("attn.attn_sink", "self_attn.sinks"),
    ("attn.wq_a", "self_attn.q_a_proj"),
    ("attn.wq_b", "self_attn.q_b_proj"),
    ("attn.q_norm", "self_attn.q_a_norm"),
    ("attn.wkv", "self_attn.kv_proj"),
    ("attn.kv_norm", "self_attn.kv_norm"),
    ("attn.wo_a", "self_attn.o_a_proj"),
    ("attn.wo_b", "self_attn.o_b_proj"),
    ("attn.compressor.", "self_attn.compressor."),
    ("attn.indexer.compressor.", "self_attn.compressor.indexer."),
    ("attn.indexer.wq_b", "self_attn.compressor.indexer.q_b_proj"),
    ("attn.indexer.weights_proj", "self_attn.compressor.indexer.scorer.weights_proj"),
    ("ffn.gate.bias", "mlp.gate.e_score_correction_bias"),
    ("ffn.gate.tid2eid", "mlp.gate.tid2eid"),
    ("ffn.gate.weight", "mlp.gate.weight"),
    ("ffn.shared_experts.w1", "mlp.shared_experts.gate_proj"),
    ("ffn.shared_experts.w3", "mlp.shared_experts.up_proj"),
    ("ffn.shared_experts.w2", "mlp.shared_experts.down_proj"),
];

/// Parameters of a compressor (the attention's and the indexer's), likewise.
const COMPRESSOR: [(&str, &str); 4] =
    [("ape", "position_bias"), ("wkv", "kv_proj"), ("wgate", "gate_proj"), ("norm", "kv_norm")];

/// The transformers name of an unstacked tensor.
fn transformers(official: &str) -> Option<String> {
    let Some((layer, rest)) = official.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) else {
        return renamed(&TOP, official);
    };
    let rest = renamed(&LAYER, rest)?;
    for place in ["self_attn.compressor.indexer.", "self_attn.compressor."] {
        if let Some(parameter) = rest.strip_prefix(place).and_then(|p| renamed(&COMPRESSOR, p)) {
            return Some(format!("model.layers.{layer}.{place}{parameter}"));
        }
    }
    Some(format!("model.layers.{layer}.{rest}"))
}

fn renamed(table: &[(&str, &str)], name: &str) -> Option<String> {
    table.iter().find_map(|(from, to)| name.strip_prefix(from).map(|rest| format!("{to}{rest}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(official: &str) -> Option<(String, Part)> {
        candidates(Layout::Transformers, official).into_iter().next()
    }

    #[test]
    fn every_kind_of_name_maps_to_its_transformers_name() {
        let cases = [
            ("embed.weight", "model.embed_tokens.weight"),
            ("head.weight", "lm_head.weight"),
            ("norm.weight", "model.norm.weight"),
            ("hc_head_fn", "model.hc_head.hc_fn"),
            ("layers.12.attn_norm.weight", "model.layers.12.input_layernorm.weight"),
            ("layers.0.hc_ffn_scale", "model.layers.0.ffn_hc.scale"),
            ("layers.0.attn.attn_sink", "model.layers.0.self_attn.sinks"),
            ("layers.0.attn.wo_a.weight", "model.layers.0.self_attn.o_a_proj.weight"),
            ("layers.0.attn.q_norm.weight", "model.layers.0.self_attn.q_a_norm.weight"),
            ("layers.0.attn.kv_norm.weight", "model.layers.0.self_attn.kv_norm.weight"),
            ("layers.1.attn.compressor.ape", "model.layers.1.self_attn.compressor.position_bias"),
            ("layers.1.attn.compressor.norm.weight", "model.layers.1.self_attn.compressor.kv_norm.weight"),
            (
                "layers.1.attn.indexer.compressor.wgate.weight",
                "model.layers.1.self_attn.compressor.indexer.gate_proj.weight",
            ),
            ("layers.1.attn.indexer.wq_b.weight", "model.layers.1.self_attn.compressor.indexer.q_b_proj.weight"),
            (
                "layers.1.attn.indexer.weights_proj.weight",
                "model.layers.1.self_attn.compressor.indexer.scorer.weights_proj.weight",
            ),
            ("layers.1.ffn.gate.bias", "model.layers.1.mlp.gate.e_score_correction_bias"),
            ("layers.1.ffn.gate.tid2eid", "model.layers.1.mlp.gate.tid2eid"),
            ("layers.1.ffn.shared_experts.w3.weight", "model.layers.1.mlp.shared_experts.up_proj.weight"),
        ];
        for (official, expected) in cases {
            assert_eq!(one(official), Some((expected.to_owned(), Part::Whole)), "{official}");
        }
        for none in ["mtp.0.e_proj.weight", "layers.0.attn.wq_c.weight", "layers.0.ffn.experts.x.w1.weight", "layers."]
        {
            assert_eq!(one(none), None, "{none}");
        }
    }

    #[test]
    fn experts_are_parts_of_stacks() {
        let part = |stack: &str, k, rows| Some((format!("model.layers.4.mlp.experts.{stack}"), Part::Expert(k, rows)));
        assert_eq!(one("layers.4.ffn.experts.7.w1.weight"), part("gate_up_proj", 7, Rows::Upper));
        assert_eq!(one("layers.4.ffn.experts.0.w3.weight"), part("gate_up_proj", 0, Rows::Lower));
        assert_eq!(one("layers.4.ffn.experts.11.w2.weight"), part("down_proj", 11, Rows::All));
        assert_eq!(one("layers.4.ffn.experts.1.w2.scale"), part("down_proj_scale_inv", 1, Rows::All));
    }

    #[test]
    fn scales_are_looked_for_in_all_spellings() {
        let names = |layout, name| candidates(layout, name).into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(
            names(Layout::Official, "layers.0.attn.wkv.scale"),
            ["layers.0.attn.wkv.scale", "layers.0.attn.wkv.weight_scale_inv", "layers.0.attn.wkv.weight_scale"]
        );
        assert_eq!(
            names(Layout::Transformers, "layers.0.attn.wkv.scale")[1],
            "model.layers.0.self_attn.kv_proj.weight_scale_inv"
        );
        assert_eq!(names(Layout::Official, "layers.0.hc_attn_scale"), ["layers.0.hc_attn_scale"]);
    }

    #[test]
    fn no_table_entry_hides_a_later_one() {
        for table in [&LAYER[..], &TOP[..], &COMPRESSOR[..]] {
            for (i, (from, _)) in table.iter().enumerate() {
                assert!(table[i + 1..].iter().all(|(later, _)| !later.starts_with(from)), "{from}");
            }
        }
    }

    #[test]
    fn layouts_by_name() {
        assert_eq!(layout_of("layers.0.attn.wkv.weight"), Some(Layout::Official));
        assert_eq!(layout_of("mtp.0.norm.weight"), Some(Layout::Official));
        assert_eq!(layout_of("model.layers.0.self_attn.sinks"), Some(Layout::Transformers));
        assert_eq!(layout_of("lm_head.weight"), Some(Layout::Transformers));
        assert_eq!(layout_of("transformer.h.0.attn"), None);
    }
}

//! The transformers dialect (`configuration_deepseek_v4.py`): layers are named (`layer_types`, `mlp_layer_types`), the
//! ratios stand in `compress_rates` by layer name, and RoPE in `rope_parameters.main` (sliding-window layers) and
//! `rope_parameters.compress` (compressed layers), its width as `partial_rotary_factor` of the head.

use super::fields::{Fields, show};
use super::{Compression, ConfigRule, Dialect, LayerKind, read_yarn};
use serde_json::Value;

const SLIDING: &str = "sliding_attention";
const SPARSE: &str = "compressed_sparse_attention";
const HEAVY: &str = "heavily_compressed_attention";

pub(super) fn read(fields: &Fields<'_>) -> Result<Dialect, ConfigRule> {
    let rope = fields.object("rope_parameters")?;
    let (main, compress) = (rope.object("main")?, rope.object("compress")?);
    main.only("rope_type", "default")?;
    Ok(Dialect {
        layers: layers(fields)?,
        // transformers drops the MTP tensors when it loads or converts a checkpoint, whatever
        // `num_nextn_predict_layers` says.
        mtp: None,
        rope_dim: rope_dim(fields, &main, &compress)?,
        rope_theta: main.positive("rope_theta")?,
        compress_rope_theta: compress.positive("rope_theta")?,
        yarn: read_yarn(&compress)?,
    })
}

fn layers(fields: &Fields<'_>) -> Result<Vec<LayerKind>, ConfigRule> {
    let count = fields.size("num_hidden_layers")?;
    let exactly = |field: &'static str| match fields.list(field) {
        Ok(list) if list.len() != count => {
            let (want, given) = (count.to_string(), list.len());
            Err(ConfigRule::ScheduleLength { field, want, layers: count, given })
        }
        list => list,
    };
    let (attention, mlp) = (exactly("layer_types")?, exactly("mlp_layer_types")?);
    let mut layers = Vec::with_capacity(count);
    for (index, (attention, mlp)) in attention.iter().zip(mlp).enumerate() {
        // `size` keeps a rate within i32, so the casts lose nothing.
        let rate = |name| fields.object("compress_rates")?.size(name).map(|rate| rate as u32);
        let compression = match attention.as_str() {
            Some(SLIDING) => Compression::None,
            Some(SPARSE) => Compression::Overlap(rate(SPARSE)?),
            Some(HEAVY) => Compression::Pooled(rate(HEAVY)?),
            _ => {
                let known = "sliding_attention, compressed_sparse_attention, heavily_compressed_attention";
                return Err(unknown(format!("layer_types[{index}]"), known, attention));
            }
        };
        let hash_routed = match mlp.as_str() {
            Some("hash_moe") => true,
            Some("moe") => false,
            _ => return Err(unknown(format!("mlp_layer_types[{index}]"), "hash_moe, moe", mlp)),
        };
        layers.push(LayerKind { compression, hash_routed });
    }
    Ok(layers)
}

fn unknown(field: String, known: &'static str, given: &Value) -> ConfigRule {
    ConfigRule::LayerType { field, known, given: show(given) }
}

/// The rotary width. transformers writes it up to four times; all that are there must agree, because the rotated part
/// of the key cache has one width.
fn rope_dim(fields: &Fields<'_>, main: &Fields<'_>, compress: &Fields<'_>) -> Result<usize, ConfigRule> {
    let head_dim = fields.size("head_dim")?;
    let mut found: Option<(String, usize)> = None;
    for (object, key) in [
        (fields, "qk_rope_head_dim"),
        (fields, "partial_rotary_factor"),
        (main, "partial_rotary_factor"),
        (compress, "partial_rotary_factor"),
    ] {
        if object.get(key).is_none() {
            continue;
        }
        let field = object.name(key);
        let width = if key == "qk_rope_head_dim" {
            object.size(key)?
        } else {
            let factor = object.positive(key)?;
            let exact = factor * head_dim as f64;
            // A factor such as 1/3 is not exact in binary; the width it means is the nearest whole number.
            if (exact - exact.round()).abs() > 1e-6 || exact.round() < 1.0 || exact > head_dim as f64 {
                return Err(ConfigRule::RotaryFactor { field, head_dim, given: factor });
            }
            exact.round() as usize
        };
        match &found {
            Some((other, wanted)) if *wanted != width => {
                return Err(ConfigRule::RotaryDisagrees { field, given: width, other: other.clone(), wanted: *wanted });
            }
            Some(_) => {}
            None => found = Some((field, width)),
        }
    }
    found.map(|(_, width)| width).ok_or_else(|| ConfigRule::Missing { field: fields.name("partial_rotary_factor") })
}

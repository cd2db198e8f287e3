//! The official dialect: the `config.json` of the released checkpoints. One number per layer says how attention
//! compresses (`compress_ratios`), the first `num_hash_layers` layers are hash-routed, and RoPE is spread over
//! `rope_theta`, `compress_rope_theta`, `rope_scaling` and `qk_rope_head_dim`.

use super::fields::{Fields, show, size, whole};
use super::{Compression, ConfigRule, Dialect, LayerKind, read_yarn};
use serde_json::Value;

/// The ratio that means overlapping windows and an indexer (DeepSeek V4 reference `inference/model.py`:
/// `overlap = ratio == 4`); every other ratio above 0 means pooling.
const OVERLAP_RATIO: usize = 4;

/// Draft stages that the DSpark revisions of the checkpoints append to the schedule in place of the MTP layer.
const DSPARK_STAGES: usize = 3;

pub(super) fn read(fields: &Fields<'_>) -> Result<Dialect, ConfigRule> {
    let count = fields.size("num_hidden_layers")?;
    let hashed = whole("num_hash_layers", fields.need("num_hash_layers")?)?;
    if hashed > count as u64 {
        return Err(ConfigRule::HashLayers { layers: count, given: hashed });
    }
    let ratios = fields.list("compress_ratios")?;
    let (own, extra) = ratios.split_at_checked(count).ok_or_else(|| schedule_length(count, count, ratios.len()))?;
    let mut layers = Vec::with_capacity(count);
    for (index, ratio) in own.iter().enumerate() {
        let compression = compression(&format!("compress_ratios[{index}]"), ratio)?;
        layers.push(LayerKind { compression, hash_routed: (index as u64) < hashed });
    }
    Ok(Dialect {
        layers,
        mtp: mtp(fields, count, extra)?,
        rope_dim: fields.size("qk_rope_head_dim")?,
        rope_theta: fields.positive("rope_theta")?,
        compress_rope_theta: fields.positive("compress_rope_theta")?,
        yarn: match fields.get("rope_scaling") {
            Some(_) => read_yarn(&fields.object("rope_scaling")?)?,
            None => None,
        },
    })
}

fn schedule_length(layers: usize, want: usize, given: usize) -> ConfigRule {
    let want = if want == layers { format!("{want} to {}", want + 1) } else { want.to_string() };
    ConfigRule::ScheduleLength { field: "compress_ratios", want, layers, given }
}

fn compression(field: &str, ratio: &Value) -> Result<Compression, ConfigRule> {
    match whole(field, ratio)? {
        0 => Ok(Compression::None),
        ratio => match size(field, ratio)? {
            // `size` keeps the ratio within i32, so the casts lose nothing.
            OVERLAP_RATIO => Ok(Compression::Overlap(OVERLAP_RATIO as u32)),
            pooled => Ok(Compression::Pooled(pooled as u32)),
        },
    }
}

/// What the entries after the last layer stand for: the MTP layer where `num_nextn_predict_layers` is 1, nothing where
/// it is 0 (the entry is there all the same), DSpark draft stages where the revision has them. DSpark only drafts
/// tokens for speculative decoding, so its stages are ignored.
fn mtp(fields: &Fields<'_>, count: usize, extra: &[Value]) -> Result<Option<LayerKind>, ConfigRule> {
    let nextn = fields.get("num_nextn_predict_layers").map_or(Ok(0), |n| whole("num_nextn_predict_layers", n))?;
    let dspark = match fields.get("dspark_block_size") {
        Some(block) => whole("dspark_block_size", block)? > 0,
        None => extra.len() == DSPARK_STAGES,
    };
    if dspark {
        for (index, ratio) in extra.iter().enumerate() {
            if ratio.as_u64() != Some(0) {
                let field = format!("compress_ratios[{}]", count + index);
                return Err(ConfigRule::DraftRatio { field, given: show(ratio) });
            }
        }
        return Ok(None);
    }
    match (nextn, extra) {
        (0, [] | [_]) => Ok(None),
        (1, [ratio]) => {
            let compression = compression(&format!("compress_ratios[{count}]"), ratio)?;
            Ok(Some(LayerKind { compression, hash_routed: false }))
        }
        (0, _) => Err(schedule_length(count, count, count + extra.len())),
        (1, _) => Err(schedule_length(count, count + 1, count + extra.len())),
        (given, _) => Err(ConfigRule::MtpLayers { given }),
    }
}

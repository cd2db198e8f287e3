//! The rules a `config.json` can break.

use std::path::PathBuf;

/// A configuration that was refused: which file, and which rule it broke.
#[derive(Debug, thiserror::Error)]
#[error("{}: {rule}", .file.display())]
pub struct ConfigError {
    /// The file as it was given; for [`Config::from_json`](super::Config::from_json) the name its caller chose.
    pub file: PathBuf,
    /// The broken rule.
    pub rule: ConfigRule,
}

/// One broken rule. The message names the field, the rule, what was given and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the messages print
pub enum ConfigRule {
    /// The file could not be read, or is not UTF-8.
    #[error("cannot be read ({0}); name a directory that holds the config.json of a checkpoint")]
    Read(std::io::Error),
    /// Not JSON.
    #[error("is not JSON ({0}); copy the file again from the checkpoint")]
    Json(serde_json::Error),
    /// JSON, but not an object.
    #[error("must hold one JSON object, got {given}; copy the file again from the checkpoint")]
    NotObject { given: String },
    /// A required field is absent or null.
    #[error("`{field}` is missing; add it with the value of the released config.json")]
    Missing { field: String },
    /// A field has another JSON type than its meaning needs.
    #[error("`{field}` must be {want}, got {given}; correct the value")]
    Type { field: String, want: &'static str, given: String },
    /// A size is 0 or does not fit the 32-bit indices of the contract.
    #[error("`{field}` must be 1 to {max}, got {given}; correct the value")]
    Range { field: String, max: u64, given: u64 },
    /// A factor, limit or epsilon is not a positive number.
    #[error("`{field}` must be finite and greater than 0, got {given}; correct the value")]
    NotPositive { field: String, given: f64 },
    /// Something that only one value of is implemented has another value.
    #[error(
        "`{field}` must be {only}, got {given}: nothing else is implemented; use a DeepSeek V4 checkpoint as released"
    )]
    Only { field: String, only: String, given: String },
    /// No layer schedule in either dialect.
    #[error(
        "has neither `compress_ratios` (official dialect) nor `layer_types` (transformers dialect); \
         add the layer schedule of the checkpoint"
    )]
    NoSchedule,
    /// A layer schedule in both dialects: which one holds cannot be known.
    #[error(
        "has both `compress_ratios` (official dialect) and `layer_types` (transformers dialect); remove the one that the \
         checkpoint was not written with"
    )]
    TwoSchedules,
    /// A per-layer list does not fit `num_hidden_layers`.
    #[error(
        "`{field}` must have {want} entries for {layers} layers, got {given}; correct the list or `num_hidden_layers`"
    )]
    ScheduleLength { field: &'static str, want: String, layers: usize, given: usize },
    /// An unknown name in `layer_types` or `mlp_layer_types`.
    #[error("`{field}` must be one of {known}, got {given}; correct the name")]
    LayerType { field: String, known: &'static str, given: String },
    /// More hash-routed layers than layers.
    #[error("`num_hash_layers` must be at most the {layers} layers, got {given}; correct one of them")]
    HashLayers { layers: usize, given: u64 },
    /// More than one MTP layer.
    #[error(
        "`num_nextn_predict_layers` must be 0 or 1, got {given}: the released checkpoints have one MTP layer; correct it"
    )]
    MtpLayers { given: u64 },
    /// A DSpark draft stage with compressed attention.
    #[error(
        "`{field}` belongs to a DSpark draft stage and must be 0, got {given}; correct the list or `num_hidden_layers`"
    )]
    DraftRatio { field: String, given: String },
    /// RoPE turns pairs of elements.
    #[error("`qk_rope_head_dim` must be even (RoPE turns pairs), got {given}; correct the value")]
    OddRope { given: usize },
    /// The rotary part does not fit the head.
    #[error("`qk_rope_head_dim` must be at most `{field}` = {limit}, got {given}; correct one of them")]
    WideRope { field: &'static str, limit: usize, given: usize },
    /// `partial_rotary_factor` does not give a whole number of elements.
    #[error("`{field}` x `head_dim` must be a whole number, got {given} x {head_dim}; correct one of them")]
    RotaryFactor { field: String, head_dim: usize, given: f64 },
    /// Two fields that say the same thing say different things.
    #[error("`{field}` gives a rotary width of {given}, but `{other}` gives {wanted}; make them agree")]
    RotaryDisagrees { field: String, given: usize, other: String, wanted: usize },
    /// RoPE frequencies must fall, and YaRN divides by the logarithm of the base.
    #[error("`{field}` must be greater than 1, got {given}; correct the value")]
    RopeBase { field: &'static str, given: f64 },
    /// YaRN stretches, it does not shrink.
    #[error("`{field}` of YaRN must be at least 1, got {given}; correct the value")]
    YarnFactor { field: &'static str, given: f64 },
    /// YaRN's ramp would run backwards.
    #[error("`beta_fast` of YaRN must be greater than `beta_slow`, got {fast} and {slow}; correct them")]
    YarnBetas { fast: f64, slow: f64 },
    /// The output projection works on whole heads.
    #[error("`num_attention_heads` must be a multiple of `o_groups` = {groups}, got {heads}; correct one of them")]
    HeadGroups { heads: usize, groups: usize },
    /// A token cannot visit more experts than there are.
    #[error("`num_experts_per_tok` must be at most `n_routed_experts` = {experts}, got {given}; correct one of them")]
    ExpertsPerToken { experts: usize, given: usize },
    /// FP4 weights are packed two to a byte.
    #[error("`{field}` must be even with FP4 experts (two codes to a byte), got {given}; correct it or `expert_dtype`")]
    OddPacked { field: &'static str, given: usize },
    /// A quantised expert format in an unquantised checkpoint.
    #[error("`expert_dtype` is {given} but `quantization_config` is missing; add the one or remove the other")]
    ExpertDtypeAlone { given: String },
    /// A token id outside the vocabulary.
    #[error("`{field}` must be less than `vocab_size` = {vocab}, got {given}; correct one of them")]
    TokenId { field: &'static str, vocab: usize, given: u64 },
    /// Generation would never end.
    #[error("`eos_token_id` must name at least one token, got an empty list; add the end-of-sentence id")]
    NoEos,
    /// The tensors these sizes describe cannot be a file: offsets are signed 64-bit.
    #[error("the sizes describe a checkpoint of {bytes} bytes, more than {}: a size is wrong; correct it", i64::MAX)]
    TooLarge { bytes: u128 },
}

//! What can keep a model from running, each case its own variant with the mend.

use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::prompt::PromptError;
use crate::tokenizer::TokenizerError;
use std::path::PathBuf;

/// The runtime's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong between a checkpoint folder and its tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device refused or failed.
    #[error(transparent)]
    Device(#[from] anychip_core::Error),
    /// `config.json`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The conversation.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// `tokenizer.json`.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A file that is read beside the checkpoint.
    #[error("{file}: {problem}; {mend}")]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What would mend it.
        mend: &'static str,
    },
    /// A token that the vocabulary does not have.
    #[error("token {token} at place {place} is outside the vocabulary of {vocab}; use ids 0 to {}", vocab - 1)]
    TokenOutOfRange {
        /// The token.
        token: u32,
        /// Its place in the tokens given.
        place: usize,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A sequence would outgrow the context that the model was opened with.
    #[error(
        "a sequence of {needed} tokens is longer than the context of {context}; open the model with a larger context"
    )]
    ContextTooLong {
        /// Tokens that the sequence would have.
        needed: usize,
        /// Tokens of context.
        context: usize,
    },
    /// The KV pool has no pages left.
    #[error(
        "the KV pool has {free} free pages of {entries} entries for ratio {ratio}, {needed} more are needed; \
         release a sequence or open the model with a larger pool"
    )]
    PoolExhausted {
        /// Tokens per entry.
        ratio: usize,
        /// Pages needed.
        needed: usize,
        /// Pages left.
        free: usize,
        /// Entries of a page.
        entries: usize,
    },
    /// As many sequences are open as the model was opened for.
    #[error("all {limit} sequences are in use; release one or open the model for more")]
    TooManySequences {
        /// Sequences that the model was opened for.
        limit: usize,
    },
    /// A sequence that was released, or is of another model.
    #[error("sequence {sequence} is not open (any more); open another")]
    UnknownSequence {
        /// Its number.
        sequence: usize,
    },
    /// A sequence appears twice in a batch, or no tokens were given.
    #[error("{problem}; give each sequence once, with at least one token")]
    BadBatch {
        /// What is wrong.
        problem: String,
    },
    /// A model option out of its range.
    #[error("option `{option}` must be {rule}, got {got}; give a value in that range")]
    BadOption {
        /// The option.
        option: &'static str,
        /// Its range.
        rule: &'static str,
        /// The value given.
        got: String,
    },
    /// Served precision was asked of a model that is not quantised throughout.
    #[error("{dir}: served precision needs every linear quantised, and `{tensor}` is not; use exact precision")]
    NotQuantised {
        /// The checkpoint.
        dir: PathBuf,
        /// The first plain weight.
        tensor: String,
    },
    /// The multi-token-prediction layer was asked for and is not there.
    #[error("{dir} has no MTP layer; run without drafts")]
    NoMtp {
        /// The checkpoint.
        dir: PathBuf,
    },
    /// A token cannot be chosen from logits that hold no number.
    #[error(
        "the logits of position {position} are all NaN; check the weights with `verify`, or the device with `conformance`"
    )]
    NoLogits {
        /// Position of the token whose logits they are.
        position: usize,
    },
    /// The caller asked to stop (Ctrl-C).
    #[error("interrupted")]
    Interrupted,
}

//! DeepSeek V4 over the anychip contract.
//!
//! [`Model`] opens a checkpoint folder on any [`Device`](anychip_core::Device) and runs it: prefill in chunks of any
//! size, decode, batches of sequences of different lengths, in [`Precision::Exact`] or [`Precision::Served`]. It names no
//! backend: everything between the weights and the logits is operations of the contract.
//!
//! Around it: [`config`] and [`checkpoint`] read the files (both dialects, both layouts), [`prompt`] and [`tokenizer`] make
//! tokens, [`generate`](mod@generate) and [`sample`] continue them, [`verify`] compares with numbers that other code
//! computed, [`plan`] says what a model costs, [`synth`] writes a random one.

pub mod checkpoint;
pub mod config;
mod error;
mod file;
pub mod generate;
pub mod inventory;
pub mod model;
pub mod plan;
pub mod prompt;
pub mod sample;
pub mod synth;
pub mod tokenizer;
pub mod verify;

pub use error::{Error, Result};
pub use model::{Model, Options, Precision, Rows, Sequence, Work};

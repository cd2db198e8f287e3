//! `anychip synth`: a random checkpoint of real sizes.

use super::{binary, plan::preset};
use crate::args::SynthArgs;
use crate::error::Failure;
use crate::output::Output;
use crate::progress::Line;
use crate::{Outcome, interrupt};
use anychip_runtime::config::Config;
use anychip_runtime::synth::synth;
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    dir: &'a Path,
    model: &'a str,
    layers: usize,
    experts: usize,
    seed: u64,
    tensors: usize,
    shards: usize,
    bytes: u64,
}

pub(crate) fn run(args: &SynthArgs) -> Result<Outcome, Failure> {
    let mut output = Output::begin(args.json.target.as_deref())?;
    let SynthArgs { model, dir, seed, .. } = args;
    let config = configuration(args)?;
    let summary = {
        let line = Line::bytes("writing");
        synth(&config, *seed, dir, interrupt::flag(), &|done, total| line.at(done, total))?
    };
    let (tensors, shards, bytes) = (summary.tensors, summary.shards, summary.bytes);
    let files = if shards == 1 { "1 shard" } else { &format!("{shards} shards") };
    output.line(&format!("{}: {tensors} tensors in {files}, {}", dir.display(), binary(bytes)))?;
    let (layers, experts) = (config.layers.len(), config.experts);
    let schema = "anychip.synth/1";
    output.finish(&Document { schema, dir, model, layers, experts, seed: *seed, tensors, shards, bytes })?;
    Ok(Outcome::Passed)
}

/// The model's configuration with fewer layers or another number of experts; the library judges what is left.
fn configuration(args: &SynthArgs) -> Result<Config, Failure> {
    let known = "tiny, v4-flash, v4-pro";
    let unknown = || Failure::UnknownModel { given: args.model.clone(), known };
    let mut config = preset(&args.model).ok_or_else(unknown)?;
    if let Some(given) = args.layers {
        let has = config.layers.len();
        if given > has {
            return Err(Failure::TooManyLayers { model: args.model.clone(), has, given });
        }
        config.layers.truncate(given);
    }
    config.experts = args.experts.unwrap_or(config.experts);
    Ok(config)
}

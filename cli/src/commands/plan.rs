//! `anychip plan`: what a model costs, before it is downloaded.

use crate::Outcome;
use crate::args::PlanArgs;
use crate::error::Failure;
use crate::output::Output;
use anychip_runtime::config::Config;
use anychip_runtime::plan::Plan;
use std::path::Path;

pub(crate) fn run(args: &PlanArgs) -> Result<Outcome, Failure> {
    let mut output = Output::begin(args.json.target.as_deref())?;
    let config = match preset(&args.model) {
        Some(config) => config,
        None => {
            let dir = Path::new(&args.model);
            if !dir.exists() {
                return Err(Failure::UnknownModel { given: args.model.clone(), known: "v4-flash, v4-pro, tiny" });
            }
            Config::open(dir)?
        }
    };
    let plan = Plan::new(&config, args.context.unwrap_or(config.max_position_embeddings as u64))?;
    output.print(&plan.render())?;
    output.finish(&plan)?;
    Ok(Outcome::Passed)
}

/// The configurations that need no file.
pub(super) fn preset(name: &str) -> Option<Config> {
    match name {
        "v4-flash" => Some(Config::v4_flash()),
        "v4-pro" => Some(Config::v4_pro()),
        "tiny" => Some(Config::tiny()),
        _ => None,
    }
}

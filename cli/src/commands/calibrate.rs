//! `anychip calibrate`: the simulator against the figures that it was fitted on.

use crate::args::CalibrateArgs;
use crate::devices::Name;
use crate::error::Failure;
use crate::output::Output;
use crate::{Outcome, interrupt};
use anychip_bench::{Calibration, Sensitivity, calibrate, sensitivity};
use serde::Serialize;

/// What the model promises of its own rows.
const MEAN: f64 = 0.07;
const LARGEST: f64 = 0.15;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    #[serde(flatten)]
    calibration: Calibration,
    sensitivity: Vec<Sensitivity>,
    passed: bool,
}

pub(crate) fn run(args: &CalibrateArgs) -> Result<Outcome, Failure> {
    let only = match &args.device {
        None => None,
        Some(given) => {
            let profile = Name::of(given)?.profile();
            Some(profile.ok_or_else(|| Failure::NotSimulated { name: given.clone() })?.name)
        }
    };
    let mut output = Output::begin(args.json.target.as_deref())?;
    let calibration = interrupt::leaving(move || calibrate(only.as_deref()))??;
    output.line("row  profile   published   predicted   error  what")?;
    for row in &calibration.rows {
        output.line(&format!(
            "{:<4} {:<8} {:>10.1} {:>11.1} {:>+6.1} %  {} [{}; {}]",
            row.row,
            row.profile,
            row.published,
            row.predicted,
            100.0 * row.error,
            row.what,
            row.unit,
            row.source
        ))?;
    }
    let (mean, largest) = (calibration.mean_error, calibration.largest_error);
    output.line(&format!("mean error {:.1} %, largest {:.1} %", 100.0 * mean, 100.0 * largest))?;
    for (name, hash) in &calibration.profiles {
        output.line(&format!("profile {name} {hash}"))?;
    }
    let mut varied = Vec::new();
    if args.sensitivity {
        output.line("largest change of a prediction with half of a guessed figure, and with half as much again:")?;
        for (name, _) in &calibration.profiles {
            let name = name.clone();
            for one in interrupt::leaving(move || sensitivity(&name))?? {
                output.line(&format!(
                    "{:<8} {:<20} {:>+6.1} % {:>+6.1} %",
                    one.profile,
                    one.figure,
                    100.0 * one.half,
                    100.0 * one.more
                ))?;
                varied.push(one);
            }
        }
    }
    let passed = calibration.rows.is_empty() || (mean <= MEAN && largest <= LARGEST);
    if calibration.rows.is_empty() {
        output.line("no published figure of this profile: what it predicts is modelled, not validated")?;
    }
    output.finish(&Document { schema: "anychip.calibrate/1", calibration, sensitivity: varied, passed })?;
    Ok(passed.into())
}

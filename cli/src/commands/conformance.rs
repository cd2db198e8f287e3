//! `anychip conformance`: every operation of a device, judged against the oracle.

use crate::args::ConformanceArgs;
use crate::devices::{BUILT, Name};
use crate::error::Failure;
use crate::output::{Output, Report as File};
use crate::progress::Line;
use crate::{Outcome, interrupt};
use anychip_conformance::{Report, Selection, junit, run as run_suite};
use serde::Serialize;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    passed: bool,
    /// A report for each device.
    devices: &'a [Report],
}

pub(crate) fn run(args: &ConformanceArgs) -> Result<Outcome, Failure> {
    let mut output = Output::begin(args.json.target.as_deref())?;
    let junit_file = args.junit.as_deref().map(File::begin).transpose()?;
    let devices = if args.devices.is_empty() { BUILT.to_vec() } else { Name::of_all(&args.devices)? };
    let selection = Selection {
        ops: args.ops.clone(),
        profile: args.profile,
        case: args.case.clone(),
        seed: args.seed,
        strict: args.strict,
    };
    let mut reports = Vec::new();
    for device in devices {
        let report = judge(device, &selection)?;
        output.print(&report.matrix())?;
        interrupt::check()?;
        reports.push(report);
    }
    if let Some(file) = junit_file {
        file.finish(junit(&reports)?.as_bytes())?;
    }
    let passed = reports.iter().all(|report| report.passed);
    output.finish(&Document { schema: "anychip.conformance/1", passed, devices: &reports })?;
    Ok(passed.into())
}

/// Runs the selected cases on a device; Ctrl-C ends the run with what there is.
pub(super) fn judge(device: Name, selection: &Selection) -> Result<Report, Failure> {
    let line = Line::items(&device.to_string(), selection.cases()?.len());
    let report = run_suite(&*device.open(), selection, &mut |_| {
        line.step();
        !interrupt::raised()
    })?;
    Ok(report)
}

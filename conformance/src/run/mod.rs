//! Running selected cases on a device.

mod one;
mod selection;

pub use selection::Selection;

use crate::SuiteError;
use crate::case::Case;
use crate::report::{CaseResult, Report};
use anychip_core::Device;
use std::time::Instant;

/// Memory of the oracle, for the operands of one case at a time.
const ORACLE_BYTES: u64 = 64 << 30;

/// Runs the selected cases, one after the other, and hears of each result as it comes; `false` stops the run.
///
/// Failures are in the report, not in the result: an error means that nothing was run.
///
/// # Errors
/// Those of [`Selection::cases`].
pub fn run(
    device: &dyn Device,
    selection: &Selection,
    heard: &mut dyn FnMut(&CaseResult) -> bool,
) -> Result<Report, SuiteError> {
    Ok(run_cases(device, &selection.cases()?, selection, heard))
}

/// Runs these cases, whichever they are: a repository with operations or shapes of its own makes them with [`Case::new`].
/// Of `selection` the report takes profile, seed and strictness.
pub fn run_cases(
    device: &dyn Device,
    cases: &[Case],
    selection: &Selection,
    heard: &mut dyn FnMut(&CaseResult) -> bool,
) -> Report {
    let oracle = anychip_reference::open(ORACLE_BYTES);
    let mut report = Report::begin(device, selection, cases.len());
    for case in cases {
        let begun = Instant::now();
        let (outcome, numerics) = one::judge(device, &*oracle, case);
        let seconds = begun.elapsed().as_secs_f64();
        let result = CaseResult { case: case.name.clone(), op: case.op_name, seconds, outcome };
        let go_on = heard(&result);
        report.push(result, numerics);
        if !go_on {
            break;
        }
    }
    report.end();
    report
}

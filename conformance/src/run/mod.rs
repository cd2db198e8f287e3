//! Running selected cases on a device.

mod isolate;
pub(crate) mod one;
mod replay;
pub(crate) mod room;
mod saved;
mod selection;
mod support;

pub use isolate::{Isolation, run_isolated, serve};
pub use replay::{Replayed, replay};
pub use selection::Selection;

use crate::SuiteError;
use crate::case::Case;
use crate::report::{CaseResult, Failure, Outcome, Report, Selected, declaration};
use crate::rules::{Broken, Rule};
use anychip_core::{Device, Error};
use std::panic::{AssertUnwindSafe, catch_unwind};

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
    let mut report = run_cases(device, &selection.cases()?, selection, heard);
    report.statement.selection = Some(Selected::of(selection));
    Ok(report)
}

/// Runs these cases, whichever they are: a repository with operations or shapes of its own makes them with [`Case::new`].
/// Of `selection` the report takes profile, seed, strictness and what is expected to fail. Its statement has no selection, so
/// that nobody else can [`check`](crate::check) it.
pub fn run_cases(
    device: &dyn Device,
    cases: &[Case],
    selection: &Selection,
    heard: &mut dyn FnMut(&CaseResult) -> bool,
) -> Report {
    let oracle = anychip_reference::open(ORACLE_BYTES);
    let mut report = Report::begin(device, selection, cases);
    let mut lost = None;
    for case in cases {
        let (result, numerics) = one::result(device, &*oracle, case, selection);
        let go_on = heard(&result);
        lost = lost_in(device, &result);
        report.push(result, numerics.as_ref().map(declaration));
        if !go_on || lost.is_some() {
            break;
        }
    }
    report.end(lost.as_deref());
    report
}

/// What became of a device that was lost in a case: nothing that follows would say anything of it.
fn lost_in(device: &dyn Device, result: &CaseResult) -> Option<String> {
    if !matches!(result.outcome, Outcome::Failed(_) | Outcome::Expected { .. }) {
        return None;
    }
    // After a kernel that panicked the device may be in any state.
    match catch_unwind(AssertUnwindSafe(|| device.open_stream().map(drop))) {
        Ok(Err(error @ Error::DeviceLost { .. })) => {
            Some(format!("{error}; a run in child processes (--isolate) opens it again for each case that follows"))
        }
        _ => None,
    }
}

/// The result after a look at the list of expected failures.
fn conclude(mut result: CaseResult, case: &Case, selection: &Selection) -> CaseResult {
    let Some(reason) = selection.expected.reason(&case.name) else { return result };
    result.outcome = match result.outcome {
        Outcome::Failed(failure) => Outcome::Expected { reason: reason.into(), failure },
        Outcome::Passed { .. } => {
            let what = format!("it passes, and is listed as an expected failure ({reason}); take it off the list");
            Outcome::Failed(Box::new(Failure::of(case, *Broken::plain(Rule::Expected, what))))
        }
        other => other,
    };
    result
}

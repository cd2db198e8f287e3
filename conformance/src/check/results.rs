//! The results against the cases that they are said to be of, and each against itself.

use super::Findings;
use super::json::{compare, shown, some};
use super::read::Told;
use crate::case::Case;
use crate::report::{CaseResult, Failure, Outcome};
use crate::rules::Rule;
use crate::rules::bound::{Nearest, smallest_step};
use crate::rules::spread::{BINS, bin};
use crate::run::Selection;
use anychip_core::DType;
use anychip_core::ops::NAMES;
use serde_json::Value;
use std::collections::BTreeMap;

/// Cases that one finding names.
const NAMED: usize = 5;

/// Finds what is wrong with the results. Gives those that are of the cases, each once.
pub(super) fn examine<'a>(
    told: &'a Told,
    report: &Value,
    cases: &[Case],
    selection: &Selection,
    found: &mut Findings,
) -> Vec<&'a CaseResult> {
    let by_name: BTreeMap<&str, usize> = cases.iter().enumerate().map(|(at, case)| (case.name.as_str(), at)).collect();
    let raw = report.get("results").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut has = vec![false; cases.len()];
    let (mut kept, mut order, mut strange, mut again) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (result, raw) in told.results.iter().zip(raw) {
        let place = shown(&result.case);
        match serde_json::to_value(result) {
            Ok(follows) => compare(&place, raw, &follows, found),
            Err(error) => found.add(place.as_str(), format!("cannot be written again: {error}")),
        }
        let known = by_name.get(result.case.as_str()).and_then(|&at| Some((at, cases.get(at)?, has.get_mut(at)?)));
        match known {
            None => strange.push(result.case.as_str()),
            Some((_, _, true)) => again.push(result.case.as_str()),
            Some((at, case, had)) => {
                *had = true;
                order.push(at);
                kept.push(result);
                let excused = selection.expected.reason(&case.name).is_some();
                one(result, case, excused, &mut |what| found.add(place.as_str(), what));
            }
        }
    }
    let missing = || cases.iter().zip(&has).filter(|(_, has)| !**has).map(|(case, _)| case.name.as_str());
    let in_order = order.is_sorted();
    // A run that stopped has the results of the first cases, and says so.
    let stopped = format!("stopped after {} of {} cases", kept.len(), cases.len());
    let stopped = in_order
        && order.last().is_none_or(|last| last + 1 == order.len())
        && told.reasons.first().is_some_and(|reason| reason.starts_with(&stopped));
    let mut tell = |count: usize, what: &str, names: String| {
        if count > 0 {
            found.add("results", format!("{count} {what}: {names}"));
        }
    };
    tell(strange.len(), "of cases that the statement does not select", some(NAMED, strange.iter().copied()));
    tell(again.len(), "beside another of the same case", some(NAMED, again.iter().copied()));
    if !stopped {
        tell(missing().count(), "selected cases have none", some(NAMED, missing()));
    }
    if !in_order {
        found.add("results", "in another order than the cases are run in");
    }
    kept
}

/// What is wrong with one result.
fn one(result: &CaseResult, case: &Case, excused: bool, found: &mut impl FnMut(String)) {
    if result.op != case.op_name {
        found(format!("the case is of {}, and the result of {}", case.op_name, shown(result.op)));
    }
    match (&result.outcome, excused) {
        (Outcome::Passed { .. }, true) => {
            found("it passed, and the list of expected failures names it: that is a failure".into());
        }
        (Outcome::Failed(failure), true) if failure.rule != Rule::Expected => {
            found("it failed, and the list of expected failures names it: that is as expected".into());
        }
        (Outcome::Failed(failure), false) if failure.rule == Rule::Expected => {
            found("it failed for being among the expected failures, and the list does not name it".into());
        }
        (Outcome::Expected { .. }, false) => {
            found("it failed as expected, and the list of expected failures does not name it".into());
        }
        (Outcome::Expected { failure, .. }, true) if failure.rule == Rule::Expected => {
            found("it failed as expected, and by passing".into());
        }
        _ => {}
    }
    match &result.outcome {
        Outcome::Failed(failure) | Outcome::Expected { failure, .. } => failed(failure, found),
        Outcome::Unsupported { .. } if !result.spread.is_empty() || result.row_ratio.is_some() => {
            found("unsupported, and yet errors were measured".into());
        }
        Outcome::Passed { nearest } | Outcome::Fallback { nearest, .. } => passed(result, nearest.as_ref(), found),
        Outcome::Unsupported { .. } => {}
    }
    if !matches!(result.spread.len(), 0 | BINS) {
        found(format!("the spread of its errors has {BINS} bins, or none; got {}", result.spread.len()));
    }
    if let Some(ratio) = result.row_ratio.filter(|ratio| !(0.0..=1.0).contains(ratio)) {
        found(format!("the row ratio is from 0 to 1, where R3 holds; got {ratio:?}"));
    }
}

fn failed(failure: &Failure, found: &mut impl FnMut(String)) {
    if let Some(ratio) = failure.ratio.filter(|ratio| *ratio <= 1.0) {
        found(format!("failed by {}, and the error is {ratio:?} times what is allowed: within", failure.rule));
    }
    if !failure.message.starts_with(&format!("{} ", failure.rule)) {
        found(format!("failed by {}, and the message speaks of another rule", failure.rule));
    }
}

/// Of a result whose rules hold, whether the numbers in it say so.
fn passed(result: &CaseResult, nearest: Option<&Nearest>, found: &mut impl FnMut(String)) {
    let word = result.outcome.word();
    if let Some(nearest) = nearest {
        if !(0.0..=1.0).contains(&nearest.ratio) {
            found(format!("{word}, and the error is {:?} times its tolerance: at most 1 passes", nearest.ratio));
        }
        if ![DType::F32, DType::BF16, DType::F16].into_iter().any(|dtype| nearest.ratio == ratio(nearest, dtype)) {
            found(format!("the ratio {:?} does not follow from what was got, wanted and allowed", nearest.ratio));
        }
    }
    let above = result.spread.iter().skip(1 + bin(1.0)).fold(0u64, |sum, &count| sum.saturating_add(count));
    if above > 0 {
        found(format!("{word}, and {above} elements are outside their tolerance by the spread of its errors"));
    }
    // Outputs of very many elements are in no bin. Logarithms differ by a bit from machine to machine.
    let largest = bin(nearest.map_or(0.0, |nearest| nearest.ratio * (1.0 + 1e-12)));
    if result.spread.iter().rposition(|&count| count > 0).is_some_and(|last| last > largest) {
        found("its largest error is below others in the spread of its errors".into());
    }
    if result.formats.is_none() && NAMES.contains(&result.op) {
        found("the formats of its operands are missing, without which nothing was run".into());
    }
}

/// As rule R2 has it.
fn ratio(nearest: &Nearest, dtype: DType) -> f64 {
    let tolerance = dtype.unit_roundoff() * nearest.want.abs() + nearest.bound + smallest_step(dtype);
    (nearest.got - nearest.want).abs() / tolerance
}

//! The cases of a report, run again here.

use super::follow::owes_bits;
use super::json::{shown, some};
use super::{CheckedReport, Finding, Findings};
use crate::report::{CaseResult, Outcome, Report};
use crate::run::run_cases;
use anychip_core::Device;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A report beside a run of the same cases on a device at hand.
#[derive(Clone, Debug, Serialize)]
pub struct RunAgain {
    /// Cases that have a result in both.
    pub compared: usize,
    /// Where they differ: in outcomes, in formats, in declared arithmetic.
    pub differences: Vec<Finding>,
    /// The run.
    pub report: Report,
}

impl CheckedReport {
    /// Runs the cases that the report has results of on `device`, and compares case by case.
    ///
    /// What a correct device may do otherwise is not compared: how near it comes to its tolerance, which is at most 1 in
    /// both, and times. Only where both declare that every device of the family gives the same bits, the elements that came
    /// nearest are to be equal if they are the same ones. A run that `heard` stops is compared as far as it went.
    pub fn run_again(&self, device: &dyn Device, heard: &mut dyn FnMut(&CaseResult) -> bool) -> RunAgain {
        let there: BTreeMap<&str, &CaseResult> =
            self.told.results.iter().rev().map(|result| (result.case.as_str(), result)).collect();
        let mut cases = self.cases.clone();
        cases.retain(|case| there.contains_key(case.name.as_str()));
        let report = run_cases(device, &cases, &self.selection, heard);
        let mut found = Findings::default();
        let mut compared = 0;
        for here in &report.results {
            let Some(there) = there.get(here.case.as_str()) else { continue };
            compared += 1;
            if let Some(difference) = differs(there, here, self.owes_bits(&report, here.op)) {
                found.add(difference.place, difference.what);
            }
        }
        let without = cases.len().saturating_sub(compared);
        if without > 0 {
            let why = report.reasons.first().map(String::as_str);
            found.add("results", format!("{without} cases have none here: {}", some(1, why)));
        }
        self.declared(&report, &mut found);
        RunAgain { compared, differences: found.end(), report }
    }

    fn owes_bits(&self, here: &Report, op: &str) -> bool {
        let there = self.told.ops.iter().find(|said| said.op == op).is_some_and(|said| owes_bits(&said.declared));
        there && here.ops.iter().find(|summary| summary.op == op).is_some_and(|summary| owes_bits(&summary.declared))
    }

    /// The bounds that cases were held to follow from what was declared: with another declaration they are others.
    fn declared(&self, here: &Report, found: &mut Findings) {
        for summary in &here.ops {
            let said = self.told.ops.iter().find(|said| said.op == summary.op);
            let there: BTreeSet<&str> = said.iter().flat_map(|said| &said.declared).map(String::as_str).collect();
            let here: BTreeSet<&str> = summary.declared.iter().map(String::as_str).collect();
            if there != here {
                let [there, here] =
                    [there, here].map(|all| if all.is_empty() { "nothing".into() } else { some(3, all) });
                found.add(format!("ops[{}].declared", summary.op), format!("{there} in the report, {here} here"));
            }
        }
    }
}

/// What the results of two runs say of one case.
fn differs(there: &CaseResult, here: &CaseResult, same_bits: bool) -> Option<Finding> {
    let finding = |what: String| Some(Finding { place: there.case.clone(), what });
    let (said, now) = (there.outcome.word(), here.outcome.word());
    if said != now {
        let why = match &here.outcome {
            Outcome::Failed(failure) | Outcome::Expected { failure, .. } => format!(": {}", failure.message),
            Outcome::Unsupported { reason } => format!(": {reason}"),
            _ => String::new(),
        };
        return finding(format!("{said} in the report, {now} here{why}"));
    }
    if there.formats.is_some() && here.formats.is_some() && there.formats != here.formats {
        let [there, here] = [there, here].map(|result| shown(result.formats.as_deref().unwrap_or_default()));
        return finding(format!("over {there} in the report, over {here} here"));
    }
    let (Outcome::Passed { nearest: Some(a) }, Outcome::Passed { nearest: Some(b) }) = (&there.outcome, &here.outcome)
    else {
        return None;
    };
    let same_place = (a.operand, &a.coordinate) == (b.operand, &b.coordinate);
    if same_bits && same_place && a.got.to_bits() != b.got.to_bits() {
        let place = format!("{}{:?}", a.operand, a.coordinate);
        return finding(format!(
            "{place} is {:?} in the report, {:?} here, though both declare the same bits",
            a.got, b.got
        ));
    }
    None
}

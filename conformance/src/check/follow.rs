//! The report that the results make, and where the one at hand is another.

use super::Findings;
use super::json::{compare, shown};
use super::read::Told;
use crate::case::Case;
use crate::report::statement::{VERSION, commit};
use crate::report::{CaseResult, Counts, OpSummary, Report, SCHEMA, Statement};
use crate::run::Selection;
use anychip_core::ops::NAMES;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// How the words end that a device declares its arithmetic by.
const DETERMINISM: [&str; 4] = ["; None", "; RunToRun", "; BatchInvariant", "; CrossDevice"];

/// What a run over these cases writes that has these results.
pub(super) fn report(told: &Told, cases: &[Case], selection: &Selection, results: Vec<&CaseResult>) -> Report {
    let Statement { selection: selected, commit, host, .. } = told.statement.clone();
    let mut report = Report {
        schema: SCHEMA,
        suite_version: VERSION,
        device: told.device.clone(),
        profile: told.profile,
        seed: told.seed,
        strict: told.strict,
        passed: false,
        reasons: Vec::new(),
        statement: Statement { selection: selected, commit, host, ..Statement::begin(selection, cases) },
        counts: Counts { selected: cases.len(), ..Counts::default() },
        ops: Vec::new(),
        formats: Vec::new(),
        results: Vec::new(),
    };
    for result in results {
        report.push(result.clone(), None);
    }
    // The device said it to the run, and no result repeats it.
    for summary in &mut report.ops {
        let said = told.ops.iter().find(|said| said.op == summary.op);
        summary.declared = said.map(|said| said.declared.clone()).unwrap_or_default();
    }
    // Why a run stopped is in no result either.
    let stopped = format!("stopped after {} of {} cases: ", report.results.len(), cases.len());
    report.end(told.reasons.first().and_then(|reason| reason.strip_prefix(&stopped)));
    report
}

/// Finds where the report is not what its results make it.
pub(super) fn examine(told: &Told, report: &Value, mut follows: Report, found: &mut Findings) {
    for summary in &follows.ops {
        declared(summary, found);
    }
    let (said, due) = (&told.statement.suite_digest, follows.statement.suite_digest.clone());
    if *said != due {
        let commit =
            |commit: Option<&str>| commit.map_or("an unknown commit".into(), |text| format!("commit {}", shown(text)));
        let (theirs, ours) = (commit(told.statement.commit.as_deref()), commit(self::commit().as_deref()));
        let what = format!(
            "the report says {}, at {theirs}; the cases of this profile, seed and selection give {due}, at {ours}",
            shown(said)
        );
        found.add("statement.suite_digest", what);
        follows.statement.suite_digest = said.clone();
    }
    // They were looked at one by one.
    follows.results = Vec::new();
    match serde_json::to_value(follows) {
        Ok(follows) => compare("", &without_results(report), &without_results(&follows), found),
        Err(error) => found.add("report", format!("cannot be written again: {error}")),
    }
}

fn without_results(report: &Value) -> Value {
    let members = report.as_object().into_iter().flatten().filter(|(name, _)| *name != "results");
    Value::Object(members.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>())
}

/// Looks at what a device is said to have declared.
fn declared(summary: &OpSummary, found: &mut Findings) {
    let place = || format!("ops[{}].declared", summary.op);
    let held_to_it = summary.counts.passed + summary.counts.fallback;
    if summary.declared.is_empty() && held_to_it > 0 && NAMES.contains(&summary.op) {
        found.add(place(), format!("nothing, and {held_to_it} cases were held to it"));
    }
    for one in &summary.declared {
        if !one.starts_with("accumulator of ") || !DETERMINISM.iter().any(|end| one.ends_with(end)) {
            found.add(place(), format!("`{}` is not how a device's arithmetic is written", shown(one)));
        }
    }
    if summary.declared.iter().collect::<BTreeSet<_>>().len() < summary.declared.len() {
        found.add(place(), "one statement stands there twice");
    }
}

/// Whether all that was declared promises the same bits on every device of the family.
pub(super) fn owes_bits(declared: &[String]) -> bool {
    !declared.is_empty() && declared.iter().all(|one| one.ends_with("; CrossDevice"))
}

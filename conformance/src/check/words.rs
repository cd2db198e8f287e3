//! What a report states and what it cannot show, in words.

use super::json::{shown, some};
use super::read::Told;
use crate::report::{Counts, Selected};
use std::collections::BTreeMap;

/// Names, patterns and reasons that a sentence lists.
const LISTED: usize = 8;

/// Each goes on from "it says that".
pub(super) fn says(told: &Told, cases: usize) -> Vec<String> {
    let statement = &told.statement;
    let commit =
        statement.commit.as_deref().map_or("an unknown commit".into(), |text| format!("commit {}", shown(text)));
    let mut says = vec![format!(
        "suite {} at {commit}, digest {}, judged {} on {}",
        shown(&statement.suite_version),
        shown(&statement.suite_digest),
        shown(&statement.device),
        shown(&statement.host)
    )];
    says.push(format!("{cases} cases were selected: {}", selected(told)));
    let counts = counts(told);
    let Counts { executed, passed, failed, unsupported, fallback, expected, .. } = counts;
    says.push(format!(
        "the device itself ran {executed}, of which {passed} passed, {failed} failed and {expected} failed as expected; \
         {unsupported} are unsupported and another device ran {fallback}, which {} as failed",
        if told.strict { "counts" } else { "does not count" }
    ));
    if !statement.expected_failures.is_empty() {
        let listed = some(LISTED, statement.expected_failures.iter().map(String::as_str));
        says.push(format!("cases of these names were allowed to fail: {listed}"));
    }
    for (declared, ops) in declared(told) {
        says.push(format!("the arithmetic of {} was held to: {declared}", some(LISTED, ops)));
    }
    says.push(match told.passed {
        true => "the device passed".into(),
        false => format!("the device did not pass: {}", some(LISTED, told.reasons.iter().map(String::as_str))),
    });
    says
}

fn selected(told: &Told) -> String {
    let of = format!("of the {} profile under seed {}", told.profile, told.seed);
    match &told.statement.selection {
        Some(Selected { case: Some(case), .. }) => format!("{} alone", shown(case)),
        Some(Selected { ops, .. }) if !ops.is_empty() => {
            format!("those {of}, of {}", some(LISTED, ops.iter().map(String::as_str)))
        }
        _ => format!("all {of}"),
    }
}

fn counts(told: &Told) -> Counts {
    let mut counts = Counts::default();
    told.results.iter().for_each(|result| counts.add(&result.outcome));
    counts
}

/// Operations by what was declared for them.
fn declared(told: &Told) -> BTreeMap<String, Vec<&str>> {
    let mut by_words: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for said in told.ops.iter().filter(|said| !said.declared.is_empty()) {
        let words = some(LISTED, said.declared.iter().map(String::as_str));
        by_words.entry(words).or_default().push(&said.op);
    }
    by_words
}

/// Each goes on from "it cannot show".
pub(super) fn cannot_show(told: &Told) -> Vec<String> {
    let name = shown(&told.device.name);
    let mut cannot = vec![
        format!(
            "that the device computed any of this: who can write a report can write one that holds; \
             `--check FILE --device {name}` runs the cases again where there is such a device"
        ),
        "that device, host and commit were the ones that it names, nor how long anything took".into(),
        "that the device keeps to the arithmetic it declares on operands that no case has".into(),
    ];
    let Counts { unsupported, fallback, .. } = counts(told);
    if unsupported + fallback > 0 {
        cannot
            .push(format!("anything of the device in the {} cases that it did not run itself", unsupported + fallback));
    }
    cannot
}

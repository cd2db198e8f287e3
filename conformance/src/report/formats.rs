//! Operations by the formats of their operands, and why a device does not run some.

use super::{CaseResult, Counts, Outcome, Report};
use crate::promises::DEVICE;
use serde::Serialize;
use std::fmt::Write;

/// Reasons of an operation that the text for people lists; the document has them all.
const REASONS: usize = 6;

/// A reason for which cases are unsupported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unsupported {
    /// The device's reason.
    pub reason: String,
    /// Cases that it was given for.
    pub cases: usize,
}

/// What a device makes of an operation in some formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The device itself runs every case, and all rules hold.
    #[default]
    Native,
    /// All rules hold, but another device did the work of some cases.
    Fallback,
    /// The device does not run some cases.
    Unsupported,
    /// Some cases fail, each of them listed as an expected failure.
    Expected,
    /// Some cases fail.
    Failed,
}

/// An operation in one combination of formats. The state is the worst that any of its cases has, in the order of [`State`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct FormatSummary {
    /// Operation.
    pub op: &'static str,
    /// See [`CaseResult::formats`].
    pub format: Option<String>,
    /// The worst of its cases.
    pub state: State,
    /// Its cases.
    pub cases: usize,
    /// Those that passed on the device itself.
    pub passed: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those that the device does not run.
    pub unsupported: usize,
    /// Those that another device ran.
    pub fallback: usize,
    /// Those that failed, and are listed as expected failures.
    pub expected: usize,
    /// Why cases are unsupported, where some are: the reasons, the most frequent first.
    pub reason: Option<String>,
    #[serde(skip)]
    pub(super) reasons: Vec<Unsupported>,
}

impl FormatSummary {
    fn add(&mut self, outcome: &Outcome) {
        let mut counts = Counts::default();
        counts.add(outcome);
        let Counts { passed, failed, unsupported, fallback, expected, .. } = counts;
        self.cases += 1;
        self.passed += passed;
        self.failed += failed;
        self.unsupported += unsupported;
        self.fallback += fallback;
        self.expected += expected;
        self.state = match self {
            FormatSummary { failed: 1.., .. } => State::Failed,
            FormatSummary { expected: 1.., .. } => State::Expected,
            FormatSummary { unsupported: 1.., .. } => State::Unsupported,
            FormatSummary { fallback: 1.., .. } => State::Fallback,
            _ => State::Native,
        };
        if let Outcome::Unsupported { reason } = outcome {
            note(&mut self.reasons, reason);
            let all: Vec<&str> = self.reasons.iter().map(|why| why.reason.as_str()).collect();
            self.reason = Some(all.join("; "));
        }
    }

    /// The state with the cases that it is of: `native`, `fallback`, `FAILED 2 of 9`, `unsupported 1 of 3: why`.
    pub fn words(&self) -> String {
        let FormatSummary { state, cases, failed, unsupported, fallback, expected, .. } = self;
        let some = |word: &str, count: &usize| match count {
            count if count == cases => word.to_owned(),
            count => format!("{word} {count} of {cases}"),
        };
        match state {
            State::Native => "native".into(),
            State::Fallback => some("fallback", fallback),
            State::Unsupported => {
                format!("{}: {}", some("unsupported", unsupported), self.reason.as_deref().unwrap_or_default())
            }
            State::Expected => some("expected", expected),
            State::Failed => format!("FAILED {failed} of {cases}"),
        }
    }

    /// The formats, or why there are none.
    pub(super) fn name(&self) -> &str {
        let none = if self.op == DEVICE { "of no format" } else { "formats not known" };
        self.format.as_deref().unwrap_or(none)
    }
}

/// Takes a result into the summary of its formats.
pub(super) fn add(all: &mut Vec<FormatSummary>, result: &CaseResult) {
    let known = all.iter().position(|summary| summary.op == result.op && summary.format == result.formats);
    let at = known.unwrap_or_else(|| {
        // Beside the others of its operation, also where the cases come in another order.
        let last = all.iter().rposition(|summary| summary.op == result.op);
        let at = last.map_or(all.len(), |last| last + 1);
        all.insert(at, FormatSummary { op: result.op, format: result.formats.clone(), ..FormatSummary::default() });
        at
    });
    all[at].add(&result.outcome);
}

/// Counts a reason, the most frequent first.
pub(super) fn note(all: &mut Vec<Unsupported>, reason: &str) {
    match all.iter_mut().find(|why| why.reason == reason) {
        Some(why) => why.cases += 1,
        None => all.push(Unsupported { reason: reason.into(), cases: 1 }),
    }
    all.sort_by_key(|why| std::cmp::Reverse(why.cases));
}

impl Report {
    /// A table for people: under each operation the formats of its operands, and what the device makes of each.
    pub fn format_matrix(&self) -> String {
        let width = self.formats.iter().map(|summary| summary.name().chars().count()).max().unwrap_or(0);
        let mut text = format!("{}: formats, cases and state\n", self.device.name);
        let mut op = "";
        for summary in &self.formats {
            if summary.op != op {
                op = summary.op;
                text += &format!("{op}\n");
            }
            // A String takes everything, here and below.
            let _ = writeln!(text, "  {:width$}  {:>4}  {}", summary.name(), summary.cases, summary.words());
        }
        text
    }

    /// Why cases are unsupported, operation by operation. Empty where all are supported.
    pub(super) fn unsupported(&self) -> String {
        let mut text = String::new();
        for summary in self.ops.iter().filter(|summary| !summary.unsupported.is_empty()) {
            let _ = writeln!(text, "unsupported of {}:", summary.op);
            for why in summary.unsupported.iter().take(REASONS) {
                let _ = writeln!(text, "  {:>4}  {}", why.cases, why.reason);
            }
            let rest: Vec<usize> = summary.unsupported.iter().skip(REASONS).map(|why| why.cases).collect();
            if !rest.is_empty() {
                let cases: usize = rest.iter().sum();
                let _ = writeln!(text, "  {cases:>4}  for {} other reasons, which the JSON report lists", rest.len());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn result(formats: Option<&str>, outcome: Outcome) -> CaseResult {
        let (case, formats) = ("c".into(), formats.map(String::from));
        CaseResult { case, op: "rope", formats, seconds: 0.0, spread: Vec::new(), row_ratio: None, outcome }
    }

    fn without(reason: &str) -> Outcome {
        Outcome::Unsupported { reason: reason.into() }
    }

    #[test]
    fn the_worst_case_is_the_state() {
        let mut all = Vec::new();
        let passed = || Outcome::Passed { nearest: None };
        for outcome in [passed(), without("a"), without("b"), without("b")] {
            add(&mut all, &result(Some("f32 -> f32"), outcome));
        }
        add(&mut all, &result(Some("bf16 -> f32"), passed()));
        add(&mut all, &result(None, passed()));
        let said: Vec<String> = all.iter().map(|s| format!("{} {} {}", s.name(), s.cases, s.words())).collect();
        assert_eq!(
            said,
            ["f32 -> f32 4 unsupported 3 of 4: b; a", "bf16 -> f32 1 native", "formats not known 1 native"]
        );
        let elsewhere = Outcome::Fallback { ops: vec!["rope"], nearest: None };
        add(&mut all, &result(Some("bf16 -> f32"), elsewhere.clone()));
        add(&mut all, &result(Some("f16 -> f32"), elsewhere));
        assert_eq!(
            (all[1].words(), all[3].words(), all[3].state),
            ("fallback 1 of 2".into(), "fallback".into(), State::Fallback)
        );
        assert_eq!(serde_json::to_value(&all[0]).unwrap()["state"], "unsupported");
    }

    #[test]
    fn reasons_are_counted_and_the_most_frequent_come_first() {
        let mut all = Vec::new();
        for reason in ["x", "y", "y", "z"] {
            note(&mut all, reason);
        }
        let said: Vec<(&str, usize)> = all.iter().map(|why| (why.reason.as_str(), why.cases)).collect();
        assert_eq!(said, [("y", 2), ("x", 1), ("z", 1)]);
    }
}

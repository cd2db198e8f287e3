//! What a run found: for programs as JSON and JUnit XML, for people as a matrix.

mod formats;
mod html;
mod html_formats;
mod html_plot;
mod junit;
mod matrix;
pub(crate) mod statement;

pub use formats::{FormatSummary, State, Unsupported};
pub use html::html;
pub use junit::junit;
pub use statement::{Selected, Statement};

use crate::case::{Case, Profile};
use crate::promises::DEVICE;
use crate::rules::bound::Nearest;
use crate::rules::{Broken, Rule};
use crate::run::Selection;
use anychip_core::{Device, Numerics};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// The name of an operation or an operand: there are few, and each is kept once.
pub(crate) type Name = &'static str;
/// Bytes of a name at most, and names at most: none is ever freed.
const NAME_BYTES: usize = 64;
const MOST_NAMES: usize = 1024;
/// What a report calls itself.
pub(crate) const SCHEMA: &str = "anychip.conformance/1";

/// What came of one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The device ran it, and all rules hold.
    Passed {
        /// Where it came nearest to its tolerance; nothing where all is exact.
        nearest: Option<Nearest>,
    },
    /// It broke a rule.
    Failed(Box<Failure>),
    /// The device says that it does not run this.
    Unsupported {
        /// The device's reason.
        reason: String,
    },
    /// All rules hold, but another device did the work.
    Fallback {
        /// What ran elsewhere.
        #[serde(deserialize_with = "interned_all")]
        ops: Vec<Name>,
        /// Where it came nearest to its tolerance.
        nearest: Option<Nearest>,
    },
    /// It broke a rule, and is listed as an [expected failure](crate::ExpectedFailures).
    Expected {
        /// The list's reason.
        reason: String,
        /// What broke.
        failure: Box<Failure>,
    },
}

impl Outcome {
    /// One word: `passed`, `failed`, `unsupported`, `fallback` or `expected`, which is a failure that a list excuses.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Passed { .. } => "passed",
            Outcome::Failed(_) => "failed",
            Outcome::Unsupported { .. } => "unsupported",
            Outcome::Fallback { .. } => "fallback",
            Outcome::Expected { .. } => "expected",
        }
    }
}

/// A broken rule, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The rule.
    pub rule: Rule,
    /// Operation. In JSON it stands in the [`CaseResult`] alone, as the case does: no name comes twice in one object.
    #[serde(skip)]
    pub op: Name,
    /// Name of the case, which runs it again.
    #[serde(skip)]
    pub case: String,
    /// Operand, where one broke the rule.
    #[serde(deserialize_with = "interned_option")]
    pub operand: Option<Name>,
    /// Where in it, outermost axis first; for guard bands, the byte.
    pub coordinate: Vec<usize>,
    /// What the device gave there. Text, because JSON knows no NaN.
    pub got: String,
    /// What is right.
    pub want: String,
    /// Error that the declared arithmetic allows before the store, for rules that have one.
    pub bound: Option<f64>,
    /// Error over tolerance, for rules that have one.
    pub ratio: Option<f64>,
    /// What probably happened, where the pattern of what is wrong is known.
    pub cause: Option<String>,
    /// All of it in a sentence.
    pub message: String,
    /// The file with inputs, outputs and bounds, or why it could not be written. Only where failures are saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<String>,
}

impl Failure {
    pub(crate) fn of(case: &Case, broken: Broken) -> Failure {
        let Broken { rule, what, operand, coordinate, got, want, bound, ratio, cause } = broken;
        let place = match operand {
            Some(operand) if coordinate.is_empty() => format!(" {operand}:"),
            Some(operand) => format!(" {operand}{coordinate:?}:"),
            None => String::new(),
        };
        let values = if got.is_empty() { String::new() } else { format!(": got {got}, want {want}") };
        let bound_text = bound.map_or(String::new(), |b| format!(" +- {b:.3e}"));
        let likely = cause.as_ref().map_or(String::new(), |cause| format!("; likely cause: {cause}"));
        let message = format!("{rule}{place} {what}{values}{bound_text}{likely}");
        Failure {
            rule,
            op: case.op_name,
            case: case.name.clone(),
            operand,
            coordinate,
            got,
            want,
            bound,
            ratio,
            cause,
            message,
            saved: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.message)
    }
}

/// A case and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseResult {
    /// Name of the case.
    pub case: String,
    /// Operation.
    #[serde(deserialize_with = "interned")]
    pub op: Name,
    /// What the operands that carry the data are stored in, as the built operation has them: `bf16 x e4m3.128x128 -> f32`.
    /// Absent where the operands could not be made, or the process that made them is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formats: Option<String>,
    /// Host time for operands, device and oracle together. No measure of the device.
    pub seconds: f64,
    /// How many elements used which share of their tolerance: none of it, up to 2^-18, up to 2^-17, ..., up to 2^2, more.
    /// Empty where nothing was compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<u64>,
    /// Of rule R3: the largest error of a row, as a share of what the rule allows it. Nothing where no row was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_ratio: Option<f64>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The device that was judged, as it describes itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JudgedDevice {
    /// Name on the command line.
    pub name: String,
    /// What it is in words.
    pub description: String,
    /// Memory in bytes, where known.
    pub memory_bytes: Option<u64>,
    /// Clock of its events.
    pub clock: String,
    /// Whether streams run on after a call returned.
    pub asynchronous: bool,
}

/// How many cases came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Cases that were selected.
    pub selected: usize,
    /// Cases that the device itself ran: passed, failed and failed as expected.
    pub executed: usize,
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Not supported by the device.
    pub unsupported: usize,
    /// Done by another device.
    pub fallback: usize,
    /// Failed, and listed as expected failures.
    pub expected: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Passed { .. } => self.passed += 1,
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Unsupported { .. } => self.unsupported += 1,
            Outcome::Fallback { .. } => self.fallback += 1,
            Outcome::Expected { .. } => self.expected += 1,
        }
        self.executed = self.passed + self.failed + self.expected;
    }
}

/// One operation over all its cases.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OpSummary {
    /// Operation.
    pub op: &'static str,
    /// How its cases came out.
    pub counts: Counts,
    /// The largest share of its tolerance that a case used, failures left out.
    pub largest_ratio: Option<f64>,
    /// The case that used it.
    pub largest_ratio_case: Option<String>,
    /// The share that the loosest case used, of those with an error at all. Where this is tiny, the bound is too loose to
    /// find faults: the largest may hide that, for a store into bf16 alone uses nearly all of its own tolerance.
    pub loosest_ratio: Option<f64>,
    /// The case that used it.
    pub loosest_ratio_case: Option<String>,
    /// What the device declared about its arithmetic, each statement once.
    pub declared: Vec<String>,
    /// Why cases are unsupported, each reason once.
    pub unsupported: Vec<Unsupported>,
}

impl OpSummary {
    fn note_ratio(&mut self, ratio: f64, case: &str) {
        if self.largest_ratio.is_none_or(|largest| ratio > largest) {
            self.largest_ratio = Some(ratio);
            self.largest_ratio_case = Some(case.into());
        }
        if self.loosest_ratio.is_none_or(|loosest| ratio < loosest) {
            self.loosest_ratio = Some(ratio);
            self.loosest_ratio_case = Some(case.into());
        }
    }
}

/// A whole run on one device. Serialises as the JSON document `anychip.conformance/1`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `anychip.conformance/1`.
    pub schema: &'static str,
    /// Version of the suite. With another, the same case name may mean other operands.
    pub suite_version: &'static str,
    /// The device.
    pub device: JudgedDevice,
    /// How much of the catalogue was asked for.
    pub profile: Profile,
    /// Seed.
    pub seed: u64,
    /// Whether unsupported cases and fallbacks count as failures.
    pub strict: bool,
    /// Whether all is well; see [`reasons`](Report::reasons).
    pub passed: bool,
    /// Why it did not pass, in sentences. Empty if it did.
    pub reasons: Vec<String>,
    /// What this run is good for as evidence.
    pub statement: Statement,
    /// How the cases came out.
    pub counts: Counts,
    /// Operation by operation, in the order of the contract.
    pub ops: Vec<OpSummary>,
    /// The operations by the formats of their operands, each operation's together.
    pub formats: Vec<FormatSummary>,
    /// Case by case, in the order they ran.
    pub results: Vec<CaseResult>,
}

impl Report {
    /// Of a run that is about to begin.
    pub(crate) fn begin(device: &dyn Device, selection: &Selection, cases: &[Case]) -> Report {
        let info = device.info();
        Report {
            schema: SCHEMA,
            suite_version: statement::VERSION,
            device: JudgedDevice {
                name: info.name,
                description: info.description,
                memory_bytes: info.memory_bytes,
                clock: info.clock.to_string(),
                asynchronous: info.asynchronous,
            },
            profile: selection.profile,
            seed: selection.seed,
            strict: selection.strict,
            passed: false,
            reasons: Vec::new(),
            statement: Statement::begin(selection, cases),
            counts: Counts { selected: cases.len(), ..Counts::default() },
            ops: Vec::new(),
            formats: Vec::new(),
            results: Vec::new(),
        }
    }

    /// Takes a result in, and what the device declared about its arithmetic.
    pub(crate) fn push(&mut self, result: CaseResult, declared: Option<String>) {
        self.counts.add(&result.outcome);
        let known = self.ops.iter().position(|summary| summary.op == result.op);
        let at = known.unwrap_or_else(|| {
            self.ops.push(OpSummary { op: result.op, ..OpSummary::default() });
            self.ops.len() - 1
        });
        let summary = &mut self.ops[at];
        summary.counts.selected += 1;
        summary.counts.add(&result.outcome);
        if let Outcome::Unsupported { reason } = &result.outcome {
            formats::note(&mut summary.unsupported, reason);
        }
        formats::add(&mut self.formats, &result);
        if let Outcome::Passed { nearest: Some(n) } | Outcome::Fallback { nearest: Some(n), .. } = &result.outcome
            && n.ratio > 0.0
        {
            summary.note_ratio(n.ratio, &result.case);
        }
        if let Some(declared) = declared
            && !summary.declared.contains(&declared)
        {
            summary.declared.push(declared);
        }
        self.results.push(result);
    }

    /// Draws the conclusion. `lost` says that the device was, in words.
    pub(crate) fn end(&mut self, lost: Option<&str>) {
        let Counts { selected, executed, failed, unsupported, fallback, .. } = self.counts;
        let mut reasons = Vec::new();
        if self.results.len() < selected {
            let why = lost.map_or(String::new(), |lost| format!(": {lost}"));
            reasons.push(format!("stopped after {} of {selected} cases{why}", self.results.len()));
        }
        if failed > 0 {
            reasons.push(format!("{failed} of {executed} cases failed"));
        }
        let of_operations = || self.ops.iter().filter(|summary| summary.op != DEVICE);
        let no_operation = of_operations().all(|summary| summary.counts.executed == 0);
        if executed == 0 || no_operation && of_operations().next().is_some() {
            reasons.push("the device ran no operation itself, and what was not run has not passed".into());
        }
        if self.strict && unsupported + fallback > 0 {
            reasons.push(format!("strict: {unsupported} cases unsupported, {fallback} run by another device"));
        }
        self.statement.end(&self.ops, &self.device, reasons.is_empty());
        self.passed = reasons.is_empty();
        self.reasons = reasons;
    }

    /// The failures, in the order they came.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.results.iter().filter_map(|result| match &result.outcome {
            Outcome::Failed(failure) => Some(&**failure),
            _ => None,
        })
    }
}

/// A device's statement about its arithmetic, on one line.
pub(crate) fn declaration(n: &Numerics) -> String {
    let truncates = if n.accumulator.truncates { ", truncating" } else { "" };
    let flushes = if n.flushes_subnormals { ", flushes subnormals" } else { "" };
    let rounded: String = n.intermediates.iter().map(|(what, dtype)| format!(", {what} rounded to {dtype}")).collect();
    format!(
        "accumulator of {} bits, {} products to a rounding{truncates}; functions within {} ulp{flushes}{rounded}; {:?}",
        n.accumulator.significand_bits, n.accumulator.terms_per_rounding, n.function_ulps, n.determinism
    )
}

/// The one copy of a name. Names come from this program, from a child that is the same program, or from a report: there are
/// few, and a report that has many is none.
fn intern<E: Error>(name: String) -> Result<Name, E> {
    static KNOWN: Mutex<BTreeSet<Name>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(name) = known.get(name.as_str()) {
        return Ok(name);
    }
    if name.len() > NAME_BYTES || known.len() == MOST_NAMES {
        let what = format!("a name of {} bytes beside {} others", name.len(), known.len());
        return Err(E::custom(format!(
            "operations and operands have {MOST_NAMES} names of {NAME_BYTES} bytes at most, got {what}"
        )));
    }
    let name: Name = Box::leak(name.into_boxed_str());
    known.insert(name);
    Ok(name)
}

pub(crate) fn interned<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
    String::deserialize(from).and_then(intern)
}

fn interned_option<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Name>, D::Error> {
    Option::<String>::deserialize(from)?.map(intern).transpose()
}

fn interned_all<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Name>, D::Error> {
    Vec::<String>::deserialize(from)?.into_iter().map(intern).collect()
}

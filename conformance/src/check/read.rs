//! Reading what may be a report. The file may come from anywhere, and nothing in it is believed.

use super::json::{Single, compare, shown};
use super::{Checked, CheckedReport, Findings, follow, results, words};
use crate::case::Profile;
use crate::expected::{ExpectedFailure, ExpectedFailures};
use crate::report::statement::{VERSION, commit, digest};
use crate::report::{CaseResult, JudgedDevice, SCHEMA, Selected, Statement};
use crate::run::Selection;
use crate::{Case, SuiteError};
use anychip_core::ops::NAMES;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

/// Bytes of a file. A device's report has one or two millions.
const BYTES: usize = 32 << 20;
/// Bytes of the name of an operation or a case that is looked up: names that are near it are looked for.
const NAME_BYTES: usize = 512;
/// Patterns of cases that may fail: each is held against each case.
const PATTERNS: usize = 4096;
const MEND: &str = "write it again with `anychip conformance --json FILE`";

/// Of a report what does not follow from the rest of it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Told {
    pub(super) device: JudgedDevice,
    pub(super) profile: Profile,
    pub(super) seed: u64,
    pub(super) strict: bool,
    pub(super) passed: bool,
    pub(super) reasons: Vec<String>,
    pub(super) statement: Statement,
    pub(super) ops: Vec<ToldOp>,
    pub(super) results: Vec<CaseResult>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ToldOp {
    pub(super) op: String,
    pub(super) declared: Vec<String>,
}

/// Checks what `anychip conformance --json` writes, or one [`Report`](crate::Report) as JSON: whether the results are those
/// of the cases that the statement names, and whether everything else in it follows from them. Nothing is run.
///
/// That a report contradicts itself is no error, but among the [findings](CheckedReport::findings).
///
/// # Errors
/// [`SuiteError::Unreadable`] for a text that is no report or whose cases are a program's own, [`SuiteError::OtherSuite`] and [`SuiteError::OtherCases`]
/// for a report of another version.
pub fn check(text: &str) -> Result<Checked, SuiteError> {
    named("the report", text)
}

/// [`check`] of a file.
///
/// # Errors
/// As [`check`], and [`SuiteError::Unreadable`] for a file that cannot be read.
pub fn check_file(file: &Path) -> Result<Checked, SuiteError> {
    let name = file.display().to_string();
    match read(file) {
        Ok(text) => named(&name, &text),
        Err(error) => Err(unreadable(&name, format!("cannot be read: {error}; name a file that {SCHEMA} is in"))),
    }
}

/// A pipe would block and a device never end.
fn read(file: &Path) -> Result<String, Error> {
    if !file.metadata()?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > BYTES {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("larger than {BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Error::new(ErrorKind::InvalidData, "not text in UTF-8"))
}

fn unreadable(file: &str, reason: String) -> SuiteError {
    SuiteError::Unreadable { file: file.into(), reason }
}

fn named(file: &str, text: &str) -> Result<Checked, SuiteError> {
    let failed = |reason: String| unreadable(file, reason);
    if text.len() > BYTES {
        return Err(failed(format!("a report has at most {BYTES} bytes, got more; {MEND}")));
    }
    let none = |error: serde_json::Error| failed(format!("{}; {MEND}", shown(&error.to_string())));
    let Single(mut document) = serde_json::from_str(text).map_err(none)?;
    match document.get("schema").and_then(Value::as_str) {
        Some(SCHEMA) => {}
        Some(other) => return Err(failed(format!("its schema is `{}`, not `{SCHEMA}`; {MEND}", shown(other)))),
        None => return Err(failed(format!("it has no `schema`, which is `{SCHEMA}`; {MEND}"))),
    }
    // A program's own report stands alone, the command's are in a list.
    let mut found = Findings::default();
    let mut devices = Vec::new();
    match document.as_object_mut().and_then(|document| document.remove("devices")) {
        None => devices.push(one(file, &document)?),
        Some(Value::Array(reports)) if !reports.is_empty() => {
            for report in &reports {
                devices.push(one(file, report)?);
            }
            let passed = devices.iter().all(|report| report.passed);
            compare("", &document, &json!({ "schema": SCHEMA, "passed": passed }), &mut found);
        }
        Some(_) => return Err(failed(format!("`devices` is no list of reports, or an empty one; {MEND}"))),
    }
    Ok(Checked { suite_version: VERSION, findings: found.end(), devices })
}

fn one(file: &str, report: &Value) -> Result<CheckedReport, SuiteError> {
    let failed = |reason: String| unreadable(file, reason);
    // Looked at before anything else, which another version may have in another form.
    if let Some(theirs) = report.get("suite_version").and_then(Value::as_str)
        && theirs != VERSION
    {
        return Err(SuiteError::OtherSuite { file: file.into(), theirs: shown(theirs), ours: VERSION });
    }
    let told = Told::deserialize(report);
    let told = told.map_err(|error| failed(format!("no report: {}; {MEND}", shown(&error.to_string()))))?;
    let device = shown(&told.device.name);
    let Some(selected) = &told.statement.selection else {
        let why = "the statement has no `selection`: an older suite wrote it, or its cases are a program's own";
        return Err(failed(format!("{device}: {why}; {MEND}, or compare what that program writes on both machines")));
    };
    let listed = told.statement.expected_failures.len();
    if listed > PATTERNS {
        return Err(failed(format!(
            "{device}: at most {PATTERNS} patterns of expected failures, got {listed}; {MEND}"
        )));
    }
    let mut found = Findings::default();
    let selection = selection(&told, selected);
    let cases = cases(&selection).unwrap_or_else(|why| {
        found.add("statement.selection", format!("no case of this suite ({VERSION}): {why}"));
        Vec::new()
    });
    let said = &told.statement.suite_digest;
    let digest_of_cases = digest(VERSION, cases.iter().map(|case| case.name.as_str()));
    let of_results = || digest(VERSION, told.results.iter().map(|result| result.case.as_str()));
    // Of this very commit it would be a lie.
    if told.statement.commit != commit() && *said != digest_of_cases && *said == of_results() {
        let named = |commit: Option<&str>| commit.map_or("an unknown commit".into(), shown);
        let (theirs, ours) = (named(told.statement.commit.as_deref()), named(commit().as_deref()));
        return Err(SuiteError::OtherCases { file: file.into(), version: VERSION, theirs, ours });
    }
    let (mut passed, mut count) = (false, 0);
    if !cases.is_empty() {
        let results = results::examine(&told, report, &cases, &selection, &mut found);
        count = results.len();
        let follows = follow::report(&told, &cases, &selection, results);
        passed = follows.passed;
        follow::examine(&told, report, follows, &mut found);
    }
    let (says, cannot_show) = (words::says(&told, cases.len()), words::cannot_show(&told));
    let findings = found.end();
    Ok(CheckedReport { device, passed, results: count, says, cannot_show, findings, told, cases, selection })
}

/// What was run, as the report has it.
fn selection(told: &Told, selected: &Selected) -> Selection {
    let listed = told.statement.expected_failures.iter();
    // The list's own reasons are in the results that it excuses.
    let listed = listed.map(|case| ExpectedFailure { case: case.clone(), reason: "listed in the report".into() });
    let mut ops: Vec<String> = Vec::new();
    for op in &selected.ops {
        // Two more than there are: then one of them is none, which is told.
        if ops.len() < NAMES.len() + 2 && !ops.contains(op) {
            ops.push(op.clone());
        }
    }
    Selection {
        ops,
        profile: told.profile,
        case: selected.case.clone(),
        seed: told.seed,
        strict: told.strict,
        expected: ExpectedFailures { expected_failures: listed.collect() },
        save_failures: None,
    }
}

/// The cases, or why there are none.
fn cases(selection: &Selection) -> Result<Vec<Case>, String> {
    let long = selection.ops.iter().chain(&selection.case).map(String::len).find(|&bytes| bytes > NAME_BYTES);
    if let Some(bytes) = long {
        return Err(format!("a name has at most {NAME_BYTES} bytes, got {bytes}"));
    }
    selection.cases().map_err(|error| shown(&error.to_string()))
}

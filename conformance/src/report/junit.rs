//! The report as JUnit XML.

use super::{Outcome, Report};
use crate::SuiteError;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// One JUnit document with a test suite per device and a test per case, the operation as its class.
///
/// Unsupported cases and fallbacks are skipped tests with their reason, in strict runs failures. A run that did not pass
/// for another reason than its cases (none executed, stopped) has a failed test of its own that says so. The document
/// keeps the schemas of Jenkins and Surefire.
///
/// # Errors
/// [`SuiteError::Junit`].
pub fn junit(reports: &[Report]) -> Result<String, SuiteError> {
    let mut document = quick_junit::Report::new("anychip conformance");
    let mut all = 0.0;
    for report in reports {
        let mut suite = TestSuite::new(plain(&report.device.name));
        suite.add_property(("description", plain(&report.device.description).as_str()));
        suite.add_property(("profile", report.profile.to_string().as_str()));
        suite.add_property(("seed", report.seed.to_string().as_str()));
        suite.add_property(("suite_version", report.suite_version));
        suite.add_property(("suite_digest", report.statement.suite_digest.as_str()));
        for result in &report.results {
            let mut test = TestCase::new(plain(&result.case), status(&result.outcome, report.strict));
            test.set_classname(result.op);
            test.set_time(Duration::from_secs_f64(result.seconds));
            suite.add_test_case(test);
        }
        if !report.passed && report.counts.failed == 0 {
            let mut test = TestCase::new("run", failure("run", &report.reasons.join("; ")));
            test.set_classname("run").set_time(Duration::ZERO);
            suite.add_test_case(test);
        }
        let seconds: f64 = report.results.iter().map(|result| result.seconds).sum();
        suite.set_time(Duration::from_secs_f64(seconds));
        all += seconds;
        document.add_test_suite(suite);
    }
    document.set_time(Duration::from_secs_f64(all));
    let xml = document.to_string().map_err(|error| SuiteError::Junit(error.to_string()))?;
    // Jenkins' schema knows no such count of the whole document; each suite has it.
    Ok(xml.replacen(&format!(" skipped=\"{}\"", document.skipped), "", 1))
}

fn status(outcome: &Outcome, strict: bool) -> TestCaseStatus {
    let elsewhere = |message: String, kind: &str| {
        if strict {
            return failure(kind, &message);
        }
        let mut skipped = TestCaseStatus::skipped();
        skipped.set_type(kind).set_message(plain(&message));
        skipped
    };
    match outcome {
        Outcome::Passed { .. } => TestCaseStatus::success(),
        Outcome::Failed(broken) => {
            let mut failed = failure(&broken.rule.to_string(), &broken.message);
            // Once more as text, which keeps its lines everywhere, and what runs it again.
            let again = format!("{}\nagain: anychip conformance --case {}", broken.message, broken.case);
            failed.set_description(plain(&again));
            failed
        }
        Outcome::Unsupported { reason } => elsewhere(reason.clone(), "unsupported"),
        Outcome::Expected { reason, failure } => {
            let mut skipped = TestCaseStatus::skipped();
            skipped
                .set_type("expected")
                .set_message(plain(&format!("expected to fail ({reason}): {}", failure.message)));
            skipped
        }
        Outcome::Fallback { ops, .. } => elsewhere(format!("another device ran {}", ops.join(", ")), "fallback"),
    }
}

fn failure(kind: &str, message: &str) -> TestCaseStatus {
    let mut failed = TestCaseStatus::non_success(NonSuccessKind::Failure);
    failed.set_type(kind).set_message(plain(message));
    failed
}

/// Text without the characters that XML 1.0 has no way to write.
fn plain(raw: &str) -> String {
    let known = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    raw.chars().map(|c| if known(c) { c } else { '\u{fffd}' }).collect()
}

//! The report as JUnit XML.

use super::{Outcome, Report};
use crate::SuiteError;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// One JUnit document with a test suite per device and a test per case, the operation as its class.
///
/// Unsupported cases and fallbacks are skipped tests with their reason, in strict runs failures. A run that did not pass
/// for another reason than its cases (none executed, stopped) has a failed test of its own that says so.
///
/// # Errors
/// [`SuiteError::Junit`].
pub fn junit(reports: &[Report]) -> Result<String, SuiteError> {
    let mut document = quick_junit::Report::new("anychip conformance");
    for report in reports {
        let mut suite = TestSuite::new(&report.device.name);
        suite.add_property(("description", report.device.description.as_str()));
        suite.add_property(("profile", report.profile.to_string().as_str()));
        suite.add_property(("seed", report.seed.to_string().as_str()));
        suite.add_property(("suite_version", report.suite_version));
        suite.add_property(("suite_digest", report.statement.suite_digest.as_str()));
        for result in &report.results {
            let mut test = TestCase::new(&result.case, status(&result.outcome, report.strict));
            test.set_classname(result.op);
            test.set_time(Duration::from_secs_f64(result.seconds));
            suite.add_test_case(test);
        }
        if !report.passed && report.counts.failed == 0 {
            suite.add_test_case(TestCase::new("run", failure("run", &report.reasons.join("; "))));
        }
        suite.set_time(Duration::from_secs_f64(report.results.iter().map(|r| r.seconds).sum()));
        document.add_test_suite(suite);
    }
    document.to_string().map_err(|error| SuiteError::Junit(error.to_string()))
}

fn status(outcome: &Outcome, strict: bool) -> TestCaseStatus {
    let elsewhere = |message: String, kind: &str| {
        if strict {
            return failure(kind, &message);
        }
        let mut skipped = TestCaseStatus::skipped();
        skipped.set_type(kind).set_message(message);
        skipped
    };
    match outcome {
        Outcome::Passed { .. } => TestCaseStatus::success(),
        Outcome::Failed(broken) => failure(&broken.rule.to_string(), &broken.message),
        Outcome::Unsupported { reason } => elsewhere(reason.clone(), "unsupported"),
        Outcome::Expected { reason, failure } => {
            let mut skipped = TestCaseStatus::skipped();
            skipped.set_type("expected").set_message(format!("expected to fail ({reason}): {}", failure.message));
            skipped
        }
        Outcome::Fallback { ops, .. } => elsewhere(format!("another device ran {}", ops.join(", ")), "fallback"),
    }
}

fn failure(kind: &str, message: &str) -> TestCaseStatus {
    let mut failed = TestCaseStatus::non_success(NonSuccessKind::Failure);
    failed.set_type(kind).set_message(message);
    failed
}

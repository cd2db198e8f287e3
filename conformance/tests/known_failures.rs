//! Expected failures, likely causes, saved failures, the statement and the page.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use anychip_conformance::{
    Counts, ExpectedFailures, Outcome, Report, Rule, Selection, SuiteError, html, junit, replay, run, run_cases,
};
use anychip_core::{Access, DType, Op, Result};
use common::{Bench, Fault, faulty, operand};
use safetensors::SafeTensors;

/// Sine and cosine of the wrong sign: the second half of what rope turns.
fn rope_backwards(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    let op = match op.name() {
        "rope" => &bench.with_other(op, "x", |_, bytes| bytes.iter_mut().skip(1).step_by(2).for_each(|b| *b ^= 1))?,
        _ => op,
    };
    bench.run(op)
}

fn selection(ops: &[&str], list: &str) -> Selection {
    let ops = ops.iter().map(|op| op.to_string()).collect();
    Selection { ops, expected: ExpectedFailures::parse("test.toml", list).unwrap(), ..Selection::default() }
}

/// The cases that are judged by the oracle: a fault that is the same every time keeps the relations between runs.
fn report(fault: Fault, selection: &Selection) -> Report {
    let mut cases = selection.cases().unwrap();
    cases.retain(|case| !case.name.contains("/r4-") && !case.name.contains("/r5-"));
    run_cases(&faulty(fault), &cases, selection, &mut |_| true)
}

const ROPE: &str = "[[expected_failures]]\ncase = \"rope\"\nreason = \"<angles> & \\\"signs\\\"\"\n";

#[test]
fn what_is_expected_to_fail_does_not_fail_the_run() {
    let report = report(rope_backwards, &selection(&["rope", "embed"], ROPE));
    let Counts { selected, executed, passed, failed, expected, .. } = report.counts;
    assert!(report.passed && failed == 0 && expected > 0 && executed == selected, "{}", report.matrix());
    assert_eq!(passed + expected, executed);
    assert!(matches!(&report.results.iter().find(|r| r.op == "rope").unwrap().outcome,
        Outcome::Expected { reason, failure } if reason.contains("<angles>") && failure.rule != Rule::Expected));
    assert!(report.matrix().contains("failed as expected (<angles>"), "{}", report.matrix());
    let xml = junit(std::slice::from_ref(&report)).unwrap();
    assert!(xml.contains("type=\"expected\"") && xml.contains("failures=\"0\""), "{xml}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["counts"]["expected"], expected);
    assert_eq!(json["statement"]["expected_failures"][0], "rope");
}

#[test]
fn what_passes_against_expectation_is_a_failure() {
    let report = report(|bench, op| bench.run(op), &selection(&["rope"], ROPE));
    assert!(!report.passed && report.counts.failed == report.counts.selected, "{}", report.matrix());
    let first = report.failures().next().unwrap();
    assert_eq!(first.rule, Rule::Expected);
    assert!(first.message.contains("<angles>") && first.message.contains("take it off the list"), "{first}");
    // Other cases are none of its business.
    let other = run(&*anychip_cpu::open(), &selection(&["embed"], ROPE), &mut |_| true).unwrap();
    assert!(other.passed);
}

fn rows_rotated(bench: &mut Bench<'_>, op: &Op) -> Result<()> {
    bench.run(op)?;
    let Some(out) = operand(op, |access, t| access == Access::Write && t.dtype().is_float()) else { return Ok(()) };
    let row = out.bytes() as usize / out.size(0).max(1);
    bench.change(&out, |bytes| bytes.rotate_left(row))
}

#[test]
fn messages_name_the_likely_cause() {
    let found = report(rows_rotated, &selection(&["rms_norm"], ""));
    let causes: Vec<&str> = found.failures().filter_map(|f| f.cause.as_deref()).collect();
    assert!(causes.iter().filter(|cause| cause.contains("row index is off by one")).count() >= 3, "{causes:?}");
    assert!(found.failures().any(|f| f.message.contains("; likely cause: each row")));

    let nothing = report(|_, _| Ok(()), &selection(&["hadamard", "top_k", "linear"], ""));
    for failure in nothing.failures() {
        assert!(failure.cause.as_ref().is_some_and(|cause| cause.contains("was not written")), "{failure}");
    }

    let zero: Fault = |bench, op| {
        bench.run(op)?;
        let out = operand(op, |access, t| access == Access::Write && t.dtype() == DType::F32);
        out.map_or(Ok(()), |out| bench.change(&out, |bytes| bytes.fill(0)))
    };
    assert!(
        report(zero, &selection(&["linear"], "")).failures().any(|f| f.message.contains("cause: all of it is zero"))
    );
}

#[test]
fn a_saved_failure_holds_everything_and_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new/failures");
    let selection = Selection { save_failures: Some(folder.clone()), ..selection(&["rope", "embed"], "") };
    let found = report(rope_backwards, &selection);
    let saved: Vec<&str> = found.failures().map(|f| f.saved.as_deref().unwrap()).collect();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), found.counts.failed);
    let first = std::path::Path::new(saved[0]);
    assert!(first.starts_with(&folder) && first.file_name().unwrap().to_str().unwrap().starts_with("rope-"));

    let bytes = std::fs::read(first).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let [before, after, want, bound] =
        ["before/out", "after/out", "want/out", "bound/out"].map(|name| tensors.tensor(name).unwrap());
    assert_eq!(want.shape(), after.shape());
    assert_eq!((want.shape(), want.dtype()), (bound.shape(), safetensors::Dtype::F64));
    assert!(before.data() != after.data() && tensors.tensor("before/x").is_ok() && tensors.tensor("after/x").is_err());
    // What the file says is what the message said.
    let failure = found.failures().next().unwrap();
    let index = failure.coordinate.iter().zip(want.shape()).fold(0, |at, (&c, &size)| at * size + c);
    let element = f64::from_le_bytes(want.data()[8 * index..][..8].try_into().unwrap());
    assert!((element - failure.want.parse::<f64>().unwrap()).abs() <= 1e-12 * element.abs(), "{failure}");

    let selection = Selection::default();
    let wrong = replay(&faulty(rope_backwards), first, &selection).unwrap();
    assert!(wrong.same_inputs && !wrong.report.passed && wrong.report.results.len() == 1);
    assert_eq!((wrong.saved_message.as_str(), wrong.case.as_str()), (&*failure.message, &*failure.case));
    let right = replay(&*anychip_cpu::open(), first, &selection).unwrap();
    assert!(right.same_inputs && right.report.passed, "{}", right.report.matrix());
}

#[test]
fn files_that_are_no_saved_failures_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.safetensors");
    let said = |file: &std::path::Path| {
        let error = replay(&*anychip_cpu::open(), file, &Selection::default()).unwrap_err();
        assert!(matches!(error, SuiteError::Saved { .. }));
        error.to_string()
    };
    assert!(said(&file).contains("cannot be read"));
    std::fs::write(&file, "no tensors").unwrap();
    assert!(said(&file).contains("no saved failure"));
    let none: Vec<(String, safetensors::tensor::TensorView<'_>)> = Vec::new();
    std::fs::write(&file, safetensors::serialize(none, None).unwrap()).unwrap();
    assert!(said(&file).contains("`schema`"));
}

#[test]
fn a_folder_that_cannot_be_written_is_told_with_the_failure() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let selection = Selection { save_failures: Some(file), ..selection(&["rope"], "") };
    let found = report(rope_backwards, &selection);
    assert!(found.failures().all(|f| f.saved.as_ref().unwrap().contains("cannot be written")));
}

#[test]
fn the_statement_names_the_work() {
    let cpu = anychip_cpu::open();
    let of = |seed, ops: &[&str]| {
        let selection = Selection { seed, ..selection(ops, "") };
        run(&*cpu, &selection, &mut |_| true).unwrap().statement
    };
    let [first, again, other_seed, other_cases] =
        [of(0, &["rope"]), of(0, &["rope"]), of(1, &["rope"]), of(0, &["rope", "embed"])];
    assert_eq!(first, again);
    assert_eq!(first.suite_digest.len(), 64);
    assert!(first.suite_digest != other_seed.suite_digest && first.suite_digest != other_cases.suite_digest);
    assert!(first.passed && first.declared["rope"][0].contains("accumulator of 24 bits"), "{first:?}");
    assert!(first.device.starts_with("cpu (") && first.host.contains(std::env::consts::ARCH));
    assert_eq!(first.suite_version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_page_stands_alone() {
    let list = "[[expected_failures]]\ncase = \"hadamard\"\nreason = \"<b>known</b>\"\n";
    let broken: Fault = |bench, op| if op.name() == "hadamard" { Ok(()) } else { rope_backwards(bench, op) };
    let failed = report(broken, &selection(&["rope", "embed", "hadamard"], list));
    let right = run(&*anychip_cpu::open(), &selection(&["rope", "linear"], ""), &mut |_| true).unwrap();
    let page = html(&[failed.clone(), right.clone()]);
    for from_elsewhere in ["<script", "http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(from_elsewhere), "{from_elsewhere}");
    }
    assert!(!page.contains("<b>known") && page.contains("&lt;b&gt;known&lt;/b&gt;"));
    for result in failed.results.iter().chain(&right.results) {
        assert!(page.contains(&format!("<code>{}</code>", result.case)), "{}", result.case);
    }
    assert!(page.contains(&format!("anychip conformance --case {}", failed.failures().next().unwrap().case)));
    // A row for each combination of formats, a column for each device.
    for summary in failed.formats.iter().chain(&right.formats) {
        let row = format!("<td><code>{}</code></td>", summary.format.as_ref().unwrap().replace('>', "&gt;"));
        assert!(page.contains(&row), "{row}");
    }
    assert!(page.contains("<td class=\"state\">not run</td>") && page.contains("href=\"#f1-0\">native "));
    assert!(page.contains(&right.statement.suite_digest) && page.contains("class=\"bar out\""));
    for tag in ["details", "table", "tr", "td", "th", "svg", "p", "summary"] {
        let [opened, closed] = [format!("<{tag}>"), format!("<{tag} ")].map(|t| page.matches(&t).count());
        assert_eq!(opened + closed, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    // Every count of the matrix leads somewhere.
    for link in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(page.contains(&format!("id=\"{link}\"")), "{link}");
    }
}

//! What `anychip conformance` reads and writes: lists of expected failures, child processes, the page, saved failures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{document, passes, refused, run, text, write};
use serde_json::Value;
use std::fs;
use std::path::Path;

const LIST: &str = "[[expected_failures]]\ncase = \"rope/*\"\nreason = \"angles\"\n";

#[test]
fn an_expected_failure_that_passes_fails_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let list = write(dir.path(), "cpu.toml", LIST);
    let asked = ["conformance", "--device", "cpu", "--op", "rope", "--expect", &list];
    for isolate in [&[][..], &["--isolate", "--timeout", "60"]] {
        let shown = text(&run(1, &[&asked, isolate].concat()).stdout);
        assert!(shown.contains("listed as an expected failure (angles)") && shown.contains("NOT PASSED"), "{shown}");
    }
    passes(&["conformance", "--device", "cpu", "--op", "embed", "--expect", &list]);
}

#[test]
fn lists_that_are_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none.toml");
    refused(&["conformance", "--expect", none.to_str().unwrap()], &["none.toml", "cannot be read"]);
    let list = write(dir.path(), "cpu.toml", "[[expected_failures]]\ncase = \"rope\"\nreason = \"\"\n");
    refused(&["conformance", "--expect", &list], &["cpu.toml", "`rope` has no reason"]);
    refused(&["conformance", "--timeout", "5"], &["--isolate"]);
    refused(&["conformance", "--isolate", "--timeout", "0"], &["--timeout"]);
}

#[test]
fn isolated_cases_give_the_same_report_and_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("report.html");
    let asked = ["conformance", "--device", "cpu", "--op", "hadamard", "--seed", "3", "--json"];
    let here = document(&asked);
    let there = document(&[&asked[..7], &["--isolate", "--html", page.to_str().unwrap(), "--json"]].concat());
    let plain = |found: &Value| {
        let report = &found["devices"][0];
        let results = report["results"].as_array().unwrap().iter().map(|r| (r["case"].clone(), r["outcome"].clone()));
        (report["counts"].clone(), report["statement"].clone(), results.collect::<Vec<_>>())
    };
    assert_eq!(plain(&here), plain(&there));
    assert_eq!(there["devices"][0]["statement"]["suite_digest"].as_str().unwrap().len(), 64);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("hadamard") && page.ends_with("</html>\n"));
}

#[test]
fn formats_are_shown_where_they_are_asked_for() {
    let asked = ["conformance", "--device", "cpu", "--op", "dequantize"];
    let short = text(&run(0, &asked).stdout);
    let long = text(&run(0, &[&asked[..], &["--formats"]].concat()).stdout);
    assert!(!short.contains(" -> ") && long.contains("e4m3.128x128 -> bf16"), "{long}");
    let found = document(&[&asked[..], &["--json"]].concat());
    let formats = found["devices"][0]["formats"].as_array().unwrap().clone();
    assert!(formats.iter().any(|s| s["format"] == "e4m3.128x128 -> bf16" && s["state"] == "native"), "{formats:?}");
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "f.safetensors", "no tensors");
    refused(&["conformance", "--replay", &file], &["f.safetensors", "no saved failure"]);
    refused(&["conformance", "--replay", &file, "--isolate"], &["--replay", "--isolate"]);
    let failures = dir.path().join("failures");
    passes(&["conformance", "--device", "cpu", "--op", "rope", "--save-failures", failures.to_str().unwrap()]);
    assert!(!failures.exists(), "nothing failed");
}

/// A report of a run on the CPU, which passed.
fn report(dir: &Path, asked: &[&str]) -> (String, Value) {
    let file = dir.join("report.json").to_str().unwrap().to_owned();
    passes(&[&["conformance", "--device", "cpu", "--json", &file], asked].concat());
    let report = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    (file, report)
}

#[test]
fn a_report_that_holds_is_told_with_what_it_cannot_show() {
    let dir = tempfile::tempdir().unwrap();
    let (file, _) = report(dir.path(), &["--op", "rope", "--op", "embed", "--seed", "5"]);
    let shown = passes(&["conformance", "--check", &file]);
    for said in ["cpu: the report holds", "under seed 5, of rope, embed", "it cannot show that the device computed"] {
        assert!(shown.contains(said), "{shown}");
    }
    let found = document(&["conformance", "--check", &file, "--device", "cpu", "--json"]);
    assert_eq!((&found["schema"], &found["passed"]), (&"anychip.check/1".into(), &true.into()));
    let device = &found["devices"][0];
    assert_eq!((&device["device"], &device["findings"]), (&"cpu".into(), &serde_json::json!([])));
    assert_eq!(device["run_again"]["compared"], device["results"]);
    assert_eq!(device["run_again"]["report"]["passed"], true);
    let both = report(dir.path(), &["--device", "reference", "--op", "hadamard", "--isolate"]).0;
    let shown = passes(&["conformance", "--check", &both, "--device", "reference"]);
    assert!(shown.contains("cpu: the report holds") && shown.contains("reference: run again here, "), "{shown}");
    assert!(shown.contains("cases: all as in the report") && !shown.contains("cpu: run again"), "{shown}");
}

#[test]
fn a_device_that_did_not_pass_has_a_report_that_holds() {
    let dir = tempfile::tempdir().unwrap();
    let list = write(dir.path(), "cpu.toml", LIST);
    let file = dir.path().join("report.json").to_str().unwrap().to_owned();
    run(1, &["conformance", "--device", "cpu", "--op", "rope", "--expect", &list, "--json", &file]);
    let shown = passes(&["conformance", "--check", &file, "--device", "cpu"]);
    assert!(
        shown.contains("it says that the device did not pass: ") && shown.contains("all as in the report"),
        "{shown}"
    );
}

#[test]
fn lies_and_other_outcomes_fail_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut told) = report(dir.path(), &["--op", "embed"]);
    told["devices"][0]["counts"]["passed"] = 1000.into();
    told["passed"] = false.into();
    let lie = write(dir.path(), "lie.json", &told.to_string());
    let shown = text(&run(1, &["conformance", "--check", &lie]).stdout);
    let lines = shown.lines().filter(|line| line.starts_with("  finding: "));
    assert_eq!(lines.count(), 2, "{shown}");
    assert!(
        shown.contains("cpu: THE REPORT DOES NOT HOLD, 1 findings\n  finding: counts.passed: the report says 1000")
    );
    let shown = text(&run(1, &["conformance", "--check", &lie, "--json"]).stdout);
    let found: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&found["passed"], &found["findings"][0]["place"]), (&false.into(), &"passed".into()));

    // The reference declares another arithmetic than the device that the report calls by its name.
    let (_, told) = report(dir.path(), &["--op", "embed", "--op", "rope"]);
    let other = told.to_string().replace("\"cpu", "\"reference");
    let other = write(dir.path(), "other.json", &other);
    let shown = text(&run(1, &["conformance", "--check", &other, "--device", "reference"]).stdout);
    assert!(shown.contains("reference: the report holds") && shown.contains("NOT AS IN THE REPORT, "), "{shown}");
    assert!(shown.contains("  difference: ops[rope].declared: accumulator of 24 bits"), "{shown}");
}

#[test]
fn what_cannot_be_checked_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (file, told) = report(dir.path(), &["--op", "embed"]);
    let whole = told.to_string();
    let half = write(dir.path(), "half.json", &whole[..whole.len() / 2]);
    refused(&["conformance", "--check", &half], &["half.json", "EOF", "write it again"]);
    let old = write(dir.path(), "old.json", &whole.replace(env!("CARGO_PKG_VERSION"), "0.0.9"));
    refused(&["conformance", "--check", &old], &["old.json", "suite 0.0.9", env!("CARGO_PKG_VERSION")]);
    refused(&["conformance", "--check", &file, "--device", "reference"], &["no report of `reference`", "are of cpu"]);
    refused(&["conformance", "--check", &file, "--seed", "1"], &["--check", "--seed"]);
    refused(&["conformance", "--check", &file, "--device", "gpu"], &["gpu"]);
    refused(&["conformance", "--check", dir.path().to_str().unwrap()], &["not a regular file", "name a file"]);
}

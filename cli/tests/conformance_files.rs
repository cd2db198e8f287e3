//! What `anychip conformance` reads and writes: lists of expected failures, child processes, the page, saved failures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{document, passes, refused, run, text, write};
use serde_json::Value;
use std::fs;

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

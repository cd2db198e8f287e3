//! The devices `wgpu` and `wgpu:N`, with a Vulkan driver and without.
#![cfg(feature = "wgpu")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{NO_DRIVER, anychip, document, passes, refused, text, vulkan};
use serde_json::Value;

const TINY: &str = "golden/tiny";

#[test]
fn without_a_driver_the_list_says_so_with_the_mend() {
    let output = anychip().envs(NO_DRIVER).args(["devices", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "the other devices work: {}", text(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["devices"].as_array().unwrap().len(), 2);
    let wgpu = &document["unavailable"][0];
    assert_eq!((&wgpu["name"], &wgpu["cause"]), (&"wgpu".into(), &"no Vulkan driver was found".into()));
    assert!(wgpu["mend"].as_str().unwrap().contains("apt-get install"), "{wgpu}");
    let table = text(&anychip().envs(NO_DRIVER).arg("devices").output().unwrap().stdout);
    assert!(table.contains("no Vulkan driver was found; install a Vulkan driver"), "{table}");
}

#[test]
fn without_a_driver_nothing_runs_on_it() {
    let commands: [&[&str]; 4] =
        [&["verify", TINY], &["generate", TINY, "--prompt", "And"], &["conformance"], &["conformance", "--isolate"]];
    for command in commands {
        for name in ["wgpu", "wgpu:1"] {
            let output = anychip().envs(NO_DRIVER).args(command).args(["--device", name]).output().unwrap();
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command:?}: {stderr}");
            let said = format!("cannot open device `{name}`: no Vulkan driver was found; install a Vulkan driver");
            assert!(stderr.contains(&said) && !stderr.contains("panicked"), "{stderr}");
        }
    }
}

#[test]
fn adapters_have_numbers_and_the_first_needs_none() {
    if !vulkan() {
        return;
    }
    let found = document(&["devices", "--json"]);
    assert_eq!(found["unavailable"], serde_json::json!([]));
    let adapters = found["devices"].as_array().unwrap().len() - 2;
    let beyond = format!("wgpu:{adapters}");
    refused(&["conformance", "--device", &beyond], &[&beyond, &format!("use wgpu:0 to wgpu:{}", adapters - 1)]);
    let judged = document(&["conformance", "--device", "wgpu", "--device", "wgpu:0", "--op", "embed", "--json"]);
    for (report, name) in judged["devices"].as_array().unwrap().iter().zip(["wgpu", "wgpu:0"]) {
        assert_eq!((&report["device"]["name"], &report["passed"]), (&name.into(), &true.into()), "{report}");
    }
}

#[test]
fn its_cases_run_in_processes_of_their_own_and_its_report_is_checked() {
    if !vulkan() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let file = file.to_str().unwrap();
    passes(&["conformance", "--device", "wgpu", "--op", "embed", "--isolate", "--json", file]);
    let shown = passes(&["conformance", "--check", file, "--device", "wgpu"]);
    assert!(shown.contains("the report holds") && shown.contains("all as in the report"), "{shown}");
}

//! `bench`, `calibrate` and `trace`: what scripts read of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{document, has, passes, refused};
use serde_json::Value;
use std::collections::BTreeSet;

#[test]
fn a_simulated_time_says_what_it_is_of() {
    let shape = "m=512,n=512,k=512,dtype=f16,out=f32";
    let document = document(&["bench", "--device", "ascend:910b", "--op", "linear", "--shape", shape, "--json", "-"]);
    assert_eq!(document["schema"], "anychip.bench/1");
    let result = &document["results"][0];
    let fields = ["simulated_us", "cores", "tflops", "share_of_peak", "pipe_busy", "hbm_bytes", "l2_hit", "bound"];
    has(result, &fields);
    has(result, &["profile", "profile_hash", "validated", "clock", "checked", "device", "op", "shape"]);
    assert_eq!((&result["profile"], &result["clock"]), (&"910b".into(), &"simulated".into()));
    assert_eq!(result["validated"], "held out");
    let (us, tflops) = (result["simulated_us"].as_f64().unwrap(), result["tflops"].as_f64().unwrap());
    assert!((tflops * us * 1e6 / (2.0 * 512f64.powi(3)) - 1.0).abs() < 1e-9);
    assert!(result["share_of_peak"].as_f64().unwrap() < 1.0);
    // The same again, to the last digit.
    let again =
        common::document(&["bench", "--device", "ascend:910b", "--op", "linear", "--shape", shape, "--json", "-"]);
    assert_eq!(again, document);
}

#[test]
fn every_simulated_benchmark_runs() {
    for (device, op, shape, validated) in [
        ("ascend", "copy", "bytes=4194304,n=1024,tile=16x128,direction=ub-gm", "modelled, not validated"),
        ("ascend:950pr-28", "linear", "m=256,n=256,k=256,dtype=mxfp4", "held out"),
        ("ascend:950pr", "linear", "m=256,n=256,k=256,dtype=int8", "held out"),
        ("ascend", "expert_gemm", "experts=4,tokens=64,k=256,n=128,top=2", "modelled, not validated"),
        ("ascend:910b-20", "dense_attention", "heads=2,d=64,s=128", "held out"),
        ("ascend", "sparse_attention", "heads=16,d=512,keys=128,q=2", "modelled, not validated"),
        ("ascend:910c", "top_k", "rows=2,n=4096,k=64", "held out"),
        ("ascend", "softmax", "rows=16,cols=64", "modelled, not validated"),
    ] {
        let document = document(&["bench", "--device", device, "--op", op, "--shape", shape, "--json", "-"]);
        let result = &document["results"][0];
        assert!(result["simulated_us"].as_f64().unwrap() > 0.0, "{result}");
        assert_eq!(result["validated"], validated, "{device} {op}");
        let text = passes(&["bench", "--device", device, "--op", op, "--shape", shape]);
        assert!(text.contains("simulated") && text.contains("bound"), "{text}");
    }
}

#[test]
fn a_measured_time_comes_with_its_spread() {
    let words = ["bench", "--device", "cpu", "--op", "top_k", "--shape", "rows=2,n=500,k=5", "--json", "-"];
    let document = document(&words);
    let result = &document["results"][0];
    has(result, &["median_us", "q1_us", "q3_us", "runs", "clock", "device", "description", "fallback", "worst"]);
    assert_eq!((&result["clock"], &result["fallback"]), (&"host".into(), &false.into()));
}

#[test]
fn shapes_that_cannot_be_run_are_refused() {
    let bench = |rest: &[&'static str]| [&["bench", "--device", "ascend"], rest].concat();
    for (rest, said) in [
        (&["--op", "linear", "--shape", "m=1,n=1"][..], &["`k` is missing"][..]),
        (&["--op", "linear", "--shape", "m=0,n=1,k=1"], &["`m` is a number from 1", "got `0`"]),
        (&["--op", "linear", "--shape", "m=1,n=1,k=1,dtype=f12"], &["one of f16, bf16", "got `f12`"]),
        (&["--op", "linear", "--shape", "m=1,n=1,k=1,z=1"], &["no `z`"]),
        (&["--op", "linear", "--shape", "m"], &["name=value"]),
        (&["--op", "rope", "--shape", "m=1"], &["no benchmark `rope`", "sparse_attention"]),
        (&["--op", "copy", "--shape", "tile=4096x4096"], &["has to fit"]),
    ] {
        refused(&bench(rest), said);
    }
    refused(&["bench", "--device", "cpu", "--op", "copy", "--shape", "n=1"], &["no benchmark `copy`"]);
    refused(&["calibrate", "--device", "cpu"], &["`cpu` is not simulated", "ascend:PROFILE"]);
    refused(&["trace", "--device", "cpu", "--op", "top_k", "--shape", "n=64,k=1", "-o", "x.json"], &["not simulated"]);
}

/// Of the rows that take no minutes.
#[test]
fn the_model_is_as_near_to_published_figures_as_it_says() {
    let document = document(&["calibrate", "--json", "-"]);
    assert_eq!(document["schema"], "anychip.calibrate/1");
    let rows = document["rows"].as_array().unwrap();
    let names: BTreeSet<&str> = rows.iter().map(|row| row["row"].as_str().unwrap()).collect();
    let all = ["C1", "C10", "C11", "C2", "C3", "C4", "C5", "C6", "C7", "C7b", "C8", "C9"];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), all);
    assert!(document["mean_error"].as_f64().unwrap() <= 0.07 && document["largest_error"].as_f64().unwrap() <= 0.15);
    for row in rows.iter().filter(|row| ["C1", "C3"].contains(&row["row"].as_str().unwrap())) {
        assert!(row["error"].as_f64().unwrap().abs() <= 0.03, "{row}");
    }
    assert_eq!(document["passed"], true);
}

#[test]
fn a_trace_has_engines_flags_and_counters() {
    let dir = tempfile::tempdir().unwrap();
    let (file, drawing) = (dir.path().join("trace.json"), dir.path().join("core.svg"));
    let [file, drawing] = [&file, &drawing].map(|path| path.to_str().unwrap());
    let shape = "heads=16,d=512,keys=128,q=2";
    let text = passes(&["trace", "--op", "sparse_attention", "--shape", shape, "-o", file, "--drawing", drawing]);
    assert!(text.contains("aic_mac_time") && text.contains("bound") && text.contains("silicon not used"), "{text}");
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let kinds: BTreeSet<&str> = events.iter().map(|event| event["ph"].as_str().unwrap()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["C", "M", "X", "f", "s"]);
    for event in events.iter().filter(|event| event["ph"] == "X") {
        has(&event["args"], &["cycle_start", "cycles", "line"]);
        assert!(event["dur"].as_f64().unwrap() >= 0.0 && event["ts"].as_f64().unwrap() >= 0.0);
    }
    assert!(events.iter().any(|event| event["name"] == "MMAD") && events.iter().any(|event| event["name"] == "VF"));
    assert!(std::fs::read_to_string(drawing).unwrap().ends_with("</svg>\n"));
}

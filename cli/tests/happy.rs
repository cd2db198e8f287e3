//! What each command gives when all is well, by the names that scripts use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{anychip, document, golden, has, passes, run, text, write};
use serde_json::Value;
use std::fs;

#[test]
fn devices_lists_what_there_is() {
    let document = document(&["devices", "--json"]);
    assert_eq!(document["schema"], "anychip.devices/1");
    let devices = document["devices"].as_array().unwrap();
    let names: Vec<&str> = devices.iter().map(|device| device["name"].as_str().unwrap()).collect();
    assert_eq!(names[..3], ["reference", "cpu", "ascend"]);
    for device in devices {
        has(device, &["name", "description", "memory_bytes", "max_allocation", "clock", "asynchronous"]);
    }
    let clocks: Vec<&str> = devices[..3].iter().map(|device| device["clock"].as_str().unwrap()).collect();
    assert_eq!(clocks, ["host", "host", "simulated"]);
    let table = passes(&["devices"]);
    assert!(table.contains("cpu") && table.contains("threads") && table.contains("simulated"), "{table}");
}

#[test]
fn verify_reports_each_device_precision_and_form() {
    for (model, forms) in [
        ("A", &["exact prefill", "exact decode", "exact chunked"][..]),
        ("B", &["exact prefill", "exact decode", "exact chunked"]),
        (
            "Q",
            &[
                "exact prefill",
                "exact decode",
                "exact chunked",
                "served layer",
                "served short",
                "served prefill",
                "served decode",
            ],
        ),
        (
            "tiny",
            &[
                "exact prefill",
                "exact decode",
                "exact chunked",
                "served layer",
                "served short",
                "served prefill",
                "served decode",
            ],
        ),
    ] {
        let document = document(&["verify", &format!("golden/{model}"), "--json"]);
        assert_eq!((&document["schema"], &document["passed"]), (&"anychip.verify/1".into(), &true.into()));
        let results = document["results"].as_array().unwrap();
        let found =
            |result: &Value| format!("{} {}", result["precision"].as_str().unwrap(), result["form"].as_str().unwrap());
        assert_eq!(results.iter().map(found).collect::<Vec<_>>(), forms);
        for result in results {
            has(result, &["device", "rows", "max_abs_diff", "max_row_rel_rms", "argmax_agreement", "loss", "rule"]);
            assert_eq!((&result["device"], &result["passed"]), (&"cpu".into(), &true.into()), "{result}");
            assert_eq!(result["fallback_ops"], serde_json::json!([]));
            if result["precision"] == "exact" {
                assert!(result["max_abs_diff"].as_f64().unwrap() <= 1e-4 && result["argmax_agreement"] == 1.0);
            }
            if model == "tiny" && result["form"] == "prefill" {
                let (want, off) = if result["precision"] == "exact" { (2.3620, 1e-4) } else { (2.3618, 0.01) };
                assert!((result["loss"].as_f64().unwrap() - want).abs() <= off, "{result}");
            }
        }
    }
}

#[test]
fn verify_runs_what_it_is_asked_for() {
    let asked =
        ["verify", "golden/Q", "--device", "reference", "--device", "cpu", "--device", "cpu", "--form", "decode"];
    let found = document(&[&asked[..], &["--json"]].concat());
    let result = |r: &Value| (r["device"].clone(), r["precision"].clone(), r["form"].clone());
    let results: Vec<_> = found["results"].as_array().unwrap().iter().map(result).collect();
    let of = |device: &str, precision: &str| (device.into(), precision.into(), Value::from("decode"));
    assert_eq!(results, [of("reference", "exact"), of("reference", "served"), of("cpu", "exact"), of("cpu", "served")]);
    let table = passes(&[&asked[..], &["--precision", "exact"]].concat());
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("device") && lines[1].starts_with("reference") && lines[2].ends_with("passed"));
}

#[test]
fn a_checkpoint_that_computes_something_else_fails_with_its_rule() {
    let copy = common::Copy::of("A");
    let io = copy.file("io.safetensors");
    let bytes = fs::read(&io).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let ids: Vec<u8> = tensors.tensor("input_ids").unwrap().data().iter().map(|byte| byte / 2).collect();
    let views = tensors.tensors().into_iter().map(|(name, view)| {
        let data = if name == "input_ids" { &ids[..] } else { view.data() };
        (name, safetensors::tensor::TensorView::new(view.dtype(), view.shape().to_vec(), data).unwrap())
    });
    let spoiled = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
    fs::write(&io, spoiled).unwrap();
    let report = copy.file("report.json");
    let output = run(1, &["verify", copy.path(), "--form", "prefill", "--json", report.to_str().unwrap()]);
    let table = text(&output.stdout);
    assert!(table.contains("FAILED") && table.contains("rule: max_abs_diff <= 1e-4"), "{table}");
    let document: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!((&document["passed"], &document["results"][0]["passed"]), (&false.into(), &false.into()));
}

#[test]
fn generate_reproduces_the_samples() {
    let sample: Value = serde_json::from_slice(&fs::read(golden("tiny/sample.json")).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (i, sample) in sample["samples"].as_array().unwrap().iter().enumerate() {
        let count = sample["new_ids"].as_array().unwrap().len().to_string();
        let file = write(dir.path(), "tokens.json", &sample["prompt_ids"].to_string());
        let common = ["--max-tokens", &count, "--json"];
        for device in ["reference", "cpu"] {
            let given = ["generate", "golden/tiny", "--tokens", &file, "--device", device];
            let document = document(&[&given[..], &common].concat());
            assert_eq!(document["schema"], "anychip.generate/1");
            assert_eq!((&document["tokens"], &document["text"]), (&sample["new_ids"], &sample["text"]), "sample {i}");
            has(
                &document,
                &[
                    "prompt_tokens",
                    "prefill_tokens_per_s",
                    "decode_tokens_per_s",
                    "precision",
                    "per_token",
                    "fallback_ops",
                ],
            );
            assert_eq!((&document["device"], &document["clock"]), (&device.into(), &"host".into()));
            assert_eq!(document["finish"], "length");
        }
        let prompt = sample["prompt"].as_str().unwrap();
        let by_text = document(&[&["generate", "golden/tiny", "--prompt", prompt][..], &common].concat());
        assert_eq!(by_text["tokens"], sample["new_ids"], "BOS is put first");
        assert_eq!(by_text["prompt_tokens"], sample["prompt_ids"].as_array().unwrap().len());
    }
}

#[test]
fn generate_streams_text_and_says_how_fast() {
    let output = run(0, &["generate", "golden/tiny", "--prompt", "And it came to pass", "--max-tokens", "8"]);
    assert_eq!(text(&output.stdout), ", that the LORD said unto Moses,\n");
    let speeds = text(&output.stderr);
    assert!(speeds.contains("cpu, exact precision: 6 prompt tokens") && speeds.contains("host clock"), "{speeds}");

    let given = ["generate", "golden/A", "--tokens", "-", "--max-tokens", "3"];
    let output = anychip().args(given).write_stdin("[1,2]").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let ids = text(&output.stdout);
    assert_eq!(ids.split_whitespace().filter(|id| id.parse::<u32>().is_ok()).count(), 3, "ids without a tokenizer");
}

#[test]
fn generate_samples_on_a_seed_and_encodes_a_turn() {
    let tokens = |rest: &[&str]| {
        let given = ["generate", "golden/tiny", "--prompt", "In the beginning", "--max-tokens", "24", "--json"];
        document(&[&given[..], rest].concat())
    };
    let random = ["--temperature", "1", "--top-p", "0.9", "--seed"];
    let of_seed = |seed| tokens(&[&random[..], &[seed]].concat())["tokens"].clone();
    assert_eq!(of_seed("3"), of_seed("3"));
    assert_ne!(of_seed("3"), of_seed("4"));
    let [plain, turn, effort] = [&[][..], &["--think", "high"], &["--think", "max", "--profile", "official_0731"]]
        .map(|rest| tokens(rest)["prompt_tokens"].as_u64().unwrap());
    assert!(plain < turn && turn < effort, "{plain} {turn} {effort}");
}

#[test]
fn plan_reproduces_the_published_ratios() {
    for (model, flops, kv) in [("v4-pro", 27, 10), ("v4-flash", 10, 7)] {
        let plan = document(&["plan", model, "--context", "1048576", "--json", "-"]);
        assert_eq!((&plan["schema"], &plan["model"]), (&"anychip.plan/1".into(), &model.into()));
        let percent = |field: &str| (100.0 * plan[field].as_f64().unwrap()).round() as i64;
        assert_eq!((percent("flops_ratio"), percent("kv_ratio")), (flops, kv));
        let figures = [
            "params_total",
            "params_active",
            "flops_per_token",
            "flops_per_token_fp8_equivalent",
            "kv_bytes_per_token",
            "kv_bytes_at_context",
        ];
        has(&plan, &figures);
        has(&plan, &["checkpoint_tensors", "checkpoint_bytes"]);
        has(&plan["v3_2"], &figures);
    }
    let folder = document(&["plan", "golden/tiny", "--context", "4096", "--json"]);
    assert_eq!((&folder["model"], &folder["context"]), (&"tiny".into(), &4096.into()));
    assert!(passes(&["plan", "v4-flash"]).contains("v4-flash at 1,048,576 tokens"));
}

#[test]
fn a_synthetic_checkpoint_runs_alike_on_both_devices() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("model");
    let target = target.to_str().unwrap();
    let synth = document(&["synth", "tiny", "--layers", "3", "--experts", "4", "--seed", "7", target, "--json"]);
    assert_eq!(
        (&synth["schema"], &synth["layers"], &synth["experts"]),
        (&"anychip.synth/1".into(), &3.into(), &4.into())
    );
    let plan = document(&["plan", target, "--json"]);
    assert_eq!((&plan["checkpoint_tensors"], &plan["checkpoint_bytes"]), (&synth["tensors"], &synth["bytes"]));
    let tokens = write(dir.path(), "tokens.json", "[0, 5, 900, 12, 77, 512, 3, 44]");
    for precision in ["exact", "served"] {
        let run = |device| {
            let given = ["generate", target, "--tokens", &tokens, "--device", device, "--precision", precision];
            document(&[&given[..], &["--max-tokens", "24", "--json"]].concat())
        };
        let (cpu, reference) = (run("cpu"), run("reference"));
        assert_eq!(cpu["tokens"], reference["tokens"], "{precision}");
        assert_eq!(cpu["text"], Value::Null);
    }
}

#[test]
fn a_json_file_is_replaced_whole_and_text_still_goes_to_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    let report = write(dir.path(), "report.json", "an older and much longer report".repeat(1000).as_str());
    let table = passes(&["plan", "v4-pro", "--json", &report]);
    assert!(table.contains("v4-pro at"));
    let document: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!(document["schema"], "anychip.plan/1");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn help_and_version_are_no_errors() {
    let help = passes(&["--help"]);
    for command in ["devices", "conformance", "verify", "generate", "plan", "synth"] {
        assert!(help.contains(command), "{help}");
        assert!(passes(&[command, "--help"]).contains("--json"));
    }
    assert_eq!(passes(&["--version"]), concat!("anychip ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn conformance_judges_what_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let junit = dir.path().join("report.xml");
    let asked = ["conformance", "--device", "cpu", "--op", "rms_norm", "--op", "rope"];
    let found = document(&[&asked[..], &["--strict", "--junit", junit.to_str().unwrap(), "--json"]].concat());
    assert_eq!((&found["schema"], &found["passed"]), (&"anychip.conformance/1".into(), &true.into()));
    let report = &found["devices"][0];
    assert_eq!((&report["device"]["name"], &report["strict"]), (&"cpu".into(), &true.into()));
    let results = report["results"].as_array().unwrap();
    assert!(results.len() >= 6 && results.iter().all(|r| r["outcome"] == "passed"), "{results:?}");
    assert!(fs::read_to_string(&junit).unwrap().contains("<testsuites"));

    let case = results[0]["case"].as_str().unwrap();
    let alone = document(&["conformance", "--device", "cpu", "--case", case, "--json"]);
    assert_eq!(alone["devices"][0]["results"][0]["case"], case);
    assert_eq!(alone["devices"][0]["counts"]["executed"], 1);

    let table = passes(&["conformance", "--op", "rms_norm"]);
    assert!(table.contains("reference (") && table.contains("cpu (") && table.contains("rms_norm"), "{table}");
}

#[test]
fn without_arguments_everything_is_shown_from_any_folder() {
    let elsewhere = tempfile::tempdir().unwrap();
    let output = anychip().current_dir(elsewhere.path()).output().unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}{}", text(&output.stderr));
    for device in ["reference", "cpu"] {
        assert!(shown.lines().any(|line| line.starts_with(device) && line.contains("cases passed")), "{shown}");
        let verified = |line: &str| line.starts_with(device) && line.contains("prefill") && line.ends_with("passed");
        assert!(shown.lines().any(verified), "{shown}");
    }
    assert!(shown.contains("layer") && shown.contains("And it came to pass, that the LORD said unto Moses"), "{shown}");
    assert!(shown.contains("All passed.") && shown.contains("anychip plan v4-pro"), "{shown}");
}

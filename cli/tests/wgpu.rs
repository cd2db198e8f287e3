//! The command on a Vulkan adapter, and where there is no driver.
#![cfg(feature = "wgpu")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
use anychip_core::Device;
use anychip_runtime::config::{Compression, Config, LayerKind};
use anychip_runtime::synth::synth;
use anychip_runtime::{Model, Options, Rows};
use common::{NO_DRIVER, anychip, document, passes, run, text, vulkan};
use serde_json::Value;

#[test]
fn without_a_driver_the_mend_is_said() {
    let output = anychip().args(["devices", "--json"]).envs(NO_DRIVER).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "the other devices are there");
    let found: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    let missing = &found["unavailable"][0];
    assert_eq!(missing["name"], "wgpu");
    assert!(missing["mend"].as_str().unwrap().contains("mesa-vulkan-drivers"), "{missing}");

    let commands: [&[&str]; 4] = [
        &["conformance", "--device", "wgpu"],
        &["conformance", "--isolate", "--device", "wgpu"],
        &["verify", "golden/A", "--device", "wgpu:0"],
        &["generate", "golden/tiny", "--prompt", "And", "--device", "wgpu"],
    ];
    for command in commands {
        let output = anychip().args(command).envs(NO_DRIVER).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {stderr}");
        assert!(stderr.contains("no Vulkan driver") && stderr.contains("apt-get install"), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn an_adapter_that_there_is_not() {
    if vulkan() {
        let stderr = text(&run(2, &["conformance", "--device", "wgpu:99"]).stderr);
        assert!(stderr.contains("wgpu:99") && stderr.contains("use wgpu:0"), "{stderr}");
    }
}

#[test]
fn cases_run_in_processes_of_their_own_and_the_report_is_checked() {
    if vulkan() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        let file = file.to_str().unwrap();
        passes(&["conformance", "--device", "wgpu", "--op", "embed", "--isolate", "--json", file]);
        let shown = passes(&["conformance", "--check", file, "--device", "wgpu"]);
        assert!(shown.contains("the report holds") && shown.contains("all as in the report"), "{shown}");
    }
}

#[test]
fn operations_run_natively() {
    if vulkan() {
        let report = document(&["conformance", "--device", "wgpu", "--op", "linear", "--json"]);
        let counts = &report["devices"][0]["counts"];
        assert!(counts["passed"].as_u64().unwrap() > 100, "{counts}");
        assert_eq!((&counts["unsupported"], &counts["failed"]), (&0.into(), &0.into()), "{counts}");
    }
}

#[test]
fn the_checkpoints_verify() {
    if vulkan() {
        for dir in ["golden/A", "golden/B", "golden/Q", "golden/tiny"] {
            let table = passes(&["verify", dir, "--device", "wgpu"]);
            assert!(table.contains("passed") && !table.contains("failed"), "{table}");
        }
    }
}

#[test]
fn tokens_are_those_of_the_cpu() {
    if vulkan() {
        let generate = |device: &str| {
            let given = ["generate", "golden/tiny", "--prompt", "And it came to pass", "--max-tokens", "60", "--json"];
            document(&[&given[..], &["--device", device]].concat())
        };
        let (on_wgpu, on_cpu) = (generate("wgpu"), generate("cpu"));
        assert!(on_cpu["tokens"].as_array().is_some_and(|tokens| !tokens.is_empty()), "{on_cpu}");
        assert_eq!(on_wgpu["tokens"], on_cpu["tokens"]);
        assert_eq!(on_cpu["per_token"], Value::Null, "the CPU has no driver");
        // One command buffer, and one token number that comes back.
        let per_token = &on_wgpu["per_token"];
        assert_eq!((&per_token["submits"], &per_token["read_back_bytes"]), (&1.0.into(), &4.0.into()), "{per_token}");
        let (dispatches, per_layer) = (&per_token["dispatches"], &per_token["dispatches_per_layer"]);
        assert!(dispatches.as_f64() > per_layer.as_f64() && per_layer.as_f64() > Some(1.0), "{per_token}");
        // Nearly one kernel for each operation, which moves nearly what the operation has to.
        for of in ["dispatches", "moved_bytes"] {
            let [all, least] =
                [of.into(), format!("least_{of}")].map(|field: String| per_token[field].as_f64().unwrap());
            assert!(least > 0.0 && all >= least && all <= 1.3 * least, "{of}: {per_token}");
        }
    }
}

/// Widths that no tile divides, every kind of layer, and the MTP layer, whose drafts no command shows.
#[test]
fn unusual_sizes_and_drafts_are_those_of_the_cpu() {
    if !vulkan() {
        return;
    }
    let layer = |compression| LayerKind { compression, hash_routed: false };
    let config = Config {
        hidden_size: 96,
        vocab_size: 300,
        layers: [Compression::Overlap(4), Compression::None, Compression::Pooled(24)].map(layer).to_vec(),
        mtp: Some(layer(Compression::None)),
        heads: 6,
        head_dim: 80,
        rope_dim: 24,
        index_n_heads: 5,
        index_head_dim: 48,
        index_topk: 7,
        sliding_window: 19,
        experts: 5,
        experts_per_token: 2,
        moe_intermediate_size: 72,
        ..Config::tiny()
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("odd");
    synth(&config, 7, &path, &false.into(), &|_, _| {}).unwrap();
    let tokens: Vec<u32> = (0..70).map(|i| (i * i * 31 + i) % 300).collect();
    let outputs = |device: Box<dyn Device>| {
        let options = Options { context: 200, chunk: 50, draft: true, ..Options::default() };
        let mut model = Model::open(device.into(), &path, options, &(), &false.into()).unwrap();
        let sequence = model.open_sequence().unwrap();
        let logits = model.forward(&[(sequence, &tokens)], Rows::All).unwrap().remove(0);
        [logits, model.draft(sequence, 11).unwrap()].concat()
    };
    let (own, cpu) = (outputs(anychip_wgpu::open(None).unwrap()), outputs(anychip_cpu::open()));
    assert_eq!(own.len(), cpu.len());
    let far = own.iter().zip(&cpu).find(|(a, b)| (*a - *b).is_nan() || (*a - *b).abs() > 1e-4);
    assert_eq!(far, None, "the first that differs");
}

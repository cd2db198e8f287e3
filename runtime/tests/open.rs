//! Folders that must not open as a model, each with the message that mends it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use anychip_runtime::{Error, Model, Options, Precision};
use std::path::Path;

fn refused(dir: &Path, precision: Precision) -> Error {
    let options = Options { precision, context: 64, ..Options::default() };
    match Model::open(common::device("cpu"), dir, options, &(), &false.into()) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

/// A copy of the tiny model, with its configuration changed.
fn tiny(change: impl Fn(&mut serde_json::Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(common::golden("tiny")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let path = dir.path().join("config.json");
    let mut config = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
    dir
}

#[test]
fn plain_weights_are_not_served() {
    let error = refused(&common::golden("A"), Precision::Served);
    assert!(matches!(&error, Error::NotQuantised { .. }), "{error}");
    assert!(error.to_string().ends_with("`layers.0.attn.wq_a.weight` is not; use exact precision"), "{error}");
}

#[test]
fn limits_of_the_runtime_name_the_field() {
    for (field, value, rule) in
        [("hc_sinkhorn_iters", 1_000_000, "at most 1000"), ("sliding_window", 1 << 20, "at most 65536")]
    {
        let dir = tiny(|config| config[field] = value.into());
        let error = refused(dir.path(), Precision::Exact).to_string();
        assert!(error.contains("config.json") && error.contains(field) && error.contains(rule), "{error}");
    }
}

#[test]
fn a_hash_table_that_names_no_expert() {
    let dir = tiny(|_| {});
    let name = "layers.0.ffn.gate.tid2eid";
    let index = std::fs::read_to_string(dir.path().join("model.safetensors.index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let shard = dir.path().join(index["weight_map"][name].as_str().unwrap());
    let mut bytes = std::fs::read(&shard).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let table: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let start = 8 + header + table[name]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[start + 5 * 8] = 99;
    std::fs::write(&shard, bytes).unwrap();
    let error = refused(dir.path(), Precision::Exact).to_string();
    assert!(error.contains(name) && error.contains("expert 99 at index 5, outside the 8"), "{error}");
}

#[test]
fn a_configuration_of_more_experts_than_there_are() {
    let dir = tiny(|config| config["n_routed_experts"] = 100_000_000.into());
    let error = refused(dir.path(), Precision::Exact).to_string();
    assert!(error.contains("tensors, and the checkpoint holds"), "{error}");
}

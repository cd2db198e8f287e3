//! Damaged, incomplete and hostile checkpoints: exit code 2, the file, the tensor and the mend, and no panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Copy, INDEX, golden, refused, run};
use safetensors::Dtype;
use serde_json::json;
use std::fs;

/// Both commands that open a checkpoint must refuse it in the same words.
fn both(copy: &Copy, said: &[&str]) {
    refused(&["verify", copy.path()], said);
    refused(&["generate", copy.path(), "--prompt", "And"], said);
}

#[test]
fn a_copy_that_nobody_spoiled_runs() {
    let copy = Copy::of("tiny");
    copy.tensor("norm.weight", |dtype, shape| Some((dtype, shape)));
    run(0, &["verify", copy.path(), "--precision", "exact", "--form", "prefill"]);
}

#[test]
fn a_truncated_shard() {
    let copy = Copy::of("tiny");
    let shard = copy.file("model-00002-of-00002.safetensors");
    let len = fs::metadata(&shard).unwrap().len();
    let file = fs::File::options().write(true).open(&shard).unwrap();
    file.set_len(len - 1).unwrap();
    both(&copy, &["model-00002-of-00002.safetensors", "tensor `", "truncated", "download it again"]);
    file.set_len(100).unwrap();
    both(&copy, &["model-00002-of-00002.safetensors", "the header needs", "truncated"]);
    file.set_len(0).unwrap();
    both(&copy, &["model-00002-of-00002.safetensors", "empty", "download it again"]);
}

#[test]
fn a_missing_shard() {
    let copy = Copy::of("tiny");
    fs::remove_file(copy.file("model-00001-of-00002.safetensors")).unwrap();
    both(&copy, &[INDEX, "model-00001-of-00002.safetensors", "incomplete"]);
}

#[test]
fn a_missing_tensor() {
    let name = "layers.1.attn.wkv.weight";
    let nowhere = Copy::of("tiny");
    nowhere.json(INDEX, |index| {
        index["weight_map"].as_object_mut().unwrap().remove(name);
    });
    both(&nowhere, &[nowhere.path(), name, "is missing", "incomplete"]);

    let only_indexed = Copy::of("tiny");
    only_indexed.tensor(name, |_, _| None);
    both(&only_indexed, &[&only_indexed.shard_of(name), name, "although the index says so", "fetch both again"]);

    let scale = "layers.1.attn.wkv.scale";
    let unscaled = Copy::of("tiny");
    unscaled.json(INDEX, |index| {
        index["weight_map"].as_object_mut().unwrap().remove(scale);
    });
    both(&unscaled, &[unscaled.path(), name, scale, "useless without"]);
}

#[test]
fn a_wrong_dtype() {
    let copy = Copy::of("tiny");
    copy.tensor("layers.0.attn.attn_sink", |_, shape| Some((Dtype::I32, shape)));
    both(&copy, &[copy.path(), "layers.0.attn.attn_sink", "I32", "must be F32, BF16 or F16"]);

    let unknown = Copy::of("tiny");
    unknown.tensor("norm.weight", |_, shape| Some((Dtype::F64, shape)));
    both(&unknown, &[unknown.path(), "norm.weight", "F64", "convert it"]);
}

#[test]
fn a_wrong_shape() {
    let copy = Copy::of("tiny");
    copy.tensor("norm.weight", |dtype, shape| Some((dtype, vec![shape[0] - 1])));
    both(&copy, &[copy.path(), "norm.weight", "[127]", "[128]", "does not belong"]);
}

#[test]
fn a_scale_of_the_wrong_shape() {
    let copy = Copy::of("tiny");
    let scale = "layers.2.ffn.experts.3.w1.scale";
    copy.tensor(scale, |dtype, shape| Some((dtype, shape.into_iter().rev().collect())));
    both(&copy, &[copy.path(), scale, "layers.2.ffn.experts.3.w1.weight", "[4, 128]", "[128, 4]"]);
}

#[test]
fn a_config_with_a_field_missing() {
    for field in ["head_dim", "compress_ratios", "eos_token_id", "hc_mult"] {
        let copy = Copy::of("tiny");
        copy.json("config.json", |config| {
            config.as_object_mut().unwrap().remove(field);
        });
        both(&copy, &["config.json", field, "add"]);
        refused(&["plan", copy.path()], &["config.json", field, "add"]);
    }
    let copy = Copy::of("tiny");
    fs::write(copy.file("config.json"), "{\"model_type\": ").unwrap();
    both(&copy, &["config.json", "not JSON"]);
    fs::remove_file(copy.file("config.json")).unwrap();
    both(&copy, &["config.json", "cannot be read"]);
}

#[test]
fn a_config_of_another_model() {
    let copy = Copy::of("tiny");
    fs::copy(golden("Q").join("config.json"), copy.file("config.json")).unwrap();
    // Nothing but the tensors can tell; the expected logits are of the other model as well.
    refused(&["generate", copy.path(), "--prompt", "And"], &[copy.path(), "config.json"]);
    let copy = Copy::of("tiny");
    copy.json("config.json", |config| config["n_routed_experts"] = json!(4_000_000));
    both(&copy, &["config.json", "belongs to these weights"]);
}

#[test]
fn an_index_that_names_a_file_outside_the_folder() {
    let outside = golden("tiny").join("model-00001-of-00002.safetensors");
    for shard in ["../model-00001-of-00002.safetensors", outside.canonicalize().unwrap().to_str().unwrap()] {
        let copy = Copy::of("tiny");
        copy.json(INDEX, |index| index["weight_map"]["norm.weight"] = json!(shard));
        both(&copy, &[INDEX, "norm.weight", shard, "outside the checkpoint folder", "move the file"]);
    }
}

#[cfg(unix)]
#[test]
fn a_shard_that_is_a_link_out_of_the_folder() {
    let copy = Copy::of("tiny");
    let shard = copy.file("model-00001-of-00002.safetensors");
    fs::remove_file(&shard).unwrap();
    std::os::unix::fs::symlink(golden("tiny").join("model-00001-of-00002.safetensors"), &shard).unwrap();
    both(&copy, &[INDEX, "model-00001-of-00002.safetensors", "outside the checkpoint folder"]);
}

#[test]
fn a_header_that_claims_2_to_the_60_bytes() {
    let copy = Copy::of("tiny");
    let file = copy.file("model-00001-of-00002.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    bytes[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    fs::write(&file, bytes).unwrap();
    both(&copy, &["model-00001-of-00002.safetensors", "1152921504606846976", "the safetensors format allows"]);
}

#[test]
fn expected_numbers_that_are_missing_or_of_another_model() {
    let copy = Copy::of("A");
    fs::copy(golden("tiny").join("io.safetensors"), copy.file("io.safetensors")).unwrap();
    refused(&["verify", copy.path()], &["io.safetensors", "use the file that was computed from this checkpoint"]);
    fs::write(copy.file("io.safetensors"), "no tensors").unwrap();
    refused(&["verify", copy.path()], &["io.safetensors", "no safetensors file"]);
    fs::remove_file(copy.file("io.safetensors")).unwrap();
    refused(&["verify", copy.path()], &["io.safetensors", "expected logits"]);
}

#[test]
fn a_tokenizer_that_is_missing_or_broken() {
    let copy = Copy::of("tiny");
    fs::write(copy.file("tokenizer.json"), "{}").unwrap();
    refused(&["generate", copy.path(), "--prompt", "And"], &["tokenizer.json", "copy the file"]);
    fs::remove_file(copy.file("tokenizer.json")).unwrap();
    refused(&["generate", copy.path(), "--prompt", "And"], &["tokenizer.json", "token ids instead"]);
}

#[test]
fn a_folder_that_is_not_there_or_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    for path in [none.to_str().unwrap(), dir.path().to_str().unwrap()] {
        refused(&["verify", path], &[path, "config.json", "name a directory"]);
        refused(&["generate", path, "--prompt", "And"], &[path, "config.json", "name a directory"]);
    }
    refused(&["plan", none.to_str().unwrap()], &["none", "v4-flash, v4-pro", "folder"]);
    fs::copy(golden("tiny").join("config.json"), dir.path().join("config.json")).unwrap();
    fs::copy(golden("tiny").join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let path = dir.path().to_str().unwrap();
    refused(&["generate", path, "--prompt", "And"], &[path, "model.safetensors.index.json", "give the folder"]);
}

//! Random checkpoints of unusual sizes: both devices agree, and the MTP layer drafts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use anychip_runtime::config::{Compression, Config, LayerKind};
use anychip_runtime::synth::synth;
use anychip_runtime::{Error, Model, Options, Precision, Rows};
use std::path::Path;

/// Heads, widths and ratios that are no powers of two where they need not be, every kind of layer, and an MTP layer.
fn odd() -> Config {
    let layer = |compression, hash_routed| LayerKind { compression, hash_routed };
    let config = Config {
        hidden_size: 96,
        vocab_size: 300,
        layers: vec![
            layer(Compression::Overlap(4), true),
            layer(Compression::None, false),
            layer(Compression::Pooled(24), false),
        ],
        mtp: Some(layer(Compression::None, false)),
        heads: 6,
        head_dim: 80,
        rope_dim: 24,
        q_lora_rank: 56,
        o_groups: 3,
        o_lora_rank: 40,
        index_n_heads: 5,
        index_head_dim: 48,
        index_topk: 7,
        sliding_window: 19,
        experts: 5,
        experts_per_token: 2,
        moe_intermediate_size: 72,
        ..Config::tiny()
    };
    config.validate().unwrap();
    config
}

fn open(device: &str, dir: &Path, precision: Precision) -> Model {
    let options = Options { precision, context: 200, chunk: 50, draft: true, ..Options::default() };
    Model::open(common::device(device), dir, options, &(), &false.into()).unwrap()
}

fn far(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, common::worse)
}

#[test]
fn devices_agree_on_unusual_sizes_and_drafts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("odd");
    synth(&odd(), 7, &path, &false.into(), &|_, _| {}).unwrap();
    let tokens: Vec<u32> = (0..120).map(|i| (i * i * 31 + i) % 300).collect();
    let run = |device: &str| {
        let mut model = open(device, &path, Precision::Exact);
        let sequence = model.open_sequence().unwrap();
        let logits = model.forward(&[(sequence, &tokens)], Rows::All).unwrap().remove(0);
        (logits, model.draft(sequence, 11).unwrap())
    };
    let (cpu, reference) = (run("cpu"), run("reference"));
    assert!(far(&cpu.0, &reference.0) <= 1e-4, "logits differ by {}", far(&cpu.0, &reference.0));
    assert!(far(&cpu.1, &reference.1) <= 1e-4, "drafts differ by {}", far(&cpu.1, &reference.1));
    assert!(far(&cpu.1, &cpu.0[119 * 300..]) > 1e-2, "a draft is not the model's own guess");

    let served = |device: &str| {
        let mut model = open(device, &path, Precision::Served);
        let sequence = model.open_sequence().unwrap();
        model.forward(&[(sequence, &tokens[..6])], Rows::Last).unwrap().remove(0)
    };
    let (cpu, reference) = (served("cpu"), served("reference"));
    let scale = reference.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(far(&cpu, &reference) <= 0.05 * scale, "served logits differ by {} of {scale}", far(&cpu, &reference));
}

#[test]
fn a_draft_does_not_depend_on_when_tokens_came() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("odd");
    synth(&odd(), 8, &path, &false.into(), &|_, _| {}).unwrap();
    let tokens: Vec<u32> = (0..60).map(|i| (i * 37 + 5) % 300).collect();
    let mut model = open("cpu", &path, Precision::Exact);
    let together = model.open_sequence().unwrap();
    model.forward(&[(together, &tokens)], Rows::Last).unwrap();
    let want = model.draft(together, 9).unwrap();
    assert!(matches!(model.draft(together, 9), Err(Error::BadBatch { .. })));
    assert!(matches!(model.draft(together, 300), Err(Error::TokenOutOfRange { .. })));
    model.release(together).unwrap();

    let stepwise = model.open_sequence().unwrap();
    let mut got = Vec::new();
    for (i, &token) in tokens.iter().enumerate() {
        model.forward(&[(stepwise, &[token])], Rows::Last).unwrap();
        got = model.draft(stepwise, tokens.get(i + 1).copied().unwrap_or(9)).unwrap();
    }
    assert_eq!(got, want);
}

#[test]
fn a_model_without_the_layer_says_so() {
    let options = Options { draft: true, ..Options::default() };
    let opened = Model::open(common::device("cpu"), &common::golden("tiny"), options, &(), &false.into());
    assert!(matches!(opened, Err(Error::NoMtp { .. })));
}

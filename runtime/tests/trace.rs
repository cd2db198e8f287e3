//! Every intermediate tensor of model A against a trace of the same modules in transformers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use anychip_core::{DType, Tensor};
use anychip_runtime::{Precision, Rows};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;

const TOKENS: usize = 75;

/// Our name, and the rows by which the two may differ in length: we pad the entries of a step, the trace does not.
fn trace_name(tap: &str) -> Option<String> {
    let name =
        tap.replace("scorer.scores", "scorer.scores_unmasked").replace("indexer.compressed_kv", "indexer.scorer.k");
    // Ours alone: streams are `attn_hc.in` of the next layer there, and a stacked expert's parts are not materialised.
    if let Some(layer) = name.strip_suffix(".streams") {
        let next = layer.strip_prefix("layers.").unwrap().parse::<usize>().unwrap() + 1;
        return Some(if next == 5 { "hc_head.in".into() } else { format!("layers.{next}.attn_hc.in") });
    }
    if name.strip_suffix(".in").is_some() {
        return Some(name.replace(".in", ".attn_hc.in"));
    }
    Some(name)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn integers(bytes: &[u8]) -> Vec<i32> {
    bytes.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn matches_the_trace(device: &str) {
    let mut model = common::open(device, "A", Precision::Exact);
    let bytes = std::fs::read(common::golden("A").join("trace.safetensors")).unwrap();
    let trace = SafeTensors::deserialize(&bytes).unwrap();
    let io = std::fs::read(common::golden("A").join("io.safetensors")).unwrap();
    let ids = integers(SafeTensors::deserialize(&io).unwrap().tensor("input_ids").unwrap().data());
    let tokens: Vec<u32> = ids.iter().map(|&id| id as u32).collect();

    let mut seen: BTreeMap<String, (DType, usize, Vec<u8>)> = BTreeMap::new();
    let sequence = model.open_sequence().unwrap();
    let mut look = |name: &str, tensor: &Tensor, bytes: &[u8]| {
        let width = tensor.sizes()[1..].iter().product();
        seen.insert(trace_name(name).unwrap(), (tensor.dtype(), width, bytes.to_vec()));
    };
    model.forward_traced(&[(sequence, &tokens)], Rows::All, &mut look).unwrap();

    let mut compared = 0;
    let mut weights = BTreeMap::new();
    for (name, (dtype, width, got)) in &seen {
        let Ok(want) = trace.tensor(name) else { panic!("the trace has no {name}") };
        compared += 1;
        if *dtype == DType::I32 {
            // transformers' router does not sort, and its indexer's order is the scores': both are sets.
            let (mut got, mut want) = (integers(got), integers(want.data()));
            if name.ends_with("mlp.gate.indices") {
                weights.insert(name.replace("indices", "weights"), (got.clone(), want.clone()));
            }
            assert_eq!(got.len(), want.len(), "{name}");
            got.chunks_mut(*width).zip(want.chunks_mut(*width)).enumerate().for_each(|(row, (g, w))| {
                g.sort_unstable();
                w.sort_unstable();
                assert_eq!(g, w, "{name} row {row}");
            });
            continue;
        }
        assert_eq!(want.dtype(), Dtype::F32, "{name}");
        let (got, want) = (floats(got), floats(want.data()));
        let off = if name.ends_with("mlp.gate.weights") {
            continue; // compared below, expert by expert
        } else if name.ends_with("scores_unmasked") {
            visible_difference(&got, &want, *width)
        } else {
            // A step has room for one window more than a sequence may close.
            assert!(
                got.len() == want.len() || got.len() == want.len() + width,
                "{name}: {} of {}",
                got.len(),
                want.len()
            );
            got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, common::worse)
        };
        assert!(off <= 1e-4, "{name} differs by {off}");
    }
    for (name, (got_ids, want_ids)) in &weights {
        let (got, want) = (floats(&seen[name].2), floats(trace.tensor(name).unwrap().data()));
        for (i, id) in got_ids.iter().enumerate() {
            let row = i / 3 * 3;
            let there = want_ids[row..row + 3].iter().position(|other| other == id).unwrap();
            assert!((got[i] - want[row + there]).abs() <= 1e-4, "{name} row {}", i / 3);
        }
    }
    assert!(compared >= 5 * 14, "only {compared} tensors were compared");
}

/// Largest difference over the entries that a row may see: the trace holds those beyond, too.
fn visible_difference(got: &[f32], want: &[f32], width: usize) -> f32 {
    let theirs = want.len() / TOKENS;
    let mut off = 0f32;
    for t in 0..TOKENS {
        for e in 0..width {
            let g = got[t * width + e];
            if e < (t + 1) / 4 {
                off = common::worse(off, (g - want[t * theirs + e]).abs());
            } else {
                assert_eq!(g, f32::NEG_INFINITY);
            }
        }
    }
    off
}

#[test]
fn on_reference() {
    matches_the_trace("reference");
}

#[test]
fn on_cpu() {
    matches_the_trace("cpu");
}

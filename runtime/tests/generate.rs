//! Greedy continuations of the trained tiny model, token for token, on both devices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use anychip_core::forward::{Hooks, Inner, Recordings, Wrapped};
use anychip_core::ops::OpKind;
use anychip_core::{Device, Op, Support};
use anychip_runtime::generate::{Continuation, generate};
use anychip_runtime::sample::{Sampling, argmax};
use anychip_runtime::tokenizer::Tokenizer;
use anychip_runtime::{Error, Precision, Rows};
use std::sync::Arc;

fn samples() -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(common::golden("tiny").join("sample.json")).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    all["samples"].as_array().unwrap().clone()
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn greedy(max_tokens: usize) -> Continuation {
    Continuation { max_tokens, sampling: Sampling::Greedy, seed: 0, stop: vec![1] }
}

fn reproduces_the_samples(device: &str) {
    let mut model = common::open(device, "tiny", Precision::Exact);
    let tokenizer = Tokenizer::open(common::golden("tiny").join("tokenizer.json")).unwrap();
    let samples = samples();
    assert_eq!(samples.len(), 3);
    for sample in samples {
        let (prompt, want) = (ids(&sample["prompt_ids"]), ids(&sample["new_ids"]));
        let mut heard = Vec::new();
        let made = generate(&mut model, &prompt, &greedy(want.len()), &mut |token| {
            heard.push(token);
            true
        })
        .unwrap();
        assert_eq!(made.tokens, want);
        assert_eq!(heard, want);
        assert_eq!(tokenizer.decode(&made.tokens).unwrap(), sample["text"].as_str().unwrap());
    }
}

#[test]
fn samples_on_cpu() {
    reproduces_the_samples("cpu");
}

#[test]
fn samples_on_reference() {
    reproduces_the_samples("reference");
}

#[test]
fn a_batch_of_unequal_sequences_gives_what_each_gives_alone() {
    let options = anychip_runtime::Options { sequences: 4, context: 512, ..Default::default() };
    let cancelled = false.into();
    let mut model =
        anychip_runtime::Model::open(common::device("cpu"), &common::golden("tiny"), options, &(), &cancelled).unwrap();
    let all: Vec<u32> = (0..400).map(|i| (i * 37 + i * i) % 1024).collect();
    // Lengths around window ends, page ends and each other; then a joint step of one token each.
    let lengths = [3, 128, 131, 290];
    let alone: Vec<Vec<f32>> = lengths
        .iter()
        .map(|&len| {
            let sequence = model.open_sequence().unwrap();
            model.forward(&[(sequence, &all[..len])], Rows::Last).unwrap();
            let logits = model.forward(&[(sequence, &all[len..len + 1])], Rows::Last).unwrap();
            model.release(sequence).unwrap();
            logits.into_iter().next().unwrap()
        })
        .collect();
    let sequences: Vec<_> = lengths.iter().map(|_| model.open_sequence().unwrap()).collect();
    let prompts: Vec<_> = sequences.iter().zip(lengths).map(|(&s, len)| (s, &all[..len])).collect();
    let together = model.forward(&prompts, Rows::Last).unwrap();
    assert!(together.iter().all(|logits| logits.len() == 1024));
    let next: Vec<_> = sequences.iter().zip(lengths).map(|(&s, len)| (s, &all[len..len + 1])).collect();
    let together = model.forward(&next, Rows::Last).unwrap();
    for (item, (together, alone)) in together.iter().zip(&alone).enumerate() {
        assert_eq!(together, alone, "sequence {item}: a row's bits must not depend on the batch");
    }
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_changes() {
    let options =
        anychip_runtime::Options { sequences: 2, context: 1024, pool_tokens: Some(1024), ..Default::default() };
    let cancelled = false.into();
    let mut model =
        anychip_runtime::Model::open(common::device("cpu"), &common::golden("tiny"), options, &(), &cancelled).unwrap();
    let sequence = model.open_sequence().unwrap();
    let fail = |model: &mut anychip_runtime::Model, tokens: &[u32]| {
        let error = model.forward(&[(sequence, tokens)], Rows::Last).map(|_| ()).unwrap_err();
        assert_eq!(model.len(sequence).unwrap(), 0);
        error
    };
    assert!(matches!(fail(&mut model, &[5, 1024]), Error::TokenOutOfRange { token: 1024, place: 1, vocab: 1024 }));
    assert!(matches!(fail(&mut model, &[5; 1025]), Error::ContextTooLong { needed: 1025, context: 1024 }));
    assert!(matches!(fail(&mut model, &[]), Error::BadBatch { .. }));
    let twice = model.forward(&[(sequence, &[1]), (sequence, &[2])], Rows::Last).unwrap_err();
    assert!(matches!(twice, Error::BadBatch { .. }));

    let other = model.open_sequence().unwrap();
    assert!(matches!(model.open_sequence(), Err(Error::TooManySequences { limit: 2 })));
    model.forward(&[(sequence, &[7; 1024])], Rows::Last).unwrap();
    let full = model.forward(&[(other, &[7; 1024])], Rows::Last).map(|_| ()).unwrap_err();
    assert!(matches!(full, Error::PoolExhausted { .. }), "{full}");
    model.release(sequence).unwrap();
    assert!(matches!(model.len(sequence), Err(Error::UnknownSequence { .. })));
    let again = model.forward(&[(other, &[7; 1024])], Rows::Last).unwrap();
    assert!(again[0].iter().all(|logit| logit.is_finite()), "pages that were taken back serve another sequence");
}

#[test]
fn a_released_handle_never_means_its_place_s_next_owner() {
    let mut model = common::open("cpu", "tiny", Precision::Exact);
    let first = model.open_sequence().unwrap();
    model.release(first).unwrap();
    let second = model.open_sequence().unwrap();
    assert!(matches!(model.forward(&[(first, &[5])], Rows::Last).map(|_| ()), Err(Error::UnknownSequence { .. })));
    assert!(matches!(model.release(first), Err(Error::UnknownSequence { .. })));
    assert_eq!(model.len(second).unwrap(), 0);
}

#[test]
fn a_pool_holds_as_many_tokens_as_it_was_opened_for_however_they_are_spread() {
    let options =
        anychip_runtime::Options { sequences: 4, context: 512, pool_tokens: Some(1024), ..Default::default() };
    let cancelled = false.into();
    let mut model =
        anychip_runtime::Model::open(common::device("cpu"), &common::golden("tiny"), options, &(), &cancelled).unwrap();
    for len in [300, 200, 260, 264] {
        let sequence = model.open_sequence().unwrap();
        model.forward(&[(sequence, &vec![9; len])], Rows::Last).unwrap();
    }
}

#[test]
fn a_continuation_that_cannot_fit_is_refused_before_it_begins() {
    let mut model = common::open("cpu", "tiny", Precision::Exact);
    let refused = generate(&mut model, &[5; 500], &greedy(14), &mut |_| panic!("nothing may be generated"));
    assert!(matches!(refused, Err(Error::ContextTooLong { needed: 513, context: 512 })));
}

#[test]
fn sampling_repeats_on_a_seed() {
    let mut model = common::open("cpu", "tiny", Precision::Exact);
    let mut run = |seed| {
        let sampling = Sampling::Random { temperature: 1.0, top_p: 0.9 };
        let how = Continuation { max_tokens: 24, sampling, seed, stop: vec![] };
        generate(&mut model, &[0, 297], &how, &mut |_| true).unwrap().tokens
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

/// A device without `top_k` of one place.
struct WithoutLargest;

impl Hooks for WithoutLargest {
    fn recordings(&self, _: &dyn Device) -> Recordings {
        Recordings::ByOperation
    }

    fn supports(&self, inner: &dyn Device, op: &Op) -> Support {
        match op.kind() {
            OpKind::TopK(op) if op.out.size(1) == 1 => Support::unsupported("k", "more than 1", "1"),
            _ => inner.supports(op),
        }
    }

    fn enqueue(&self, inner: &mut Inner<'_>, op: &Op) -> anychip_core::Result<()> {
        self.supports(inner.device, op).require("cpu", op.name())?;
        inner.stream.enqueue(op)
    }
}

/// What the device finds is what the host finds in the logits, which are read where the device finds nothing.
#[test]
fn the_likeliest_token_is_that_of_the_logits() {
    let without = Arc::new(Wrapped::shared(common::device("cpu"), WithoutLargest));
    for device in [common::device("reference"), common::device("cpu"), without] {
        let options = anychip_runtime::Options { sequences: 2, context: 512, chunk: 8, ..Default::default() };
        let mut model =
            anychip_runtime::Model::open(device, &common::golden("tiny"), options, &(), &false.into()).unwrap();
        let [one, other] = [(); 2].map(|()| model.open_sequence().unwrap());
        // Both in one call, which is cut into several steps, and again.
        let calls: [[&[u32]; 2]; 3] = [[&[0, 297, 354], &[5; 19]], [&[7], &[11]], [&[1, 2], &[3]]];
        let found = calls.map(|[a, b]| model.forward_greedy(&[(one, a), (other, b)]).unwrap());
        [one, other].into_iter().for_each(|sequence| model.release(sequence).unwrap());
        let [one, other] = [(); 2].map(|()| model.open_sequence().unwrap());
        for ([a, b], found) in calls.into_iter().zip(found) {
            let logits = model.forward(&[(one, a), (other, b)], Rows::Last).unwrap();
            assert_eq!(found, [argmax(&logits[0]), argmax(&logits[1])]);
        }
    }
}

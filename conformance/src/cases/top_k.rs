use super::*;
use crate::random::Random;
use anychip_core::ops::TopK;

/// Scores of one row. What is right is always one list: scores are far apart or exactly equal.
type Row = fn(&mut Random, usize) -> Vec<f32>;

/// All different, positive and negative.
fn distinct(random: &mut Random, width: usize) -> Vec<f32> {
    random.permutation(width).into_iter().map(|i| (i as f32 - width as f32 / 3.0) * 0.37).collect()
}

/// Six values, so that every cut goes through a tie; both zeros are one value.
fn ties(random: &mut Random, width: usize) -> Vec<f32> {
    (0..width).map(|_| [-0.0, 0.0, 1.5, -2.25, 1e-30, 3e38][random.below(6)]).collect()
}

/// Neighbouring numbers: a device that compares fewer bits takes the wrong ones.
fn close(random: &mut Random, width: usize) -> Vec<f32> {
    random.permutation(width).into_iter().map(|i| f32::from_bits(1.0f32.to_bits() + i as u32)).collect()
}

/// A visible front, the rest masked, as the indexer gives them.
fn masked(random: &mut Random, width: usize) -> Vec<f32> {
    let visible = random.below(width.min(12) + 1);
    let mut scores = distinct(random, width);
    scores[visible..].fill(f32::NEG_INFINITY);
    scores
}

/// NaN of both signs, both infinities, and numbers.
fn special(random: &mut Random, width: usize) -> Vec<f32> {
    let specials = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0, f32::MIN, f32::MAX];
    (0..width).map(|_| specials[random.below(7)]).collect()
}

/// Near -1000, a hundredth apart.
fn low(random: &mut Random, width: usize) -> Vec<f32> {
    random.permutation(width).into_iter().map(|i| -1000.0 - 0.01 * i as f32).collect()
}

/// Nothing is visible.
fn nothing(_: &mut Random, width: usize) -> Vec<f32> {
    vec![f32::NEG_INFINITY; width]
}

/// One score for all.
fn equal(random: &mut Random, width: usize) -> Vec<f32> {
    vec![random.normal(); width]
}

fn build(b: &mut Builder<'_>, row: Row, rows: usize, width: usize, k: usize) -> Result<Op> {
    let scores: Vec<f32> = (0..rows).flat_map(|_| row(b.random(), width)).collect();
    let scores = b.floats(DType::F32, &[rows, width], &scores)?;
    TopK { scores, out: b.output(DType::I32, &[rows, k])? }.build()
}

pub(super) fn list(cases: &mut Cases) {
    for (profile, variant, row, rows, width, k) in [
        (Quick, "distinct", distinct as Row, 3, 1000, 64),
        (Quick, "distinct", distinct, 2, 5000, 512),
        (Quick, "greedy", distinct, 4, 777, 1),
        (Quick, "ties", ties, 5, 100, 33),
        (Quick, "close", close, 2, 600, 100),
        (Quick, "masked", masked, 9, 40, 16),
        (Quick, "special", special, 6, 30, 20),
        (Quick, "short", distinct, 2, 5, 9),
        (Quick, "no_scores", distinct, 2, 0, 3),
        (Quick, "low", low, 3, 300, 40),
        (Quick, "nothing", nothing, 3, 50, 7),
        (Quick, "ties", equal, 3, 129, 65),
        (Quick, "distinct", distinct, 15, 15, 15),
        (Quick, "distinct", distinct, 17, 17, 16),
        (Quick, "distinct", distinct, 3, 31, 17),
        (Quick, "distinct", distinct, 3, 33, 31),
        (Quick, "ties", ties, 3, 63, 33),
        (Quick, "ties", ties, 3, 65, 64),
        (Quick, "distinct", distinct, 2, 127, 128),
        (Quick, "distinct", distinct, 2, 129, 127),
        (Quick, "ties", ties, 2, 513, 512),
        (Full, "distinct", distinct, 2, 262_144, 1024),
        (Full, "greedy", distinct, 2, 129_280, 1),
        (Full, "distinct", distinct, 4, 262_144, 512),
    ] {
        cases.add(profile, format!("{variant}/t{rows}-n{width}-k{k}"), move |b| build(b, row, rows, width, k));
    }
}

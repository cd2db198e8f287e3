use super::*;
use crate::random::Random;
use anychip_core::Tensor;
use anychip_core::ops::{Choice, Route};

/// Logits of one row. What is chosen is always one list: scores with their bias are far apart or exactly equal.
type Row = fn(&mut Random, usize) -> Vec<f32>;

/// Even steps from -4 to 4, in random order: scores are at least 2e-4 apart for up to 1000 experts.
fn distinct(random: &mut Random, count: usize) -> Vec<f32> {
    random.permutation(count).into_iter().map(|i| 8.0 * i as f32 / count as f32 - 4.0).collect()
}

/// Five values: every choice goes through a tie.
fn ties(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).map(|_| [-1.0, 0.5, 2.0, 2.5, -3.0][random.below(5)]).collect()
}

/// One score for all experts.
fn equal(random: &mut Random, count: usize) -> Vec<f32> {
    vec![random.normal(); count]
}

/// Logits that an exponential overflows or underflows on; each is chosen by its own bias.
fn extreme(random: &mut Random, count: usize) -> Vec<f32> {
    const EDGES: [f32; 7] = [-1000.0, -100.0, -87.0, 20.0, 89.0, 1000.0, 1e30];
    let start = random.below(count);
    (0..count).map(|e| if e % 2 == 0 { EDGES[(start + e / 2) % 7] } else { -2.0 }).collect()
}

/// Bias of each expert, in steps that are wider than the scores of `distinct` and `ties` reach, or none.
fn bias_of(random: &mut Random, biased: bool, count: usize) -> Vec<f32> {
    (0..count).map(|_| if biased { [-2.0, 0.0, 2.0][random.below(3)] } else { 0.0 }).collect()
}

fn best(b: &mut Builder<'_>, row: Row, biased: bool, scale: f32, [rows, count, k]: [usize; 3]) -> Result<Op> {
    let logits: Vec<f32> = (0..rows).flat_map(|_| row(b.random(), count)).collect();
    let bias = bias_of(b.random(), biased, count);
    let logits = b.floats(DType::F32, &[rows, count], &logits)?;
    let choice = Choice::Best { bias: b.floats(DType::F32, &[count], &bias)? };
    finish(b, logits, choice, scale, [rows, k])
}

fn finish(b: &mut Builder<'_>, logits: Tensor, choice: Choice, scale: f32, sizes: [usize; 2]) -> Result<Op> {
    let [experts, weights] = [b.output(DType::I32, &sizes)?, b.output(DType::F32, &sizes)?];
    Route { logits, choice, scale, experts, weights }.build()
}

/// Experts by token: the table also names experts that there are not, and there are tokens without a row.
fn hash(b: &mut Builder<'_>, row: Row, tokens: &[i32], [rows, count, k]: [usize; 3]) -> Result<Op> {
    let logits: Vec<f32> = tokens.iter().flat_map(|_| row(b.random(), count)).collect();
    let mut table: Vec<i32> = (0..rows * k).map(|_| b.random().below(count) as i32).collect();
    for (row, odd) in [-1, count as i32, i32::MIN, i32::MAX].into_iter().enumerate() {
        table[row * k] = odd;
    }
    // The last is an odd expert, which has a score in `extreme`: of nothing but zeros no f32 knows the shares.
    (0..rows).for_each(|row| table[row * k + k - 1] |= 1);
    let logits = b.floats(DType::F32, &[tokens.len(), count], &logits)?;
    let table = b.integers(&[rows, k], &table)?;
    let choice = Choice::Hash { table, tokens: b.integers(&[tokens.len()], tokens)? };
    finish(b, logits, choice, 1.5, [tokens.len(), k])
}

/// A NaN is chosen last, and then the row has no weights.
fn nan(b: &mut Builder<'_>) -> Result<Op> {
    b.expect_nan();
    let logits = [1.0, f32::NAN, -1.0, 3.0, f32::NAN, f32::NAN, 0.5, f32::NAN, 0.25, 4.0, 3.0, 2.0];
    let logits = b.floats(DType::F32, &[3, 4], &logits)?;
    let choice = Choice::Best { bias: b.floats(DType::F32, &[4], &[0.0; 4])? };
    finish(b, logits, choice, 1.0, [3, 3])
}

pub(super) fn list(cases: &mut Cases) {
    for (profile, variant, row, biased, scale, sizes) in [
        (Quick, "best", distinct as Row, true, 1.5, [7, 256, 6]),
        (Quick, "best", distinct, true, 2.5, [3, 384, 6]),
        (Quick, "unbiased", distinct, false, 1.0, [5, 33, 8]),
        (Quick, "ties", ties, false, 1.5, [6, 64, 6]),
        (Quick, "ties_biased", ties, true, 1.5, [6, 50, 11]),
        (Quick, "all", distinct, false, 1.0, [2, 9, 9]),
        (Quick, "one", distinct, true, 1.5, [4, 40, 1]),
        (Quick, "tile", distinct, true, 1.5, [15, 15, 6]),
        (Quick, "tile", distinct, false, 1.5, [17, 31, 8]),
        (Quick, "tile", distinct, true, 1.5, [16, 65, 16]),
        (Quick, "tile", ties, true, 1.5, [33, 63, 17]),
        (Quick, "tile", distinct, true, 2.5, [3, 127, 6]),
        (Quick, "tile", ties, false, 2.5, [3, 129, 33]),
        (Quick, "equal", equal, false, 1.5, [4, 256, 6]),
        (Full, "best", distinct, true, 1.5, [256, 256, 6]),
        (Full, "best", distinct, true, 2.5, [64, 384, 6]),
    ] {
        let [rows, count, k] = sizes;
        cases.add(profile, format!("{variant}/t{rows}-e{count}-k{k}"), move |b| best(b, row, biased, scale, sizes));
    }
    const TOKENS: &[i32] = &[0, 3, -1, 9, 10, 3, i32::MAX, 7, i32::MIN, 1];
    for (variant, row, tokens, sizes) in
        [("hash", distinct as Row, TOKENS, [10, 32, 6]), ("hash_extreme", extreme, TOKENS, [10, 14, 3])]
    {
        let ([rows, count, k], t) = (sizes, tokens.len());
        cases.add(Quick, format!("{variant}/t{t}-v{rows}-e{count}-k{k}"), move |b| hash(b, row, tokens, sizes));
    }
    cases.add(Quick, "nan/t3-e4-k3", nan);
}

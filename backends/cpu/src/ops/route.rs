use crate::load::{Work, par_rows};
use anychip_core::ops::{self, Choice};
use anychip_core::{Result, host};

/// The experts of each row and their weights.
pub(crate) fn run(op: &ops::Route) -> Result<()> {
    let work = Work::of(op);
    let logits = host::read(&op.logits)?;
    let (logits, count, k) = (logits.as_slice::<f32>(), op.logits.size(1), op.experts.size(1));
    let mut experts = host::write(&op.experts)?;
    let experts = experts.as_mut_slice::<i32>();
    match &op.choice {
        Choice::Best { bias } => {
            let bias = host::read(bias)?;
            let bias = bias.as_slice::<f32>();
            let choose = |_: &mut (), row: usize, experts: &mut [i32]| {
                best(&logits[row * count..][..count], bias, experts);
            };
            par_rows(experts, k, work, || (), choose);
        }
        Choice::Hash { table, tokens } => {
            let (table, tokens) = (host::read(table)?, host::read(tokens)?);
            let (table, tokens) = (table.as_slice::<i32>(), tokens.as_slice::<i32>());
            let choose = |_: &mut (), row: usize, experts: &mut [i32]| {
                listed(table.chunks_exact(k), tokens[row], count, experts);
            };
            par_rows(experts, k, work, || (), choose);
        }
    }
    let experts = &*experts;
    par_rows(host::write(&op.weights)?.as_mut_slice::<f32>(), k, work, Vec::new, |scores, row, weights| {
        let (logits, experts) = (&logits[row * count..][..count], &experts[row * k..][..k]);
        // Expert -1 is at no place of the logits: it has no score, and no weight even where the sum is NaN.
        let score_of = |&expert: &i32| logits.get(usize::try_from(expert).ok()?).map(|&logit| score(logit));
        scores.clear();
        scores.extend(experts.iter().map(score_of));
        let sum = scores.iter().flatten().sum::<f64>() + 1e-20;
        let weight_of = |score: &f64| (op.scale as f64 * score / sum) as f32;
        weights.iter_mut().zip(&*scores).for_each(|(weight, score)| *weight = score.as_ref().map_or(0.0, weight_of));
    });
    Ok(())
}

/// `sqrt(softplus(logit))`. In f64: a logit of -100 has a score that is a normal f32, of an `e^logit` that is not one.
fn score(logit: f32) -> f64 {
    let z = logit as f64;
    (z.max(0.0) + (-z.abs()).exp().ln_1p()).sqrt()
}

/// The `experts.len()` largest of score + bias, best first, of equal ones the lower expert. NaN ranks last.
fn best(logits: &[f32], bias: &[f32], experts: &mut [i32]) {
    let k = experts.len();
    let mut best: Vec<(f64, usize)> = Vec::with_capacity(k + 1);
    for (expert, (&logit, &bias)) in logits.iter().zip(bias).enumerate() {
        let rank = score(logit) + bias as f64;
        let place = best.partition_point(|&(other, _)| other >= rank || rank.is_nan());
        if place < k {
            best.truncate(k - 1);
            best.insert(place, (rank, expert));
        }
    }
    experts.iter_mut().zip(best).for_each(|(out, (_, expert))| *out = expert as i32);
}

/// Row `token` of a table; -1 for what is no expert, and throughout for a token outside the table.
fn listed<'a>(mut rows: impl Iterator<Item = &'a [i32]>, token: i32, count: usize, experts: &mut [i32]) {
    match usize::try_from(token).ok().and_then(|token| rows.nth(token)) {
        Some(row) => {
            let known = |&expert: &i32| usize::try_from(expert).is_ok_and(|expert| expert < count);
            experts.iter_mut().zip(row).for_each(|(out, expert)| *out = if known(expert) { *expert } else { -1 });
        }
        None => experts.fill(-1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, assert_close, noise};
    use anychip_core::DType;
    use anychip_core::ops::Route;

    fn routed(lab: &Lab, logits: &[f32], count: usize, k: usize, choice: Choice) -> (Vec<i32>, Vec<f32>) {
        let rows = logits.len() / count;
        let logits = lab.floats(DType::F32, &[rows, count], logits);
        let (experts, weights) = (lab.output(DType::I32, &[rows, k]), lab.output(DType::F32, &[rows, k]));
        lab.run(Route { logits, choice, scale: 1.5, experts: experts.clone(), weights: weights.clone() });
        (lab.ints_of(&experts), lab.values(&weights))
    }

    fn scores(logits: &[f32]) -> Vec<f64> {
        logits.iter().map(|&z| (z as f64).exp().ln_1p().sqrt()).collect()
    }

    #[test]
    fn bias_takes_part_in_the_choice_alone() {
        let lab = Lab::new();
        let (rows, count, k) = (7, 20, 4);
        let (logits, bias) = (noise(1, rows * count), noise(2, count));
        let choice = Choice::Best { bias: lab.floats(DType::F32, &[count], &bias) };
        let (experts, weights) = routed(&lab, &logits, count, k, choice);
        for row in 0..rows {
            let scores = scores(&logits[row * count..][..count]);
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|&a, &b| (scores[b] + bias[b] as f64).total_cmp(&(scores[a] + bias[a] as f64)));
            let want: Vec<i32> = order[..k].iter().map(|&e| e as i32).collect();
            assert_eq!(experts[row * k..][..k], want);
            let sum: f64 = order[..k].iter().map(|&e| scores[e]).sum();
            let want: Vec<f64> = order[..k].iter().map(|&e| 1.5 * scores[e] / sum).collect();
            assert_close(&weights[row * k..][..k], &want, 1e-7);
        }
    }

    #[test]
    fn of_equal_scores_the_lower_expert_and_never_a_nan_before_a_number() {
        let lab = Lab::new();
        let none = || Choice::Best { bias: lab.floats(DType::F32, &[4], &[0.0; 4]) };
        assert_eq!(routed(&lab, &[1.0, 2.0, 1.0, 2.0], 4, 3, none()).0, [1, 3, 0]);
        assert_eq!(routed(&lab, &[f32::NAN, -50.0, f32::NAN, -60.0], 4, 3, none()).0, [1, 3, 0]);
        let shut = Choice::Best { bias: lab.floats(DType::F32, &[3], &[0.0, f32::NEG_INFINITY, 0.0]) };
        assert_eq!(routed(&lab, &[f32::NAN, 0.0, 0.0], 3, 3, shut).0, [2, 1, 0]);
    }

    #[test]
    fn scores_of_very_negative_logits_still_share() {
        let lab = Lab::new();
        let choice = Choice::Best { bias: lab.floats(DType::F32, &[2], &[0.0; 2]) };
        // sqrt(e^-80) = 4e-18, far above 1e-20; their ratio is e.
        let (_, weights) = routed(&lab, &[-80.0, -82.0], 2, 2, choice);
        let e = 1f64.exp();
        let total = (-40f64).exp() * (1.0 + 1.0 / e) + 1e-20;
        assert_close(&weights, &[1.5 * (-40f64).exp() / total, 1.5 * (-41f64).exp() / total], 1e-7);
    }

    #[test]
    fn a_table_keeps_its_order_and_strangers_weigh_nothing() {
        let lab = Lab::new();
        let logits = [0.5, -1.0, 2.0].repeat(5);
        let choice =
            Choice::Hash { table: lab.ints(&[3, 2], &[2, 0, 1, 3, -1, 7]), tokens: lab.ints(&[5], &[0, 1, 2, -1, 3]) };
        let (experts, weights) = routed(&lab, &logits, 3, 2, choice);
        assert_eq!(experts, [2, 0, 1, -1, -1, -1, -1, -1, -1, -1]);
        let s = scores(&logits[..3]);
        let want = [1.5 * s[2] / (s[2] + s[0]), 1.5 * s[0] / (s[2] + s[0]), 1.5];
        assert_close(&weights[..3], &want, 1e-7);
        assert_eq!(weights[3..], [0.0; 7]);
        let choice = Choice::Hash { table: lab.ints(&[1, 2], &[0, -1]), tokens: lab.ints(&[1], &[0]) };
        let (_, weights) = routed(&lab, &[f32::NAN, 1.0], 2, 2, choice);
        assert!(weights[0].is_nan() && weights[1] == 0.0);
    }
}

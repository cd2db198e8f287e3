use crate::operands::{integers, reals};
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::{Choice, Route};
use std::cmp::Ordering;

/// `score = sqrt(softplus(logit))`, `weight = scale * score / (sum of the chosen scores + 1e-20)`
pub(crate) fn evaluate<R: Real>(op: &Route, units: R::Units) -> Result<Vec<Output<R>>> {
    let (rows, count, k) = (op.logits.size(0), op.logits.size(1), op.experts.size(1));
    let scores: Vec<R> = reals::<R>(&op.logits, units)?.into_iter().map(|logit| logit.softplus().sqrt()).collect();
    let chosen = match &op.choice {
        Choice::Best { bias } => best(&scores, &reals::<R>(bias, units)?, k),
        Choice::Hash { table, tokens } => hashed(&integers(table)?, &integers(tokens)?, count, k),
    };
    let (scale, floor) = (R::from(op.scale as f64), R::from(1e-20));
    let mut weights = vec![R::from(0.0); rows * k];
    for (t, experts) in chosen.chunks(k).enumerate() {
        let score = |&e: &i32| usize::try_from(e).ok().map(|e| scores[t * count + e]);
        let sum = R::sum(&experts.iter().filter_map(score).collect::<Vec<R>>()) + floor;
        for (j, score) in experts.iter().map(score).enumerate() {
            if let Some(score) = score {
                weights[t * k + j] = scale * (score / sum);
            }
        }
    }
    Ok(vec![Output::integers("experts", &op.experts, chosen), Output::real("weights", &op.weights, weights)])
}

/// The `k` largest of `score + bias` of each row; of equal ones the lower expert. NaN counts as the smallest.
fn best<R: Real>(scores: &[R], bias: &[R], k: usize) -> Vec<i32> {
    let mut chosen = Vec::new();
    for row in scores.chunks(bias.len()) {
        let keys: Vec<f64> = row.iter().zip(bias).map(|(&score, &bias)| (score + bias).value()).collect();
        let mut order: Vec<usize> = (0..keys.len()).collect();
        // Stable: what compares equal stays in ascending order of expert.
        order.sort_by(|&a, &b| descending(keys[a], keys[b]));
        chosen.extend(order.iter().take(k).map(|&e| e as i32));
    }
    chosen
}

fn descending(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Each token's row of the table; -1 for a token or an expert that does not exist.
fn hashed(table: &[i32], tokens: &[i32], count: usize, k: usize) -> Vec<i32> {
    let mut chosen = Vec::new();
    for &token in tokens {
        let row = usize::try_from(token).ok().and_then(|token| table.chunks(k).nth(token));
        let exists = |e: i32| usize::try_from(e).is_ok_and(|e| e < count);
        chosen.extend((0..k).map(|j| row.map_or(-1, |row| if exists(row[j]) { row[j] } else { -1 })));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use anychip_core::{DType, Tensor};

    fn route(logits: &Tensor, choice: Choice, k: usize) -> Route {
        let sizes = [logits.size(0), k];
        let (experts, weights) = (unwritten(DType::I32, &sizes), unwritten(DType::F32, &sizes));
        Route { logits: logits.clone(), choice, scale: 2.5, experts, weights }
    }

    fn chosen(op: Route) -> (Vec<i32>, Vec<f32>) {
        run(op.clone());
        (integers_of(&op.experts), floats_of(&op.weights))
    }

    fn score(logit: f64) -> f64 {
        logit.exp().ln_1p().sqrt()
    }

    fn close(got: &[f32], want: &[f64]) {
        let near = got.iter().zip(want).all(|(&got, want)| (got as f64 - want).abs() <= 1e-7 * want);
        assert!(got.len() == want.len() && near, "{got:?} is not {want:?}");
    }

    #[test]
    fn the_bias_chooses_and_the_score_weighs() {
        let logits = tensor(DType::F32, &[2, 4], &[1.0, 2.0, 3.0, 0.0, -1.0, 5.0, 0.5, 0.5]);
        let bias = tensor(DType::F32, &[4], &[0.0, 0.0, -9.0, 9.0]);
        let (experts, weights) = chosen(route(&logits, Choice::Best { bias }, 2));
        assert_eq!(experts, [3, 1, 3, 1]);
        let pair = |a: f64, b: f64| [a, b].map(|z| 2.5 * score(z) / (score(a) + score(b)));
        close(&weights, &[pair(0.0, 2.0), pair(0.5, 5.0)].concat());
    }

    #[test]
    fn of_equal_experts_the_lower_comes_first() {
        let logits = tensor(DType::F32, &[1, 5], &[1.0, 2.0, 2.0, 1.0, 2.0]);
        let bias = tensor(DType::F32, &[5], &[0.0; 5]);
        assert_eq!(chosen(route(&logits, Choice::Best { bias }, 4)).0, [1, 2, 4, 0]);
    }

    #[test]
    fn tokens_choose_by_table_and_strangers_take_no_part() {
        let logits = tensor(DType::F32, &[5, 3], &[0.0, 1.0, 2.0].repeat(5));
        let table = int_tensor(&[4, 2], &[2, 0, 1, 3, -1, 1, 2, 2]);
        let tokens = int_tensor(&[5], &[0, 1, 2, 4, 3]);
        let (experts, weights) = chosen(route(&logits, Choice::Hash { table: table.clone(), tokens }, 2));
        assert_eq!(experts, [2, 0, 1, -1, -1, 1, -1, -1, 2, 2]);
        let sum = score(2.0) + score(0.0);
        let want = [2.5 * score(2.0) / sum, 2.5 * score(0.0) / sum, 2.5, 0.0, 0.0, 2.5, 0.0, 0.0, 1.25, 1.25];
        close(&weights, &want);
        let tokens = int_tensor(&[5], &[-1; 5]);
        assert_eq!(chosen(route(&logits, Choice::Hash { table, tokens }, 2)), (vec![-1; 10], vec![0.0; 10]));
    }

    #[test]
    fn no_score_at_all_gives_no_weight() {
        let logits = tensor(DType::F32, &[1, 3], &[-1e30; 3]);
        let bias = tensor(DType::F32, &[3], &[0.0; 3]);
        assert_eq!(chosen(route(&logits, Choice::Best { bias }, 2)), (vec![0, 1], vec![0.0; 2]));
    }

    #[test]
    fn nan_is_chosen_last() {
        let logits = tensor(DType::F32, &[1, 4], &[f32::NAN, -5.0, f32::NEG_INFINITY, f32::NAN]);
        let bias = tensor(DType::F32, &[4], &[0.0; 4]);
        assert_eq!(chosen(route(&logits, Choice::Best { bias }, 3)).0, [1, 2, 0]);
    }

    #[test]
    fn an_f32_loop_keeps_the_bound() {
        let (rows, count, k) = (16, 32, 6);
        let mut random = Random::new(1);
        let logits = random.normals(rows * count, 2.0);
        let bias = tensor(DType::F32, &[count], &random.normals(count, 0.1));
        let op = route(&tensor(DType::F32, &[rows, count], &logits), Choice::Best { bias }, k);
        let experts = chosen(op.clone()).0;
        let mut got = Vec::new();
        for (logits, experts) in logits.chunks(count).zip(experts.chunks(k)) {
            let scores: Vec<f32> = experts.iter().map(|&e| (1.0 + logits[e as usize].exp()).ln().sqrt()).collect();
            let sum: f32 = scores.iter().sum();
            got.extend(scores.iter().map(|s| s / sum * 2.5));
        }
        assert_bound(&run(op), "weights", &got);
    }
}

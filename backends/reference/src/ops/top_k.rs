use crate::operands::floats;
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::TopK;

/// The places of the `k` largest, best first; ties to the lower place; -inf and NaN never.
pub(crate) fn evaluate<R: Real>(op: &TopK, _units: R::Units) -> Result<Vec<Output<R>>> {
    let (rows, width, k) = (op.scores.size(0), op.scores.size(1), op.out.size(1));
    let scores = floats(&op.scores)?;
    let mut out = Vec::with_capacity(rows * k);
    for t in 0..rows {
        let row = &scores[t * width..][..width];
        let mut places: Vec<usize> = (0..width).filter(|&place| row[place] > f32::NEG_INFINITY).collect();
        // Stable: equal scores, +0 and -0 among them, keep the order of their places.
        places.sort_by(|&a, &b| row[b].partial_cmp(&row[a]).unwrap_or(std::cmp::Ordering::Equal));
        out.extend((0..k).map(|rank| places.get(rank).map_or(-1, |&place| place as i32)));
    }
    Ok(vec![Output::integers("out", &op.out, out)])
}

#[cfg(test)]
mod tests {
    use crate::testing::{integers_of, run, tensor, unwritten};
    use anychip_core::DType;
    use anychip_core::ops::TopK;

    fn top(width: usize, scores: &[f32], k: usize) -> Vec<i32> {
        let scores = tensor(DType::F32, &[scores.len() / width.max(1), width], scores);
        let out = unwritten(DType::I32, &[scores.size(0), k]);
        run(TopK { scores, out: out.clone() });
        integers_of(&out)
    }

    #[test]
    fn best_first_and_ties_to_the_lower_place() {
        assert_eq!(top(5, &[1.0, 3.0, -2.0, 3.0, 0.5], 4), [1, 3, 0, 4]);
        assert_eq!(top(4, &[-0.0, 0.0, -0.0, 0.0], 3), [0, 1, 2]);
        assert_eq!(top(3, &[1.0, 2.0, 3.0, 3.0, 2.0, 1.0], 1), [2, 0]);
    }

    #[test]
    fn masked_and_nan_are_never_taken() {
        let (none, nan) = (f32::NEG_INFINITY, f32::NAN);
        assert_eq!(top(4, &[none, f32::INFINITY, nan, f32::MIN], 4), [1, 3, -1, -1]);
        assert_eq!(top(2, &[none, nan], 1), [-1]);
        assert_eq!(top(2, &[5.0, 6.0], 5), [1, 0, -1, -1, -1]);
    }

    #[test]
    fn no_scores_give_no_places() {
        let out = unwritten(DType::I32, &[2, 3]);
        run(TopK { scores: tensor(DType::F32, &[2, 0], &[]), out: out.clone() });
        assert_eq!(integers_of(&out), [-1; 6]);
    }
}

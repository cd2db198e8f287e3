use crate::load::parallel;
use anychip_core::{Result, host, ops::TopK};
use rayon::prelude::*;

/// Scores below which a row is no work for a thread of its own.
const SERIAL_SCORES: usize = 1 << 15;

pub(crate) fn run(op: &TopK) -> Result<()> {
    let (n, k) = (op.scores.size(1), op.out.size(1));
    let scores = host::read(&op.scores)?;
    let scores: &[f32] = scores.as_slice();
    let mut out = host::write(&op.out)?;
    let row = |(t, places): (usize, &mut [i32])| select(&scores[t * n..][..n], places);
    let rows = out.as_mut_slice::<i32>();
    if scores.len() < SERIAL_SCORES {
        rows.chunks_mut(k).enumerate().for_each(row);
    } else {
        parallel(|| rows.par_chunks_mut(k).enumerate().for_each(row));
    }
    Ok(())
}

/// Writes the places of the largest scores, best first, and -1 behind them.
///
/// One pass keeps candidates that beat the `k`-th best so far; whenever they fill their buffer, the worse part is
/// dropped. On scores in random order nearly all places cost one comparison, in the worst order a constant number.
fn select(scores: &[f32], places: &mut [i32]) {
    let k = places.len();
    // Never more candidates than scores: `k` may be any size.
    let room = k.saturating_mul(2).max(64).min(scores.len().max(k));
    let mut best: Vec<u64> = Vec::with_capacity(room.min(scores.len()));
    // A later place with the same score is worse, so "greater" is the whole rule; it also refuses -inf and NaN.
    let mut threshold = f32::NEG_INFINITY;
    for (place, &score) in scores.iter().enumerate() {
        if score > threshold {
            if best.len() == room {
                threshold = keep_best(&mut best, k);
                if score <= threshold {
                    continue;
                }
            }
            best.push(key(score, place));
        }
    }
    keep_best(&mut best, k);
    best.sort_unstable();
    for (i, place) in places.iter_mut().enumerate() {
        *place = best.get(i).map_or(-1, |key| *key as u32 as i32);
    }
}

/// Drops all but the `k` best keys and gives the score of the worst one kept.
fn keep_best(best: &mut Vec<u64>, k: usize) -> f32 {
    if best.len() <= k {
        return f32::NEG_INFINITY;
    }
    let (_, worst, _) = best.select_nth_unstable(k - 1);
    let worst = score(*worst);
    best.truncate(k);
    worst
}

/// A number that is smaller for a better score, and for a lower place where scores are equal.
fn key(score: f32, place: usize) -> u64 {
    // -0 equals 0: adding 0 makes it 0, so that their places decide.
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    (!ascending as u64) << 32 | place as u64
}

/// The score of a key.
fn score(key: u64) -> f32 {
    let ascending = !((key >> 32) as u32);
    f32::from_bits(if ascending >> 31 == 1 { ascending & !(1 << 31) } else { !ascending })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, noise};
    use anychip_core::DType;

    fn top(scores: &[f32], rows: usize, k: usize) -> Vec<i32> {
        let lab = Lab::new();
        let scores = lab.floats(DType::F32, &[rows, scores.len() / rows], scores);
        let out = lab.output(DType::I32, &[rows, k]);
        lab.run(TopK { scores, out: out.clone() });
        lab.ints_of(&out)
    }

    /// A full, stable sort of each row.
    fn sorted(scores: &[f32], rows: usize, k: usize) -> Vec<i32> {
        let row = |scores: &[f32]| {
            let mut places: Vec<usize> = (0..scores.len()).filter(|&i| scores[i] > f32::NEG_INFINITY).collect();
            places.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap());
            (0..k).map(|i| places.get(i).map_or(-1, |&place| place as i32)).collect::<Vec<_>>()
        };
        scores.chunks(scores.len() / rows).flat_map(row).collect()
    }

    #[test]
    fn equals_a_stable_sort() {
        let random = noise(3, 30_000);
        // Coarse values tie all the time; rising ones replace every candidate again and again.
        let coarse: Vec<f32> = random.iter().map(|x| (x * 8.0).round() / 8.0).collect();
        let rising: Vec<f32> = (0..30_000).map(|i| i as f32).collect();
        for scores in [random, coarse, rising] {
            for (rows, k) in [(1, 1), (1, 512), (1, 29_999), (1, 30_000), (3, 64), (30, 1024), (3_000, 4)] {
                assert_eq!(top(&scores, rows, k), sorted(&scores, rows, k), "rows {rows}, k {k}");
            }
        }
    }

    #[test]
    fn what_is_never_taken() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        assert_eq!(top(&[nan, -1.0, -inf, inf, -nan, f32::MIN, inf], 1, 6), [3, 6, 1, 5, -1, -1]);
        assert_eq!(top(&[nan, -inf, -inf, nan], 2, 3), [-1; 6]);
        assert_eq!(top(&[-0.0, 0.0, -0.0, 1.0], 1, 4), [3, 0, 1, 2], "zeros of both signs tie");
    }

    #[test]
    fn rows_without_scores() {
        let lab = Lab::new();
        for (rows, n) in [(0, 5), (2, 0)] {
            let out = lab.output(DType::I32, &[rows, 3]);
            lab.run(TopK { scores: lab.floats(DType::F32, &[rows, n], &[]), out: out.clone() });
            assert_eq!(lab.ints_of(&out), vec![-1; rows * 3]);
        }
    }
}

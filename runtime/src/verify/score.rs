//! Figures of a comparison, row by row.

use crate::sample::argmax;
use serde::Serialize;

/// How far two tables of rows are apart. A row's relative RMS is `RMS(got - want) / RMS(want)`.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    /// Rows compared.
    pub rows: usize,
    /// Largest difference; infinite where a value is not finite or rows are missing.
    pub max_abs_diff: f64,
    /// Largest relative RMS of a row.
    pub max_row_rel_rms: f64,
    /// Median relative RMS.
    pub median_row_rel_rms: f64,
    /// Root of the mean squared relative RMS.
    pub pooled_row_rel_rms: f64,
    /// Share of rows whose relative RMS is above 1e-3.
    pub rows_over_1e3: f64,
    /// Share of rows whose largest value is in the same place; absent where rows are no logits.
    pub argmax_agreement: Option<f64>,
    /// Layer by layer, where layers were run alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerScore>,
}

/// One layer run alone.
#[derive(Clone, Debug, Serialize)]
pub struct LayerScore {
    /// Its number.
    pub layer: usize,
    /// Its streams.
    #[serde(flatten)]
    pub score: Score,
    /// Share of rows that chose the same experts.
    pub experts_agreement: f64,
    /// Share of rows whose indexer chose the same entries; absent without an indexer.
    pub entries_agreement: Option<f64>,
}

/// Compares two tables of rows of `width` values.
pub(super) fn compare(got: &[f32], want: &[f32], width: usize) -> Score {
    let mut relative = Vec::new();
    let (mut most, mut agree) = (0f64, 0);
    for (g, w) in got.chunks_exact(width).zip(want.chunks_exact(width)) {
        let (mut difference, mut magnitude) = (0.0, 0.0);
        for (&g, &w) in g.iter().zip(w) {
            let d = (g as f64 - w as f64).abs();
            // A NaN must count as the worst difference, and `max` would drop it.
            most = if d.is_nan() { f64::INFINITY } else { most.max(d) };
            difference += d * d;
            magnitude += w as f64 * w as f64;
        }
        let row = if difference == 0.0 { 0.0 } else { (difference / magnitude).sqrt() };
        relative.push(if row.is_nan() { f64::INFINITY } else { row });
        agree += usize::from(argmax(g).is_some() && argmax(g) == argmax(w));
    }
    if got.len() != want.len() || got.is_empty() {
        // Rows that are missing are wrong by every figure.
        most = f64::INFINITY;
        relative = vec![f64::INFINITY; (want.len() / width).max(1)];
        agree = 0;
    }
    relative.sort_by(f64::total_cmp);
    let rows = relative.len();
    let share = |count: usize| if rows == 0 { 0.0 } else { count as f64 / rows as f64 };
    Score {
        rows,
        max_abs_diff: most,
        max_row_rel_rms: relative.last().copied().unwrap_or(f64::INFINITY),
        median_row_rel_rms: relative.get(rows / 2).copied().unwrap_or(f64::INFINITY),
        pooled_row_rel_rms: (relative.iter().map(|r| r * r).sum::<f64>() / rows.max(1) as f64).sqrt(),
        rows_over_1e3: share(relative.iter().filter(|&&r| r > 1e-3).count()),
        argmax_agreement: Some(share(agree)),
        layers: Vec::new(),
    }
}

/// The worst of each figure over layers.
pub(super) fn worst_of(layers: Vec<LayerScore>) -> Score {
    let worst = |f: &dyn Fn(&Score) -> f64| layers.iter().map(|l| f(&l.score)).fold(0.0, f64::max);
    Score {
        rows: layers.iter().map(|l| l.score.rows).sum(),
        max_abs_diff: worst(&|s| s.max_abs_diff),
        max_row_rel_rms: worst(&|s| s.max_row_rel_rms),
        median_row_rel_rms: worst(&|s| s.median_row_rel_rms),
        pooled_row_rel_rms: worst(&|s| s.pooled_row_rel_rms),
        rows_over_1e3: worst(&|s| s.rows_over_1e3),
        argmax_agreement: None,
        layers,
    }
}

/// Share of `rows` rows that hold the same numbers in any order.
pub(super) fn sets(got: &[i32], want: &[i32], rows: usize) -> f64 {
    if rows == 0 || got.len() != want.len() || !got.len().is_multiple_of(rows) {
        return 0.0;
    }
    let width = (got.len() / rows).max(1);
    let sorted = |row: &[i32]| {
        let mut row = row.to_vec();
        row.sort_unstable();
        row
    };
    let equal = got.chunks_exact(width).zip(want.chunks_exact(width)).filter(|(g, w)| sorted(g) == sorted(w));
    equal.count() as f64 / rows as f64
}

/// Mean negative log-likelihood of each next token, in nats; `None` for fewer than two tokens.
pub(super) fn loss(logits: &[f32], tokens: &[u32], vocab: usize) -> Option<f64> {
    let rows = logits.chunks_exact(vocab).zip(tokens.get(1..)?);
    let one = |(row, &next): (&[f32], &u32)| {
        let most = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b)) as f64;
        let sum: f64 = row.iter().map(|&x| (x as f64 - most).exp()).sum();
        row.get(next as usize).map_or(f64::NAN, |&x| most + sum.ln() - x as f64)
    };
    let losses: Vec<f64> = rows.map(one).collect();
    (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_not_a_number_is_infinitely_far() {
        assert_eq!(compare(&[1.0, f32::NAN], &[1.0, 2.0], 2).max_abs_diff, f64::INFINITY);
        assert_eq!(compare(&[1.0, 2.0], &[1.0, 2.0, 3.0, 4.0], 2).max_abs_diff, f64::INFINITY);
        assert_eq!(compare(&[], &[], 2).max_abs_diff, f64::INFINITY);
        assert_eq!(compare(&[f32::NAN; 2], &[f32::NAN; 2], 2).argmax_agreement, Some(0.0));
    }

    #[test]
    fn figures_of_a_small_table() {
        let score = compare(&[3.0, 4.0, 0.0, 1.0], &[3.0, 4.5, 1.0, 0.0], 2);
        assert_eq!((score.rows, score.max_abs_diff, score.argmax_agreement), (2, 1.0, Some(0.5)));
        assert!((score.max_row_rel_rms - 2f64.sqrt()).abs() < 1e-12);
        assert_eq!(sets(&[1, 2, 3, 4], &[2, 1, 3, 5], 2), 0.5);
    }

    #[test]
    fn loss_of_a_uniform_guess() {
        let got = loss(&[0.0; 8], &[0, 1], 4);
        assert!(got.is_some_and(|loss| (loss - 4f64.ln()).abs() < 1e-12));
        assert_eq!(loss(&[0.0; 4], &[0], 4), None);
    }
}

use super::*;
use crate::builder::Stretch;
use anychip_core::ops::{IndexScores, Rounding};

#[derive(Clone, Copy)]
struct Spec {
    q: Format,
    weights: DType,
    weight_values: (Family, f32),
    keys: KvFormat,
    family: Family,
    heads: usize,
    /// Entries of each sequence, from the first.
    lengths: &'static [usize],
    /// Sequence of each row, and how many entries it may see.
    rows: &'static [(i32, i32)],
    width: usize,
    rounding: Rounding,
    /// Whether queries have NaN and infinities.
    poisoned: bool,
}

impl Spec {
    fn build(&self, b: &mut Builder<'_>) -> Result<Op> {
        let (rows, heads, dim) = (self.rows.len(), self.heads, self.keys.dim());
        let q = b.matrix(self.q, [1, rows * heads, dim], if self.poisoned { Poisoned } else { self.family }, 1.0)?;
        let weights = b.values(self.weights, &[rows, heads], self.weight_values.0, self.weight_values.1)?;
        let stretches: Vec<Stretch> = self.lengths.iter().map(|&len| Stretch { start: 0, len }).collect();
        let (sequence, visible): (Vec<i32>, Vec<i32>) = self.rows.iter().copied().unzip();
        let keys = b.paged(self.keys, &stretches, &sequence, self.family, 1.0)?;
        let visible = b.integers(&[rows], &visible)?;
        let out = b.output(DType::F32, &[rows, self.width])?;
        let scale = ((dim * heads) as f32).sqrt().recip();
        IndexScores { q, weights, scale, keys, visible, rounding: self.rounding, out }.build()
    }
}

pub(super) fn list(cases: &mut Cases) {
    let exact = Spec {
        q: F32,
        weights: DType::F32,
        weight_values: (Normal, 1.0),
        keys: KvFormat::F32 { dim: 32 },
        family: Normal,
        heads: 5,
        lengths: &[100, 3],
        rows: &[(0, 100), (0, 37), (1, 3), (1, 1)],
        width: 100,
        rounding: Rounding::None,
        poisoned: false,
    };
    let fp4 = Spec {
        q: E2M1_ROWS,
        weights: DType::BF16,
        keys: KvFormat::Fp4 { dim: 128 },
        heads: 8,
        rounding: Rounding::Bf16,
        ..exact
    };
    for (profile, variant, spec) in [
        (Quick, "exact", exact),
        (Quick, "exact", Spec { family: Quiet, q: BF16, weights: DType::F16, ..exact }),
        // Nothing to see, less than nothing, everything there is, and pages that there are not.
        (
            Quick,
            "masked",
            Spec { rows: &[(0, 0), (1, -5), (0, 64), (0, i32::MAX), (1, 90)], lengths: &[128, 64], ..exact },
        ),
        (Quick, "strangers", Spec { rows: &[(-1, 50), (0, 100), (2, 50), (i32::MIN, 1)], ..exact }),
        (Quick, "served", fp4),
        (Quick, "served", Spec { q: BF16, keys: KvFormat::Fp4 { dim: 48 }, heads: 3, family: Outliers, ..fp4 }),
        (Quick, "fp4_exact", Spec { rounding: Rounding::None, ..fp4 }),
        (Quick, "fp8", Spec { q: E4M3_ROWS, keys: KvFormat::Fp8 { nope: 64, rope: 32 }, ..exact }),
        (Quick, "nothing", Spec { rows: &[(0, 0), (1, -1), (0, i32::MIN), (-1, 5)], ..exact }),
        (Quick, "low_scores", Spec { family: Offset, weight_values: (Offset, -0.15), ..exact }),
        // A head with a NaN, one with an infinity, and rows that see nothing of it.
        (
            Quick,
            "poisoned",
            Spec { poisoned: true, heads: 1, rows: &[(0, 40), (0, 40), (0, 40), (0, 9), (0, 0), (0, 1)], ..exact },
        ),
        (Quick, "tile", Spec { lengths: &[17, 15], rows: &[(0, 17), (1, 15), (0, 16)], width: 17, ..exact }),
        (Quick, "tile", Spec { lengths: &[63, 65], rows: &[(0, 63), (1, 65), (1, 64)], width: 65, heads: 15, ..exact }),
        (Quick, "tile", Spec { lengths: &[127, 129], rows: &[(0, 127), (1, 129)], width: 129, heads: 17, ..fp4 }),
        (
            Quick,
            "unequal",
            Spec { lengths: &[1, 200, 64, 0], rows: &[(0, 1), (1, 200), (2, 64), (3, 9)], width: 200, ..fp4 },
        ),
        // V4-Pro: what a token sees of 16384.
        (
            Full,
            "served",
            Spec { heads: 64, lengths: &[4096], rows: &[(0, 4096)], width: 4096, family: Outliers, ..fp4 },
        ),
        (
            Full,
            "served",
            Spec { heads: 64, lengths: &[2000, 130], rows: &[(0, 2000), (1, 130), (0, 1000)], width: 2048, ..fp4 },
        ),
    ] {
        let keys = kv_tag(spec.keys);
        let Spec { q, weights, heads, rows, width, .. } = spec;
        let shape = format!("t{}-h{heads}-n{width}", rows.len());
        let name = format!("{variant}/{}-{weights}-{keys}/{}/{shape}", tag(q), spec.family.name());
        cases.add(profile, name, move |b| spec.build(b));
    }
}

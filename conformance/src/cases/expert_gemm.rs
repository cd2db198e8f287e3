use super::*;
use crate::builder::{HostMatrix, POISON};
use anychip_core::ops::ExpertGemm;

#[derive(Clone, Copy)]
struct Spec {
    load: &'static str,
    x: Format,
    w: Format,
    out: DType,
    family: Family,
    /// As given, however wild.
    offsets: &'static [i32],
    rows: usize,
    n: usize,
    k: usize,
}

impl Spec {
    /// The rows that an expert's range holds, after clamping.
    fn range(&self, expert: usize) -> std::ops::Range<usize> {
        let clamp = |o: i32| (o.max(0) as usize).min(self.rows);
        clamp(self.offsets[expert])..clamp(self.offsets[expert + 1])
    }

    fn build(&self, b: &mut Builder<'_>) -> Result<Op> {
        let experts = self.offsets.len() - 1;
        let mut x = HostMatrix::random(self.x, [1, self.rows, self.k], self.family, 1.0, b.random());
        let of_weights = if self.family == Cancelling { Paired } else { Normal };
        let mut w = HostMatrix::random(self.w, [experts, self.n, self.k], of_weights, 0.1, b.random());
        if self.family == Poisoned {
            b.expect_nan();
        }
        // What no expert multiplies, and experts that multiply nothing, are not to be looked at.
        for row in (0..self.rows).filter(|row| (0..experts).all(|e| !self.range(e).contains(row))) {
            x.poison_row(row);
        }
        for expert in (0..experts).filter(|&e| self.range(e).is_empty()) {
            w.poison_group(expert);
        }
        let (x, w) = (b.matrix_of(&x)?, b.matrix_of(&w)?);
        let offsets = b.integers(&[experts + 1], self.offsets)?;
        let out = b.output(self.out, &[self.rows, self.n])?;
        ExpertGemm { x, w, offsets, out }.build()
    }
}

/// Weights of more than 2 GiB, of which three experts are used: the first, that in which the byte lies that no signed
/// 32-bit number names, and the last.
fn beyond_2gib(b: &mut Builder<'_>) -> Result<Op> {
    let [experts, n, k] = BEYOND;
    let rows = 5;
    let x = b.matrix(E4M3_ROWS, [1, rows, k], Normal, 1.0)?;
    let mut codes = vec![POISON; experts * n * k];
    let of_scales = n.div_ceil(128) * k.div_ceil(128);
    let mut scales = vec![POISON; experts * of_scales];
    let mut offsets = vec![0; experts + 1];
    for (used, expert) in [0, (1 << 31) / (n * k), experts - 1].into_iter().enumerate() {
        let one = HostMatrix::random(E4M3_BLOCKS, [1, n, k], Normal, 0.1, b.random());
        codes[expert * n * k..][..n * k].copy_from_slice(&one.codes);
        scales[expert * of_scales..][..of_scales].copy_from_slice(&one.scales);
        offsets[expert + 1..].fill([2, 3, rows as i32][used]);
    }
    let w = b.matrix_of(&HostMatrix { format: E4M3_BLOCKS, sizes: BEYOND, codes, scales })?;
    let (offsets, out) = (b.integers(&[experts + 1], &offsets)?, b.output(DType::F32, &[rows, n])?);
    ExpertGemm { x, w, offsets, out }.build()
}

/// V4-Flash's experts, and some more of them.
const BEYOND: [usize; 3] = [BEYOND_2GIB / (2048 * 4096), 2048, 4096];

pub(super) fn list(cases: &mut Cases) {
    let spec = |load, x, w, out, family, offsets, rows, n, k| Spec { load, x, w, out, family, offsets, rows, n, k };
    for (profile, spec) in [
        (Quick, spec("even", F32, F32, DType::F32, Normal, &[0, 3, 6, 9], 9, 20, 65)),
        (Quick, spec("skewed", E4M3_ROWS, E2M1_ROWS, DType::BF16, Quiet, &[0, 0, 1, 1, 9, 11], 11, 40, 144)),
        (Quick, spec("one_hot", E4M3_ROWS, E4M3_BLOCKS, DType::F32, Outliers, &[0, 0, 7, 7], 7, 136, 160)),
        (Quick, spec("gaps", BF16, BF16, DType::BF16, Normal, &[2, 5, 5, 8], 11, 24, 48)),
        (Quick, spec("descending", F32, E4M3_BLOCKS, DType::F32, Normal, &[4, 2, 6, 5, 8], 9, 16, 64)),
        (Quick, spec("overlapping", F32, F32, DType::F32, Offset, &[0, 6, 3, 8], 8, 16, 40)),
        (Quick, spec("outside", F32, F32, DType::F32, Normal, &[-5, 2, 100, i32::MAX], 6, 16, 32)),
        (Quick, spec("even", E2M1_ROWS, E2M1_ROWS, DType::F32, Normal, &[0, 2, 5], 5, 20, 96)),
        (Quick, spec("no_rows", BF16, E2M1_ROWS, DType::BF16, Normal, &[0, 0, 0], 0, 8, 32)),
        (Quick, spec("nobody", F32, F32, DType::F32, Normal, &[0, 0, 0, 0], 5, 12, 33)),
        (Quick, spec("nobody", E4M3_ROWS, E2M1_ROWS, DType::BF16, Normal, &[7, 7], 7, 10, 64)),
        (Quick, spec("skewed", F32, F32, DType::F32, Cancelling, &[0, 1, 1, 6, 7], 7, 9, 512)),
        (Quick, spec("even", F32, F32, DType::F32, Poisoned, &[0, 3, 6], 6, 15, 31)),
        (Quick, spec("even", E4M3_ROWS, E2M1_ROWS, DType::F32, Poisoned, &[0, 3, 6], 6, 17, 130)),
        // Loads, rows and columns either side of a tile.
        (Quick, spec("skewed", F32, F32, DType::F32, Normal, &[0, 15, 31, 48, 49], 49, 5, 17)),
        (Quick, spec("skewed", BF16, BF16, DType::BF16, Quiet, &[0, 31, 64, 64, 66], 66, 17, 33)),
        (Quick, spec("skewed", E4M3_ROWS, E2M1_ROWS, DType::F32, Normal, &[0, 63, 128, 193], 193, 3, 62)),
        (Quick, spec("one_hot", E4M3_ROWS, E2M1_ROWS, DType::BF16, Outliers, &[0, 0, 0, 9, 9], 9, 129, 66)),
        (Quick, spec("one_hot", E4M3_ROWS, E4M3_BLOCKS, DType::F32, Normal, &[0, 129, 129], 129, 1, 127)),
        // V4-Pro's experts.
        (Full, spec("skewed", E4M3_ROWS, E2M1_ROWS, DType::BF16, Normal, &[0, 0, 4, 5, 5], 5, 3072, 7168)),
        (Full, spec("skewed", E4M3_ROWS, E2M1_ROWS, DType::BF16, Outliers, &[0, 1, 1, 1, 12, 13], 13, 512, 4096)),
    ] {
        let (experts, Spec { rows, n, k, .. }) = (spec.offsets.len() - 1, spec);
        let formats = format!("{}-{}-{}", tag(spec.x), tag(spec.w), spec.out);
        let name = format!("{}/{formats}/{}/e{experts}-r{rows}-n{n}-k{k}", spec.load, spec.family.name());
        cases.add(profile, name, move |b| spec.build(b));
    }
    let [experts, n, k] = BEYOND;
    let formats = format!("{}-{}-f32", tag(E4M3_ROWS), tag(E4M3_BLOCKS));
    cases.beyond_2gib(format!("{formats}/e{experts}-r5-n{n}-k{k}"), beyond_2gib);
}

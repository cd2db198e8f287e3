use super::*;
use anychip_core::Matrix;
use anychip_core::ops::Quantize;

fn quantize(b: &mut Builder<'_>, x: DType, code: DType, block: usize, sizes: [usize; 2], values: &[f32]) -> Result<Op> {
    let [rows, cols] = sizes;
    let x = b.floats(x, &sizes, values)?;
    let codes = b.output(code, &[1, rows, cols])?;
    let layout = ScaleLayout::per_row(block);
    let scales = b.output(DType::UE8M0, &[1, rows, cols.div_ceil(block)])?;
    Quantize { x, out: Matrix::scaled(&codes, &scales, layout)? }.build()
}

/// Blocks of 16: exact powers of two and their neighbours as the largest value, ties between codes, zeros of both signs,
/// the smallest and the largest numbers, and blocks that a NaN or an infinity poisons.
fn edges(b: &mut Builder<'_>, code: DType) -> Result<Op> {
    let max = if code == DType::E2M1 { 6.0f32 } else { 448.0 };
    let mut values = Vec::new();
    let mut block = |some: &[f32]| {
        values.extend_from_slice(some);
        values.resize(values.len().next_multiple_of(16), 0.0);
    };
    for exponent in [-20, -3, 0, 1, 40] {
        let largest = max * 2f32.powi(exponent);
        for amax in [largest.next_down(), largest, largest.next_up()] {
            block(&[amax, -amax / 3.0, amax / 128.0, -amax * 0.70001]);
        }
    }
    // With the largest code in the block its scale is 1, and these lie halfway between two codes, or next to that.
    for ties in
        [[0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], [1.0625, 1.1875, 17.0, 19.0, 0.0009765625, 0.0029296875, 432.0]]
    {
        let ties: Vec<f32> = ties.into_iter().filter(|&x| x < max).collect();
        for nudge in [f32::next_down as fn(f32) -> f32, |x| x, f32::next_up] {
            let both = ties.iter().flat_map(|&x| [nudge(x), -nudge(x)]);
            block(&[max].into_iter().chain(both).collect::<Vec<_>>());
        }
    }
    block(&[0.0, -0.0]);
    block(&[1e-4, -1e-4, 1e-5, 1e-6]);
    block(&[3e38, -1e38, 1.0]);
    block(&[1.0, f32::NAN, 2.0]);
    block(&[f32::INFINITY]);
    block(&[1.0, -2.0, f32::NEG_INFINITY]);
    let rows = values.len() / 16;
    quantize(b, DType::F32, code, 16, [rows, 16], &values)
}

/// Blocks at sizes from f32's smallest to its largest: subnormal inputs, the floors of both formats, the last scales.
fn every_size(b: &mut Builder<'_>, code: DType) -> Result<Op> {
    let mut values = Normal.fill(b.random(), 31 * 16, 16);
    for (row, values) in values.chunks_mut(16).enumerate() {
        // 2^-148 to 2^122, in two steps because the first is no normal number.
        let exponent = 9 * row as i32 - 148;
        values.iter_mut().for_each(|x| *x = *x * 2f32.powi(exponent / 2) * 2f32.powi(exponent - exponent / 2));
    }
    quantize(b, DType::F32, code, 16, [31, 16], &values)
}

pub(super) fn list(cases: &mut Cases) {
    for (profile, x, code, block, family, sizes) in [
        (Quick, DType::F32, DType::E4M3, 128, Normal, [5, 320]),
        (Quick, DType::BF16, DType::E4M3, 64, Quiet, [6, 448]),
        (Quick, DType::F16, DType::E4M3, 128, Offset, [2, 129]),
        (Quick, DType::F32, DType::E2M1, 32, Outliers, [4, 144]),
        (Quick, DType::BF16, DType::E2M1, 32, Quiet, [3, 128]),
        (Quick, DType::F32, DType::E4M3, 128, Poisoned, [6, 300]),
        (Quick, DType::BF16, DType::E2M1, 32, Poisoned, [6, 130]),
        (Quick, DType::F32, DType::E4M3, 128, Normal, [17, 127]),
        (Quick, DType::BF16, DType::E4M3, 128, Outliers, [15, 128]),
        (Quick, DType::BF16, DType::E4M3, 64, Normal, [3, 63]),
        (Quick, DType::F32, DType::E4M3, 64, Normal, [2, 65]),
        (Quick, DType::F32, DType::E2M1, 32, Normal, [17, 30]),
        (Quick, DType::BF16, DType::E2M1, 32, Outliers, [1, 34]),
        (Full, DType::BF16, DType::E4M3, 128, Outliers, [64, 4096]),
        (Full, DType::BF16, DType::E4M3, 128, Quiet, [33, 7168]),
        (Full, DType::F32, DType::E2M1, 32, Normal, [256, 128]),
    ] {
        let [rows, cols] = sizes;
        let name = format!("{x}-{code}.1x{block}/{}/r{rows}-k{cols}", family.name());
        cases.add(profile, name, move |b| {
            let values = family.fill(b.random(), rows * cols, cols);
            quantize(b, x, code, block, sizes, &values)
        });
    }
    cases.add(Quick, "f32-e4m3.1x16/edges", |b| edges(b, DType::E4M3));
    cases.add(Quick, "f32-e2m1.1x16/edges", |b| edges(b, DType::E2M1));
    cases.add(Quick, "f32-e4m3.1x16/every_size/r31-k16", |b| every_size(b, DType::E4M3));
    cases.add(Quick, "f32-e2m1.1x16/every_size/r31-k16", |b| every_size(b, DType::E2M1));
}

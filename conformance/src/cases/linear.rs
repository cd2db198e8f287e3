use super::*;
use crate::builder::HostMatrix;
use anychip_core::ops::Linear;

#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    groups: usize,
    n: usize,
    k: usize,
}

fn build(b: &mut Builder<'_>, x: Format, w: Format, out: DType, family: Family, shape: Shape) -> Result<Op> {
    let Shape { rows, groups, n, k } = shape;
    let x = b.matrix(x, [1, rows, groups * k], family, 1.0)?;
    let w = b.matrix(w, [groups, n, k], if family == Cancelling { Paired } else { Normal }, 0.1)?;
    let out = b.output(out, &[rows, groups * n])?;
    Linear { x, w, out }.build()
}

/// Scales at both ends of ue8m0, whose products are ordinary: 2^-127, a subnormal f32, meets 2^118. Each value alone still
/// is an f32, for a device may multiply codes by their scales before anything else.
fn extreme_scales(b: &mut Builder<'_>, w: Format) -> Result<Op> {
    let Shape { rows, n, k, .. } = EXTREME;
    let mut x = HostMatrix::random(E4M3_ROWS, [1, rows, k], Normal, 1.0, b.random());
    let mut w = HostMatrix::random(w, [1, n, k], Normal, 1.0, b.random());
    x.scales.iter_mut().enumerate().for_each(|(i, scale)| *scale = [0, 1, 2, 6][i % 4]);
    w.scales.iter_mut().enumerate().for_each(|(i, scale)| *scale = [242, 244, 241, 243, 245][i % 5]);
    let (x, w) = (b.matrix_of(&x)?, b.matrix_of(&w)?);
    Linear { x, w, out: b.output(DType::F32, &[rows, n])? }.build()
}

const EXTREME: Shape = Shape { rows: 5, groups: 1, n: 20, k: 160 };

/// Elements that only f32's subnormals hold, and weights that make ordinary numbers of them.
fn subnormal(b: &mut Builder<'_>) -> Result<Op> {
    let x = b.matrix(F32, [1, 3, 65], Normal, 1e-40)?;
    let w = b.matrix(F32, [1, 17, 65], Normal, 1e30)?;
    Linear { x, w, out: b.output(DType::F32, &[3, 17])? }.build()
}

pub(super) fn list(cases: &mut Cases) {
    let shape = |rows, groups, n, k| Shape { rows, groups, n, k };
    for (profile, x, w, out, family, shape) in [
        (Quick, F32, F32, DType::F32, Normal, shape(5, 1, 33, 257)),
        (Quick, F32, F32, DType::F32, Offset, shape(1, 1, 64, 1024)),
        (Quick, BF16, BF16, DType::BF16, Outliers, shape(7, 1, 40, 384)),
        (Quick, F16, F16, DType::F16, Quiet, shape(6, 1, 17, 96)),
        // The last block of each axis is short.
        (Quick, E4M3_ROWS, E4M3_BLOCKS, DType::BF16, Quiet, shape(4, 1, 160, 320)),
        (Quick, E4M3_ROWS, E2M1_ROWS, DType::F32, Outliers, shape(3, 1, 48, 144)),
        (Quick, BF16, E4M3_F32_BLOCKS, DType::BF16, Normal, shape(3, 1, 130, 136)),
        (Quick, BF16, E4M3_BLOCKS, DType::BF16, Normal, shape(5, 4, 24, 64)),
        (Quick, E4M3_ROWS, E4M3_BLOCKS, DType::BF16, Normal, shape(2, 2, 136, 256)),
        (Quick, F32, F32, DType::F32, Normal, shape(0, 1, 8, 16)),
        (Quick, F32, F32, DType::F32, Cancelling, shape(5, 1, 24, 512)),
        (Quick, BF16, BF16, DType::BF16, Cancelling, shape(4, 1, 17, 768)),
        (Quick, E4M3_ROWS, E4M3_BLOCKS, DType::F32, Cancelling, shape(3, 1, 130, 512)),
        (Quick, F32, F32, DType::F32, Poisoned, shape(6, 1, 20, 40)),
        (Quick, E4M3_ROWS, E4M3_BLOCKS, DType::BF16, Poisoned, shape(4, 1, 130, 144)),
        // Either side of the tiles that kernels are cut into.
        (Quick, F32, F32, DType::F32, Normal, shape(15, 1, 17, 31)),
        (Quick, F32, F32, DType::F32, Normal, shape(16, 1, 15, 33)),
        (Quick, BF16, BF16, DType::F32, Outliers, shape(17, 1, 63, 65)),
        (Quick, BF16, E4M3_BLOCKS, DType::F32, Normal, shape(31, 1, 65, 63)),
        (Quick, E4M3_ROWS, E4M3_BLOCKS, DType::F32, Outliers, shape(33, 1, 127, 129)),
        (Quick, E4M3_ROWS, E4M3_BLOCKS, DType::BF16, Normal, shape(1, 1, 129, 127)),
        (Quick, E4M3_ROWS, E2M1_ROWS, DType::F32, Normal, shape(2, 1, 31, 126)),
        (Quick, E4M3_ROWS, E2M1_ROWS, DType::F32, Normal, shape(63, 1, 3, 130)),
        (Quick, F32, F32, DType::F32, Quiet, shape(65, 1, 2, 16)),
        (Quick, F32, F32, DType::F32, Normal, shape(129, 1, 1, 17)),
        (Full, E4M3_ROWS, E4M3_BLOCKS, DType::BF16, Outliers, shape(4, 1, 1024, 4096)),
        (Full, BF16, E4M3_BLOCKS, DType::BF16, Normal, shape(2, 8, 1024, 4096)),
        (Full, F32, F32, DType::F32, Normal, shape(1, 1, 8192, 4096)),
        (Full, E4M3_ROWS, E2M1_ROWS, DType::BF16, Quiet, shape(17, 1, 512, 4096)),
        // V4-Pro: queries down and up, keys, and the grouped output projection.
        (Full, E4M3_ROWS, E4M3_BLOCKS, DType::BF16, Outliers, shape(2, 1, 1536, 7168)),
        (Full, E4M3_ROWS, E4M3_BLOCKS, DType::BF16, Normal, shape(1, 1, 65536, 1536)),
        (Full, E4M3_ROWS, E4M3_BLOCKS, DType::BF16, Quiet, shape(5, 1, 512, 7168)),
        (Full, BF16, E4M3_BLOCKS, DType::BF16, Normal, shape(1, 16, 1024, 4096)),
        // An eighth of its vocabulary, and all of its router.
        (Full, F32, F32, DType::F32, Outliers, shape(1, 1, 16160, 7168)),
        // Sums so long that a device may have to divide them.
        (Full, F32, F32, DType::F32, Normal, shape(2, 1, 3, 131_072)),
        (Full, BF16, BF16, DType::F32, Normal, shape(9, 1, 5, 300_000)),
        (Full, BF16, BF16, DType::F32, Normal, shape(3, 1, 384, 7168)),
    ] {
        let Shape { rows, groups, n, k } = shape;
        let name = format!("{}-{}-{out}/{}/t{rows}-g{groups}-n{n}-k{k}", tag(x), tag(w), family.name());
        cases.add(profile, name, move |b| build(b, x, w, out, family, shape));
    }
    let Shape { rows, n, k, .. } = EXTREME;
    for w in [E4M3_BLOCKS, E2M1_ROWS] {
        let name = format!("{}-{}-f32/extreme_scales/t{rows}-n{n}-k{k}", tag(E4M3_ROWS), tag(w));
        cases.add(Quick, name, move |b| extreme_scales(b, w));
    }
    cases.add(Quick, "f32-f32-f32/subnormal/t3-n17-k65", subnormal);
}

use super::*;
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
    let w = b.matrix(w, [groups, n, k], Normal, 0.1)?;
    let out = b.output(out, &[rows, groups * n])?;
    Linear { x, w, out }.build()
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
        (Full, E4M3_ROWS, E4M3_BLOCKS, DType::BF16, Outliers, shape(4, 1, 1024, 4096)),
        (Full, BF16, E4M3_BLOCKS, DType::BF16, Normal, shape(2, 8, 1024, 4096)),
        (Full, F32, F32, DType::F32, Normal, shape(1, 1, 8192, 4096)),
        (Full, E4M3_ROWS, E2M1_ROWS, DType::BF16, Quiet, shape(17, 1, 512, 4096)),
    ] {
        let Shape { rows, groups, n, k } = shape;
        let name = format!("{}-{}-{out}/{}/t{rows}-g{groups}-n{n}-k{k}", tag(x), tag(w), family.name());
        cases.add(profile, name, move |b| build(b, x, w, out, family, shape));
    }
}

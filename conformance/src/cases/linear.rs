use super::*;
use crate::random::Family;
use anychip_core::ops::Linear;
use anychip_core::{DType, Format, Operation};

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
    let w = b.matrix(w, [groups, n, k], Family::Normal, 0.1)?;
    let out = b.output(out, &[rows, groups * n])?;
    Linear { x, w, out }.build()
}

pub(super) fn list(cases: &mut Cases) {
    use DType::{BF16 as BF16_OUT, F16 as F16_OUT, F32 as F32_OUT};
    use Family::*;
    let shape = |rows, groups, n, k| Shape { rows, groups, n, k };
    for (profile, x, w, out, family, shape) in [
        (Profile::Quick, F32, F32, F32_OUT, Normal, shape(5, 1, 33, 257)),
        (Profile::Quick, F32, F32, F32_OUT, Offset, shape(1, 1, 64, 1024)),
        (Profile::Quick, BF16, BF16, BF16_OUT, Outliers, shape(7, 1, 40, 384)),
        (Profile::Quick, F16, F16, F16_OUT, Quiet, shape(6, 1, 17, 96)),
        // The last block of each axis is short.
        (Profile::Quick, E4M3_ROWS, E4M3_BLOCKS, BF16_OUT, Quiet, shape(4, 1, 160, 320)),
        (Profile::Quick, E4M3_ROWS, E2M1_ROWS, F32_OUT, Outliers, shape(3, 1, 48, 144)),
        (Profile::Quick, BF16, E4M3_F32_BLOCKS, BF16_OUT, Normal, shape(3, 1, 130, 136)),
        (Profile::Quick, BF16, E4M3_BLOCKS, BF16_OUT, Normal, shape(5, 4, 24, 64)),
        (Profile::Quick, E4M3_ROWS, E4M3_BLOCKS, BF16_OUT, Normal, shape(2, 2, 136, 256)),
        (Profile::Quick, F32, F32, F32_OUT, Normal, shape(0, 1, 8, 16)),
        (Profile::Full, E4M3_ROWS, E4M3_BLOCKS, BF16_OUT, Outliers, shape(4, 1, 1024, 4096)),
        (Profile::Full, BF16, E4M3_BLOCKS, BF16_OUT, Normal, shape(2, 8, 1024, 4096)),
        (Profile::Full, F32, F32, F32_OUT, Normal, shape(1, 1, 8192, 4096)),
        (Profile::Full, E4M3_ROWS, E2M1_ROWS, BF16_OUT, Quiet, shape(17, 1, 512, 4096)),
    ] {
        let Shape { rows, groups, n, k } = shape;
        let formats = format!("{}-{}-{out}", tag(x), tag(w));
        let name = format!("{formats}/{}/t{rows}-g{groups}-n{n}-k{k}", family.name());
        cases.add(profile, name, move |b| build(b, x, w, out, family, shape));
    }
}

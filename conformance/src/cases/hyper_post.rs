use super::*;
use anychip_core::ops::HyperPost;

fn build(b: &mut Builder<'_>, dtype: DType, out: DType, family: Family, sizes: [usize; 3]) -> Result<Op> {
    let [rows, n, d] = sizes;
    let y = b.values(dtype, &[rows, d], family, 1.0)?;
    let streams = b.values(dtype, &sizes, family, 1.0)?;
    // Not symmetric, so that a transpose that was left out shows.
    let comb: Vec<f32> = (0..rows * n * n).map(|_| b.random().uniform() as f32 / n as f32).collect();
    let post = b.values(DType::F32, &[rows, n], Normal, 1.0)?;
    let comb = b.floats(DType::F32, &[rows, n, n], &comb)?;
    HyperPost { y, streams, post, comb, out: b.output(out, &sizes)? }.build()
}

pub(super) fn list(cases: &mut Cases) {
    for (profile, dtype, out, family, sizes) in [
        (Quick, DType::F32, DType::F32, Normal, [3, 4, 67]),
        (Quick, DType::BF16, DType::BF16, Outliers, [5, 4, 128]),
        (Quick, DType::BF16, DType::F32, Offset, [2, 16, 40]),
        (Quick, DType::F32, DType::F32, Quiet, [4, 1, 24]),
        (Quick, DType::F32, DType::F32, Poisoned, [6, 2, 24]),
        (Quick, DType::F32, DType::F32, Normal, [17, 4, 15]),
        (Quick, DType::BF16, DType::BF16, Quiet, [3, 4, 129]),
        (Full, DType::BF16, DType::BF16, Normal, [16, 4, 4096]),
        (Full, DType::BF16, DType::BF16, Outliers, [9, 4, 7168]),
    ] {
        let [rows, n, d] = sizes;
        let name = format!("{dtype}-{out}/{}/t{rows}-n{n}-d{d}", family.name());
        cases.add(profile, name, move |b| build(b, dtype, out, family, sizes));
    }
}

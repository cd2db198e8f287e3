use super::*;
use anychip_core::ops::HyperHead;

fn build(b: &mut Builder<'_>, dtype: DType, out: DType, family: Family, scale: f32, sizes: [usize; 3]) -> Result<Op> {
    let [rows, n, d] = sizes;
    let streams = b.values(dtype, &sizes, family, 1.0)?;
    let mixer = b.values(DType::F32, &[n, n * d], Normal, ((n * d) as f32).sqrt().recip())?;
    let base = b.values(DType::F32, &[n], Normal, 1.0)?;
    let scale = b.floats(DType::F32, &[1], &[scale])?;
    let out = b.output(out, &[rows, d])?;
    HyperHead { streams, mixer, base, scale, norm_eps: 1e-6, eps: 1e-6, out }.build()
}

pub(super) fn list(cases: &mut Cases) {
    for (profile, variant, dtype, out, family, scale, sizes) in [
        (Quick, "plain", DType::F32, DType::F32, Normal, 1.0, [3, 4, 48]),
        (Quick, "plain", DType::BF16, DType::BF16, Quiet, 0.7, [7, 4, 64]),
        (Quick, "plain", DType::F32, DType::F32, Offset, 1.0, [2, 3, 33]),
        // Mixing weights near 0 and near 1.
        (Quick, "saturated", DType::F32, DType::F32, Outliers, 40.0, [3, 4, 32]),
        (Quick, "one_stream", DType::F32, DType::BF16, Normal, 1.0, [2, 1, 20]),
        (Quick, "poisoned", DType::F32, DType::F32, Poisoned, 1.0, [4, 1, 20]),
        (Quick, "tile", DType::F32, DType::F32, Normal, 1.0, [15, 4, 31]),
        (Quick, "tile", DType::BF16, DType::BF16, Outliers, 1.0, [17, 4, 129]),
        (Full, "plain", DType::BF16, DType::BF16, Outliers, 1.0, [8, 4, 4096]),
        (Full, "plain", DType::BF16, DType::BF16, Quiet, 1.0, [4, 4, 7168]),
    ] {
        let [rows, n, d] = sizes;
        let name = format!("{variant}/{dtype}-{out}/{}/t{rows}-n{n}-d{d}", family.name());
        cases.add(profile, name, move |b| build(b, dtype, out, family, scale, sizes));
    }
}

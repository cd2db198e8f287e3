use super::*;
use anychip_core::ops::HyperHead;

#[derive(Clone, Copy)]
struct Spec {
    streams: DType,
    out: DType,
    family: Family,
    scale: f32,
    /// `norm_eps` and `eps`.
    eps: [f32; 2],
    sizes: [usize; 3],
}

fn build(b: &mut Builder<'_>, spec: Spec) -> Result<Op> {
    let Spec { streams, out, family, scale, eps: [norm_eps, eps], sizes } = spec;
    let [rows, n, d] = sizes;
    let streams = b.values(streams, &sizes, family, 1.0)?;
    let mixer = b.values(DType::F32, &[n, n * d], Normal, ((n * d) as f32).sqrt().recip())?;
    let base = b.values(DType::F32, &[n], Normal, 1.0)?;
    let scale = b.floats(DType::F32, &[1], &[scale])?;
    let out = b.output(out, &[rows, d])?;
    HyperHead { streams, mixer, base, scale, norm_eps, eps, out }.build()
}

pub(super) fn list(cases: &mut Cases) {
    let spec = |streams, out, family, scale, sizes| Spec { streams, out, family, scale, eps: [1e-6; 2], sizes };
    let (f32, bf16) = (DType::F32, DType::BF16);
    let plain = spec(f32, f32, Normal, 1.0, [3, 4, 48]);
    for (profile, variant, spec) in [
        (Quick, "plain", plain),
        (Quick, "plain", spec(bf16, bf16, Quiet, 0.7, [7, 4, 64])),
        (Quick, "plain", spec(f32, f32, Offset, 1.0, [2, 3, 33])),
        // Mixing weights near 0 and near 1.
        (Quick, "saturated", spec(f32, f32, Outliers, 40.0, [3, 4, 32])),
        // So large that each shows wherever it is added, left out or added twice.
        (Quick, "eps", Spec { eps: [0.3, 0.04], ..plain }),
        (Quick, "one_stream", spec(f32, bf16, Normal, 1.0, [2, 1, 20])),
        (Quick, "poisoned", spec(f32, f32, Poisoned, 1.0, [4, 1, 20])),
        (Quick, "tile", spec(f32, f32, Normal, 1.0, [15, 4, 31])),
        (Quick, "tile", spec(bf16, bf16, Outliers, 1.0, [17, 4, 129])),
        (Full, "plain", spec(bf16, bf16, Outliers, 1.0, [8, 4, 4096])),
        (Full, "plain", spec(bf16, bf16, Quiet, 1.0, [4, 4, 7168])),
    ] {
        let Spec { streams, out, sizes: [rows, n, d], .. } = spec;
        let name = format!("{variant}/{streams}-{out}/{}/t{rows}-n{n}-d{d}", spec.family.name());
        cases.add(profile, name, move |b| build(b, spec));
    }
}

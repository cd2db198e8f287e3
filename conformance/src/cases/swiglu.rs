use super::*;
use anychip_core::ops::Swiglu;

#[derive(Clone, Copy)]
struct Spec {
    x: DType,
    out: DType,
    weighted: bool,
    limit: f32,
    family: Family,
    size: f32,
    sizes: [usize; 2],
}

impl Spec {
    fn build(&self, b: &mut Builder<'_>) -> Result<Op> {
        let gate = b.values(self.x, &self.sizes, self.family, self.size)?;
        let up = b.values(self.x, &self.sizes, self.family, self.size)?;
        let weights = if self.weighted { Some(b.values(DType::F32, &self.sizes[..1], Normal, 1.0)?) } else { None };
        let out = b.output(self.out, &self.sizes)?;
        Swiglu { gate, up, weights, limit: self.limit, out }.build()
    }
}

/// Gates where the exponential leaves the range of a number format, and either side of both clamps.
fn edges(b: &mut Builder<'_>) -> Result<Op> {
    const EDGES: [f32; 15] =
        [-1e30, -1000.0, -104.0, -88.7, -80.0, -7.0, -1e-30, -0.0, 0.0, 1e-30, 6.9999, 7.0, 7.0001, 89.0, 1e30];
    let sizes = [EDGES.len(), EDGES.len()];
    let gate: Vec<f32> = (0..225).map(|i| EDGES[i / 15]).collect();
    let up: Vec<f32> = (0..225).map(|i| EDGES[i % 15]).collect();
    let [gate, up] = [b.floats(DType::F32, &sizes, &gate)?, b.floats(DType::F32, &sizes, &up)?];
    Swiglu { gate, up, weights: None, limit: 7.0, out: b.output(DType::F32, &sizes)? }.build()
}

/// A NaN is passed on by clamps and in no other place.
fn nan(b: &mut Builder<'_>) -> Result<Op> {
    b.expect_nan();
    let mut gate = Normal.fill(b.random(), 64, 16);
    let mut up = Normal.fill(b.random(), 64, 16);
    (gate[5], up[40]) = (f32::NAN, f32::NAN);
    let [gate, up] = [b.floats(DType::F32, &[4, 16], &gate)?, b.floats(DType::F32, &[4, 16], &up)?];
    Swiglu { gate, up, weights: None, limit: 1.0, out: b.output(DType::BF16, &[4, 16])? }.build()
}

pub(super) fn list(cases: &mut Cases) {
    let plain = Spec {
        x: DType::F32,
        out: DType::F32,
        weighted: false,
        limit: f32::INFINITY,
        family: Normal,
        size: 3.0,
        sizes: [5, 67],
    };
    for (profile, variant, spec) in [
        (Quick, "plain", plain),
        (Quick, "clamped", Spec { limit: 2.0, weighted: true, ..plain }),
        (Quick, "clamped", Spec { limit: 10.0, x: DType::BF16, out: DType::BF16, family: Outliers, ..plain }),
        (Quick, "weighted", Spec { weighted: true, x: DType::F16, out: DType::BF16, family: Quiet, ..plain }),
        // The products of such numbers are subnormal.
        (Quick, "subnormal", Spec { size: 1e-20, ..plain }),
        (Quick, "low", Spec { family: Offset, size: -100.0, ..plain }),
        (Quick, "poisoned", Spec { family: Poisoned, limit: 10.0, sizes: [7, 33], ..plain }),
        (Quick, "tile", Spec { sizes: [15, 17], ..plain }),
        (Quick, "tile", Spec { sizes: [17, 31], limit: 2.0, weighted: true, ..plain }),
        (Quick, "tile", Spec { sizes: [33, 63], x: DType::BF16, out: DType::BF16, ..plain }),
        (Quick, "tile", Spec { sizes: [3, 129], x: DType::BF16, weighted: true, ..plain }),
        (Full, "clamped", Spec { limit: 10.0, x: DType::BF16, out: DType::BF16, sizes: [17, 3072], ..plain }),
        (Full, "clamped", Spec { limit: 10.0, weighted: true, family: Outliers, sizes: [64, 2048], ..plain }),
    ] {
        let [rows, cols] = spec.sizes;
        let name = format!("{variant}/{}-{}/{}/r{rows}-i{cols}", spec.x, spec.out, spec.family.name());
        cases.add(profile, name, move |b| spec.build(b));
    }
    cases.add(Quick, "edges/f32-f32/r15-i15", edges);
    cases.add(Quick, "nan/f32-bf16/r4-i16", nan);
}

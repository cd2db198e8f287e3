use super::*;
use anychip_core::ops::NewtonSchulz;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Normal.
    Random,
    /// Normal, with rows that repeat: singular values of zero.
    Deficient,
    /// All zero.
    Zero,
    /// A gradient of a late step: very small.
    Small,
}

fn build(b: &mut Builder<'_>, kind: Kind, steps: &[[f32; 3]], sizes: [usize; 2]) -> Result<Op> {
    let [rows, cols] = sizes;
    let mut g = Normal.fill(b.random(), rows * cols, cols);
    match kind {
        Kind::Random => {}
        Kind::Deficient => g.copy_within(..rows / 2 * cols, rows.div_ceil(2) * cols),
        Kind::Zero => g.fill(0.0),
        Kind::Small => g.iter_mut().for_each(|x| *x *= 1e-7),
    }
    let g = b.floats(DType::F32, &sizes, &g)?;
    NewtonSchulz { g, steps: steps.to_vec(), out: b.output(DType::F32, &sizes)? }.build()
}

pub(super) fn list(cases: &mut Cases) {
    let v4: &[[f32; 3]] = &NewtonSchulz::V4_STEPS;
    for (profile, variant, kind, steps, sizes) in [
        (Quick, "wide", Kind::Random, v4, [12, 20]),
        (Quick, "tall", Kind::Random, v4, [33, 8]),
        (Quick, "square", Kind::Random, &v4[..5], [16, 16]),
        (Quick, "one_step", Kind::Random, &v4[..1], [7, 9]),
        (Quick, "row", Kind::Random, v4, [1, 17]),
        (Quick, "small", Kind::Small, v4, [8, 24]),
        (Quick, "deficient", Kind::Deficient, &v4[..2], [10, 16]),
        (Quick, "zero", Kind::Zero, v4, [3, 5]),
        (Quick, "tile", Kind::Random, v4, [15, 17]),
        (Quick, "tile", Kind::Random, &v4[..3], [33, 31]),
        (Quick, "tile", Kind::Random, &v4[..2], [16, 65]),
        (Full, "wide", Kind::Random, v4, [64, 160]),
    ] {
        let [rows, cols] = sizes;
        let name = format!("{variant}/n{rows}-m{cols}-s{}", steps.len());
        let steps = steps.to_vec();
        cases.add(profile, name, move |b| build(b, kind, &steps, sizes));
    }
}

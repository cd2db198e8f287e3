use super::*;
use anychip_core::ops::Rope;
use anychip_core::{RopeTable, Yarn};

/// V4's stretching.
const YARN: Yarn = Yarn { factor: 16.0, original_positions: 65536.0, beta_fast: 32.0, beta_slow: 1.0 };

#[derive(Clone, Copy)]
struct Spec {
    x: DType,
    out: DType,
    inverse: bool,
    heads: usize,
    dim: usize,
    rope: usize,
    family: Family,
    positions: &'static [u32],
}

impl Spec {
    fn build(&self, b: &mut Builder<'_>) -> Result<Op> {
        let Spec { heads, dim, rope, positions, .. } = *self;
        let table = RopeTable::new(rope, 160_000.0, Some(YARN));
        let sizes = [positions.len(), heads, dim];
        let x = b.values(self.x, &sizes, self.family, 1.0)?;
        let angles = b.floats(DType::F32, &[positions.len(), rope / 2, 2], &table.angles(positions.iter().copied()))?;
        let out = b.output(self.out, &sizes)?;
        Rope { x, angles, inverse: self.inverse, out }.build()
    }
}

pub(super) fn list(cases: &mut Cases) {
    const FAR: &[u32] = &[1 << 20, (1 << 20) - 1, 999_983];
    let near = Spec {
        x: DType::F32,
        out: DType::F32,
        inverse: false,
        heads: 3,
        dim: 48,
        rope: 16,
        family: Normal,
        positions: &[0, 1, 2, 7, 63],
    };
    for (profile, variant, spec) in [
        (Quick, "near", near),
        (Quick, "far", Spec { positions: FAR, dim: 96, rope: 64, ..near }),
        (Quick, "far_inverse", Spec { positions: FAR, inverse: true, x: DType::BF16, out: DType::BF16, ..near }),
        (Quick, "whole_head", Spec { dim: 16, heads: 1, out: DType::F16, ..near }),
        (Quick, "copy", Spec { rope: 0, out: DType::BF16, ..near }),
        (Quick, "odd", Spec { dim: 37, rope: 2, inverse: true, ..near }),
        // Of a pair with a NaN both elements are NaN, and no other.
        (Quick, "poisoned", Spec { family: Poisoned, dim: 20, rope: 16, ..near }),
        (Quick, "tile", Spec { heads: 17, dim: 31, rope: 30, ..near }),
        (Quick, "tile", Spec { heads: 15, dim: 33, rope: 32, inverse: true, positions: FAR, ..near }),
        (Quick, "tile", Spec { heads: 1, dim: 65, rope: 62, positions: FAR, out: DType::BF16, ..near }),
        (Quick, "tile", Spec { heads: 2, dim: 129, rope: 126, family: Outliers, ..near }),
        (Full, "far", Spec { positions: FAR, heads: 128, family: Outliers, dim: 512, rope: 64, ..near }),
        (Full, "far", Spec { positions: FAR, dim: 512, rope: 64, heads: 64, x: DType::BF16, out: DType::BF16, ..near }),
    ] {
        let Spec { x, out, heads, dim, rope, positions, .. } = spec;
        let name = format!("{variant}/{x}-{out}/t{}-h{heads}-d{dim}-r{rope}", positions.len());
        cases.add(profile, name, move |b| spec.build(b));
    }
}

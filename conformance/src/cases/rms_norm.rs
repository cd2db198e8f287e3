use super::*;
use anychip_core::ops::{RmsNorm, Rounding};

#[derive(Clone, Copy)]
struct Spec {
    x: DType,
    weight: Option<DType>,
    out: DType,
    rounding: Rounding,
    family: Family,
    eps: f32,
    size: f32,
}

impl Spec {
    fn build(&self, b: &mut Builder<'_>, [rows, d]: [usize; 2]) -> Result<Op> {
        let x = b.values(self.x, &[rows, d], self.family, self.size)?;
        let weight = match self.weight {
            Some(dtype) => Some(b.values(dtype, &[d], Normal, 1.0)?),
            None => None,
        };
        let out = b.output(self.out, &[rows, d])?;
        RmsNorm { x, weight, eps: self.eps, rounding: self.rounding, out }.build()
    }
}

/// A NaN takes its row along and no other.
fn nan(b: &mut Builder<'_>, rounding: Rounding) -> Result<Op> {
    b.expect_nan();
    let mut x = Normal.fill(b.random(), 5 * 24, 24);
    (x[24 + 7], x[3 * 24]) = (f32::NAN, -f32::NAN);
    let (x, out) = (b.floats(DType::F32, &[5, 24], &x)?, b.output(DType::BF16, &[5, 24])?);
    RmsNorm { x, weight: None, eps: 1e-6, rounding, out }.build()
}

pub(super) fn list(cases: &mut Cases) {
    let plain = Spec {
        x: DType::F32,
        weight: None,
        out: DType::F32,
        rounding: Rounding::None,
        family: Normal,
        eps: 1e-6,
        size: 1.0,
    };
    let bf16 = Spec { x: DType::BF16, weight: Some(DType::BF16), out: DType::BF16, ..plain };
    for (profile, variant, spec, sizes) in [
        (Quick, "plain", plain, [3, 64]),
        (Quick, "weight", Spec { weight: Some(DType::F32), family: Outliers, ..plain }, [5, 257]),
        (Quick, "weight", Spec { family: Quiet, ..bf16 }, [7, 96]),
        (Quick, "weight", Spec { family: Offset, x: DType::F16, out: DType::F16, ..bf16 }, [1, 512]),
        (Quick, "served", Spec { weight: None, rounding: Rounding::Bf16, ..bf16 }, [8, 128]),
        (Quick, "served", Spec { rounding: Rounding::Bf16, family: Quiet, out: DType::BF16, ..plain }, [6, 40]),
        // So small that eps decides.
        (Quick, "eps", Spec { size: 1e-4, ..plain }, [4, 32]),
        (Quick, "one", Spec { family: Offset, ..plain }, [9, 1]),
        (Quick, "zero", Spec { size: 0.0, weight: Some(DType::F32), ..plain }, [2, 16]),
        (Quick, "subnormal", Spec { size: 1e-40, ..plain }, [3, 33]),
        (Quick, "large", Spec { size: 1e15, ..plain }, [3, 65]),
        (Quick, "poisoned", Spec { family: Poisoned, ..plain }, [6, 40]),
        (Quick, "poisoned", Spec { family: Poisoned, ..bf16 }, [4, 24]),
        (Quick, "tile", plain, [17, 15]),
        (Quick, "tile", plain, [16, 31]),
        (Quick, "tile", Spec { weight: Some(DType::F32), ..plain }, [15, 33]),
        (Quick, "tile", bf16, [33, 63]),
        (Quick, "tile", bf16, [31, 65]),
        (Quick, "tile", Spec { weight: None, rounding: Rounding::Bf16, ..bf16 }, [63, 127]),
        (Quick, "tile", Spec { weight: None, rounding: Rounding::Bf16, ..bf16 }, [65, 129]),
        (Full, "weight", Spec { family: Outliers, ..bf16 }, [33, 4096]),
        (Full, "weight", Spec { family: Outliers, ..bf16 }, [17, 7168]),
        (Full, "served", Spec { weight: None, rounding: Rounding::Bf16, family: Quiet, ..bf16 }, [128, 512]),
        (Full, "served", Spec { weight: None, rounding: Rounding::Bf16, ..bf16 }, [64, 512]),
    ] {
        let weight = spec.weight.map_or("none".into(), |w| w.to_string());
        let [rows, d] = sizes;
        let types = format!("{}-{weight}-{}", spec.x, spec.out);
        cases.add(profile, format!("{variant}/{types}/{}/r{rows}-d{d}", spec.family.name()), move |b| {
            spec.build(b, sizes)
        });
    }
    cases.add(Quick, "nan/f32-none-bf16/r5-d24", |b| nan(b, Rounding::None));
    cases.add(Quick, "nan_served/f32-none-bf16/r5-d24", |b| nan(b, Rounding::Bf16));
}

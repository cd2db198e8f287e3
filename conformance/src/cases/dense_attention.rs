use super::*;
use anychip_core::ops::DenseAttention;

#[derive(Clone, Copy)]
struct Spec {
    dtype: DType,
    out: DType,
    batch: usize,
    rows: usize,
    keys: usize,
    heads: usize,
    groups: usize,
    dim: usize,
    value: usize,
    causal: bool,
    sink: bool,
    /// Of queries and of keys; values are normal.
    family: Family,
    /// Size of the queries.
    size: f32,
    /// Whether the queries alone are of the family.
    poisoned: bool,
}

impl Spec {
    fn build(&self, b: &mut Builder<'_>) -> Result<Op> {
        let Spec { batch, rows, keys, heads, groups, dim, value, .. } = *self;
        let q = b.values(self.dtype, &[batch, rows, heads, dim], self.family, self.size)?;
        let of_keys = if self.poisoned { Normal } else { self.family };
        let k = b.values(self.dtype, &[batch, keys, groups, dim], of_keys, 1.0)?;
        let v = b.values(self.dtype, &[batch, keys, groups, value], Normal, 1.0)?;
        let sink = if self.sink { Some(b.values(DType::F32, &[heads], Normal, 2.0)?) } else { None };
        let out = b.output(self.out, &[batch, rows, heads, value])?;
        DenseAttention { q, k, v, scale: (dim as f32).sqrt().recip(), causal: self.causal, sink, out }.build()
    }
}

pub(super) fn list(cases: &mut Cases) {
    let mha = Spec {
        dtype: DType::F32,
        out: DType::F32,
        batch: 2,
        rows: 5,
        keys: 5,
        heads: 3,
        groups: 3,
        dim: 24,
        value: 24,
        causal: true,
        sink: false,
        family: Normal,
        size: 1.0,
        poisoned: false,
    };
    for (profile, variant, spec) in [
        (Quick, "mha", mha),
        (Quick, "mha_all", Spec { causal: false, keys: 33, value: 40, ..mha }),
        (Quick, "gqa", Spec { heads: 6, groups: 2, keys: 19, dtype: DType::BF16, out: DType::BF16, ..mha }),
        // Products of outliers stay below a hundred: a coarse accumulator could say nothing about larger scores.
        (
            Quick,
            "mqa_sink",
            Spec { heads: 4, groups: 1, rows: 1, keys: 70, sink: true, family: Outliers, size: 0.02, ..mha },
        ),
        (Quick, "gqa_sink", Spec { heads: 4, groups: 2, dtype: DType::F16, out: DType::F32, sink: true, ..mha }),
        // Scores around 310 in every place.
        (Quick, "high_scores", Spec { family: Offset, keys: 40, ..mha }),
        (Quick, "no_keys", Spec { causal: false, keys: 0, sink: true, ..mha }),
        // Scores around -1000 in every place.
        (Quick, "low_scores", Spec { family: Offset, size: -3.2, keys: 40, sink: true, ..mha }),
        (Quick, "poisoned", Spec { family: Poisoned, keys: 9, heads: 2, groups: 1, poisoned: true, ..mha }),
        (Quick, "tile", Spec { rows: 15, keys: 17, dim: 16, value: 16, heads: 1, groups: 1, ..mha }),
        (Quick, "tile", Spec { rows: 17, keys: 31, dim: 31, value: 33, heads: 2, groups: 1, ..mha }),
        (Quick, "tile", Spec { rows: 1, keys: 33, dim: 63, value: 65, ..mha }),
        (Quick, "tile", Spec { rows: 2, keys: 63, dim: 15, value: 17, ..mha }),
        (Quick, "tile", Spec { rows: 3, keys: 65, dim: 17, value: 15, dtype: DType::BF16, ..mha }),
        (Quick, "tile", Spec { rows: 2, keys: 127, dim: 65, value: 63, heads: 4, groups: 2, ..mha }),
        (Quick, "tile", Spec { rows: 1, keys: 129, dim: 127, value: 129, batch: 1, ..mha }),
        (
            Full,
            "gqa",
            Spec {
                batch: 1,
                rows: 4,
                keys: 1024,
                heads: 32,
                groups: 8,
                dim: 128,
                value: 128,
                dtype: DType::BF16,
                ..mha
            },
        ),
    ] {
        let Spec { dtype, out, batch, rows, keys, heads, groups, dim, value, .. } = spec;
        let shape = format!("b{batch}-t{rows}-n{keys}-h{heads}-g{groups}-d{dim}-e{value}");
        let name = format!("{variant}/{dtype}-{out}/{}/{shape}", spec.family.name());
        cases.add(profile, name, move |b| spec.build(b));
    }
}

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
}

impl Spec {
    fn build(&self, b: &mut Builder<'_>) -> Result<Op> {
        let Spec { batch, rows, keys, heads, groups, dim, value, .. } = *self;
        let q = b.values(self.dtype, &[batch, rows, heads, dim], self.family, self.size)?;
        let k = b.values(self.dtype, &[batch, keys, groups, dim], self.family, 1.0)?;
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
        (
            Full,
            "gqa",
            Spec { batch: 1, rows: 4, keys: 1024, heads: 32, groups: 8, dim: 128, value: 128, dtype: DType::BF16, ..mha },
        ),
    ] {
        let Spec { dtype, out, batch, rows, keys, heads, groups, dim, value, .. } = spec;
        let shape = format!("b{batch}-t{rows}-n{keys}-h{heads}-g{groups}-d{dim}-e{value}");
        let name = format!("{variant}/{dtype}-{out}/{}/{shape}", spec.family.name());
        cases.add(profile, name, move |b| spec.build(b));
    }
}

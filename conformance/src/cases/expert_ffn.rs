use super::*;
use crate::builder::HostMatrix;
use anychip_core::ops::{ExpertFfn, ExpertWeights, Intermediates};

#[derive(Clone, Copy)]
struct Spec {
    x: Format,
    routed: Format,
    /// The shared expert's format and inner size, where there is one.
    shared: Option<(Format, usize)>,
    served: bool,
    out: DType,
    limit: f32,
    family: Family,
    /// Chosen experts, row by row; what lies outside `0..count` is nobody.
    chosen: Chosen,
    count: usize,
    rows: usize,
    k: usize,
    hidden: usize,
    inner: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Chosen {
    /// Any experts, each once in a row.
    Any,
    /// One expert by all rows, another by the last row alone, nobody else.
    Skewed,
    /// Nobody by any row.
    Nobody,
    /// Duplicates, -1 and experts that do not exist; the first row has no expert at all.
    Odd,
}

impl Spec {
    fn choose(&self, b: &mut Builder<'_>) -> Vec<i32> {
        let mut all = Vec::new();
        for row in 0..self.rows {
            all.extend(match self.chosen {
                Chosen::Any => b.random().permutation(self.count)[..self.k].iter().map(|&e| e as i32).collect(),
                Chosen::Skewed if row + 1 == self.rows => (0..self.k as i32).map(|i| 1 + i % 2).collect::<Vec<_>>(),
                Chosen::Skewed => vec![1; self.k],
                Chosen::Nobody => vec![-1; self.k],
                Chosen::Odd if row == 0 => [-1, self.count as i32, i32::MIN, i32::MAX][..self.k].to_vec(),
                Chosen::Odd => [0, 2, -1, 2][..self.k].to_vec(),
            });
        }
        all
    }

    fn weights(
        &self,
        b: &mut Builder<'_>,
        format: Format,
        count: usize,
        inner: usize,
        used: impl Fn(usize) -> bool,
    ) -> Result<ExpertWeights> {
        // Gates and ups around 1: some beyond the limit, most within.
        let (hidden, inward) = (self.hidden, (self.hidden as f32).sqrt().recip());
        let mut one = |sizes, size| {
            let mut matrix = HostMatrix::random(format, sizes, Normal, size, b.random());
            (0..count).filter(|&e| !used(e)).for_each(|e| matrix.poison_group(e));
            b.matrix_of(&matrix)
        };
        let [gate, up] = [one([count, inner, hidden], inward)?, one([count, inner, hidden], inward)?];
        Ok(ExpertWeights { gate, up, down: one([count, hidden, inner], 0.1)? })
    }

    fn build(&self, b: &mut Builder<'_>) -> Result<Op> {
        let Spec { rows, k, hidden, .. } = *self;
        let chosen = self.choose(b);
        let x = b.matrix(self.x, [1, rows, hidden], self.family, 1.0)?;
        let experts = b.integers(&[rows, k], &chosen)?;
        let shares: Vec<f32> = (0..rows * k).map(|_| (0.1 + b.random().uniform()) as f32).collect();
        let weights = b.floats(DType::F32, &[rows, k], &shares)?;
        let routed = self.weights(b, self.routed, self.count, self.inner, |e| chosen.contains(&(e as i32)))?;
        let shared = match self.shared {
            Some((format, inner)) => Some(self.weights(b, format, 1, inner, |_| true)?),
            None => None,
        };
        let intermediates = if self.served { Intermediates::Served { block: 128 } } else { Intermediates::Exact };
        let out = b.output(self.out, &[rows, hidden])?;
        ExpertFfn { x, experts, weights, routed, shared, limit: self.limit, intermediates, out }.build()
    }
}

/// `h` far apart within a block of 128: a few elements are 10^5 times larger than the others, which fall below e4m3's
/// normal numbers under the block's scale and keep few bits or none. Half of the rows of W2 see the small ones alone: whoever
/// quantises by other blocks shows there.
fn wide(b: &mut Builder<'_>, [rows, hidden, inner]: [usize; 3]) -> Result<Op> {
    let loud = |i: usize| i % 128 < 4;
    let mut pull = |count: usize, width: usize| -> Vec<f32> { Normal.fill(b.random(), count, width) };
    let x: Vec<f32> = pull(rows * hidden, hidden).iter().map(|x| 1.0 + 0.2 * x).collect();
    let mut gate = pull(inner * hidden, hidden);
    let mut up = pull(inner * hidden, hidden);
    // All gates are near 1 or near 300: the sigmoid takes none of them away.
    let inward = (hidden as f32).recip();
    for (i, (gate, up)) in gate.chunks_mut(hidden).zip(up.chunks_mut(hidden)).enumerate() {
        let size = if loud(i) { 300.0 } else { 1.0 };
        gate.iter_mut().for_each(|x| *x = size * inward * (1.0 + 0.5 * *x));
        up.iter_mut().for_each(|x| *x *= size * inward.sqrt());
    }
    let mut down = pull(hidden * inner, inner);
    for row in down.chunks_mut(inner).step_by(2) {
        row.iter_mut().enumerate().filter(|(i, _)| loud(*i)).for_each(|(_, x)| *x = 0.0);
    }
    let x = b.matrix_of(&HostMatrix::of(E4M3_ROWS, [1, rows, hidden], &x))?;
    let experts = b.integers(&[rows, 1], &vec![0; rows])?;
    let weights = b.floats(DType::F32, &[rows, 1], &vec![1.0; rows])?;
    let mut one = |sizes, values: &[f32]| b.matrix_of(&HostMatrix::of(E4M3_BLOCKS, sizes, values));
    let [gate, up] = [one([1, inner, hidden], &gate)?, one([1, inner, hidden], &up)?];
    let routed = ExpertWeights { gate, up, down: one([1, hidden, inner], &down)? };
    let out = b.output(DType::F32, &[rows, hidden])?;
    let (limit, intermediates) = (f32::INFINITY, Intermediates::Served { block: 128 });
    ExpertFfn { x, experts, weights, routed, shared: None, limit, intermediates, out }.build()
}

pub(super) fn list(cases: &mut Cases) {
    cases.add(Quick, "served/wide_h/e4m3.1x128-e4m3.128x128-f32/e1-k1-t3-d64-i160", |b| wide(b, [3, 64, 160]));
    let exact = Spec {
        x: F32,
        routed: F32,
        shared: None,
        served: false,
        out: DType::F32,
        limit: 10.0,
        family: Normal,
        chosen: Chosen::Any,
        count: 5,
        rows: 4,
        k: 2,
        hidden: 48,
        inner: 40,
    };
    let served =
        Spec { x: E4M3_ROWS, routed: E2M1_ROWS, served: true, out: DType::BF16, hidden: 144, inner: 160, ..exact };
    for (profile, variant, spec) in [
        (Quick, "plain", exact),
        (Quick, "clamped", Spec { limit: 0.5, shared: Some((F32, 24)), ..exact }),
        (Quick, "unclamped", Spec { limit: f32::INFINITY, family: Outliers, x: BF16, routed: BF16, ..exact }),
        (Quick, "odd", Spec { chosen: Chosen::Odd, k: 4, shared: Some((F32, 16)), ..exact }),
        (Quick, "skewed", Spec { chosen: Chosen::Skewed, routed: E4M3_BLOCKS, ..exact }),
        (Quick, "plain", served),
        (Quick, "shared", Spec { shared: Some((E4M3_BLOCKS, 136)), family: Quiet, rows: 3, ..served }),
        (Quick, "odd", Spec { chosen: Chosen::Odd, k: 4, out: DType::F32, ..served }),
        (Quick, "nobody", Spec { chosen: Chosen::Nobody, ..exact }),
        (Quick, "nobody", Spec { chosen: Chosen::Nobody, shared: Some((E4M3_BLOCKS, 40)), rows: 2, ..served }),
        (Quick, "one_hot", Spec { count: 1, k: 1, rows: 17, hidden: 31, inner: 33, ..exact }),
        (Quick, "one_hot", Spec { chosen: Chosen::Skewed, k: 1, rows: 16, hidden: 34, inner: 30, ..served }),
        (Quick, "poisoned", Spec { family: Poisoned, rows: 6, shared: Some((F32, 17)), ..exact }),
        (Quick, "poisoned", Spec { family: Poisoned, rows: 6, inner: 62, ..served }),
        (Quick, "tile", Spec { count: 2, rows: 5, hidden: 63, inner: 65, ..exact }),
        (Quick, "tile", Spec { count: 3, rows: 15, hidden: 126, inner: 130, ..served }),
        (Quick, "tile", Spec { count: 3, rows: 3, hidden: 130, inner: 126, x: BF16, ..served }),
        (Quick, "all", Spec { count: 6, k: 6, rows: 33, hidden: 16, inner: 16, ..exact }),
        // V4-Pro's widths.
        (
            Full,
            "shared",
            Spec { shared: Some((E4M3_BLOCKS, 3072)), rows: 1, hidden: 7168, inner: 3072, count: 3, ..served },
        ),
        (
            Full,
            "shared",
            Spec { shared: Some((E4M3_BLOCKS, 2048)), rows: 2, hidden: 4096, inner: 2048, count: 4, ..served },
        ),
        (Full, "wide", Spec { rows: 9, k: 6, count: 32, hidden: 512, inner: 256, x: BF16, ..served }),
    ] {
        let Spec { rows, k, hidden, inner, count, .. } = spec;
        let mode = if spec.served { "served" } else { "exact" };
        let formats = format!("{}-{}-{}", tag(spec.x), tag(spec.routed), spec.out);
        let shape = format!("e{count}-k{k}-t{rows}-d{hidden}-i{inner}");
        let name = format!("{mode}/{variant}/{formats}/{}/{shape}", spec.family.name());
        cases.add(profile, name, move |b| spec.build(b));
    }
}

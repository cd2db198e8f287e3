//! Matrix products and attention written out, so that a fault can sit inside of them.

use super::bench::{Bench, bf};
use super::orders::Order;
use anychip_core::formats::{e2m1, e4m3, scale};
use anychip_core::ops::{DenseAttention, OpKind, Rounding, SparseAttention};
use anychip_core::{KvFormat, Matrix, Op, Result};

/// A row of products, as `sum` adds them up.
pub(super) type Sum = dyn Fn(&[f64], &[f64]) -> f64;

/// The products of [`Linear`](anychip_core::ops::Linear) or [`ExpertGemm`](anychip_core::ops::ExpertGemm), with sums
/// and scale bytes as they are told.
pub(super) fn products(b: &mut Bench<'_>, op: &Op, meaning: fn(u8) -> f64, sum: &Sum) -> Result<()> {
    let read = |b: &mut Bench<'_>, m: &Matrix| b.matrix_by(m, meaning);
    let (x, w, out, choose): (_, _, _, Box<dyn Fn(usize) -> Vec<usize>>) = match op.kind() {
        OpKind::Linear(linear) => {
            let groups = linear.w.groups();
            (&linear.x, &linear.w, &linear.out, Box::new(move |_| (0..groups).collect()))
        }
        OpKind::ExpertGemm(gemm) => {
            let offsets = b.integers(&gemm.offsets)?;
            // The later expert's product stays.
            let expert = move |row: usize| offsets.windows(2).rposition(|o| (o[0]..o[1]).contains(&(row as i32)));
            (&gemm.x, &gemm.w, &gemm.out, Box::new(move |row| expert(row).into_iter().collect()))
        }
        _ => return b.run(op),
    };
    let is_linear = matches!(op.kind(), OpKind::Linear(_));
    let (n, k, width) = (w.rows(), w.cols(), x.cols());
    let (x_values, w_values) = (read(b, x)?, read(b, w)?);
    let mut values = vec![0.0; out.count()];
    for row in 0..x.rows() {
        for group in choose(row) {
            let start = row * width + if is_linear { group * k } else { 0 };
            let to = row * out.size(1) + if is_linear { group * n } else { 0 };
            for col in 0..n {
                values[to + col] = sum(&x_values[start..start + k], &w_values[(group * n + col) * k..][..k]);
            }
        }
    }
    b.store(out, &values)
}

pub(super) fn exact_scale(byte: u8) -> f64 {
    f64::from(scale::decode(byte))
}

/// What may be wrong with an attention.
#[derive(Clone, Copy, Default)]
pub(super) struct Wrong {
    /// The sink weighs the first key instead of nothing.
    pub(super) sink_has_value: bool,
    /// Scores are not shifted by their maximum; exponentials are f32.
    pub(super) no_maximum: bool,
    /// The maximum begins at 0, as zero padding in the tile makes it; exponentials are f32.
    pub(super) zero_in_maximum: bool,
    /// The denominator adds the weights after their rounding.
    pub(super) rounded_denominator: bool,
    /// The accumulator is not scaled when a later block has a larger maximum.
    pub(super) no_rescaling: bool,
    /// The accumulator is bf16.
    pub(super) bf16_accumulator: bool,
    /// How scores are added up, and whether in f32 as all else: nothing wrong.
    pub(super) order: Order,
    /// Scores are rounded to bf16.
    pub(super) bf16_scores: bool,
    /// The last `n` elements are no part of the score.
    pub(super) score_without_last: usize,
}

/// One row and head over keys in blocks, by the formula of [`SparseAttention`].
fn attend(
    q: &[f64],
    blocks: &[Vec<(&[f64], &[f64])>],
    scale: f64,
    sink: f64,
    rounding: Rounding,
    wrong: Wrong,
) -> Vec<f64> {
    let width = blocks.iter().flatten().next().map_or(0, |(_, v)| v.len());
    let (mut m, mut den, mut acc) = (f64::NEG_INFINITY, 0.0, vec![0.0; width]);
    let exp = |z: f64| if wrong.no_maximum || wrong.zero_in_maximum { f64::from((z as f32).exp()) } else { z.exp() };
    let held = |x: f64| wrong.order.held(x);
    let exp = |z: f64| held(exp(held(z)));
    let narrow = |x: f64| if wrong.bf16_accumulator { bf(x) } else { held(x) };
    for block in blocks.iter().filter(|block| !block.is_empty()) {
        let score = |k: &[f64]| {
            let sum = wrong.order.dot(&q[..q.len() - wrong.score_without_last], k);
            if wrong.bf16_scores { bf(scale * sum) } else { held(scale * sum) }
        };
        let z: Vec<f64> = block.iter().map(|(k, _)| score(k)).collect();
        let mut next = z.iter().copied().fold(m, f64::max);
        if wrong.zero_in_maximum {
            next = next.max(0.0);
        }
        if wrong.no_maximum {
            next = 0.0;
        }
        let factor = if wrong.no_rescaling || m == next { 1.0 } else { exp(m - next) };
        (den, m) = (held(den * factor), next);
        acc.iter_mut().for_each(|a| *a = held(*a * factor));
        for ((_, v), z) in block.iter().zip(&z) {
            let e = exp(z - m);
            let p = if rounding == Rounding::Bf16 { bf(e) } else { e };
            den = held(den + if wrong.rounded_denominator { bf(e) } else { e });
            acc.iter_mut().zip(*v).for_each(|(a, v)| *a = narrow(*a + held(p * v)));
        }
    }
    let sink = exp(sink - m);
    if let (true, Some((_, v))) = (wrong.sink_has_value, blocks.iter().flatten().next()) {
        acc.iter_mut().zip(*v).for_each(|(a, v)| *a += sink * v);
    }
    acc.iter().map(|a| a / held(den + sink)).collect()
}

/// The values of an entry.
pub(super) fn entry(format: KvFormat, page: &[u8], place: usize) -> Vec<f64> {
    let (data, scales) = (&page[format.data_offset(place)..], &page[format.scale_offset(place)..]);
    let scale = |block: usize| f64::from(scale::decode(scales[block]));
    let wide = |i: usize| f64::from(f32::from_bits(u32::from(u16::from_le_bytes([data[i], data[i + 1]])) << 16));
    match format {
        KvFormat::Fp8 { nope, rope } => {
            let front = (0..nope).map(|i| f64::from(e4m3::decode(data[i])) * scale(i / KvFormat::FP8_BLOCK));
            front.chain((0..rope).map(|i| wide(nope + 2 * i))).collect()
        }
        KvFormat::Fp4 { dim } => {
            let code = |i: usize| f64::from(e2m1::decode(data[i / 2] >> (4 * (i % 2))));
            (0..dim).map(|i| code(i) * scale(i / KvFormat::FP4_BLOCK)).collect()
        }
        _ => data[..format.data_bytes()]
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            .collect(),
    }
}

/// [`SparseAttention`], with something wrong.
pub(super) fn sparse(b: &mut Bench<'_>, op: &SparseAttention, wrong: Wrong) -> Result<()> {
    let (heads, dim) = (op.q.size(1), op.q.size(2));
    let (q, sink) = (b.floats(&op.q)?, b.floats(&op.sink)?);
    let mut places: Vec<Vec<Option<Vec<f64>>>> = vec![Vec::new(); op.q.size(0)];
    for scope in &op.scopes {
        let [table, sequence, lists] =
            [b.integers(&scope.kv.table)?, b.integers(&scope.kv.sequence)?, b.integers(&scope.entries)?];
        let (format, pages) = (scope.kv.pool.format(), b.bytes(scope.kv.pool.pages())?);
        let width = scope.entries.size(1);
        for (row, places) in places.iter_mut().enumerate() {
            places.extend(lists[row * width..][..width].iter().map(|&e| {
                let (page, place) = scope.kv.locate(&table, sequence[row], e)?;
                Some(entry(format, &pages[page * format.page_bytes()..][..format.page_bytes()], place))
            }));
        }
    }
    let mut out = Vec::with_capacity(op.out.count());
    for (row, places) in places.iter().enumerate() {
        let keys =
            |block: &[Option<Vec<f64>>]| -> Vec<usize> { (0..block.len()).filter(|&i| block[i].is_some()).collect() };
        let blocks: Vec<Vec<(&[f64], &[f64])>> = places
            .chunks(SparseAttention::BLOCK)
            .map(|block| keys(block).into_iter().filter_map(|i| block[i].as_deref()).map(|k| (k, k)).collect())
            .collect();
        for head in 0..heads {
            let q = &q[(row * heads + head) * dim..][..dim];
            let o = attend(q, &blocks, f64::from(op.scale), sink[head], op.rounding, wrong);
            if o.is_empty() { out.extend(vec![0.0; dim]) } else { out.extend(o) }
        }
    }
    b.store(&op.out, &out)
}

/// Key-value head of a head, and how many keys a row sees, where `t` and `n` are the row and the keys there are.
pub(super) struct Masking {
    pub(super) group: fn(head: usize, heads: usize, groups: usize) -> usize,
    pub(super) visible: fn(t: usize, rows: usize, keys: usize) -> usize,
}

impl Masking {
    pub(super) const RIGHT: Masking =
        Masking { group: |head, heads, groups| head * groups / heads, visible: |t, rows, keys| t + 1 + keys - rows };
}

/// [`DenseAttention`], with something wrong.
pub(super) fn dense(b: &mut Bench<'_>, op: &DenseAttention, masking: &Masking, wrong: Wrong) -> Result<()> {
    let (rows, heads, dim) = (op.q.size(1), op.q.size(2), op.q.size(3));
    let (keys, groups, width) = (op.k.size(1), op.k.size(2), op.v.size(3));
    let [q, k, v] = [b.floats(&op.q)?, b.floats(&op.k)?, b.floats(&op.v)?];
    let sink = match &op.sink {
        Some(sink) => b.floats(sink)?,
        None => vec![f64::NEG_INFINITY; heads],
    };
    let mut out = Vec::with_capacity(op.out.count());
    for i in 0..op.q.size(0) * rows * heads {
        let (batch, t, head) = (i / heads / rows, i / heads % rows, i % heads);
        let group = (masking.group)(head, heads, groups);
        let seen = if op.causal { (masking.visible)(t, rows, keys).min(keys) } else { keys };
        let at = |j: usize| (batch * keys + j) * groups + group;
        let block = (0..seen).map(|j| (&k[at(j) * dim..][..dim], &v[at(j) * width..][..width])).collect();
        let o = attend(&q[i * dim..][..dim], &[block], f64::from(op.scale), sink[head], Rounding::None, wrong);
        if o.is_empty() { out.extend(vec![0.0; width]) } else { out.extend(o) }
    }
    b.store(&op.out, &out)
}

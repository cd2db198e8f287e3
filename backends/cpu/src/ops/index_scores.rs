use crate::load::{Floats, Rows, Work, dot, par_rows, threads};
use crate::pages::{PagedReader, RowEntries};
use anychip_core::formats::round_bf16;
use anychip_core::ops::{IndexScores, Rounding};
use anychip_core::{Result, host};

/// `out[t,e] = sum_h (scale * weights[t,h]) * max(0, q[t,h] . k_e)` for `e < visible[t]`, else -inf
pub(crate) fn run(op: &IndexScores) -> Result<()> {
    let (rows, n) = (op.out.size(0), op.out.size(1));
    let (heads, dim) = (op.weights.size(1), op.keys.pool.format().dim());
    let (q, weights) = (Rows::of(&op.q)?, Floats::of(&op.weights)?);
    let (keys, visible) = (PagedReader::new(&op.keys)?, host::read(&op.visible)?);
    let visible: &[i32] = visible.as_slice();
    let mut out = host::write(&op.out)?;
    let out: &mut [f32] = out.as_mut_slice();
    let work = Work::of(op);
    let query = |t: usize, query: &mut Query| {
        query.q.resize(heads * dim, 0.0);
        query.q.chunks_mut(dim).enumerate().for_each(|(h, out)| q.read(0, t * heads + h, out));
        query.weights.resize(heads, 0.0);
        weights.read(t * heads, &mut query.weights);
        query.weights.iter_mut().for_each(|w| *w = round(op.scale * *w, op.rounding));
    };
    let seen = |t: usize| usize::try_from(visible[t]).unwrap_or(0).min(n);
    if rows >= threads() {
        par_rows(out, n, work, Default::default, |(own, key): &mut (Query, Vec<f32>), t, out| {
            query(t, own);
            let (scored, hidden) = out.split_at_mut(seen(t));
            scored.iter_mut().enumerate().for_each(|(e, out)| *out = own.score(keys.row(t), e, key, op.rounding));
            hidden.fill(f32::NEG_INFINITY);
        });
        return Ok(());
    }
    let mut own = Query::default();
    for (t, out) in out.chunks_mut(n.max(1)).enumerate() {
        query(t, &mut own);
        let (scored, hidden) = out.split_at_mut(seen(t));
        par_rows(scored, 1, work, Vec::new, |key, e, out| out[0] = own.score(keys.row(t), e, key, op.rounding));
        hidden.fill(f32::NEG_INFINITY);
    }
    Ok(())
}

/// The heads of one row.
#[derive(Default)]
struct Query {
    q: Vec<f32>,
    weights: Vec<f32>,
}

impl Query {
    fn score(&self, entries: RowEntries<'_>, entry: usize, key: &mut Vec<f32>, rounding: Rounding) -> f32 {
        let Some(found) = i32::try_from(entry).ok().and_then(|entry| entries.get(entry)) else {
            return f32::NEG_INFINITY;
        };
        key.resize(found.dim(), 0.0);
        found.read(key);
        let heads = self.q.chunks_exact(key.len()).zip(&self.weights);
        // A NaN product stays one, which `max` would hide.
        let relu = |x: f32| if x < 0.0 { 0.0 } else { x };
        let term = |(q, w): (&[f32], &f32)| round(relu(round(dot(q, key), rounding)) * w, rounding);
        round(heads.map(term).sum(), rounding)
    }
}

fn round(x: f32, rounding: Rounding) -> f32 {
    match rounding {
        Rounding::None => x,
        Rounding::Bf16 => round_bf16(x),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::pages::tests::TestPool;
    use crate::testing::{Lab, assert_close, golden, golden_floats, noise};
    use anychip_core::formats::scale;
    use anychip_core::{DType, KvFormat, KvPool, Matrix, Paged};

    #[test]
    fn the_golden_scores() {
        let lab = Lab::new();
        let pages = lab.bytes(DType::U8, &[1, 4352], &golden("idx.page64"));
        let pool = KvPool::new(KvFormat::Fp4 { dim: 128 }, &pages).unwrap();
        let keys = Paged { pool, table: lab.ints(&[1, 1], &[0]), sequence: lab.ints(&[3], &[0, 0, 0]) };
        let q = golden_floats("idx.q_rotated");
        let weights = lab.floats(DType::F32, &[3, 64], &golden_floats("idx.w"));
        // The queries as the indexer makes them: e2m1 with a scale per 32.
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        for block in q.chunks(32) {
            let byte = scale::for_e2m1(scale::amax(block));
            let code = |x: f32| anychip_core::formats::e2m1::encode(x / scale::decode(byte));
            codes.extend(block.chunks(2).map(|x| anychip_core::formats::e2m1::pack(code(x[0]), code(x[1]))));
            scales.push(byte);
        }
        let packed = lab.scaled(DType::E2M1, &[3 * 64, 128], &codes, &scales, 32);
        let plain = Matrix::plain(&lab.floats(DType::F32, &[3 * 64, 128], &golden_floats("idx.q_dq"))).unwrap();
        let want: Vec<f64> = golden_floats("idx.scores").iter().map(|&x| x as f64).collect();
        for q in [packed, plain] {
            let (out, visible) = (lab.output(DType::F32, &[3, 4]), lab.ints(&[3], &[4, 4, 100]));
            let (weights, keys) = (weights.clone(), keys.clone());
            lab.run(IndexScores { q, weights, scale: 1.0, keys, visible, rounding: Rounding::None, out: out.clone() });
            assert_close(&lab.values(&out), &want, 2e-6);
        }
    }

    /// `[rows, 150]` scores of 5 heads of 16, with the pool and the values that went in.
    fn scores(visible: &[i32], sequence: &[i32], rounding: Rounding) -> (Vec<f32>, TestPool, Vec<f32>, Vec<f32>) {
        let lab = Lab::new();
        let rows = visible.len();
        let pool = TestPool::new(&lab, 16, sequence, |x| x);
        let (q, weights) = (noise(1, rows * 5 * 16), noise(2, rows * 5));
        let op = IndexScores {
            q: Matrix::plain(&lab.floats(DType::F32, &[rows * 5, 16], &q)).unwrap(),
            weights: lab.floats(DType::F32, &[rows, 5], &weights),
            scale: 0.25,
            keys: pool.kv.clone(),
            visible: lab.ints(&[rows], visible),
            rounding,
            out: lab.output(DType::F32, &[rows, 150]),
        };
        lab.run(op.clone());
        (lab.values(&op.out), pool, q, weights)
    }

    #[test]
    fn equals_the_formula_where_entries_are_visible() {
        // The second sequence has no third page; -1 and 9 are no sequences.
        let (visible, sequence) = ([150, 149, 0, -5, i32::MAX, 150, 1, 70], [0, 1, 0, 0, 0, 9, -1, 1]);
        let (got, pool, q, weights) = scores(&visible, &sequence, Rounding::None);
        for (i, &got) in got.iter().enumerate() {
            let (t, e) = (i / 150, i % 150);
            let key = pool.entry(sequence[t], e as i32).filter(|_| (e as i32) < visible[t]);
            let want = key.map(|key| {
                let product = |h: usize| (0..16).map(|d| q[(t * 5 + h) * 16 + d] as f64 * key[d] as f64).sum::<f64>();
                (0..5).map(|h| 0.25 * weights[t * 5 + h] as f64 * product(h).max(0.0)).sum::<f64>()
            });
            match want {
                Some(want) => assert!((got as f64 - want).abs() < 1e-6, "row {t}, entry {e}: {got} is not {want}"),
                None => assert_eq!(got, f32::NEG_INFINITY, "row {t}, entry {e}"),
            }
        }
    }

    #[test]
    fn a_row_alone_has_the_same_bits() {
        let together = scores(&[150, 100], &[0, 0], Rounding::Bf16).0;
        assert_eq!(scores(&[150], &[0], Rounding::Bf16).0, together[..150]);
    }

    #[test]
    fn each_step_is_rounded() {
        let lab = Lab::new();
        let mut pages = vec![0u8; 64 * 8];
        pages[..8].copy_from_slice(bytemuck::cast_slice(&[1.0f32, 1.0]));
        let pool = KvPool::new(KvFormat::F32 { dim: 2 }, &lab.bytes(DType::U8, &[1, 512], &pages)).unwrap();
        let keys = Paged { pool, table: lab.ints(&[1, 1], &[0]), sequence: lab.ints(&[4], &[0; 4]) };
        // One row for each rounding, of the product 257, the weight 1 + 3/512, the term 3 + 3/128 and the sum 257; left
        // out, it would give 386, 3 + 1/64, 9 + 1/16 and 257.
        let q = [
            [256., 1., -1., 0., -2., 1.],
            [1., 2., -1., 0., 0., 0.],
            [1., 2., 1., 2., 1., 2.],
            [256., 0., 1., 0., -1., -1.],
        ];
        let weights = [[1.5, -7.0, 5.0], [1.0 + 3.0 / 512.0, -7.0, 5.0], [1.0078125; 3], [1.0, 1.0, 9.0]];
        let mut weights = weights.concat();
        weights.iter_mut().for_each(|w| *w *= 2.0);
        let op = IndexScores {
            q: Matrix::plain(&lab.floats(DType::F32, &[12, 2], &q.concat())).unwrap(),
            weights: lab.floats(DType::F32, &[4, 3], &weights),
            scale: 0.5,
            keys,
            visible: lab.ints(&[4], &[1; 4]),
            rounding: Rounding::Bf16,
            out: lab.output(DType::F32, &[4, 1]),
        };
        lab.run(op.clone());
        assert_eq!(lab.values(&op.out), [384.0, 3.03125, 9.125, 256.0]);
        lab.run(IndexScores { rounding: Rounding::None, ..op.clone() });
        assert_eq!(lab.values(&op.out), [385.5, 3.0 * (1.0 + 3.0 / 512.0), 9.0703125, 257.0]);
        weights[1] = f32::NAN;
        lab.run(IndexScores { weights: lab.floats(DType::F32, &[4, 3], &weights), ..op.clone() });
        assert!(lab.values(&op.out)[0].is_nan(), "0 times NaN");
    }
}

use crate::operands::{Entries, held, integers, matrix_rows};
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::{IndexScores, Rounding};

/// `out[t,e] = sum_h (scale * weights[t,h]) * max(0, q[t,h] . k_e)` for the entries that row `t` may see, else -inf
pub(crate) fn evaluate<R: Real>(op: &IndexScores, units: R::Units) -> Result<Vec<Output<R>>> {
    let (rows, heads, width) = (op.weights.size(0), op.weights.size(1), op.out.size(1));
    let rounded = |x: R| if op.rounding == Rounding::Bf16 { x.bf16() } else { x };
    let q = matrix_rows::<R>("q", &op.q, 0, units)?;
    let (weights, keys) = (held::<R>("weights", &op.weights, units)?, Entries::<R>::read("pool", &op.keys, units)?);
    let (visible, scale, zero) = (integers(&op.visible)?, R::from(op.scale as f64), R::from(0.0));
    let mut out = vec![R::from(f64::NEG_INFINITY); rows * width];
    for t in 0..rows {
        let scaled: Vec<R> = weights[t * heads..][..heads].iter().map(|&w| rounded(w * scale)).collect();
        for (e, out) in (0..visible[t]).zip(&mut out[t * width..][..width]) {
            let Some(key) = keys.get(t, e) else { continue };
            let products = q[t * heads..][..heads].iter().map(|q| rounded(R::inner(q, &key)).max(zero));
            *out = rounded(match op.rounding {
                Rounding::None => R::dot(&scaled, &products.collect::<Vec<R>>()),
                Rounding::Bf16 => R::sum(&products.zip(&scaled).map(|(p, &w)| (p * w).bf16()).collect::<Vec<R>>()),
            });
        }
    }
    Ok(vec![Output::real("out", &op.out, out)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::real::Grid;
    use crate::testing::*;
    use anychip_core::DType::{BF16, E2M1, F32, U8, UE8M0};
    use anychip_core::formats::{e2m1, round_bf16, scale};
    use anychip_core::ops::{IndexScores, Rounding};
    use anychip_core::{KvFormat, KvPool, Matrix, Operation, Paged, ScaleLayout, Tensor};

    const INF: f32 = f32::INFINITY;

    /// One sequence over the given pages in order.
    fn paged(format: KvFormat, pages: Tensor, rows: usize) -> Paged {
        let count = pages.size(0);
        let table = int_tensor(&[1, count], &(0..count as i32).collect::<Vec<_>>());
        Paged { pool: KvPool::new(format, &pages).unwrap(), table, sequence: int_tensor(&[rows], &vec![0; rows]) }
    }

    /// Keys of an f32 pool, one page.
    fn f32_pool(dim: usize, keys: &[f32], rows: usize) -> Paged {
        let mut page = keys.to_vec();
        page.resize(64 * dim, f32::NAN);
        let bytes: Vec<u8> = page.iter().flat_map(|x| x.to_le_bytes()).collect();
        paged(KvFormat::F32 { dim }, raw(U8, &[1, bytes.len()], &bytes), rows)
    }

    /// The golden queries, as f32 or in the FP4 that their rotated values become.
    fn golden_op(packed: bool) -> IndexScores {
        let q = if packed {
            let (mut codes, mut scales) = (Vec::new(), Vec::new());
            for block in golden("idx.q_rotated").floats().chunks(32) {
                let byte = Grid::E2M1.scale_byte(scale::amax(block));
                let block: Vec<u8> = block.iter().map(|&x| Grid::E2M1.code(x, byte)).collect();
                codes.extend(block.chunks(2).map(|pair| e2m1::pack(pair[0], pair[1])));
                scales.push(byte);
            }
            let (codes, scales) = (raw(E2M1, &[192, 128], &codes), raw(UE8M0, &[192, 4], &scales));
            Matrix::scaled(&codes, &scales, ScaleLayout::per_row(32)).unwrap()
        } else {
            Matrix::plain(&tensor(F32, &[192, 128], &golden("idx.q_dq").floats())).unwrap()
        };
        IndexScores {
            q,
            weights: golden("idx.w").tensor(F32),
            scale: 1.0,
            keys: paged(KvFormat::Fp4 { dim: 128 }, raw(U8, &[1, 4352], &golden("idx.page64").bytes), 3),
            visible: int_tensor(&[3], &[4; 3]),
            rounding: Rounding::None,
            out: unwritten(F32, &[3, 4]),
        }
    }

    #[test]
    fn the_golden_scores() {
        let want = golden("idx.scores").floats();
        for packed in [false, true] {
            let op = golden_op(packed).build().unwrap();
            for (got, &want) in exact(&op, "out").iter().zip(&want) {
                assert!((got - want as f64).abs() <= 2e-6 * want.abs() as f64, "{got} is not {want}");
            }
            share_of_bound(&op, "out", &want);
        }
    }

    #[test]
    fn what_a_row_may_not_see_is_minus_infinity() {
        let op = IndexScores {
            q: Matrix::plain(&tensor(F32, &[4, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0])).unwrap(),
            weights: tensor(F32, &[2, 2], &[1.0, -2.0, 1.0, -2.0]),
            scale: 0.5,
            keys: f32_pool(2, &[3.0, 1.0, -4.0, 1.0, 5.0, -1.0], 2),
            visible: int_tensor(&[2], &[2, 100]),
            rounding: Rounding::None,
            out: unwritten(F32, &[2, 3]),
        };
        run(op.clone());
        assert_eq!(floats_of(&op.out), [0.5, -1.0, -INF, 0.5, -1.0, 2.5]);
        for (visible, table) in [(-1, 0), (3, -1), (3, 7)] {
            let (visible, table) = (int_tensor(&[2], &[visible; 2]), int_tensor(&[1, 1], &[table]));
            let op = IndexScores { visible, keys: Paged { table, ..op.keys.clone() }, ..op.clone() };
            run(op.clone());
            assert_eq!(floats_of(&op.out), [-INF; 6]);
        }
    }

    #[test]
    fn a_page_ends_where_the_table_ends() {
        let op = IndexScores {
            q: Matrix::plain(&tensor(F32, &[1, 1], &[1.0])).unwrap(),
            weights: tensor(F32, &[1, 1], &[1.0]),
            scale: 1.0,
            keys: f32_pool(1, &[2.0; 64], 1),
            visible: int_tensor(&[1], &[i32::MAX]),
            rounding: Rounding::None,
            out: unwritten(F32, &[1, 66]),
        };
        run(op.clone());
        let got = floats_of(&op.out);
        assert_eq!((got[63], got[64], got[65]), (2.0, -INF, -INF));
    }

    #[test]
    fn bf16_rounds_the_weight_the_product_its_weighting_and_the_sum() {
        let (heads, dim, entries, mut random) = (5, 32, 7, Random::new(1));
        let [q, w, k] = [heads * dim, heads, entries * dim]
            .map(|count| random.normals(count, 1.0).iter().map(|&x| round_bf16(x)).collect::<Vec<f32>>());
        let op = IndexScores {
            q: Matrix::plain(&tensor(BF16, &[heads, dim], &q)).unwrap(),
            weights: tensor(BF16, &[1, heads], &w),
            scale: 0.3,
            keys: f32_pool(dim, &k, 1),
            visible: int_tensor(&[1], &[entries as i32]),
            rounding: Rounding::Bf16,
            out: unwritten(F32, &[1, entries]),
        };
        let one = |key: &[f32]| {
            let step = |h: usize| {
                let product: f64 = q[h * dim..][..dim].iter().zip(key).map(|(&q, &k)| q as f64 * k as f64).sum();
                let weight = round_bf16((w[h] as f64 * 0.3f32 as f64) as f32);
                round_bf16(round_bf16(product as f32).max(0.0) * weight) as f64
            };
            round_bf16((0..heads).map(step).sum::<f64>() as f32)
        };
        let want: Vec<f32> = k.chunks(dim).map(one).collect();
        run(op.clone());
        assert_eq!(floats_of(&op.out), want);
    }

    #[test]
    fn f32_keeps_its_bound() {
        let (rows, heads, dim, entries, mut random) = (3, 16, 64, 50, Random::new(2));
        let [q, w, k] = [rows * heads * dim, rows * heads, entries * dim].map(|count| random.normals(count, 1.0));
        for rounding in [Rounding::None, Rounding::Bf16] {
            let op = IndexScores {
                q: Matrix::plain(&tensor(F32, &[rows * heads, dim], &q)).unwrap(),
                weights: tensor(F32, &[rows, heads], &w),
                scale: 0.031,
                keys: f32_pool(dim, &k, rows),
                visible: int_tensor(&[rows], &vec![entries as i32; rows]),
                rounding,
                out: unwritten(F32, &[rows, entries]),
            };
            let rounded = |x: f32| if rounding == Rounding::Bf16 { round_bf16(x) } else { x };
            let mut got = Vec::new();
            for i in 0..rows * entries {
                let (t, e) = (i / entries, i % entries);
                let step = |h: usize| {
                    let product = dot32(&q[(t * heads + h) * dim..][..dim], &k[e * dim..][..dim]);
                    rounded(rounded(product).max(0.0) * rounded(w[t * heads + h] * 0.031))
                };
                got.push(rounded((0..heads).map(step).sum()));
            }
            let op = op.build().unwrap();
            if rounding == Rounding::None {
                assert_bound(&op, "out", &got)
            } else {
                share_of_bound(&op, "out", &got);
            }
        }
    }
}

use crate::operands::{matrix_row, matrix_rows};
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::Linear;

/// `out[t, g*N + n] = sum_k x[t, g*K + k] w[g, n, k]`
pub(crate) fn evaluate<R: Real>(op: &Linear, units: R::Units) -> Result<Vec<Output<R>>> {
    let (groups, rows, inner) = (op.w.groups(), op.w.rows(), op.w.cols());
    let x = matrix_rows::<R>("x", &op.x, 0, units)?;
    let mut out = vec![R::from(0.0); x.len() * groups * rows];
    for g in 0..groups {
        for n in 0..rows {
            let w = matrix_row::<R>("w", &op.w, g, n, units)?;
            for (t, x) in x.iter().enumerate() {
                out[(t * groups + g) * rows + n] = R::inner(&x[g * inner..][..inner], &w);
            }
        }
    }
    Ok(vec![Output::real("out", &op.out, out)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::*;
    use anychip_core::ops::Quantize;
    use anychip_core::{DType, Matrix, ScaleLayout};

    #[test]
    fn the_golden_fp8_linear_bit_for_bit() {
        let rows = golden("lin.x").tensor(DType::F32);
        let x = unwritten_matrix(DType::E4M3, [rows.size(0), rows.size(1)], ScaleLayout::per_row(128));
        run(Quantize { x: rows, out: x.clone() });
        let w = golden("lin.w_fp8").matrix(DType::E4M3, "lin.w_e8m0", ScaleLayout::BLOCK_128);
        let want = golden("lin.y_bf16");
        let out = unwritten(DType::BF16, &want.sizes);
        run(Linear { x, w, out: out.clone() });
        assert_eq!(floats_of(&out), want.floats());
    }

    #[test]
    fn each_group_multiplies_its_own_columns() {
        let x = tensor(DType::F32, &[2, 4], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let w = tensor(DType::F32, &[2, 1, 2], &[1.0, 10.0, 100.0, 1000.0]);
        let out = unwritten(DType::F32, &[2, 2]);
        let op = Linear { x: Matrix::plain(&x).unwrap(), w: Matrix::plain(&w).unwrap(), out: out.clone() };
        run(op);
        assert_eq!(floats_of(&out), [21.0, 4300.0, 65.0, 8700.0]);
    }

    #[test]
    fn an_f32_loop_keeps_the_bound() {
        let mut random = Random::new(1);
        for inner in [1, 64, 1000] {
            let (x, w) = (random.normals(8 * inner, 1.0), random.normals(16 * inner, 1.0));
            let op = run(Linear {
                x: Matrix::plain(&tensor(DType::F32, &[8, inner], &x)).unwrap(),
                w: Matrix::plain(&tensor(DType::F32, &[16, inner], &w)).unwrap(),
                out: unwritten(DType::F32, &[8, 16]),
            });
            let got: Vec<f32> = x.chunks(inner).flat_map(|x| w.chunks(inner).map(|w| dot32(x, w))).collect();
            assert_bound(&op, "out", &got);
        }
    }
}

use crate::operands::matrix_row;
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::Dequantize;

/// `out[g, r, k] = code[g, r, k] * scale` of its block
pub(crate) fn evaluate<R: Real>(op: &Dequantize, units: R::Units) -> Result<Vec<Output<R>>> {
    let mut out = Vec::with_capacity(op.out.count());
    for g in 0..op.x.groups() {
        for r in 0..op.x.rows() {
            out.extend(matrix_row::<R>("x", &op.x, g, r, units)?);
        }
    }
    Ok(vec![Output::real("out", &op.out, out)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::*;
    use anychip_core::{DType, Matrix, ScaleLayout, ScaleType};

    fn values(x: Matrix, dtype: DType) -> Vec<f32> {
        let out = unwritten(dtype, &[x.groups(), x.rows(), x.cols()]);
        run(Dequantize { x, out: out.clone() });
        floats_of(&out)
    }

    #[test]
    fn the_golden_values_exactly() {
        for block in [64, 128] {
            let layout = ScaleLayout::per_row(block);
            let x = golden(&format!("fp8.codes_{block}")).matrix(DType::E4M3, &format!("fp8.e8m0_{block}"), layout);
            assert_eq!(values(x, DType::F32), golden(&format!("fp8.dq_{block}")).floats());
        }
        for name in ["fp4.packed", "exp.w1_packed", "exp.w2_packed", "exp.w3_packed"] {
            let [scales, want] = ["e8m0", "dq"].map(|part| name.replace("packed", part));
            let x = golden(name).matrix(DType::E2M1, &scales, ScaleLayout::per_row(32));
            let want = golden(&want).floats();
            // Three significant bits: bf16 holds them as well.
            assert_eq!(values(x.clone(), DType::F32), want);
            assert_eq!(values(x, DType::BF16), want);
        }
    }

    #[test]
    fn scales_of_blocks_in_both_directions_and_of_groups() {
        let layout = ScaleLayout { scale: ScaleType::F32, rows: 2, cols: 2 };
        let codes = raw(DType::E4M3, &[2, 3, 3], &[0x38; 18]); // all 1
        let scales: Vec<f32> = (1..=8).map(|i| i as f32 * 0.1).collect();
        let x = Matrix::scaled(&codes, &tensor(DType::F32, &[2, 2, 2], &scales), layout).unwrap();
        let group = |a: f32, b: f32, c: f32, d: f32| [a, a, b, a, a, b, c, c, d];
        assert_eq!(values(x, DType::F32), [group(0.1, 0.2, 0.3, 0.4), group(0.5, 0.6, 0.7, 0.8)].concat());
    }

    #[test]
    fn the_nan_scale_is_nan_throughout_and_extremes_neither_vanish_nor_wrap() {
        let codes = raw(DType::E4M3, &[1, 6], &[0x00, 0x38, 0x01, 0xFE, 0x01, 0x7E]);
        let scales = raw(DType::UE8M0, &[1, 3], &[255, 0, 254]);
        let x = Matrix::scaled(&codes, &scales, ScaleLayout::per_row(2)).unwrap();
        let got = values(x, DType::F32);
        assert!(got[0].is_nan() && got[1].is_nan());
        let (least, most) = (2f32.powi(-136), f32::INFINITY); // 2^-9 2^-127 is subnormal, 448 2^127 is too large
        assert_eq!(got[2..], [least, -448.0 * 2f32.powi(-127), 2f32.powi(118), most]);
    }

    #[test]
    fn plain_elements_are_converted() {
        let x = Matrix::plain(&tensor(DType::F32, &[1, 3], &[1.0 + 1.0 / 256.0, -2.0, 1e-3])).unwrap();
        assert_eq!(values(x, DType::BF16), [1.0, -2.0, 0.000_999_450_7]);
    }
}

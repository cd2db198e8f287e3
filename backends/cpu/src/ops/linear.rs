use crate::gemm::gemm;
use crate::load::{Rows, Stores};
use anychip_core::{Result, ops};

/// `out[t, g*N + n] = sum_k x[t, g*K + k] * w[g, n, k]`
pub(crate) fn run(op: &ops::Linear) -> Result<()> {
    let (x, w) = (Rows::of(&op.x)?, Rows::of(&op.w)?);
    gemm(&x, 0..op.x.rows(), &w, 0..op.w.groups(), &mut Stores::of(&op.out)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{Lab, assert_close, golden, golden_floats, noise, noise_bytes};
    use anychip_core::ops::{Linear, Quantize};
    use anychip_core::{DType, Matrix, ScaleLayout};

    #[test]
    fn the_golden_fp8_linear() {
        let lab = Lab::new();
        let x = lab.floats(DType::BF16, &[5, 256], &golden_floats("lin.x"));
        let (codes, scales) = (lab.output(DType::E4M3, &[5, 256]), lab.output(DType::UE8M0, &[5, 2]));
        let x8 = Matrix::scaled(&codes, &scales, ScaleLayout::per_row(128)).unwrap();
        lab.run(Quantize { x, out: x8.clone() });
        let w = lab.bytes(DType::E4M3, &[256, 256], &golden("lin.w_fp8"));
        let w_scales = lab.bytes(DType::UE8M0, &[2, 2], &golden("lin.w_e8m0"));
        let w = Matrix::scaled(&w, &w_scales, ScaleLayout::BLOCK_128).unwrap();
        let out = lab.output(DType::BF16, &[5, 256]);
        lab.run(Linear { x: x8, w, out: out.clone() });
        assert_eq!(lab.values(&out), golden_floats("lin.y_bf16"));
    }

    #[test]
    fn each_group_multiplies_its_own_columns() {
        let lab = Lab::new();
        let (rows, groups, n, k) = (3, 4, 5, 6);
        let x = lab.floats(DType::F16, &[rows, groups * k], &noise(1, rows * groups * k));
        let w = lab.floats(DType::F32, &[groups, n, k], &noise(2, groups * n * k));
        let out = lab.output(DType::F32, &[rows, groups * n]);
        let [xm, wm] = [&x, &w].map(|t| Matrix::plain(t).unwrap());
        lab.run(Linear { x: xm, w: wm, out: out.clone() });
        let (x, w, mut want) = (lab.values(&x), lab.values(&w), Vec::new());
        for (t, g) in (0..rows).flat_map(|t| (0..groups).map(move |g| (t, g))) {
            want.extend((0..n).map(|n_| {
                let term = |i| x[t * groups * k + g * k + i] as f64 * w[(g * n + n_) * k + i] as f64;
                (0..k).map(term).sum::<f64>()
            }));
        }
        assert_close(&lab.values(&out), &want, 1e-6);
    }

    #[test]
    fn sums_that_fit_the_accumulator_are_exact() {
        let lab = Lab::new();
        // Whole numbers: of e2m1 with scales of 1 and 2 by e4m3 with scale 1, far below 2^24.
        let (rows, n, k) = (20, 33, 96);
        let x_codes: Vec<u8> =
            noise_bytes(5, rows * k).iter().map(|b| [0x38, 0x40, 0xB8, 0][*b as usize % 4]).collect();
        let w_codes: Vec<u8> = noise_bytes(6, n * k / 2).iter().map(|b| b & 0xEE).collect();
        let w_scales: Vec<u8> = (0..n * 3).map(|i| 127 + i as u8 % 2).collect();
        let x = lab.scaled(DType::E4M3, &[rows, k], &x_codes, &vec![127; rows], 128);
        let w = lab.scaled(DType::E2M1, &[n, k], &w_codes, &w_scales, 32);
        let out = lab.output(DType::F32, &[rows, n]);
        lab.run(Linear { x: x.clone(), w: w.clone(), out: out.clone() });
        let values = |m: &Matrix, row| {
            let mut values = vec![0.0; k];
            Rows::of(m).unwrap().read(0, row, &mut values);
            values
        };
        let got = lab.values(&out);
        for (t, i) in (0..rows).flat_map(|t| (0..n).map(move |i| (t, i))) {
            let want: f64 = values(&x, t).iter().zip(values(&w, i)).map(|(&a, b)| a as f64 * b as f64).sum();
            assert_eq!(got[t * n + i] as f64, want);
        }
    }

    #[test]
    fn nothing_summed_is_zero_and_no_rows_are_no_work() {
        let lab = Lab::new();
        let empty = |sizes: &[usize]| Matrix::plain(&lab.floats(DType::F32, sizes, &[])).unwrap();
        let out = lab.output(DType::F32, &[2, 3]);
        lab.run(Linear { x: empty(&[2, 0]), w: empty(&[3, 0]), out: out.clone() });
        assert_eq!(lab.values(&out), [0.0; 6]);
        let w = Matrix::plain(&lab.floats(DType::F32, &[3, 4], &[1.0; 12])).unwrap();
        lab.run(Linear { x: empty(&[0, 4]), w, out: lab.output(DType::F32, &[0, 3]) });
        lab.run(Linear { x: empty(&[2, 0]), w: empty(&[0, 0]), out: lab.output(DType::F32, &[2, 0]) });
    }
}

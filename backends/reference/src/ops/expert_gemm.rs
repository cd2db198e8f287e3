use crate::operands::{integers, matrix_row, matrix_rows};
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::ExpertGemm;

/// `out[r, n] = sum_k x[r, k] w[e, n, k]`   for `offsets[e] <= r < offsets[e + 1]`
pub(crate) fn evaluate<R: Real>(op: &ExpertGemm, units: R::Units) -> Result<Vec<Output<R>>> {
    let rows = op.w.rows();
    let x = matrix_rows::<R>("x", &op.x, 0, units)?;
    let offsets: Vec<usize> = integers(&op.offsets)?.iter().map(|&o| (o.max(0) as usize).min(x.len())).collect();
    let mut out = vec![R::from(0.0); x.len() * rows];
    for (e, range) in offsets.windows(2).enumerate() {
        let (first, end) = (range[0], range[1].max(range[0]));
        if first == end {
            continue; // no row chose this expert: its weights need not be read
        }
        for n in 0..rows {
            let w = matrix_row::<R>("w", &op.w, e, n, units)?;
            for r in first..end {
                out[r * rows + n] = R::inner(&x[r], &w);
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
    use anychip_core::{DType, Matrix, ScaleLayout};

    /// Four rows that name their own number, and experts that multiply by 10, 100 and 1000.
    fn products(offsets: &[i32; 4]) -> Vec<f32> {
        let out = unwritten(DType::F32, &[4, 2]);
        let w = [10.0, 0.0, 0.0, 10.0, 100.0, 0.0, 0.0, 100.0, 1000.0, 0.0, 0.0, 1000.0];
        run(ExpertGemm {
            x: Matrix::plain(&tensor(DType::F32, &[4, 2], &[1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 4.0, -4.0])).unwrap(),
            w: Matrix::plain(&tensor(DType::F32, &[3, 2, 2], &w)).unwrap(),
            offsets: int_tensor(&[4], offsets),
            out: out.clone(),
        });
        floats_of(&out).chunks(2).flat_map(|pair| (pair[0] == -pair[1]).then_some(pair[0])).collect()
    }

    #[test]
    fn each_row_meets_the_expert_of_its_range() {
        assert_eq!(products(&[0, 1, 3, 4]), [10.0, 200.0, 300.0, 4000.0]);
        assert_eq!(products(&[0, 4, 4, 4]), [10.0, 20.0, 30.0, 40.0]);
        assert_eq!(products(&[0, 0, 0, 4]), [1000.0, 2000.0, 3000.0, 4000.0]);
    }

    #[test]
    fn rows_of_no_expert_are_zero_and_wild_offsets_are_clamped() {
        assert_eq!(products(&[1, 1, 2, 3]), [0.0, 200.0, 3000.0, 0.0]);
        assert_eq!(products(&[-5, 1, 1, i32::MAX]), [10.0, 2000.0, 3000.0, 4000.0]);
        assert_eq!(products(&[3, 1, 2, 2]), [0.0, 200.0, 0.0, 0.0], "3..1 is empty");
        assert_eq!(products(&[0, 4, 1, 3]), [10.0, 2000.0, 3000.0, 40.0], "the later expert stays");
        assert_eq!(products(&[i32::MIN; 4]), [0.0; 4]);
    }

    #[test]
    fn fp8_rows_times_fp4_weights_within_the_bound() {
        let mut random = Random::new(1);
        let (rows, inner, experts, columns) = (6, 96, 3, 8);
        let x_codes: Vec<u8> = random.below(0x7F, rows * inner).iter().map(|&c| c as u8).collect();
        let w_codes: Vec<u8> = random.below(256, experts * columns * inner / 2).iter().map(|&c| c as u8).collect();
        let scales = |random: &mut Random, n| random.below(8, n).iter().map(|&s| s as u8 + 123).collect::<Vec<_>>();
        let x = Matrix::scaled(
            &raw(DType::E4M3, &[rows, inner], &x_codes),
            &raw(DType::UE8M0, &[rows, 1], &scales(&mut random, rows)),
            ScaleLayout::per_row(128),
        );
        let w = Matrix::scaled(
            &raw(DType::E2M1, &[experts, columns, inner], &w_codes),
            &raw(DType::UE8M0, &[experts, columns, 3], &scales(&mut random, experts * columns * 3)),
            ScaleLayout::per_row(32),
        );
        let (x, w) = (x.unwrap(), w.unwrap());
        let out = unwritten(DType::F32, &[rows, columns]);
        let offsets = int_tensor(&[4], &[0, 2, 3, 6]);
        let op = run(ExpertGemm { x: x.clone(), w: w.clone(), offsets, out });
        let narrow = |rows: Vec<Vec<f64>>| -> Vec<Vec<f32>> {
            rows.iter().map(|row| row.iter().map(|&v| v as f32).collect()).collect()
        };
        let x = narrow(matrix_rows::<f64>("x", &x, 0, ()).unwrap());
        let w = [0, 1, 2].map(|e| narrow(matrix_rows::<f64>("w", &w, e, ()).unwrap()));
        let experts = [0, 0, 1, 2, 2, 2];
        let got: Vec<f32> =
            (0..rows).flat_map(|r| w[experts[r]].iter().map(|w| dot32(&x[r], w)).collect::<Vec<_>>()).collect();
        assert_bound(&op, "out", &got);
    }
}

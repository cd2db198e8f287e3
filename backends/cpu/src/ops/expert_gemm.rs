use crate::gemm::gemm;
use crate::load::{Rows, Stores, Work};
use anychip_core::{Result, host, ops};

/// `out[r] = w[e] x[r]` for `offsets[e] <= r < offsets[e+1]`
pub(crate) fn run(op: &ops::ExpertGemm) -> Result<()> {
    let (x, w) = (Rows::of(&op.x)?, Rows::of(&op.w)?);
    let experts = owners(host::read(&op.offsets)?.as_slice(), op.x.rows());
    let mut out = Stores::of(&op.out)?;
    let mut first = 0;
    for run in experts.chunk_by(|one, next| one == next) {
        let rows = first..first + run.len();
        first = rows.end;
        match run[0] {
            Some(expert) => gemm(&x, rows, &w, expert..expert + 1, &mut out),
            None => out.rows(rows, w.rows(), Work::Each(w.rows()), || (), |(), _, row| row.fill(0.0)),
        }
    }
    Ok(())
}

/// The expert of each row; where ranges overlap, the last.
fn owners(offsets: &[i32], rows: usize) -> Vec<Option<usize>> {
    let mut owners = vec![None; rows];
    let clamped = |offset: i32| usize::try_from(offset).unwrap_or(0).min(rows);
    for (expert, bounds) in offsets.windows(2).enumerate() {
        if let Some(range) = owners.get_mut(clamped(bounds[0])..clamped(bounds[1])) {
            range.fill(Some(expert));
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::testing::{Lab, noise};
    use anychip_core::ops::{ExpertGemm, Linear};
    use anychip_core::{DType, Matrix};

    #[test]
    fn each_row_meets_the_weights_of_its_expert() {
        let lab = Lab::new();
        let (rows, n, k) = (8, 3, 40);
        let x = Matrix::plain(&lab.floats(DType::F32, &[rows, k], &noise(1, rows * k))).unwrap();
        let weights = noise(2, 4 * n * k);
        let w = Matrix::plain(&lab.floats(DType::F32, &[4, n, k], &weights)).unwrap();
        let of_expert: Vec<Vec<f32>> = (0..4)
            .map(|e| {
                let w = Matrix::plain(&lab.floats(DType::F32, &[n, k], &weights[e * n * k..][..n * k])).unwrap();
                let out = lab.output(DType::F32, &[rows, n]);
                lab.run(Linear { x: x.clone(), w, out: out.clone() });
                lab.values(&out)
            })
            .collect();
        let cases: [([i32; 5], [usize; 8]); 4] = [
            ([0, 3, 3, 5, 8], [0, 0, 0, 2, 2, 3, 3, 3]),
            ([2, 4, 5, 5, 6], [9, 9, 0, 0, 1, 3, 9, 9]),
            ([-5, 2, 1, 1000, 1000], [0, 2, 2, 2, 2, 2, 2, 2]),
            ([0, 6, 2, 4, 3], [0, 0, 2, 2, 0, 0, 9, 9]),
        ];
        for (offsets, owners) in cases {
            let out = lab.output(DType::F32, &[rows, n]);
            let offsets_tensor = lab.ints(&[5], &offsets);
            lab.run(ExpertGemm { x: x.clone(), w: w.clone(), offsets: offsets_tensor, out: out.clone() });
            for (row, got) in lab.values(&out).chunks(n).enumerate() {
                let want = of_expert.get(owners[row]).map_or(&[0.0; 3][..], |all| &all[row * n..][..n]);
                assert_eq!(got, want, "row {row} with {offsets:?}");
            }
        }
    }
}

use crate::operands::{matrix_row, matrix_rows};
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::Linear;

/// `out[t, g*N + n] = sum_k x[t, g*K + k] w[g, n, k]`
pub(crate) fn evaluate<R: Real>(op: &Linear, units: R::Units) -> Result<Vec<Output<R>>> {
    let (groups, rows, inner) = (op.w.groups(), op.w.rows(), op.w.cols());
    let x = matrix_rows::<R>(&op.x, 0, units)?;
    let mut out = vec![R::from(0.0); x.len() * groups * rows];
    for g in 0..groups {
        for n in 0..rows {
            let w = matrix_row::<R>(&op.w, g, n, units)?;
            for (t, x) in x.iter().enumerate() {
                out[(t * groups + g) * rows + n] = R::dot(&x[g * inner..][..inner], &w);
            }
        }
    }
    Ok(vec![Output::real("out", &op.out, out)])
}

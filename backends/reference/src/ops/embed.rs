use crate::operands::{integers, reals};
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::Embed;

/// `out[t, i] = table[ids[t]]`   for `i < c`, zeros where the table has no such row
pub(crate) fn evaluate<R: Real>(op: &Embed, units: R::Units) -> Result<Vec<Output<R>>> {
    let (rows, copies, d) = (op.table.size(0), op.out.size(1), op.out.size(2));
    let mut out = Vec::with_capacity(op.out.count());
    for id in integers(&op.ids)? {
        let row = match usize::try_from(id) {
            Ok(id) if id < rows => reals::<R>(&op.table.slice(id, 1)?, units)?,
            _ => vec![R::from(0.0); d],
        };
        for _ in 0..copies {
            out.extend_from_slice(&row);
        }
    }
    Ok(vec![Output::real("out", &op.out, out)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use anychip_core::{DType, Numerics};

    #[test]
    fn rows_are_copied_and_strangers_are_zero() {
        let table = tensor(DType::BF16, &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 1.0 / 3.0]);
        let third = floats_of(&table)[5];
        let out = unwritten(DType::F32, &[5, 2, 2]);
        let op = run(Embed { table, ids: int_tensor(&[5], &[2, 0, -1, 3, i32::MAX]), out: out.clone() });
        let want = [[5.0, third, 5.0, third], [1.0, 2.0, 1.0, 2.0], [0.0; 4], [0.0; 4], [0.0; 4]].concat();
        assert_eq!(floats_of(&out), want);
        assert!(bounds(&op, "out", &Numerics::f32()).iter().all(|v| v.error() == 0.0), "a copy is exact");
        assert_eq!(share_of_bound(&op, "out", &want), 0.0);
    }

    #[test]
    fn an_empty_table_gives_zeros() {
        let out = unwritten(DType::BF16, &[2, 1, 3]);
        run(Embed { table: unwritten(DType::F32, &[0, 3]), ids: int_tensor(&[2], &[0, 1]), out: out.clone() });
        assert_eq!(floats_of(&out), [0.0; 6]);
    }
}

use crate::load::{Floats, Stores, Work};
use anychip_core::{Result, host, ops};

/// `out[t, i] = table[ids[t]]`, zeros for a number outside the table.
pub(crate) fn run(op: &ops::Embed) -> Result<()> {
    let (table, ids) = (Floats::of(&op.table)?, host::read(&op.ids)?);
    let (known, width) = (op.table.size(0), op.table.size(1));
    let (ids, copies) = (ids.as_slice::<i32>(), op.out.size(1));
    Stores::of(&op.out)?.rows(
        0..ids.len() * copies,
        width,
        Work::of(op),
        || (),
        |(), row, out| match usize::try_from(ids[row / copies]) {
            Ok(id) if id < known => table.read(id * width, out),
            _ => out.fill(0.0),
        },
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::testing::Lab;
    use anychip_core::DType;
    use anychip_core::ops::Embed;

    #[test]
    fn rows_are_copied_and_strangers_are_zero() {
        let lab = Lab::new();
        let table = lab.floats(DType::BF16, &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let ids = lab.ints(&[5], &[2, -1, 0, 3, i32::MIN]);
        let out = lab.output(DType::F32, &[5, 2, 2]);
        lab.run(Embed { table: table.clone(), ids: ids.clone(), out: out.clone() });
        let want = [5.0, 6.0, 5.0, 6.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 1.0, 2.0].into_iter().chain([0.0; 8]);
        assert_eq!(lab.values(&out), want.collect::<Vec<_>>());
        lab.run(Embed { table, ids, out: lab.output(DType::F32, &[5, 0, 2]) });
    }
}

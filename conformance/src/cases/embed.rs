use super::*;
use crate::builder::HostMatrix;
use anychip_core::ops::Embed;

fn build(b: &mut Builder<'_>, table: DType, out: DType, ids: &[i32], [rows, copies, d]: [usize; 3]) -> Result<Op> {
    let mut host = HostMatrix::random(Format::Plain(table), [1, rows, d], Normal, 1.0, b.random());
    (0..rows).filter(|&r| !ids.contains(&(r as i32))).for_each(|r| host.poison_row(r));
    let table = b.tensor(table, &[rows, d], &host.codes)?;
    let out = b.output(out, &[ids.len(), copies, d])?;
    Embed { table, ids: b.integers(&[ids.len()], ids)?, out }.build()
}

pub(super) fn list(cases: &mut Cases) {
    const OUTSIDE: &[i32] = &[3, -1, 9, 10, 0, i32::MAX, i32::MIN, 9];
    for (profile, variant, table, out, ids, sizes) in [
        (Quick, "plain", DType::BF16, DType::BF16, &[5, 0, 5, 19][..], [20, 4, 96]),
        (Quick, "narrowed", DType::F32, DType::BF16, &[1, 2], [3, 1, 257]),
        (Quick, "widened", DType::F16, DType::F32, &[0], [1, 2, 33]),
        (Quick, "outside", DType::F32, DType::F32, OUTSIDE, [10, 4, 16]),
        (Full, "plain", DType::BF16, DType::F32, &[129279, 0, 77], [129280, 4, 512]),
    ] {
        let ([rows, copies, d], t) = (sizes, ids.len());
        let name = format!("{variant}/{table}-{out}/v{rows}-t{t}-c{copies}-d{d}");
        cases.add(profile, name, move |b| build(b, table, out, ids, sizes));
    }
}
